"""Files and folders that are written whole or not at all. Needs nothing of ours, so that every room may use it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, durable: bool = False, inside: Path | None = None) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends without an error. Else `path` stays as it was.

    The name has the ending of `path`, because many writers choose their format by it.

    Args:
        durable: wait until the content and the move have reached the disk.
        inside: the folder of the unfinished file, on the same file system; None is that of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (inside or path.parent) / f".{path.stem}.{os.getpid()}.tmp{path.suffix}"
    try:
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
    """An empty folder to fill, which takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had the same number
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """What killed processes were writing."""
    for path in folder.glob(".*.tmp*"):
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
