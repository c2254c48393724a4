"""One comparison: all variants of one subject, checked, timed and summarized."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...backbones.counting import count
from ...conf.schema import BenchmarkConfig
from ...datasets.images.decode import decode_bytes
from ...segmentation.labelling import axis_cells
from ..system.machine import peak_madds
from .agreement import Agreement, compare
from .memory import peak_memory
from .subject import Setup, Subject
from .timing import Spread, Times, measure, mode, ratios
from .variant import Spec, Variant
from .variants import make_variant


@dataclass
class Row:
    """One variant's measurements."""

    name: str
    precision: str
    times: Times
    ratio: float  # speedup over the first row
    agreement: Agreement | None
    memory_mb: float | None  # None: not measured
    madds_per_second: float | None  # of the network's convolutions


@dataclass
class Case:
    """A comparison's rows; the first one is the reference."""

    title: str
    kind: str  # the task's, or "training"
    batch_size: int
    rows: list[Row]
    facts: dict[str, float] = field(default_factory=dict)
    decode_seconds: float | None = None  # for all photographs of a batch
    peaks: dict[str, float] = field(default_factory=dict)  # multiply-adds per second of a matrix product, by precision


def specs_of(settings: BenchmarkConfig) -> tuple[Spec, ...]:
    """The variants that a benchmark's keys ask for, the peer first.

    Raises:
        ValueError: keys conflict.
    """
    precision = settings.precision.value
    asked = precision != "fp32" or settings.compile
    if settings.peer not in (None, "torchvision"):
        raise ValueError(f"peer={settings.peer}: expected torchvision or null")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision={precision}: expected fp32 or bf16")
    network = bool(settings.run or settings.model)
    if settings.file and settings.training:
        raise ValueError("training=true: an exported file cannot be trained; set run= or model=")
    if settings.file and settings.peer and not network:
        raise ValueError("peer=torchvision needs a run's weights: set run=FOLDER in addition to file=")
    if settings.training and settings.optimize:
        raise ValueError("optimize=true is for inference: drop it for training=true")
    if asked and not (settings.optimize or settings.training or settings.file):
        raise ValueError(f"precision={precision} compile={str(settings.compile).lower()} need optimize=true")
    specs = [Spec("torchvision")] if settings.peer else []
    if network or not settings.file:
        specs.append(Spec("pocketvision"))
        if settings.optimize or (settings.training and asked):
            specs.append(Spec("pocketvision", settings.optimize, settings.compile, precision))
    if settings.file:
        specs.append(Spec("file", precision=precision, file=settings.file))
    return tuple(specs)


def with_other_layout(subject: Subject, specs: Sequence[Spec]) -> tuple[Spec, ...]:
    """Add torchvision's segmentation model on images in channels_last memory format.

    That makes a large difference and needs only one line; torchvision's detector converts any input to NCHW.
    """
    if Spec("torchvision") not in specs or subject.run.task.kind != "segmentation":
        return tuple(specs)
    return (specs[0], Spec("torchvision", channels_last=True), *specs[1:])


def run_case(setup: Setup, title: str, *, say: Callable[[str], object] = lambda _: None) -> Case:
    """Check that all variants agree, time them in turn, then measure their memory.

    Raises:
        ValueError: a variant does not agree with the first one.
    """
    settings, subject = setup.settings, Subject(setup)
    say("building")
    setup = replace(setup, specs=with_other_layout(subject, setup.specs))
    variants = [make_variant(subject, spec) for spec in setup.specs]
    file_only = all(spec.side == "file" for spec in setup.specs)
    kind = variants[0].kind
    say("comparing results")
    agreements = agree(variants, trained=bool(settings.run or settings.file))
    facts, madds = ({}, None) if file_only else (_facts(subject, kind), _madds(subject))
    peaks: dict[str, list[float]] = {spec.precision: [] for spec in setup.specs}

    def measure_peaks() -> None:  # in every round, because a shared machine's speed varies
        for precision, rates in peaks.items():
            rates.append(peak_madds({"fp32": torch.float32, "bf16": torch.bfloat16}[precision], subject.device))

    times = measure(
        variants, device=subject.device, warmup=settings.warmup, rounds=settings.rounds, repeats=settings.repeats,
        tick=lambda: say("timing"), each_round=lambda: None if kind == "training" else measure_peaks(),
    )  # fmt: skip
    faster = ratios(times, variants[0].name)
    rows = []
    for variant in variants:
        memory = None
        if settings.memory and variant.spec.measure_memory:
            say("memory")
            memory = peak_memory(setup, variant.spec)
        name, found = variant.name, times[variant.name]
        rate = madds / Spread.of(found.stages["network"]).median if madds else None
        rows.append(Row(name, variant.spec.precision, found, faster[name], agreements.get(name), memory, rate))
    case = Case(title, kind, settings.batch_size, rows, facts)
    if kind != "training":
        case.decode_seconds = _decode_seconds(subject)
        case.peaks = {precision: Spread.of(rates).median for precision, rates in peaks.items()}
    return case


