"""Interleaved timing of several variants in one process."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ..system.machine import synchronize
from .variant import Variant

# Idle threads of OpenMP, ONNX Runtime and OpenVINO spin for a while before they sleep, and take the next one's cores.
PAUSE = 0.1  # seconds


@dataclass
class Times:
    """Seconds of one variant's calls: whole calls, and by stage."""

    whole: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of measurements."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """Quartiles by linear interpolation between the values; one value is all three."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high)


def measure(
    variants: Sequence[Variant],
    *,
    device: torch.device,
    warmup: int,
    rounds: int,
    repeats: int,
    pause: float = PAUSE,
    tick: Callable[[], object] = lambda: None,
    each_round: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Times by name. Each round runs every variant in one burst: a warm-up call, then `repeats` timed calls.

    Interleaved, so that a temporary slowdown of the machine affects all variants alike; in bursts, because the
    runtimes' threads disturb each other. The order rotates from round to round. `tick` is called after every burst,
    `each_round` before each round.
    """
    found = {variant.name: Times() for variant in variants}
    for variant in variants:
        with mode(variant):
            for _ in range(warmup):
                variant.call()
        tick()
    for number in range(rounds):
        each_round()
        shift = number % len(variants)
        for variant in (*variants[shift:], *variants[:shift]):
            time.sleep(pause)
            with mode(variant):
                variant.call()
                for _ in range(repeats):
                    _time(variant, found[variant.name], device)
            tick()
    return found


@contextmanager
def mode(variant: Variant) -> Iterator[None]:
    """Inference mode for all variants, except training steps."""
    with torch.inference_mode(variant.kind != "training"):
        yield


def _time(variant: Variant, times: Times, device: torch.device) -> None:
    """Time one call. If a single call replaces the stages, it is timed first, and the stages in a separate call."""
    if variant.whole is not None:
        synchronize(device)
        start = time.perf_counter()
        variant.whole(variant.start)
        synchronize(device)
        times.whole.append(time.perf_counter() - start)
    value, total = variant.start, 0.0
    for name, stage in variant.stages.items():
        synchronize(device)
        start = time.perf_counter()
        value = stage(value)
        synchronize(device)
        seconds = time.perf_counter() - start
        times.stages.setdefault(name, []).append(seconds)
        total += seconds
    if variant.whole is None:
        times.whole.append(total)


def ratios(times: Mapping[str, Times], reference: str) -> dict[str, float]:
    """How many times faster than `reference` each is, by medians."""
    base = Spread.of(times[reference].whole).median
    return {name: base / Spread.of(found.whole).median for name, found in times.items()}
