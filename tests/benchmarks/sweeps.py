"""How time grows with pixels, classes, candidates or the batch.

python tests/benchmarks/sweeps.py detections model=ssdlite_torchvision peer=torchvision [--values 100 1000]

Prints k in time ~ size^k for each variant, and draws growth.png.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import arguments, collect, parse, save, with_keys
from pocketvision.conf.schema import BenchmarkConfig
from pocketvision.tools.benchmark import check, phase, prepare_machine, title
from pocketvision.tools.benchmarking.case import Case, run_case, specs_of
from pocketvision.tools.benchmarking.subject import Setup, Subject
from pocketvision.tools.benchmarking.timing import Spread
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.drawing.annotate import palette
from pocketvision.tools.drawing.charts import number, paint
from pocketvision.tools.drawing.figure import Chart, style
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.system import machine
from pocketvision.tools.system.console import log

WIDTH = 600  # units of a chart
Points = dict[str, list[tuple[float, float]]]
DEFAULTS: Mapping[str, tuple[float, ...]] = {
    "pixels": (0.25, 0.5, 1, 2, 4),  # times the subject's own
    "classes": (10, 20, 80, 160),
    "detections": (100, 1_000, 10_000, 50_000),  # candidates an image
    "batch": (1, 2, 4, 8),
}
AXES = {
    "pixels": "pixels of the network's input",
    "classes": "classes",
    "detections": "candidates above min_score, an image",
    "batch": "images at a time",
}


@dataclass(frozen=True)
class Step:
    """One point of a sweep: where it stands on the axis, and the keys that make it."""

    size: float
    keys: dict[str, Any]


def check_sweep(settings: BenchmarkConfig, axis: str, values: Sequence[float]) -> None:
    """Raise ValueError for a sweep that its subject does not have."""
    if any(value <= 0 for value in values):
        raise ValueError(f"--values {list(values)}: expected numbers above 0")
    if settings.file:
        raise ValueError(f"{axis}: an exported file is fixed; give run= or model=")
    if axis == "classes" and settings.run:
        raise ValueError("classes: a run has its classes; give model= or experiment=")
    if axis == "pixels" and settings.photos:
        raise ValueError("pixels: photographs of all sizes are made up: leave photos= out")
    if axis == "detections" and settings.training:
        raise ValueError("detections: this is about post-processing: leave training= out")


def steps(setup: Setup, axis: str, values: Sequence[float] = ()) -> list[Step]:
    """The points of an axis, smallest first.

    Raises:
        ValueError: the subject has no such size.
    """
    config = setup.config
    values = sorted(values or DEFAULTS[axis])
    if axis == "batch":
        return [Step(int(value), {"batch_size": int(value)}) for value in values]
    if axis == "classes":
        return [Step(int(value), {"data.num_classes": int(value), "data.labels": None}) for value in values]
    subject = Subject(setup)
    if axis == "detections":
        return _thresholds(subject, values)
    data = subject.run.config.data
    key = "data.input_size" if config.training else "data.eval_size"
    own = data.input_size if config.training else data.eval_size
    found = []
    for value in values:
        height, width = scaled(own or config.photo_size, value)
        size = {"photo_size": [height, width]} if own is None else {key: [height, width]}
        found.append(Step(height * width, size))
    return found


def scaled(size: Sequence[int], factor: float) -> tuple[int, int]:
    """(h, w) with `factor` times the pixels, both sides multiples of 32."""
    height, width = (max(32, 32 * round(side * math.sqrt(factor) / 32)) for side in size)
    return height, width


@torch.inference_mode()
def _thresholds(subject: Subject, counts: Sequence[float]) -> list[Step]:
    """Values of `min_score` above which an image has so many candidates."""
    run: Any = subject.run
    if run.task.kind != "detection":
        raise ValueError(f"detections: a {run.task.kind} network has none")
    logits = run.task.model(subject.prepare(subject.photos).images)["class_logits"].float()
    scores = logits.softmax(-1) if run.task.postprocess.activation == "softmax" else logits.sigmoid()
    ordered = scores[..., 1:].flatten().sort(descending=True).values
    found = {}
    for count in counts:
        index = min(round(count * len(logits)), len(ordered) - 1)
        # No float32 score is lower than this one, and the candidates are above it.
        found[index / len(logits)] = Step(index / len(logits), {"min_score": float(ordered[index])})
    return list(found.values())


def run_sweep(
    setup: Setup, axis: str, values: Sequence[float], *, say: Callable[[str], object]
) -> tuple[list[Case], Points]:
    """A case for every step, and the points (size, seconds) of every variant."""
    cases: list[Case] = []
    points: Points = {}
    for step in steps(setup, axis, values):
        case = run_case(with_keys(setup, **step.keys), f"{title(setup.settings)}, {axis} {step.size:,.0f}", say=say)
        cases.append(case)
        for row in case.rows:
            points.setdefault(row.name, []).append((step.size, Spread.of(row.times.whole).median))
    return cases, points


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """k in time ~ size^k, by least squares over the logarithms; NaN for fewer than two sizes."""
    sizes, seconds = zip(*points, strict=True)
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]) if len(set(sizes)) > 1 else math.nan


@style()
def draw_growth(title: str, axis: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
    """Time over size, both axes logarithmic; a line of (size, seconds) for every variant."""
    from matplotlib.ticker import LogLocator

    chart = Chart(title, WIDTH, 300 + 18 * len(lines))
    plot = chart.axes(76, 14, WIDTH - 100, 240)
    handles = []
    for points, color in zip(lines.values(), palette(len(lines)), strict=True):
        sizes, seconds = zip(*points, strict=True)
        times = [1e3 * second for second in seconds]
        handles += plot.plot(sizes, times, color=paint(color), marker="o", markersize=5, linewidth=2, clip_on=False)
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_xlabel(axis)
    plot.set_ylabel("ms")
    plot.xaxis.set_ticks(sorted({size for points in lines.values() for size, _ in points}))
    plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plot.minorticks_off()
    for one in (plot.xaxis, plot.yaxis):
        one.set_major_formatter(lambda value, _: number(value))
    chart.legend(handles, list(lines), left=76, top=300, columns=1)
    return chart.picture()


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("axis", choices=DEFAULTS)
    parser.add_argument("--values", nargs="+", type=float, default=[], help="instead of some that suit most")
    options, config = parse(parser, argv)
    settings = settings_of(config, BenchmarkConfig)
    try:
        check(settings)
        check_sweep(settings, options.axis, options.values)
    except ValueError as error:
        parser.error(str(error))
    threads = settings.threads or machine.physical_cores()
    about = prepare_machine(settings.device, threads)
    files = tuple(map(str, find_images([settings.photos]))) if settings.photos else ()
    setup = Setup(config, threads, files, specs_of(settings))
    with phase() as say:
        cases, points = run_sweep(setup, options.axis, options.values, say=say)
    collect(cases)
    axis = AXES[options.axis]
    for name, line in points.items():
        log.info("%s: time grows as (%s) ^ %.2f", name, axis, exponent(line))
    save(config, cases, machine=about,
         pictures={"growth.png": draw_growth(f"{title(settings)}: time over {axis}", axis, points)})  # fmt: skip


if __name__ == "__main__":
    main()
