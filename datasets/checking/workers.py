"""A function over many items in several processes, whatever an item does to its process."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import cv2

T, R = TypeVar("T"), TypeVar("R")
_AT_ONCE = 16  # items that a process is given
_MAX_LOST = 16  # without one answer: then it is no item's fault


def run(
    job: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int,
    lost: Callable[[T, str], R],
    progress: Callable[[int], None] = lambda done: None,
    patience: float = 120.0,
) -> list[R]:
    """`job` of every item, in their order whatever the number of processes; none of them for `workers` 0.

    An item whose process dies, or takes longer than `patience` seconds, gets `lost(item, why)`, and the rest goes on.

    Raises:
        OSError: processes end as soon as they begin.
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
            for number, worker in enumerate(crew):
                why = worker.end_if_late(patience)
                if why is None and worker.process.is_alive():
                    if not worker.given and waiting:
                        worker.give([waiting.popleft() for _ in range(min(_AT_ONCE, len(waiting)))], items)
                elif not worker.connection.poll():  # its last answers are taken first
                    why = why or f"it ended its process ({_ending(worker.process.exitcode)})"
                    losses += 1
                    if losses >= _MAX_LOST and done < losses:
                        raise OSError(f"{losses} processes ended before they had answered anything: {why}")
                    if worker.given:
                        culprit = worker.given.popleft()
                        results[culprit] = lost(items[culprit], why)
                        done += 1
                    waiting.extendleft(reversed(worker.given))
                    worker.end()
                    crew[number] = _Worker(job)
            for worker in _with_answers(crew):
                for index, result in worker.answers():
                    results[index] = result
                    done += 1
            progress(done)
    finally:
        for worker in crew:
            worker.end()
    return results


class _Worker:
    """A process, and the items that it was given and has not answered."""

    def __init__(self, job: Callable[[Any], Any]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_work, args=(job, theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()  # only the worker holds that end: it tells of the worker's death
        self.given: deque[int] = deque()
        self._since = 0.0

    def give(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        with contextlib.suppress(OSError):  # it died: what it was given is found in `given`
            self.connection.send([(index, items[index]) for index in indices])
        self.given.extend(indices)
        self._since = time.monotonic()

    def answers(self) -> list[tuple[int, Any]]:
        """Those that have come, in the order in which they were given."""
        found = []
        try:
            while self.given and self.connection.poll():
                found.append(self.connection.recv())
                self.given.popleft()
                self._since = time.monotonic()
        except (EOFError, OSError):
            self.process.join(5)
        return found

    def end_if_late(self, patience: float) -> str | None:
        if self.given and time.monotonic() - self._since > patience:
            self.process.kill()
            self.process.join()
            return f"it took longer than {patience:g} s"
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _with_answers(crew: Sequence[_Worker]) -> list[_Worker]:
    ready = set(map(id, wait([worker.connection for worker in crew if worker.given], timeout=0.5)))
    return [worker for worker in crew if id(worker.connection) in ready]


def _work(job: Callable[[Any], Any], connection: Connection, parent: int) -> None:
    """What a process does until its parent is gone: it gets items, and answers each by itself."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the parent decides
    try:
        while True:
            while not connection.poll(1):
                if os.getppid() != parent:
                    return
            for index, item in connection.recv():
                connection.send((index, job(item)))
    except (EOFError, OSError):  # the parent is gone
        return


def _ending(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit status {exitcode}"
    return f"signal {-exitcode}" + (", often: out of memory" if exitcode == -signal.SIGKILL else "")
