"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, content: bytes | memoryview, before: Callable[[], None] = lambda: None) -> None:
    """Write beside `path`, call `before`, move into place: a crash or a full disk leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        before()
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The move itself has to reach the disk, too; Windows cannot open folders and does not need it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """What killed processes were writing."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
