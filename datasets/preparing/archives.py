"""Safe unpacking of third-party archives: zip, tar and tar.gz.

All of an archive's metadata is read and checked before anything is written; while writing, the content must match
it.
"""

import contextlib
import gzip
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, NamedTuple

from ...files import remove_leftovers
from ...words import counted
from .targets import Advance, Target, check_space, check_target, write_target

CHUNK = 1 << 20  # bytes; also the maximum size of a tar header
_SMALL = 1 << 26  # bytes: too small for a bomb, whatever the ratio
_ZIP, _GZIP = b"PK", b"\x1f\x8b"
_MAX_NAME, _MAX_PATH = 255, 1000  # bytes, the limits of file systems
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows reserves
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, gzip.BadGzipFile, zlib.error, EOFError, UnicodeError,
    ValueError, OverflowError, NotImplementedError, RuntimeError, KeyError, IndexError, AttributeError,
)  # fmt: skip


class ArchiveError(ValueError):
    """An archive that is corrupt, truncated, of another kind, or malicious; the message names it."""


class Member(NamedTuple):
    """A file in an archive. `index` counts all entries, `crc` is a zip's."""

    index: int
    name: str  # safe, with slashes, relative
    size: int  # bytes
    crc: int | None


_Entry = tuple[Member | None, Callable[[], IO[bytes]]]  # None for a folder; and a function that opens the file


# Far above any public dataset, and below what fills a disk.
MAX_MEMBERS = 2_000_000  # files and folders
MAX_TOTAL = 1 << 40  # bytes unpacked
MAX_RATIO = 50  # bytes unpacked per packed byte, from 64 MB on; masks reach 5


# ---- names -----------------------------------------------------------------------------------------------


def safe_name(raw: str) -> str:
    """A member's name as a relative path with slashes, on any file system.

    Raises:
        ValueError: it is absolute, leaves its folder, or is not valid on every system.
    """
    shown = ascii(raw if len(raw) <= 100 else f"{raw[:100]}...")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in raw):
        raise ValueError(f"the name {shown} contains control characters, or is not valid text")
    if "\\" in raw or ":" in raw:
        raise ValueError(f"the name {shown} contains a backslash or a colon, which are path separators on some systems")
    if raw.startswith("/"):
        raise ValueError(f"the name {shown} is absolute")
    parts = [part for part in raw.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"the name {shown} points outside the folder")
    if not parts:
        raise ValueError(f"the name {shown} is empty")
    if any(part.endswith((".", " ")) or _DEVICES.fullmatch(part) for part in parts):
        raise ValueError(f"the name {shown} is not valid on Windows")
    name = "/".join(parts)
    if max(len(part.encode()) for part in parts) > _MAX_NAME or len(name.encode()) > _MAX_PATH:
        raise ValueError(f"the name {shown} is too long: at most {_MAX_NAME} bytes, and {_MAX_PATH} with its folders")
    return name


def check_collisions(names: Iterable[str]) -> None:
    """Reject two files with the same name, or with names that differ only in case, and a file that is also a folder.

    Raises:
        ValueError: there are such files; both are named.
    """
    seen: dict[str, str] = {}
    for name in names:
        key = _folded(name)
        if key in seen:
            raise ValueError(f"{seen[key]} and {name} are the same file on case-insensitive systems" if seen[key] !=
                             name else f"it contains {name} twice")  # fmt: skip
        seen[key] = name
    folders = {key.rpartition("/")[0] for key in seen}
    while folders:
        both = next((folder for folder in folders if folder in seen), None)
        if both is not None:
            raise ValueError(f"{seen[both]} is both a file and a folder")
        folders = {folder.rpartition("/")[0] for folder in folders} - {""}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


# ---- reading ---------------------------------------------------------------------------------------------


def list_members(path: str | Path) -> list[Member]:
    """The files of an archive, in its order, after all checks that its headers allow.

    Raises:
        ArchiveError: it is corrupt, truncated or not an archive, or one of its entries must not be unpacked.
        FileNotFoundError: it does not exist.
    """
    with _damage_named(path):
        members = list(_bounded(_entries(path), os.stat(path).st_size))
        check_collisions(member.name for member in members)
    return members


def _bounded(entries: Iterable[_Entry], packed: int) -> Iterator[Member]:
    """Stops at the first entry that exceeds a limit; in a gzip, before its content is unpacked."""
    total = 0
    for count, (member, _) in enumerate(entries, start=1):
        if count > MAX_MEMBERS:
            raise ValueError(f"it contains more than {MAX_MEMBERS:,} files and folders")
        if member is None:
            continue
        total += member.size
        if total > MAX_TOTAL or total > max(_SMALL, MAX_RATIO * packed):
            raise ValueError(f"{packed:,} bytes would unpack to {total:,} or more: a decompression bomb")
        yield member


def _entries(path: str | Path) -> Generator[_Entry]:
    """Every entry, in the archive's order."""
    kind = kind_of(path)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            yield from _zip_entries(archive)
        return
    with (
        open(path, "rb") as file,
        _Guard(gzip.GzipFile(fileobj=file) if kind == "gzip" else file) as guard,  # pyright: ignore[reportArgumentType]
        tarfile.open(fileobj=guard, mode="r:") as archive,
    ):
        yield from _tar_entries(archive, guard)


