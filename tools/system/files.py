"""Replacing the content of a file."""

from collections.abc import Callable
from pathlib import Path

from ...files import sync, whole_file


def replace_file(path: Path, content: bytes | memoryview, before: Callable[[], None] = lambda: None) -> None:
    """Write next to `path`, call `before`, rename: a crash or a full disk leaves the previous file intact."""
    with whole_file(path, durable=True) as unfinished:
        unfinished.write_bytes(content)
        sync(unfinished)
        before()
