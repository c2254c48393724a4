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
_FINE = 1e-4  # seconds; Windows counts CPU time in steps of 1/64 s


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
    clock: Callable[[], float] = time.perf_counter,
    tick: Callable[[], object] = lambda: None,
    each_round: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Times by name. Each round runs every variant in one burst: a warm-up call, then `repeats` timed calls.

    Interleaved, so that a temporary slowdown of the machine affects all variants alike; in bursts, because the
    runtimes' threads disturb each other. The order rotates from round to round. `tick` is called after every burst,
    `each_round` before each round; `clock` gives the seconds.
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
                    _time(variant, found[variant.name], device, clock)
            tick()
    return found


def clock_of(threads: int) -> tuple[str, Callable[[], float]]:
    """The clock for calls of so many threads, and its name.

    CPU time where there is one thread: it leaves out the time for which other programs have the core. With several, the
    time that passes, as CPU time is that of all of them together.
    """
    fine = time.get_clock_info("process_time").resolution <= _FINE
    return ("CPU ms", time.process_time) if threads == 1 and fine else ("ms", time.perf_counter)


@contextmanager
def mode(variant: Variant) -> Iterator[None]:
    """Inference mode for all variants, except training steps."""
    with torch.inference_mode(variant.kind != "training"):
        yield


def _time(variant: Variant, times: Times, device: torch.device, clock: Callable[[], float]) -> None:
    """Time one call. If a single call replaces the stages, it is timed first, and the stages in a separate call."""
    if variant.whole is not None:
        synchronize(device)
        start = clock()
        variant.whole(variant.start)
        synchronize(device)
        times.whole.append(clock() - start)
    value, total = variant.start, 0.0
    for name, stage in variant.stages.items():
        synchronize(device)
        start = clock()
        value = stage(value)
        synchronize(device)
        seconds = clock() - start
        times.stages.setdefault(name, []).append(seconds)
        total += seconds
    if variant.whole is None:
        times.whole.append(total)


def ratios(times: Mapping[str, Times], reference: str) -> dict[str, float]:
    """How many times faster than `reference` each is, by medians."""
    base = Spread.of(times[reference].whole).median
    return {name: base / Spread.of(found.whole).median for name, found in times.items()}
