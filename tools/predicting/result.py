"""A model's result for one image: arrays, a picture, COCO entries, plain numbers."""

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch

from ...datasets.labels import IGNORE, LabelMap
from ...detection.boxes import xyxy_to_xywh
from ...detection.coco_results import to_records
from ...words import counted
from ..drawing import annotate

NUM_TOP = 5  # classes that a classifier's result shows
_NOTEBOOK = 1280  # pixels of the longer side of a picture in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A model's result for one image, in that image's pixels. A detector fills `boxes`, a segmenter `mask`.

    A classifier fills `labels` and `scores`: all classes and their probabilities.
    """

    image: np.ndarray  # uint8 [H, W, 3] RGB
    label_map: LabelMap
    path: str | None = None
    boxes: np.ndarray | None = None  # float32 [N, 4] xyxy, best first
    scores: np.ndarray | None = None  # float32 [N], best first
    labels: np.ndarray | None = None  # int64 [N], slots
    mask: np.ndarray | None = None  # uint8 [H, W], slots, and 255 for void and classes that `only` dropped
    filtered: bool = False  # by `only`

    @property
    def names(self) -> list[str]:
        """Class name of each box, of each class in the mask, or of all classes, the most probable first."""
        slots = np.unique(self.mask) if self.mask is not None else self.labels
        assert slots is not None
        names = {IGNORE: "others" if self.filtered else "ignored"} | self.label_map.names
        return [names.get(int(slot), f"slot {slot}") for slot in slots]

    def only(self, classes: Iterable[str]) -> "Result":
        """The result for some classes only: boxes of other classes are dropped, their pixels become 255 in the mask.

        Raises:
            ValueError: there is no class with this name; similar names are listed.
        """
        slots = sorted(find_slots(self.label_map, [classes] if isinstance(classes, str) else classes))
        if self.mask is not None:
            mask = np.where(np.isin(self.mask, slots), self.mask, IGNORE).astype(np.uint8)
            return replace(self, mask=mask, filtered=True)
        assert self.labels is not None
        return self._rows(np.isin(self.labels, slots), filtered=True)

    def above(self, score_threshold: float) -> "Result":
        """The result without boxes of a lower score; masks and classifiers' rankings stay complete."""
        if self.boxes is None or self.scores is None:
            return self
        return self._rows(self.scores >= score_threshold, filtered=self.filtered)

    def _rows(self, kept: Any, *, filtered: bool) -> "Result":
        assert self.scores is not None
        assert self.labels is not None
        boxes = None if self.boxes is None else self.boxes[kept]
        return replace(self, boxes=boxes, scores=self.scores[kept], labels=self.labels[kept], filtered=filtered)

    def draw(self, *, score_threshold: float = 0.5, enlarge: bool = True) -> np.ndarray:
        """The image with boxes above the threshold, the mask, or a caption of the best classes; uint8 RGB.

        Small images are enlarged, masks get a legend below, classes a bar below. With `enlarge=False` the picture keeps
        the image's size, as for video frames, and legend and classes are drawn over it.
        """
        colors = annotate.class_colors(self.label_map)
        if self.mask is not None:
            colors |= {IGNORE: None} if self.filtered else {}
            return annotate.draw_mask(self.image, self.mask, colors, names=self.label_map.names, enlarge=enlarge)
        if self.boxes is None:
            lines = [f"{name} {probability:.2f}" for name, probability in self.top()]
            return annotate.draw_caption(self.image, lines, enlarge=enlarge)
        shown = self.above(score_threshold)
        return annotate.draw_detections(
            self.image, shown.boxes, shown.labels, shown.scores, self.label_map.names, colors=colors, enlarge=enlarge
        )

    def label_ids(self) -> np.ndarray:
        """The mask in the ids of the dataset's label files (Cityscapes: labelIds), uint8 [H, W]; 255 stays."""
        assert self.mask is not None
        table = np.arange(256, dtype=np.uint8)
        for slot, number in self.label_map.source_ids.items():
            table[slot] = number
        return table[self.mask]

    def colors(self) -> np.ndarray:
        """The mask in its classes' colors, uint8 RGB [H, W, 3]; background and void are black."""
        assert self.mask is not None
        table = np.zeros((256, 3), np.uint8)
        for slot, color in annotate.class_colors(self.label_map).items():
            table[slot] = color or (0, 0, 0)
        return table[self.mask]

    def top(self, count: int = NUM_TOP) -> list[tuple[str, float]]:
        """The most probable classes of a classifier, with their probabilities."""
        assert self.scores is not None
        return [(name, float(p)) for name, p in zip(self.names, self.scores, strict=True)][:count]

    def shares(self) -> list[tuple[int, str, int]]:
        """Slot, name and number of pixels of each class in the mask, and of void (255)."""
        assert self.mask is not None
        slots, pixels = np.unique(self.mask, return_counts=True)
        rows = [(int(slot), name, int(n)) for slot, name, n in zip(slots, self.names, pixels, strict=True)]
        return [row for row in rows if not (self.filtered and row[0] == IGNORE)]

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """All boxes as entries in COCO's results format, for pycocotools' `loadRes` and evaluation servers.

        Boxes are xywh in pixels, `category_id` is the dataset's. Slots without a class are dropped.

        Raises:
            ValueError: the model is not a detector.
        """
        if self.boxes is None:
            raise ValueError("COCO results contain boxes, but this model is not a detector")
        assert self.scores is not None
        assert self.labels is not None
        found = {"boxes_xywh": _xywh(self.boxes), "labels": self.labels, "scores": self.scores}
        return to_records(image_id, found, self.label_map.source_ids)

    def to_json(self, *, score_threshold: float = 0.0) -> dict[str, Any]:
        """Plain numbers: COCO-like boxes (xywh, the dataset's category ids), shares of pixels, or the top 5 classes."""
        height, width = self.image.shape[:2]
        entry: dict[str, Any] = {"file": self.path, "height": height, "width": width}
        if self.mask is not None:
            return entry | {"classes": {name: round(n / self.mask.size, 6) for _, name, n in self.shares()}}
        if self.boxes is None:
            return entry | {"top": [{"class": name, "probability": round(p, 5)} for name, p in self.top()]}
        shown = self.above(score_threshold)
        assert shown.boxes is not None
        assert shown.scores is not None
        assert shown.labels is not None
        ids, boxes = self.label_map.source_ids, _xywh(shown.boxes).tolist()
        rows = [
            {
                "category_id": ids.get(int(slot), int(slot)), "category": name,
                "bbox": [round(v, 2) for v in box], "score": round(float(score), 5),
            }
            for box, score, slot, name in zip(boxes, shown.scores, shown.labels, shown.names, strict=True)
        ]  # fmt: skip
        return entry | {"detections": rows}

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"<Result {self.path or 'image'} {width}x{height}: {self._summary()}>"

    def _summary(self) -> str:
        if self.mask is not None:
            rows = sorted(self.shares(), key=lambda row: -row[2])
            return _shortened([f"{name} {n / max(1, self.mask.size):.0%}" for _, name, n in rows])
        if self.boxes is None:
            return _shortened([f"{name} {p:.2f}" for name, p in self.top()])
        assert self.scores is not None
        if not len(self.boxes):
            return "no boxes"
        confident = Counter(name for name, score in zip(self.names, self.scores, strict=True) if score >= 0.5)
        count = confident.total()
        found = _shortened([f"{n} {name}" for name, n in confident.most_common()])
        return f"{counted(len(self.boxes), 'box')}, {count} above 0.5{': ' if found else ''}{found}"

    def _repr_png_(self) -> bytes:
        """The annotated picture, no larger than a notebook shows it."""
        picture = self.draw()
        scale = _NOTEBOOK / max(picture.shape[:2])
        if scale < 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def find_slots(labels: LabelMap, classes: Iterable[str]) -> set[int]:
    """The slots of classes by name.

    Raises:
        ValueError: there is no such name; similar names are listed.
    """
    slots = {label.name: label.slot for label in labels.labels}
    classes = list(classes)
    unknown = [name for name in classes if name not in slots]
    if unknown:
        lower = {name.lower(): name for name in slots}
        near = [lower[n] for name in unknown for n in difflib.get_close_matches(str(name).lower(), lower, n=3)]
        hint = f"did you mean {', '.join(near)}?" if near else f"choose from {_shortened(sorted(slots), 30)}"
        raise ValueError(f"classes: no class is named {', '.join(map(repr, unknown))}; {hint}")
    return {slots[name] for name in classes}


def _xywh(boxes: np.ndarray) -> np.ndarray:
    """float64, so that differences are exact."""
    return xyxy_to_xywh(torch.from_numpy(boxes).double()).numpy()


def _shortened(words: list[str], count: int = NUM_TOP) -> str:
    return ", ".join(words[:count]) + (f" and {len(words) - count} more" if len(words) > count else "")
