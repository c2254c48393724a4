"""The results of an evaluation: metrics with intervals, tables of classes and errors, and files for `compare`."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...absent import Results, from_file, known, written
from ...backbones.npz import read_npz
from ...conf.schema import EvaluateConfig
from ...datasets.labels import LabelMap
from ...detection.accumulation import check_backend
from ...detection.analysis import ClassFigures, DetectionAnalysis, analyse
from ...detection.coco_results import write_results as write_coco_results
from ...detection.metric import CocoMetric
from ...files import whole_file, write_json
from ...segmentation.metric import ImageCounts, MeanIoU
from ...words import counted, listed
from ..config import build
from ..engine.task import Metric, Task
from ..runs.keys import plain
from ..system.console import columns, log, table
from .pixel_table import pixel_table
from .states import check, pack, unpack

MAX_ROWS = 30  # classes that the console lists
_MAX_BYTES, _MAX_RATIO = 2 << 30, 100  # of a file for `compare`, unpacked
_MAX_PIXELS = 1 << 40  # of one class in one image
_MAX_CLASSES = {"detection": 20_000, "segmentation": 256}
# Kinds of the numbers and their dimensions in a metric's state, see `pack`.
_PARTS: dict[str, dict[str, tuple[str, int]]] = {
    "detection": {
        "#0.boxes_xywh": ("iuf", 2), "#0.labels": ("iu", 1), "#0.scores": ("iuf", 1),
        "#1.boxes_xywh": ("iuf", 2), "#1.labels": ("iu", 1), "#1.area": ("iuf", 1), "#1.crowd": ("biu", 1),
    },
    "segmentation": {"#0": ("iu", 1), "#1": ("iu", 1)},
}  # fmt: skip
_METRICS: dict[str, Callable[..., Any]] = {"detection": CocoMetric, "segmentation": MeanIoU}


@dataclass(frozen=True)
class Evaluation:
    """A filled metric and its results; `about` has what `compare` shows: config, step, params, data (a fingerprint)."""

    kind: str
    labels: LabelMap
    metric: Metric
    results: Mapping[str, float | None]
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the metric, besides its classes
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def analysis(self) -> DetectionAnalysis | None:
        """For detection only; takes seconds for thousands of images."""
        return analyse(self.metric) if isinstance(self.metric, CocoMetric) else None


def evaluation_of(
    task: Task, config: Any, source: Any, metric: Metric, results: Mapping[str, float | None], *, about: Any = None
) -> Evaluation:
    """The evaluation of a run or an exported file on a dataset; `config` is its validated configuration."""
    arguments = {key: value for key, value in plain(config.model.metric).items() if key != "_target_"}
    data = fingerprint_of_truth(metric) if isinstance(metric, CocoMetric) else source.fingerprint()
    about = {"config": plain(config), **(about or {}), "data": data}
    return Evaluation(task.kind, task.labels, metric, results, arguments, about)


def with_backend(metric: Any, backend: str | None) -> Any:
    """The same metric, computed by the backend of `evaluate backend=`.

    Raises:
        ValueError: it is not installed, or the metric is not COCO's.
    """
    if backend is None:
        return metric
    if not isinstance(metric, CocoMetric):
        raise ValueError(f"backend={backend} is for detection, but this run uses {type(metric).__name__}: drop it")
    check_backend(backend)
    metric.backend = backend
    return metric


def check_asked(kind: str, bootstrap: int, coco_results: str | None) -> None:
    """Raise ValueError for what the task does not support, before an evaluation takes its time."""
    if bootstrap < 0 or 0 < bootstrap < 20:
        raise ValueError(f"bootstrap={bootstrap}: expected 0 (no intervals), or at least 20 bootstrap samples")
    if bootstrap and kind not in _METRICS:
        raise ValueError(f"bootstrap={bootstrap} is for detection and segmentation, not for {kind}: drop it")
    if coco_results and kind != "detection":
        raise ValueError(f"coco_results={coco_results} is for detection, not for {kind}: drop it")


def check_files(settings: EvaluateConfig, output: Path) -> None:
    """Raise ValueError for output files that are folders or coincide, before an evaluation takes its time."""
    files = {"output": output, "its per-image data": state_path(output)}
    others = {key: getattr(settings, key) for key in ("coco_results", "predictions", "annotations")}
    files |= {key: Path(value) for key, value in others.items() if value}
    if output.suffix == ".npz":
        raise ValueError(
            f"output={output}: choose a name that ends in .json; the .npz beside it is for the per-image data"
        )
    for key in ("output", "coco_results"):
        if key in files and files[key].is_dir():
            raise ValueError(f"{key}={files[key]} is a folder: expected a file")
    seen: dict[Path, str] = {}
    for key, path in files.items():
        if (other := seen.setdefault(path.resolve(), key)) and other != key:
            raise ValueError(f"{key} and {other} are the same file, {path}: choose another name for output= or {key}=")


def publish(evaluation: Evaluation, output: Path, *, bootstrap: int = 0, coco_results: str | None = None) -> Results:
    """Complete the results, print them, write them with the data for `compare`, and return them."""
    results, lines = {key: known(value) for key, value in evaluation.results.items()}, []
    intervals = intervals_of(evaluation, bootstrap)
    for key, (low, high) in intervals.items():
        results |= {f"{key}/low": low, f"{key}/high": high}
    heads = [(key, pair) for key, pair in intervals.items() if "/" not in key]
    lines += [f"  {key} {written(results[key])} {_bracket(pair)}".rstrip() for key, pair in heads]
    shown = evaluation.results
    if (found := evaluation.analysis) is not None:
        results |= class_results(found)
        shown = {key: value for key, value in shown.items() if "/" not in key}
        costs = ", ".join(f"{kind} {written(loss and 100 * loss, '.1f')}" for kind, loss in found.errors.items())
        lines += class_table(found, intervals)
        lines.append(f"  AP50 points lost to each kind of error, one at a time: {costs}")
    if isinstance(evaluation.metric, MeanIoU):
        shown = {key: value for key, value in shown.items() if not key.startswith(("IoU/", "iIoU/"))}
        lines += [segmentation_table(evaluation.metric, results)]
    with whole_file(output) as temporary:  # both files or none
        write_json(temporary, results)
        save(evaluation, results, state_path(output))
    log.info("%s", "\n".join([table(shown), *lines]))
    if coco_results:
        assert isinstance(evaluation.metric, CocoMetric)  # check_asked
        count = write_coco_results(coco_results, evaluation.metric, source_ids=evaluation.labels.source_ids)
        log.info("written: %s (%s, checked)", coco_results, counted(count, "detection"))
    log.info("written: %s", output)
    return results


# ---- intervals -------------------------------------------------------------------------------------------


Interval = tuple[float | None, float | None]


def interval(values: npt.NDArray[np.float64]) -> Interval:
    """The middle 95 % of the values that are not NaN; None if there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None, None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def intervals_of(evaluation: Evaluation, samples: int) -> dict[str, Interval]:
    """The interval of each metric that can be resampled; empty without samples."""
    if not samples:
        return {}
    drawn: dict[str, npt.NDArray[np.float64]] = evaluation.metric.bootstrap(samples)  # pyright: ignore
    return {key: interval(values) for key, values in drawn.items() if key in evaluation.results}


