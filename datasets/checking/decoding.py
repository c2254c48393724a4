"""Captures what OpenCV's codecs print: they report problems only on the process's standard error."""

import os
import tempfile
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def overheard(function: Callable[[], T]) -> tuple[T | Exception, str]:
    """A function's result or exception, and what was written to file descriptor 2 meanwhile."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        return _outcome(function), ""
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                result = _outcome(function)
            finally:
                os.dup2(kept, 2)
            file.seek(0)
            return result, file.read(4096).decode("utf-8", "replace").strip()
    finally:
        os.close(kept)


def _outcome(function: Callable[[], T]) -> T | Exception:
    try:
        return function()
    except Exception as error:
        return error