def agree(variants: Sequence[Variant], *, trained: bool) -> dict[str, Agreement]:
    """Each variant's agreement with the first one, by name.

    Raises:
        ValueError: a variant does not agree: the times would not be comparable.
    """
    results = []
    for variant in variants:
        with mode(variant):
            results.append(variant.results(variant.call()))
    first, found = variants[0], {}
    for variant, result in zip(variants[1:], results[1:], strict=True):
        agreement = compare(first.kind, results[0], result, precision=variant.spec.precision, trained=trained)
        if not agreement.holds:
            raise ValueError(
                f"{variant.name} does not agree with {first.name}: {agreement}, but rounding explains at most "
                f"{agreement.limit:.2%}. Nothing was measured"
            )
        found[variant.name] = agreement
    return found


@torch.inference_mode()
def _madds(subject: Subject) -> int | None:
    """Multiply-adds of the convolutions for the whole batch."""
    if subject.settings.training:
        return None
    return count(subject.run.task.model, subject.prepare(subject.photos).images).conv_madds


@torch.inference_mode()
def _facts(subject: Subject, kind: str) -> dict[str, float]:
    """The amount of work for post-processing, as a mean over the photographs."""
    if kind not in ("detection", "segmentation"):
        return {}
    task: Any = subject.run.task
    batch = subject.prepare(subject.photos)
    outputs = task.model(batch.images)
    found = task.postprocess(outputs, batch.metas)
    if kind == "detection":
        logits, post = outputs["class_logits"].float(), task.postprocess
        scores = logits.softmax(-1) if post.activation == "softmax" else logits.sigmoid()
        candidates = int((scores[..., 1:] > post.min_score).sum())
        return {"candidates": candidates / len(found), "detections": sum(map(len, found)) / len(found)}
    shares = [
        share_computed(logits, outputs["logits_size"], meta, align_corners=task.postprocess.align_corners)
        for logits, meta in zip(outputs["logits"], batch.metas, strict=True)
    ]
    classes = [len(labels.unique()) for labels in found]
    return {"share of cells computed": sum(shares) / len(shares), "classes seen": sum(classes) / len(classes)}


def share_computed(logits: Tensor, padded: Any, meta: Any, *, align_corners: bool) -> float:
    """The share of cells of an image [K, h, w] whose corners differ in class, so that `label_map` must interpolate."""
    left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
    sides = zip(
        logits.shape[1:], padded, meta["input_size"], (top, left), (bottom, right), meta["original_size"], strict=True
    )
    rows, columns = (axis_cells(*map(int, side), align_corners, logits.dtype, logits.device) for side in sides)
    y, x = (axis.first[:, None] + torch.arange(axis.weights.shape[2], device=logits.device) for axis in (rows, columns))
    corners = logits.argmax(dim=0)[y[:, None, :, None], x[None, :, None, :]].flatten(2)
    return float((corners.amin(dim=2) != corners.amax(dim=2)).float().mean())


def _decode_seconds(subject: Subject) -> float:
    """The time to decode all photographs, as the median over the rounds."""
    seconds = []
    for _ in range(1 + max(3, subject.settings.rounds)):
        start = time.perf_counter()
        for data in subject.jpegs:
            decode_bytes(data)
        seconds.append(time.perf_counter() - start)
    return Spread.of(seconds[1:]).median