def _bracket(pair: Interval) -> str:
    return "" if None in pair else f"[{written(pair[0])}, {written(pair[1])}]"


# ---- tables ----------------------------------------------------------------------------------------------


def class_results(found: DetectionAnalysis) -> Results:
    """Flat keys of each class besides its AP, and the AP50 lost to each kind of error."""
    columns = {"AP50": "ap50", "AR": "ar", "threshold": "best_threshold", "F1": "best_f1"}
    per_class = {f"{key}/{one.name}": getattr(one, field) for key, field in columns.items() for one in found.classes}
    return per_class | {f"lost/{kind}": loss for kind, loss in found.errors.items()}


def class_table(found: DetectionAnalysis, intervals: Mapping[str, Interval]) -> list[str]:
    """One row per class in descending order of AP; of many classes, only the best and the worst."""
    present = sorted((one for one in found.classes if one.num_truths), key=lambda one: -(one.ap or 0))
    head = ("class", "AP", "AP50", "AR", "objects", "best threshold", "F1", "")
    rows = columns([head, *(_cells(one, intervals) for one in present)], left=(0, 7), indent="  ")
    if len(present) > MAX_ROWS:
        half = MAX_ROWS // 2
        rows[1 + half : -half] = [
            f"  ... ({counted(len(present) - 2 * half, 'more class', 'more classes')}: see the results file)"
        ]
    absent = [one.name for one in found.classes if not one.num_truths]
    return rows + ([f"  classes without annotations: {len(absent)} ({listed(absent)})"] if absent else [])


def _cells(one: ClassFigures, intervals: Mapping[str, Interval]) -> tuple[str, ...]:
    ap, ap50, ar, threshold, f1 = map(written, (one.ap, one.ap50, one.ar, one.best_threshold, one.best_f1))
    pair = intervals.get(f"AP/{one.name}")
    return one.name, ap, ap50, ar, str(one.num_truths), threshold, f1, f"AP {_bracket(pair)}" if pair else ""


def segmentation_table(metric: MeanIoU, results: Mapping[str, float | None]) -> str:
    """One row per class of a segmenter."""
    instances = {key.removeprefix("iIoU/"): value for key, value in results.items() if key.startswith("iIoU/")}
    return pixel_table(metric.names, metric.confusion(), instances)


