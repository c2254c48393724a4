"""SIGTERM and Ctrl-C: finish the step, save, exit."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Stopped(SystemExit):
    """The run was asked to stop; everything up to the last step is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)  # the shell's convention for a process ended by a signal
        self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class StopSignals:
    """While active, the first SIGTERM or Ctrl-C is only recorded in `received`; a second Ctrl-C interrupts at once.

    The second must come at least a second later: torchrun forwards a single Ctrl-C, so it arrives twice.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._time = 0.0
        self._before: dict[int, Any] = {}
        self._at_once = False

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self.received == signal.SIGINT and now > self._time + 1:
            raise KeyboardInterrupt
        if self.received is None:
            self.received, self._time = number, now
        if self._at_once:
            raise Stopped(number)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of the work that may be interrupted anywhere, because everything important is saved."""
        if self.received is not None:
            raise Stopped(self.received)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False
