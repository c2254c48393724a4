"""Tells a process whether the process that started it is still alive."""

import multiprocessing
import os
from collections.abc import Callable


def watch_of(parent: int) -> Callable[[], bool]:
    """A function that tells whether process `parent` is still alive, for a process that it started, even indirectly.

    For the operating system, a forkserver's child has a different parent.
    """
    is_child = os.getppid() == parent  # False: a forkserver's child, or the parent is already gone
    return lambda: os.getppid() == parent if is_child else _starter_lives()


def _starter_lives() -> bool:
    process = multiprocessing.parent_process()
    return process is not None and process.is_alive()