# ---- files -----------------------------------------------------------------------------------------------


def state_path(results: Path) -> Path:
    """The file with an evaluation's per-image data: a.npz beside the results a.json, b.0.1.npz beside b.0.1."""
    return results.with_suffix(".npz") if results.suffix == ".json" else results.with_name(f"{results.name}.npz")


def save(evaluation: Evaluation, results: Mapping[str, float | None], path: Path) -> None:
    """Save the metric's state and what identifies it, without pickles. Classification does not support resampling."""
    if evaluation.kind not in _METRICS:
        return
    header = {
        "kind": evaluation.kind,
        "labels": evaluation.labels.to_json(),
        "arguments": dict(evaluation.arguments),
        "about": dict(evaluation.about),
        "results": dict(results),
    }
    state: dict[Any, Any] = evaluation.metric.state()
    if isinstance(evaluation.metric, MeanIoU):  # instances cannot be resampled
        state = {image: (counts.indices, counts.counts) for image, counts in evaluation.metric.state().items()}
    ids, arrays = pack(state)
    text = json.dumps({**header, "images": ids}, default=str)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)  # pyright: ignore


def load(path: Path) -> Evaluation:
    """An evaluation that `save` wrote.

    Raises:
        ValueError: the file is not an evaluation, or from another version.
    """
    try:
        arrays = dict(read_npz(path, max_bytes=_MAX_BYTES, max_ratio=_MAX_RATIO))
        header = json.loads(arrays.pop("header").tobytes())
        labels = _check_header(header)
        check(header["images"], arrays, _PARTS[header["kind"]])
        arguments, state = {"names": labels.names, **header["arguments"]}, unpack(header["images"], arrays)
        if header["kind"] == "segmentation":
            arguments["categories"] = build.categories(labels)
            arguments["unscored"] = {int(value): name for value, name in arguments.get("unscored", {}).items()}
            state = {image: ImageCounts(*cells) for image, cells in state.items()}
        metric = _METRICS[header["kind"]](**arguments)
        _check_slots(metric, arrays)
        metric.merge([state])
        return Evaluation(
            header["kind"], labels, metric, from_file(header["results"]), header["arguments"], header["about"]
        )
    except Exception as error:  # zipfile, zlib, tokenize and numpy have many for damaged files
        raise ValueError(
            f"{path} is not an evaluation: {error!r:.300}. Remedy: run pocketvision evaluate again"
        ) from error


def _check_header(header: dict[str, Any]) -> LabelMap:
    """The classes; a LookupError, TypeError or ValueError if anything is not as `save` writes it."""
    labels, about = LabelMap.from_json(header["labels"]), header["about"]
    if len(labels.labels) > _MAX_CLASSES[header["kind"]]:
        raise ValueError(f"{len(labels.labels):,} classes are more than it can be about")
    numbers = [*header["results"].values(), *(about.get(key) for key in ("step", "params"))]
    if any(isinstance(value, bool) or not isinstance(value, int | float | None) for value in numbers):
        raise TypeError("a result is not a number")
    if not isinstance(about["data"], str) or not isinstance(about.get("config"), dict | None):
        raise TypeError("data or config")
    return labels


def _check_slots(metric: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError for classes that there are not."""
    if isinstance(metric, MeanIoU):
        indices, counts = (arrays.get(f"#{i}|values", np.zeros(0, int)) for i in range(2))
        cells = len(metric.names) * (len(metric.names) + 1 + len(metric.unscored))
        if indices.size and not (indices.min() >= 0 and indices.max() < cells):
            raise ValueError("pixels of classes that it does not have")
        if counts.size and not (counts.min() >= 0 and counts.max() <= _MAX_PIXELS):
            raise ValueError(f"{counts.min():,} to {counts.max():,} pixels of a class in an image")
    elif unknown := set(np.unique(arrays.get("#1.labels|values", ())).tolist()) - metric.names.keys():
        raise ValueError(f"annotations of the class indices {sorted(unknown)[:5]}, which it does not have")


def fingerprint_of_truth(metric: CocoMetric, images: Collection[int | str] | None = None) -> str:
    """A hash of the ids, class names and annotations of all images, or of some, whatever their source."""
    state, digest = metric.state(), hashlib.sha256(json.dumps(list(metric.names.values())).encode())
    slots = {slot: row for row, slot in enumerate(metric.names)}
    for image in (image for image in metric.images() if images is None or image in images):
        truth = state[image][1]
        rows = np.array([slots[label] for label in truth["labels"].tolist()], np.float64)
        columns = [rows[:, None], truth["boxes_xywh"], truth["area"][:, None], truth["crowd"][:, None]]
        digest.update(f"{image!r} {len(rows)}".encode() + np.concatenate(columns, 1, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]
