"""Atomic writing of files and folders. Imports no other module of the package, so that every module may use it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: Path, *, durable: bool = False, inside: Path | None = None) -> Iterator[Path]:
    """A temporary path that is renamed to `path` if the block ends without an error; otherwise `path` is unchanged.

    The temporary path has the extension of `path`, because many writers choose their format by it.

    Args:
        durable: wait until the content and the rename have reached the disk.
        inside: folder for the temporary file, on the same file system; None: the folder of `path`.
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
    """An empty folder to fill; it replaces `path` if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same ID
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def remove_leftovers(folder: Path, *, of: str = "*") -> None:
    """Remove temporary files of killed processes: of all files, or of the one whose name without extension is `of`."""
    for path in folder.glob(f".{of}.*.tmp*"):
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
