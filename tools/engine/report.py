"""What a run records: metrics.jsonl and TensorBoard."""

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ...files import whole_file
from ..system.console import log

MEASURED = ("images_per_second", "waiting_share", "peak_memory_gb")  # columns that differ between any two runs


class Report:
    """The files of one run folder. Only the main rank writes; the others have a silent one (`folder=None`)."""

    def __init__(self, folder: Path | None, *, step: int = 0, evaluated: int = 0) -> None:
        """Remove rows after the checkpoint's `step` and evaluations after `evaluated`: they will be written again."""
        self._board: Any = None
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import: only if it is used

        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = folder / "metrics.jsonl"
        if self._metrics.exists():
            last = {"train": step, "val": evaluated}
            rows = [line for line in self._metrics.read_text().splitlines() if _is_kept(line, last)]
            with whole_file(self._metrics, durable=True) as unfinished:
                unfinished.write_text("".join(row + "\n" for row in rows))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def row(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row to metrics.jsonl and to TensorBoard under `kind/`."""
        if self._board is None:
            return
        numbers = {key: value if math.isfinite(value) else None for key, value in values.items()}  # json has no NaN
        try:
            with open(self._metrics, "a") as file:
                file.write(json.dumps({"kind": kind, "step": step, **numbers}) + "\n")
            for key, value in values.items():
                self._board.add_scalar(f"{kind}/{key}", value, step)
        except OSError as error:
            log.error("could not write step %d to %s: %s", step, self._metrics, error)

    def flush(self) -> None:
        """Write everything so far to disk: rows before a checkpoint must not be lost with the process."""
        if self._board is not None:
            self._board.flush()
            with open(self._metrics, "a") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _is_kept(line: str, last: Mapping[str, int]) -> bool:
    try:
        row = json.loads(line)
        return row["step"] <= last[row["kind"]]
    except (json.JSONDecodeError, KeyError, TypeError):  # a row truncated by a crash
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
