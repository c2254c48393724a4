"""Kill real runs at random instants and compare what they end with to a run that nobody disturbed."""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import disturb
import torch
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine.distributed import pick_device
from pocketvision.tools.engine.report import MEASURED
from pocketvision.tools.engine.state import load_checkpoint

MOVES = ("model", "ema", "optimizer", "schedule", "scaler", "progress", "window", "random")  # parts of a checkpoint


def kill_and_compare(overrides: Sequence[str], folder: Path, *, kills: int, ranks: int = 1) -> None:
    """Train once in peace; then kill, start again, kill, ... `kills` times, a new run whenever one got to its end.

    The runs and their output are left in `folder`.

    Raises:
        ValueError: a run ended with other numbers, or by itself.
    """
    config = compose(*overrides)
    if pick_device(config.device).type == "cuda":
        raise ValueError("kernels of GPUs add in changing order, so that no two runs end alike: give device=cpu")
    until_first_row, until_end = _undisturbed(overrides, folder / "whole", ranks)
    print(f"undisturbed: {until_end:.1f} s, training from second {until_first_row:.1f} on")

    ways = [way for way in disturb.WAYS if ranks > 1 or way != "SIGKILL of one rank"]
    chance, killed, number, pace = random.Random(config.seed), 0, 0, 1.0
    while killed < kills:
        number += 1
        run = folder / f"killed-{number}"
        while killed < kills:
            # mostly in training, sometimes while starting
            seconds = chance.uniform(0.7, 1) * until_first_row + chance.uniform(0, (until_end - until_first_row) / 2)
            seconds *= pace
            way = ways[killed % len(ways)]
            if not _disturb(overrides, run, ranks, seconds, way, chance):
                pace *= 0.8  # the machine may be faster now than it was for the undisturbed run
                break
            killed += 1
            print(f"{killed} of {kills}: {way} after {seconds:.1f} s; {_standing(run)}")
        _finish(overrides, run, ranks)
        if found := differences(folder / "whole", run):
            raise ValueError(
                f"{run} did not end as {folder / 'whole'} did, {len(found)} differences: {', '.join(found[:5])}"
            )
        print(f"{run} ended as if nothing had happened")
    same = f"weights, optimizer, random state and {len(_rows(folder / 'whole'))} rows"
    print(f"bit-identical after {killed} kills of {number} runs: {same}")


def _undisturbed(overrides: Sequence[str], run: Path, ranks: int) -> tuple[float, float]:
    """Train in peace; seconds until the first row of the log, and until the end."""
    begun, first = time.perf_counter(), None
    with disturb.training(overrides, run, ranks=ranks) as started:
        while (code := started.wait(0.05)) is None:
            if first is None and (run / "metrics.jsonl").exists():
                first = time.perf_counter() - begun
        _must_be_zero(started, code)
    seconds = time.perf_counter() - begun
    return first or seconds, seconds


def _disturb(overrides: Sequence[str], run: Path, ranks: int, seconds: float, way: str, chance: random.Random) -> bool:
    """Start or resume, and end it after `seconds`; false where it got to its end before."""
    with disturb.training(overrides, run, ranks=ranks) as started:
        code = started.wait(seconds)
        if code is None:
            disturb.end(started, way, chance)
            return True
        _must_be_zero(started, code)
        return False


def _finish(overrides: Sequence[str], run: Path, ranks: int) -> None:
    with disturb.training(overrides, run, ranks=ranks) as started:
        _must_be_zero(started, started.process.wait())


def _must_be_zero(started: disturb.Started, code: int) -> None:
    if code:
        raise ValueError(f"training ended by itself with {code}, see {started.log}: {started.complaint()}")


def _standing(run: Path) -> str:
    last = run / "checkpoints" / "last.pt"
    return f"saved is step {load_checkpoint(last)['progress']['step']}" if last.exists() else "nothing saved yet"


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run folders: names of values in last.pt and rows of metrics.jsonl (not their times)."""
    first, second = (load_checkpoint(folder / "checkpoints" / "last.pt") for folder in (one, other))
    found = [key for part in MOVES for key in _different(first[part], second[part], part)]
    rows, others = _rows(one), _rows(other)
    found += [
        f"row {i + 1} of metrics.jsonl" for i, pair in enumerate(zip(rows, others, strict=False)) if len({*pair}) > 1
    ]
    return found + ([f"{len(rows)} and {len(others)} rows in metrics.jsonl"] if len(rows) != len(others) else [])


def _different(one: Any, other: Any, name: str) -> Iterator[str]:
    """Names of the values that differ: tensors by their bits, containers by what they hold."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        for key in one:
            yield from _different(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            yield from _different(*pair, f"{name}.{i}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield name
    elif one != other:
        yield name


def _rows(folder: Path) -> list[str]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [json.dumps({key: value for key, value in row.items() if key not in MEASURED}) for row in rows]
