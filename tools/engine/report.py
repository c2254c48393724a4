"""What a run says and writes: console, progress bar, metrics.jsonl, TensorBoard."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

log = logging.getLogger("pocketvision")


class Report:
    """The files of one run folder. Only the main rank writes; the others hold a silent one (`folder=None`)."""

    def __init__(self, folder: Path | None, *, step: int = 0) -> None:
        self.folder = folder
        self._board: Any = None
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import: only where it writes

        folder.mkdir(parents=True, exist_ok=True)
        self._cut_back(step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    @property
    def _metrics(self) -> Path:
        assert self.folder is not None
        return self.folder / "metrics.jsonl"

    def _cut_back(self, step: int) -> None:
        """Drop rows after the checkpoint's step: the resumed run writes them again."""
        if not self._metrics.exists():
            return
        rows = [line for line in self._metrics.read_text().splitlines() if _step_of(line) <= step]
        self._metrics.write_text("".join(row + "\n" for row in rows))

    def row(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row to metrics.jsonl and to TensorBoard under `kind/`."""
        if self.folder is None:
            return
        with open(self._metrics, "a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for key, value in values.items():
            self._board.add_scalar(f"{kind}/{key}", value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):  # a row that a crash cut
        return float("inf")


def progress(items: Iterable[Any], *, total: int | None, title: str, quiet: bool = False, initial: int = 0) -> tqdm:
    """A progress bar on a terminal; in a file or a pipe a line every half minute."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(
        items,
        total=total,
        desc=title,
        disable=quiet,
        initial=initial,
        dynamic_ncols=True,
        mininterval=seconds,
        leave=False,
    )


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


class Window:
    """Loss sums and times since the last log row, kept on the device until they are read."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._reset()

    def _reset(self) -> None:
        self._parts: list[dict[str, Tensor]] = []
        self._norms: list[Tensor] = []
        self._start = time.perf_counter()

    def add(self, sums: dict[str, Tensor], count: Tensor, norm: Tensor) -> None:
        count = count.clamp(min=1)
        self._parts.append({key: value / count for key, value in sums.items()})
        self._norms.append(norm)

    def read(self, *, step: int, epoch: int, batch_size: int, waiting: float, lr: float) -> dict[str, float]:
        """Means over the window (a sync with the device), and start a new one.

        Raises:
            FloatingPointError: a loss of the window is not finite.
        """
        n = len(self._parts)
        losses = {key: torch.stack([part[key] for part in self._parts]).mean().item() for key in self._parts[0]}
        row = {"loss": sum(losses.values()), **losses, "grad_norm": torch.stack(self._norms).mean().item(), "lr": lr}
        if not all(torch.isfinite(torch.tensor(v)) for v in losses.values()):
            raise FloatingPointError(
                f"a loss is not finite between steps {step - n + 1} and {step}: {losses}; "
                "lower optimizer.lr, lengthen schedule.warmup_epochs or set clip_grad_norm"
            )
        seconds = time.perf_counter() - self._start
        row |= {
            "images_per_second": n * batch_size / seconds,
            "waiting_share": waiting / seconds,
            "epoch": epoch + 1,
        }
        self._reset()
        return row


def table(results: Mapping[str, float], *, columns: int = 4) -> str:
    """Results as aligned text, headline figures first, per-class ones (`name/class`) below."""
    heads = {k: v for k, v in results.items() if "/" not in k}
    lines = ["  " + "   ".join(f"{k:>8} {v:7.4f}" for k, v in chunk) for chunk in _chunks(list(heads.items()), columns)]
    groups: dict[str, list[tuple[str, float]]] = {}
    for key, value in results.items():
        if "/" in key:
            group, name = key.split("/", 1)
            groups.setdefault(group, []).append((name, value))
    for group, rows in groups.items():
        width = max(len(name) for name, _ in rows)
        lines.append(f"  {group} of each class:")
        lines += ["    " + "   ".join(f"{n:<{width}} {v:7.4f}" for n, v in chunk) for chunk in _chunks(rows, 3)]
    return "\n".join(lines)


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