def kind_of(path: str | Path) -> str:
    """zip, gzip or tar, by the content.

    Raises:
        ValueError: none of these.
    """
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP):
        return "zip"
    if head.startswith(_GZIP):
        return "gzip"
    with contextlib.suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        return "tar"
    page = head.lstrip().lower().startswith((b"<!doctype", b"<html"))
    what = "a web page" if page else "empty" if not head else "another kind of file"
    raise ValueError(f"expected a zip, tar or tar.gz, but it is {what}: download it again")


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for index, entry in enumerate(archive.infolist()):
        name = safe_name(entry.orig_filename)
        mode = entry.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{name} is a link or a device")
        if entry.is_dir():
            yield None, BytesIO
            continue
        if entry.flag_bits & 1:
            raise ValueError(f"{name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{name} is compressed with an unsupported method (number {entry.compress_type}): only "
                "deflate is supported"
            )
        yield Member(index, name, entry.file_size, entry.CRC), partial(archive.open, entry)


def _tar_entries(archive: tarfile.TarFile, guard: "_Guard") -> Iterator[_Entry]:
    index = -1
    for index, entry in enumerate(archive):
        archive.members = []  # pyright: ignore[reportAttributeAccessIssue]  # it would keep every entry
        if entry.isdir():
            if entry.name.strip("./"):
                safe_name(entry.name)
            yield None, BytesIO
            continue
        name = safe_name(entry.name)
        if not entry.isreg() or entry.issparse():
            raise ValueError(f"{name} is a link, a device or a sparse file")
        yield Member(index, name, entry.size, None), partial(_tar_file, archive, entry)
    # tarfile takes any invalid header for the end, but the end consists of zeros.
    rest = guard.last + guard.read(CHUNK)
    if not rest:
        raise ValueError(f"it ends after {counted(index + 1, 'entry')} without an end marker: truncated")
    if rest.strip(b"\0") or len(rest) > CHUNK:
        raise ValueError(f"after {counted(index + 1, 'entry')} there is an invalid header: corrupt")


def _tar_file(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(entry)
    assert file is not None  # only regular files are asked for
    return file


class _Guard(BufferedReader):
    """A file for tarfile that refuses to read oversized headers into memory."""

    last = b""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            raise ValueError(f"it has a header of {size:,} bytes")
        self.last = super().read(size)
        return self.last


@contextmanager
def _damage_named(path: str | Path) -> Iterator[None]:
    """Turns errors in an archive into one line that names it."""
    try:
        yield
    except ArchiveError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(f"{path}: {_plain(error)}") from error


def _plain(error: BaseException) -> str:
    text = str(error).rstrip(".")
    if isinstance(error, zipfile.BadZipFile) and "not a zip" in text:
        return "its table of contents, at the end, is missing: truncated; finish the download"
    if isinstance(error, EOFError | tarfile.ReadError):
        return f"truncated ({text}); finish the download"
    if isinstance(error, zipfile.BadZipFile | tarfile.TarError | zlib.error | gzip.BadGzipFile):
        return f"corrupt ({text}); download it again"
    return text or type(error).__name__


# ---- unpacking -------------------------------------------------------------------------------------------


def unpack(
    path: str | Path,
    members: Sequence[Member],
    targets: Mapping[int, Target],
    output: str | Path,
    *,
    advance: Advance = lambda _: None,
) -> dict[str, int]:
    """Write members (by `index`) to their targets below `output`; returns the files' sizes in bytes by path.

    A file appears under its name only when it is complete. An existing file is left alone if it is the same.

    Args:
        members: the result of `list_members`.
        advance: called with the number of bytes of each chunk.

    Raises:
        ArchiveError: the archive is corrupt.
        FileExistsError: a different file exists, or a link.
        OSError: the disk is full.
    """
    output = Path(output)
    wanted = [member for member in members if member.index in targets]
    check_collisions(targets[member.index].path for member in wanted)
    with_sizes = [(targets[member.index], member.size) for member in wanted]
    for target, size in with_sizes:
        check_target(output, target, size)
    check_space(output, with_sizes)
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output, shared=True)
    written: dict[str, int] = {}
    known = {member.index: member for member in wanted}
    with _damage_named(path), contextlib.closing(_entries(path)) as entries:
        for member, opened in entries:
            if member is None or member.index not in known:
                continue
            if member != known[member.index]:
                name = known[member.index].name
                raise ValueError(f"it changed after it was checked: {name} is missing")
            target = targets[member.index]
            written[target.path] = write_target(output, target, _pieces(opened(), member, advance))
    return written


def _pieces(file: IO[bytes], member: Member, advance: Advance) -> Iterator[bytes]:
    """The content, which may be shorter than declared, but not longer: a reader stops there."""
    with file:
        done = 0
        while piece := file.read(CHUNK):
            done += len(piece)
            advance(len(piece))
            yield piece
        if done != member.size:
            raise EOFError(f"{member.name} has {done:,} of {member.size:,} bytes")
