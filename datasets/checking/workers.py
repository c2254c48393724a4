"""Applies a function to many items in several processes, even if an item crashes its process."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import cv2

from ...words import counted
from ..images.processes import watch_of

T = TypeVar("T")
R = TypeVar("R")
_AT_ONCE = 16  # items given to a process at a time
_LOOK = 0.5  # seconds between two checks of processes that do not answer
_MAX_LOST = 16  # crashes without a single answer: then no item is to blame


def run(
    job: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    lost: Callable[[T, str], R],
    progress: Callable[[int], None] = lambda done: None,
    patience: float = 120.0,
) -> list[R]:
    """`job` of every item, in order for any number of processes; with `workers` 0 in this process.

    An item whose process dies, or takes longer than `patience` seconds, gets `lost(item, why)`, and the others
    continue.

    Raises:
        OSError: processes end as soon as they start.
    """
    if workers < 0:
        raise ValueError(f"workers={workers}: expected the number of processes, or 0 to stay in this one")
    results: list[Any] = []
    if workers == 0:
        for item in items:
            results.append(job(item))
            progress(len(results))
        return results
    results, done, losses = [None] * len(items), 0, 0
    waiting = deque(range(len(items)))
    crew = [_Worker(job) for _ in range(min(workers, -(-len(items) // _AT_ONCE)))]
    try:
        while done < len(items):
            for worker in crew:
                if not worker.given and waiting:
                    worker.give(waiting, items)
            for worker in _with_answers(crew):
                for index, result in worker.answers():
                    results[index] = result
                    done += 1
            for number, worker in enumerate(crew):
                worker.end_if_late(patience)
                if worker.dead:
                    losses += 1
                    if losses >= _MAX_LOST and done < losses:
                        raise OSError(f"{counted(losses, 'process')} ended before returning any result: {worker.why()}")
                    if worker.given:
                        culprit = worker.given.popleft()
                        results[culprit] = lost(items[culprit], worker.why())
                        done += 1
                    waiting.extendleft(reversed(worker.given))
                    worker.end()
                    crew[number] = _Worker(job)
            progress(done)
    finally:
        for worker in crew:
            worker.end()
    return results


class _Worker:
    """A process, and the items it has been given and not answered."""

    def __init__(self, job: Callable[[Any], Any]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_work, args=(job, theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()  # only the worker holds that end, so it reveals the worker's death
        self.given: deque[int] = deque()
        self.dead = False
        self._waited, self._looked, self._late = 0.0, 0.0, ""

    def give(self, waiting: deque[int], items: Sequence[Any]) -> None:
        """Send the next waiting items."""
        indices = [waiting.popleft() for _ in range(min(_AT_ONCE, len(waiting)))]
        self.given.extend(indices)
        self._waited, self._looked = 0.0, time.monotonic()
        try:
            self.connection.send([(index, items[index]) for index in indices])
        except OSError:  # it died before it got them
            waiting.extendleft(reversed(indices))
            self.given.clear()
            self.dead = True

    def answers(self) -> list[tuple[int, Any]]:
        """The answers that have arrived, in the order of the items."""
        found = []
        try:
            while self.given and self.connection.poll():  # true at the end of a dead worker's answers, too
                found.append(self.connection.recv())
                self.given.popleft()
                self._waited = 0.0
        except (EOFError, OSError):
            self.dead = True
        return found

    def end_if_late(self, patience: float) -> None:
        """Its earlier answers are still used, as for any dead process."""
        now = time.monotonic()
        self._waited += min(now - self._looked, _LOOK * 2)  # Ctrl-Z stops the process, not the clock
        self._looked = now
        if self.given and not self._late and self._waited > patience:
            self.process.kill()
            self._late = f"it took longer than {patience:g} s"

    def why(self) -> str:
        self.process.join(5)
        return self._late or f"it ended its process ({_ending(self.process.exitcode)})"

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _with_answers(crew: Sequence[_Worker]) -> list[_Worker]:
    ready = set(map(id, wait([worker.connection for worker in crew if worker.given], timeout=_LOOK)))
    return [worker for worker in crew if id(worker.connection) in ready]


def _work(job: Callable[[Any], Any], connection: Connection, parent: int) -> None:
    """The loop of a process until its parent is gone: it receives items and answers each one."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent decides
    lives = watch_of(parent)
    try:
        while True:
            while not connection.poll(1):
                if not lives():
                    return
            for index, item in connection.recv():
                connection.send((index, job(item)))
    except (EOFError, OSError):  # the parent is gone
        return


def _ending(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit status {exitcode}"
    return f"signal {-exitcode}" + (", often: out of memory" if exitcode == -signal.SIGKILL else "")
