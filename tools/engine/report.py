"""What a run records: metrics.jsonl and TensorBoard."""

import errno
import io
import itertools
import json
import math
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ...absent import from_file, known
from ...files import remove_leftovers, whole_file
from ..system.console import log

_DIGITS = 19  # of a whole number in a row; those of steps and images have fewer
MEASURED = ("images_per_second", "waiting_share", "peak_memory_gb")  # columns that differ between any two runs


class Appended:
    """A file that only grows, by whole pieces: what cannot be written now is written with the next piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""

    def add(self, piece: bytes) -> None:
        self._waiting += piece
        try:
            self.write()
        except OSError as error:
            log.error("could not write to %s: %s; the next row tries again", self._path, error.strerror or error)

    def write(self, *, durable: bool = False) -> None:
        """Write everything that was added.

        Raises:
            OSError: the disk is full, or similar. The file is as it was.
        """
        with open(self._path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(self._waiting) < len(self._waiting):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
                self._waiting = b""
                if durable:
                    os.fsync(file.fileno())
            finally:
                if self._waiting:
                    file.truncate(size)


class Board:
    """TensorBoard's scalars, written at once: torch's own writer never recovers from a full disk."""

    _number = itertools.count()  # of files in one second

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """TensorBoard drops what earlier files hold of `purge_step` and later ones."""
        from tensorboard.compat.proto import event_pb2, summary_pb2  # takes a while to import: only if it is used
        from tensorboard.summary.writer.record_writer import RecordWriter

        events: Any = event_pb2  # pyright does not see messages
        summaries: Any = summary_pb2
        self._event, self._summary, self._writer = events.Event, summaries.Summary, RecordWriter
        folder.mkdir(parents=True, exist_ok=True)
        own = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(self._number)}"
        self._file = Appended(folder / f"events.out.tfevents.{own}")
        start = events.SessionLog(status=events.SessionLog.START)
        self._add(events.Event(step=purge_step, file_version="brain.Event:2"))
        self._add(events.Event(step=purge_step, session_log=start))

    def row(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add the numbers of a row as `kind/NAME`; an absent one is no point."""
        scalars = [
            self._summary.Value(tag=f"{kind}/{key}", simple_value=value)
            for key, value in values.items()
            if isinstance(value, int | float)
        ]
        self._add(self._event(step=step, summary=self._summary(value=scalars)))

    def close(self) -> None:
        with suppress(OSError):
            self._file.write()

    def _add(self, event: Any) -> None:
        event.wall_time, record = time.time(), io.BytesIO()
        self._writer(record).write(event.SerializeToString())
        self._file.add(record.getvalue())


class Report:
    """The files of one run folder. Only the main rank writes; the others have a silent one (`folder=None`)."""

    def __init__(self, folder: Path | None, *, step: int = 0, evaluated: int = 0) -> None:
        """Remove rows after the checkpoint's `step` and evaluations after `evaluated`: they will be written again."""
        self._board: Board | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, of="metrics")
        path, rows = folder / "metrics.jsonl", []
        if path.exists():
            last = {"train": step, "val": evaluated}
            rows = [line for line in path.read_text(errors="replace").splitlines() if _is_kept(line, last)]
            with whole_file(path, durable=True) as unfinished:
                unfinished.write_text("".join(row + "\n" for row in rows))
        self._metrics = Appended(path)
        # TensorBoard drops rows of all kinds from a step on; those of `step` that stay are written again.
        self._board = Board(folder / "tensorboard", purge_step=step or 1)
        for row in map(parse_row, rows):
            if row.pop("step") == step:
                self._board.row(row["kind"], step, _as_logged(row))

    def row(self, kind: str, step: int, values: Mapping[str, float | None]) -> None:
        """Append one row to metrics.jsonl and to TensorBoard under `kind/`; a value of None is absent."""
        if self._board is None:
            return
        numbers = {key: known(value) for key, value in values.items()}  # json has no NaN
        self._metrics.add((json.dumps({"kind": kind, "step": step, **numbers}) + "\n").encode())
        self._board.row(kind, step, values)

    def flush(self) -> None:
        """Write all rows to disk: those before a checkpoint must not be lost with the process.

        Raises:
            OSError: the disk is full, or similar.
        """
        if self._board is not None:
            self._metrics.write(durable=True)

    def close(self) -> None:
        """Write what is still waiting, if there is room."""
        if self._board is not None:
            with suppress(OSError):
                self._metrics.write()
            self._board.close()


def _as_logged(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers behind a row: nothing in training is absent, but it may have been NaN."""
    if row["kind"] == "val":
        return from_file(row)
    return {key: math.nan if value is None else value for key, value in row.items()}


def parse_row(line: str) -> Any:
    """A row of a metrics.jsonl; a number that no float can hold is infinite."""
    return json.loads(line, parse_int=lambda digits: int(digits) if len(digits) < _DIGITS else float(digits))


def _is_kept(line: str, last: Mapping[str, int]) -> bool:
    try:
        row = parse_row(line)
        return type(row["step"]) is int and row["step"] <= last[row["kind"]]
    except (ValueError, LookupError, TypeError, RecursionError):  # a row truncated by a crash, or damaged
        return False


class Waiting:
    """Iterates over a loader and adds up the time spent waiting for it."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self._items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.seconds += time.perf_counter() - start
            yield item


def peak_memory(device: torch.device) -> float:
    """Peak memory so far, in GB: of tensors on a CUDA device, otherwise of this process; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak / 1e6
