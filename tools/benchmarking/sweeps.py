"""How time grows with pixels, classes, candidates or the batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .case import Case, run_case
from .subject import Setup, Subject
from .timing import Spread

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


def check_sweep(config: Any) -> None:
    """Raise ValueError for a sweep that there is not, or that its subject does not have."""
    if config.sweep not in DEFAULTS:
        raise ValueError(f"sweep={config.sweep}: expected {', '.join(DEFAULTS)}")
    if any(value <= 0 for value in config.sweep_values):
        raise ValueError(f"sweep_values={list(config.sweep_values)}: expected numbers above 0")
    if config.file:
        raise ValueError(f"sweep={config.sweep}: an exported file is fixed; give run= or model=")
    if config.sweep == "classes" and config.run:
        raise ValueError("sweep=classes: a run has its classes; give model= or experiment=")
    if config.sweep == "pixels" and config.photos:
        raise ValueError("sweep=pixels makes photographs of all sizes: leave photos= out")
    if config.sweep == "detections" and config.training:
        raise ValueError("sweep=detections is of post-processing: leave training= out")


def steps(setup: Setup) -> list[Step]:
    """The points of `config.sweep`, smallest first.

    Raises:
        ValueError: the subject has no such size.
    """
    config = setup.config
    values = sorted(config.sweep_values or DEFAULTS[config.sweep])
    if config.sweep == "batch":
        return [Step(int(value), {"batch_size": int(value)}) for value in values]
    if config.sweep == "classes":
        return [Step(int(value), {"data.num_classes": int(value), "data.labels": None}) for value in values]
    subject = Subject(setup)
    if config.sweep == "detections":
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
        raise ValueError(f"sweep=detections: a {run.task.kind} network has none")
    logits = run.task.model(subject.prepare(subject.photos).images)["class_logits"].float()
    scores = logits.softmax(-1) if run.task.postprocess.activation == "softmax" else logits.sigmoid()
    ordered = scores[..., 1:].flatten().sort(descending=True).values
    found = {}
    for count in counts:
        index = min(round(count * len(logits)), len(ordered) - 1)
        # No float32 score is lower than this one, and the candidates are above it.
        found[index / len(logits)] = Step(index / len(logits), {"min_score": float(ordered[index])})
    return list(found.values())


def run_sweep(setup: Setup, title: str, *, say: Callable[[str], object]) -> tuple[list[Case], Points]:
    """A case for every step, and the points (size, seconds) of every variant."""
    cases: list[Case] = []
    points: Points = {}
    for step in steps(setup):
        case = run_case(setup.with_keys(**step.keys), f"{title}, {setup.config.sweep} {step.size:,.0f}", say=say)
        cases.append(case)
        for row in case.rows:
            points.setdefault(row.name, []).append((step.size, Spread.of(row.times.whole).median))
    return cases, points


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """k in time ~ size^k, by least squares over the logarithms; NaN for fewer than two sizes."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if not spread:
        return math.nan
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
