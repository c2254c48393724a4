"""COCO's average precision. pycocotools does the counting, so the numbers are the official ones."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from .boxes import area, to_original, xyxy_to_xywh
from .results import Detections

Arrays = dict[str, npt.NDArray[Any]]
State = dict[int | str, tuple[Arrays, Arrays]]  # image id -> detections, truth


class CocoMetric:
    """Twelve figures of COCO and the AP of each class, `AP/<name>`; -1 where there is no such truth, as in pycocotools.

    `names` maps slots to class names; detections of other slots (gaps of `coco91`) are left out. An image counts once
    however often it comes. `AR1`, `AR10` and `AR100` are recalls at 1, 10 and `max_detections` per class and image.
    """

    primary = "AP"

    def __init__(self, names: Mapping[int, str], *, max_detections: int = 100) -> None:
        if not names or min(names) < 1:
            raise ValueError(f"names must map slots from 1 on to class names, got {dict(names)}")
        if max_detections < 10:
            raise ValueError(f"max_detections must be at least 10, for AR10; got {max_detections}")
        self.names = dict(sorted(names.items()))
        self.max_detections = max_detections
        self._images: State = {}

    def reset(self) -> None:
        """Forget all images."""
        self._images = {}

    def update(
        self,
        predictions: Sequence[Detections],
        targets: Sequence[Mapping[str, Tensor]],
        metas: Sequence[Mapping[str, Any]],
    ) -> None:
        """Add images. The truth is `meta["ground_truth"]`, or the target in original pixels where that is missing."""
        for found, target, meta in zip(predictions, targets, metas, strict=True):
            if meta["image_id"] in self._images:
                continue
            truth = meta.get("ground_truth")
            truth = _truth_of_target(target, meta) if truth is None else {k: np.asarray(v) for k, v in truth.items()}
            unknown = set(truth["labels"].tolist()) - self.names.keys()
            if unknown:
                raise ValueError(
                    f"image {meta['image_id']!r}: its annotations have the slots {sorted(unknown)}, "
                    f"the class list only {list(self.names)}"
                )
            self._images[meta["image_id"]] = _detection_arrays(found), truth

    def state(self) -> State:
        """All that was added, for `merge` in another process."""
        return self._images

    def merge(self, states: Sequence[State]) -> None:
        """Replace what was added by the union of `states`."""
        self._images = {image: content for state in states for image, content in state.items()}

    def compute(self) -> dict[str, float]:
        """The figures by name, each in 0..1 or -1."""
        evaluation = self._evaluate()
        # [T, R, K, A, M] and [T, K, A, M]: IoU threshold, recall, class, area (all, s, m, l), detections (1, 10, max)
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        at50, at75 = ([np.flatnonzero(np.isclose(evaluation.params.iouThrs, t))[0]] for t in (0.5, 0.75))
        figures = {
            "AP": precision[:, :, :, 0, 2],
            "AP50": precision[at50][:, :, :, 0, 2],
            "AP75": precision[at75][:, :, :, 0, 2],
            "APs": precision[:, :, :, 1, 2],
            "APm": precision[:, :, :, 2, 2],
            "APl": precision[:, :, :, 3, 2],
            "AR1": recall[:, :, 0, 0],
            "AR10": recall[:, :, 0, 1],
            "AR100": recall[:, :, 0, 2],
            "ARs": recall[:, :, 1, 2],
            "ARm": recall[:, :, 2, 2],
            "ARl": recall[:, :, 3, 2],
            **{f"AP/{name}": precision[:, :, k, 0, 2] for k, name in enumerate(self.names.values())},
        }
        return {name: _mean_of_known(values) for name, values in figures.items()}

    def _evaluate(self) -> COCOeval:
        truths: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        # In the order of the ids, as pycocotools goes through them; numbered from 1, because it takes an id 0 for none.
        images = sorted(self._images.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        for number, (_, (detections, truth)) in enumerate(images, start=1):
            for box, label, size, crowd in zip(*(truth[k].tolist() for k in _TRUTH), strict=True):
                truths.append(_annotation(number, label, box, area=size, iscrowd=int(crowd)))
            for box, label, score in zip(*(detections[k].tolist() for k in _FOUND), strict=True):
                if label in self.names:
                    found.append(_annotation(number, label, box, area=box[2] * box[3], iscrowd=0, score=score))
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._index(truths, len(images)), self._index(found, len(images)), "bbox")
            evaluation.params.maxDets = [1, 10, self.max_detections]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation

    def _index(self, annotations: list[dict[str, Any]], num_images: int) -> COCO:
        """A data set in memory. `COCO.loadRes` would do for detections, but fails where there are none."""
        coco = COCO()
        dataset: Any = {
            "images": [{"id": number} for number in range(1, num_images + 1)],
            "categories": [{"id": slot, "name": name} for slot, name in self.names.items()],
            "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=1)],
        }
        coco.dataset = dataset
        coco.createIndex()
        return coco


_TRUTH = ("boxes_xywh", "labels", "area", "crowd")
_FOUND = ("boxes_xywh", "labels", "scores")


def to_coco_results(
    predictions: Sequence[Detections], metas: Sequence[Mapping[str, Any]], *, source_ids: Mapping[int, int]
) -> list[dict[str, Any]]:
    """COCO's results format: a json of this list can be scored by pycocotools or sent to the evaluation server.

    `source_ids` maps slots to category ids; detections of slots it does not have are left out.
    """
    results = []
    for detections, meta in zip(predictions, metas, strict=True):
        arrays = _detection_arrays(detections)
        for box, label, score in zip(*(arrays[k].tolist() for k in _FOUND), strict=True):
            if label in source_ids:
                results.append(
                    {"image_id": meta["image_id"], "category_id": source_ids[label], "bbox": box, "score": score}
                )
    return results


def _annotation(image: int, label: int, box: list[float], **fields: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": label, "bbox": box, **fields}


def _detection_arrays(detections: Detections) -> Arrays:
    return {
        "boxes_xywh": xyxy_to_xywh(detections.boxes.detach().cpu().double()).numpy(),
        "labels": detections.labels.cpu().numpy(),
        "scores": detections.scores.detach().cpu().double().numpy(),
    }


def _truth_of_target(target: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Arrays:
    boxes = target["boxes"].cpu().double()
    crowds = target.get("crowd_boxes", boxes.new_zeros(0, 4)).cpu().double()
    crowd_labels = target.get("crowd_labels", target["labels"].new_zeros(0)).cpu()
    all_boxes = to_original(torch.cat((boxes, crowds))[None], [meta])[0]
    return {
        "boxes_xywh": xyxy_to_xywh(all_boxes).numpy(),
        "labels": np.concatenate([target["labels"].cpu().numpy(), crowd_labels.numpy()]),
        "area": area(all_boxes).numpy(),
        "crowd": np.arange(len(all_boxes)) >= len(boxes),
    }


def _mean_of_known(values: npt.NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if known.size else -1.0
