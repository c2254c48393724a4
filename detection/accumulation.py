"""COCO's precision and recall arrays, computed by pycocotools or faster-coco-eval.

One class at a time: classes are independent, and the dictionaries that these tools need take gigabytes for all
of COCO at once. Classes and images that cannot affect the result are skipped.
"""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
Image = tuple[Arrays, Arrays]  # detections `boxes_xywh labels scores`, truth `boxes_xywh labels area crowd`

BACKENDS = ("pycocotools", "faster")
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # pycocotools' own expressions, bit for bit
RECALLS = np.linspace(0.0, 1.0, 101)
_NUM_AREAS = 4  # all, small, medium, large


@dataclass(frozen=True)
class Accumulated:
    """`precision [T, R, K, A, M]` and `recall [T, K, A, M]`; -1 where there is no ground truth.

    T IoU thresholds, R recalls, K classes, A areas (all, small, medium, large), M detections (1, 10, max).
    """

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]


def check_backend(backend: str) -> None:
    """Raise ValueError for a backend that does not exist or is not installed."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend}: choose {' or '.join(BACKENDS)}")
    if backend == "faster" and importlib.util.find_spec("faster_coco_eval") is None:
        raise ValueError(
            "backend=faster needs faster-coco-eval, which is not installed: pip install 'pocketvision[faster]', "
            "or use backend=pycocotools (the same metrics)"
        )


def accumulate(
    images: Sequence[Image], slots: Sequence[int], *, max_detections: int, backend: str = "pycocotools"
) -> Accumulated:
    """The arrays for `images`, in order, and the classes `slots`."""
    shape = (len(IOU_THRESHOLDS), len(slots), _NUM_AREAS, 3)
    precision, recall = -np.ones((shape[0], len(RECALLS), *shape[1:])), -np.ones(shape)
    detections, truth = _joined([found for found, _ in images]), _joined([truth for _, truth in images])
    for k, slot in enumerate(slots):
        own = truth["labels"] == slot
        if truth["crowd"][own].all():  # nothing to detect
            continue
        truths, found, count = _records(truth, own, detections, detections["labels"] == slot)
        precision[:, :, k], recall[:, k] = _evaluated(backend, truths, found, count, [1, 10, max_detections])
    return Accumulated(precision, recall)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """The images' arrays concatenated, with `image`, the index of each row's image."""
    keys = parts[0] if parts else ("labels", "crowd")
    joined = {key: np.concatenate([part[key] for part in parts]) if parts else np.zeros(0, bool) for key in keys}
    return joined | {"image": np.repeat(np.arange(len(parts)), [len(part["labels"]) for part in parts])}


def _records(
    truth: Arrays, own_truth: npt.NDArray[np.bool_], detections: Arrays, own_found: npt.NDArray[np.bool_]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Annotations and detections of one class, and the number of images that have any."""
    numbers = np.unique(np.concatenate([truth["image"][own_truth], detections["image"][own_found]]))
    # Images from 1, because pycocotools treats id 0 as none.
    true_images, found_images = (
        (np.searchsorted(numbers, image) + 1).tolist()
        for image in (truth["image"][own_truth], detections["image"][own_found])
    )
    rows = zip(true_images, *_lists(truth, ("boxes_xywh", "area", "crowd"), own_truth), strict=True)
    truths = [_record(i, *row[:2], area=row[2], iscrowd=int(row[3])) for i, row in enumerate(rows, start=1)]
    rows = zip(found_images, *_lists(detections, ("boxes_xywh", "scores"), own_found), strict=True)
    found = [
        _record(i, image, box, area=box[2] * box[3], iscrowd=0, score=score)
        for i, (image, box, score) in enumerate(rows, start=1)
    ]
    return truths, found, len(numbers)


def _lists(arrays: Arrays, keys: Sequence[str], rows: npt.NDArray[np.bool_]) -> list[list[Any]]:
    return [arrays[key][rows].tolist() for key in keys]


def _record(number: int, image: int, box: list[float], **fields: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, "bbox": box, **fields}


def _evaluated(
    backend: str, truths: Any, found: Any, num_images: int, max_dets: list[int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`precision [T, R, A, M]` and `recall [T, A, M]` of one class."""
    if backend == "faster":
        from faster_coco_eval import COCO  # pyright: ignore[reportMissingImports]
        from faster_coco_eval import COCOeval_faster as COCOeval  # pyright: ignore[reportMissingImports]

        options: dict[str, Any] = {"print_function": lambda *_: None}
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        options = {}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(COCO(), truths, num_images), _index(COCO(), found, num_images), "bbox", **options)
        evaluation.params.maxDets = max_dets
        evaluation.evaluate()
        evaluation.accumulate()
    shape = len(IOU_THRESHOLDS), len(RECALLS), _NUM_AREAS, 3  # faster's are flat lists
    precision, recall = (np.asarray(evaluation.eval[key], dtype=np.float64) for key in ("precision", "recall"))
    return precision.reshape(shape), recall.reshape(shape[0], *shape[2:])


def _index(coco: Any, annotations: list[dict[str, Any]], num_images: int) -> Any:
    """A dataset in memory. `COCO.loadRes` would work for detections, but fails if there are none."""
    images = [{"id": number} for number in range(1, num_images + 1)]
    coco.dataset = {"images": images, "categories": [{"id": 1, "name": ""}], "annotations": annotations}
    coco.createIndex()
    return coco
