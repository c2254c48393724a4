"""Writes files that appear complete or not at all, and never replace a different file."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ...files import whole_file

Advance = Callable[[int], object]
_MAX_CONVERTED = 1 << 27  # bytes: a file is converted in memory
_SPARE = 1 << 26  # bytes of the disk to keep free


class Target(NamedTuple):
    """Where a file goes, and how its content is converted (given a name for messages)."""

    path: str  # below the output folder, with slashes
    convert: Callable[[bytes, str], bytes] | None = None


def check_target(output: Path, target: Target, size: int) -> None:
    """Check that a file can be written there without replacing anything different.

    Raises:
        FileExistsError: a different file exists, or something else than a file, or a link.
        ValueError: it is too large to convert.
    """
    path = output / target.path
    if target.convert and size > _MAX_CONVERTED:
        raise ValueError(f"{target.path} has {size:,} bytes: too large for a mask")
    for part in [path, *path.parents]:
        if part == output:
            break
        if part.is_symlink():
            raise FileExistsError(
                f"{part} is a link, and links are not followed when writing. Remove it, or choose another output"
            )
    if not path.exists():
        return
    if not path.is_file() or (target.convert is None and path.stat().st_size != size):
        raise _differs(path)


def check_space(output: Path, targets: Iterable[tuple[Target, int]]) -> None:
    """Raise OSError if the disk has no space for the missing targets."""
    need = sum(size for target, size in targets if not (output / target.path).exists())
    free = free_bytes(output)
    if need + _SPARE > free:
        raise OSError(f"{output} needs {need / 1e9:.2f} GB more, but its disk has only {free / 1e9:.2f} GB free")


def free_bytes(folder: Path) -> int:
    """Free space on the disk that a folder is on, or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def write_target(output: Path, target: Target, pieces: Iterator[bytes]) -> int:
    """Write a file, or compare it with the existing one; returns its size in bytes.

    Raises:
        FileExistsError: a different one exists.
    """
    path = output / target.path
    if target.convert:
        pieces = iter([target.convert(b"".join(pieces), target.path)])
    if path.exists():
        return _compare(path, pieces)
    with whole_file(path, inside=output) as unfinished, unfinished.open("wb") as file:
        return sum(map(file.write, pieces))


def link_or_copy(output: Path, source: Path, path: Path) -> None:
    """Hard-link a file, or copy it if the file system has no links.

    Raises:
        FileExistsError: a different file exists.
    """
    if path.exists():
        if not path.samefile(source) and path.read_bytes() != source.read_bytes():
            raise _differs(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, path)
    except FileNotFoundError:
        raise
    except OSError:
        with whole_file(path, inside=output) as unfinished:
            shutil.copyfile(source, unfinished)


def _compare(path: Path, pieces: Iterator[bytes]) -> int:
    size = 0
    with open(path, "rb") as file:
        for piece in pieces:
            size += len(piece)
            if file.read(len(piece)) != piece:
                raise _differs(path)
        if file.read(1):
            raise _differs(path)
    return size


def _differs(path: Path) -> FileExistsError:
    return FileExistsError(
        f"{path} exists and differs from the archive's file; it was not changed. Move it away, or choose another output"
    )
