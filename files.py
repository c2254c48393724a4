"""Atomic writing of files and folders, and reading of text.

Imports no other module of the package, so that every module may use it.
"""

import codecs
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

_MAX_NAME = 200  # bytes of a file name that leave room for what a temporary name adds
_TRIES = 20  # to move a folder in, while other processes do the same


@contextmanager
def whole_file(path: Path, *, durable: bool = False, inside: Path | None = None) -> Iterator[Path]:
    """A temporary path that is renamed to `path` if the block ends without an error; otherwise `path` is unchanged.

    The temporary path has the extension of `path`, because many writers choose their format by it. Errors name `path`.

    Args:
        durable: wait until the content and the rename have reached the disk.
        inside: folder for the temporary file, on the same file system; None: the folder of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (inside or path.parent) / f".{_short(path)}.{os.getpid()}.tmp{path.suffix}"
    try:
        with naming(path, temporary):
            yield temporary
            if durable:
                sync(temporary)
            os.replace(temporary, path)
            if durable and os.name == "posix":  # Windows cannot open folders and does not need it
                sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it replaces `path` if the block ends without an error.

    The old folder is moved away before it is deleted, so `path` is never half of one. Several processes may do this at
    once: the last one's folder remains.
    """
    temporary = own_place(path)
    temporary.mkdir()
    try:
        with naming(path, temporary):
            yield temporary
            _move_in(temporary, path, temporary.with_suffix(".old.tmp"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def own_place(path: Path) -> Path:
    """A temporary path beside `path`, of this process alone. What killed processes left there is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{_short(path)}.{platform.node()}-"
    own = path.with_name(f"{start}{os.getpid()}.tmp{path.suffix}")
    for left in path.parent.glob(f"{escape(start)}*.tmp*"):
        if left == own or not _lives(left.name.removeprefix(start)):
            _remove(left)
    return own


def _move_in(folder: Path, path: Path, away: Path) -> None:
    for attempt in range(_TRIES):
        time.sleep(attempt * (1 + os.getpid() % 7) / 1000)  # processes that clash part company
        _remove(away)
        with suppress(FileNotFoundError):
            path.rename(away)
        try:
            folder.rename(path)
            break
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another process has just moved its own in
                with suppress(OSError):
                    away.rename(path)
                raise
    else:
        raise OSError(f"{path} cannot be replaced: other processes write it all the time")
    _remove(away)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _lives(name: str) -> bool:
    """Whether the process whose ID begins a temporary name still runs; if in doubt, it does."""
    number = re.match(r"\d+", name)
    if number is None or os.name != "posix":
        return True
    try:
        os.kill(int(number[0]), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Errors of writing, such as a full disk, name `path`, and not `temporary` or nothing."""
    try:
        yield
    except OSError as error:
        found = error.filename
        unnamed = found is None or (temporary is not None and str(found).startswith(str(temporary)))
        if error.errno is None or not unnamed:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path, *, first: int | None = None) -> str:
    """A text file as people's programs write it: UTF-8, or UTF-16 with the mark that Windows puts in front.

    Args:
        first: only so many bytes.

    Raises:
        ValueError: it is neither.
    """
    with open(path, "rb") as file:
        data = file.read(-1 if first is None else first)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=first is None)
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}. Remedy: save it as UTF-8") from error


def write_json(path: Path, content: Any) -> None:
    """Write plain values as readable JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def remove_leftovers(folder: Path, *, of: str = "*", shared: bool = False) -> None:
    """Remove temporary files of killed processes: of all files, or of the one whose name without extension is `of`.

    Args:
        shared: other processes may be writing to the folder: what belongs to one that runs stays.
    """
    for path in folder.glob(f".{of}.*.tmp*"):
        number = re.search(r"\.(\d+)\.tmp", path.name)
        theirs = shared and number is not None and int(number[1]) != os.getpid() and _lives(number[1])
        if not path.is_dir() and not theirs:
            path.unlink(missing_ok=True)


def _short(path: Path) -> str:
    name = os.fsencode(path.name)
    return path.stem if len(name) <= _MAX_NAME else hashlib.sha256(name).hexdigest()[:32]


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flat_names(paths: Sequence[str]) -> list[str]:
    """A name without folders for each path, `a_b` for `a/b`; one that is taken, in any case, gets a number."""
    names: list[str] = []
    for path in paths:
        flat = name = path.replace("/", "_").replace("\\", "_")
        number, taken = 2, {other.lower() for other in names}
        while name.lower() in taken:
            name, number = f"{flat}_{number}", number + 1
        names.append(name)
    return names
