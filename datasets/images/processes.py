"""A process and the one that had it started."""

import multiprocessing
import os
from collections.abc import Callable


def watch_of(parent: int) -> Callable[[], bool]:
    """What tells whether process `parent` is still there, for a process that it had started, by whatever other one.

    A forkserver's child has another parent in the system's eyes.
    """
    is_child = os.getppid() == parent  # no: a forkserver's, or its parent is gone already
    return lambda: os.getppid() == parent if is_child else _starter_lives()


def _starter_lives() -> bool:
    process = multiprocessing.parent_process()
    return process is not None and process.is_alive()
