"""Where decoded pictures are cached, for how long, and whether there is enough space."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from ...datasets.images.cache import CachedDecoder, estimate
from ...words import counted
from .console import log

_SHARED_MEMORY = Path("/dev/shm")
_PREFIX, _LOCK = "pocketvision-cache", ".lock"
_SHARE = 0.9  # of what is free


@contextlib.contextmanager
def cached(
    cache: str | None, sources: Mapping[str, Any], *, run: str | Path, folder: str | Path | None = None,
    reduced: bool = False, tell: bool = True,
) -> Iterator[None]:  # fmt: skip
    """Cache what `sources` decode while this is active.

    Args:
        cache: "ram" (removed when the last process that uses it ends), "disk" (stays), or None: no cache.
        run: the run folder; its processes share one cache in memory.
        folder: folder for "disk"; None: `~/.cache/pocketvision/decoded`.

    Raises:
        ValueError: there is not enough space, or nothing to cache.
    """
    if cache is None:
        yield
        return
    place = ram_folder(run) if cache == "ram" else Path(folder or default_folder())
    with _held(place, remove=cache == "ram"):
        decoder = CachedDecoder(place)
        _check_room(cache, place, *estimate(sources.values(), decoder, reduced=reduced), tell=tell)
        for source in sources.values():
            source.decoder = decoder
        yield


def ram_folder(run: str | Path) -> Path:
    """A folder per run, in shared memory if the system has it, otherwise in the temporary folder."""
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    name = hashlib.blake2b(os.path.abspath(run).encode(), digest_size=8).hexdigest()
    return base / f"{_PREFIX}-{_user()}-{name}"


def default_folder() -> Path:
    """The default folder of cache=disk."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketvision" / "decoded"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _check_room(cache: str, place: Path, number: int, needed: int, *, tell: bool) -> None:
    free = shutil.disk_usage(place).free
    if cache == "ram":
        free = min(free, *_free_memory())
    if tell and number:
        what = f"{counted(number, 'more picture needs', 'more pictures need')} about {_told(needed)} when decoded"
        log.info("cache=%s: %s, in %s (%s free)", cache, what, place, _told(free))
    if needed > _SHARE * free:
        other = "cache=disk, cache=null" if cache == "ram" else "cache_folder=FOLDER on another disk, cache=null"
        shm = (
            " (a container's own limit is set by --shm-size)"
            if cache == "ram" and place.parent == _SHARED_MEMORY
            else ""
        )
        raise ValueError(
            f"cache={cache}: {counted(number, 'picture needs', 'pictures need')} about {_told(needed)} when decoded, "
            f"but {place.parent} has {_told(free)} free{shm}. Remedy: {other}, or smaller photographs"
        )


def _free_memory() -> list[int]:
    """Available memory of the system and of a container, in bytes; empty if neither is known."""
    found = []
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return found


def _told(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


# ---- a shared folder -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(place: Path, *, remove: bool) -> Iterator[None]:
    """Keep the folder while active; with `remove`, the last process that leaves it removes it."""
    if remove and fcntl is not None:
        for other in place.parent.glob(f"{_PREFIX}-{_user()}-*"):  # of killed runs
            if other != place:
                _remove_unused(other)
    lock = _enter(place)
    try:
        if remove and hasattr(os, "getuid") and place.stat().st_uid != os.getuid():
            raise ValueError(f"{place} belongs to another user: cache=ram will not use it. Remedy: cache=disk")
        yield
    finally:
        if fcntl is not None:  # closing is not enough: forked loader processes have inherited it
            fcntl.flock(lock, fcntl.LOCK_UN)
        lock.close()
        if remove:
            _remove_unused(place)


def _enter(place: Path) -> IO[str]:
    """The folder's lock, shared with all other users."""
    while True:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock = open(place / _LOCK, "a")  # noqa: SIM115  it is held for a long time
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(place / _LOCK)):
                return lock
            lock.close()
        except FileNotFoundError:
            pass  # another process has just removed it


def _remove_unused(place: Path) -> None:
    with contextlib.suppress(OSError), open(place / _LOCK, "a") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an OSError if it is in use
        shutil.rmtree(place, ignore_errors=True)
