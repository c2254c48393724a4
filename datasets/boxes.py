"""Detection data in flat arrays, whatever format its annotations are in."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from .decode import check_size, decode_image
from .labels import LabelMap
from .sample import Sample, check_limit, digest

_CLIP_TOLERANCE = 0.5  # pixels; COCO's own boxes reach outside by rounding


@dataclass
class BoxTable:
    """N images and M annotations as a reader found them; `image` [M] is the row of the image of each annotation."""

    source: str  # the file or folder they come from, for messages
    labels: LabelMap
    image_ids: np.ndarray  # int64 [N]
    file_names: np.ndarray  # str [N], relative to the images' folder
    heights: np.ndarray  # int64 [N]
    widths: np.ndarray  # int64 [N]
    image: np.ndarray  # int64 [M]
    boxes_xywh: np.ndarray  # float64 [M, 4] left, top, width, height in pixels, as the files have them
    slots: np.ndarray  # int64 [M]
    area: np.ndarray  # float64 [M]
    crowd: np.ndarray  # bool [M], regions where unmatched predictions are no mistakes

    def take(self, rows: np.ndarray) -> "BoxTable":
        """The images `rows`, with their annotations in order of the images, and in the file's order within one."""
        place = np.full(len(self.image_ids), -1)
        place[rows] = np.arange(len(rows))
        image = place[self.image] if len(self.image) else self.image
        kept = np.flatnonzero(image >= 0)
        kept = kept[np.argsort(image[kept], kind="stable")]
        of_images = {key: getattr(self, key)[rows] for key in ("image_ids", "file_names", "heights", "widths")}
        of_boxes = {key: getattr(self, key)[kept] for key in ("boxes_xywh", "slots", "area", "crowd")}
        return replace(self, image=image[kept], **of_images, **of_boxes)


class BoxSource:
    """Images and boxes. Everything stays in flat arrays, so that workers share instead of copying it.

    Crowd regions are kept apart. Images without annotations are negatives, unless `with_annotations_only`.
    """

    def __init__(
        self, table: BoxTable, images: Path, *, limit: int | None = None, with_annotations_only: bool = False
    ) -> None:
        rows = np.arange(len(table.image_ids))
        if with_annotations_only:
            rows = rows[np.isin(rows, table.image)]
        rows = rows[: check_limit(limit)]
        if not len(rows):
            which = " with annotations" if with_annotations_only else ""
            raise ValueError(f"{table.source} lists no images{which}")
        table = table.take(rows)
        self.annotations, self.images, self.labels = table.source, images, table.labels
        self.image_ids, self.file_names = table.image_ids, table.file_names
        self.heights, self.widths = table.heights, table.widths
        self._image_of, self._boxes_xywh, self._slots = table.image, table.boxes_xywh, table.slots
        self._area, self._crowd = table.area, table.crowd
        self._offsets = np.searchsorted(self._image_of, np.arange(len(self) + 1))  # image i owns rows [i]:[i + 1]
        self._clip()
        self._check_files()

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, index: int) -> Sample:
        """Decode one image. Boxes are clipped and clean for training, `ground_truth` is exactly the file's."""
        path = self.images / str(self.file_names[index])
        image = decode_image(path)
        size = int(self.heights[index]), int(self.widths[index])
        check_size(image.shape[:2], size, path=path, source=self.annotations)
        part = slice(self._offsets[index], self._offsets[index + 1])
        usable, crowd, slots = self._usable[part], self._crowd[part], self._slots[part]
        boxes = self._boxes[part]
        return Sample(
            image,
            int(self.image_ids[index]),
            boxes=boxes[usable & ~crowd],
            labels=slots[usable & ~crowd],
            crowd_boxes=boxes[usable & crowd],
            crowd_labels=slots[usable & crowd],
            ground_truth=self.ground_truth(index),
            path=str(path),
        )

    def ground_truth(self, index: int) -> dict[str, np.ndarray]:
        """`boxes_xywh`, `labels`, `area` and `crowd` of one image as the files have them, without its pixels."""
        part = slice(self._offsets[index], self._offsets[index + 1])
        return {
            "boxes_xywh": self._boxes_xywh[part],
            "labels": self._slots[part],
            "area": self._area[part],
            "crowd": self._crowd[part],
        }

    def fingerprint(self) -> str:
        """Over the list of images, every annotation of theirs (also those that training drops) and the classes."""
        # Names as json: the width of numpy's strings also tells of images beyond `limit`.
        texts = [self.file_names.tolist(), self.labels.num_classes, sorted(self.labels.names.items())]
        truth = (self._offsets, self._boxes_xywh, self._slots, self._area, self._crowd)
        return digest(json.dumps(texts), self.image_ids, self.widths, self.heights, *truth)

    def _clip(self) -> None:
        """What training learns from: xyxy boxes cut at the image, `_usable` where something is left."""
        xyxy = xywh_to_xyxy(self._boxes_xywh)
        sides = np.stack([self.widths, self.heights], 1)[self._image_of]
        limits = np.concatenate([sides, sides], 1)
        clipped = np.clip(xyxy, 0, limits)
        self._boxes = clipped.astype(np.float32)
        self._usable = np.all((self._boxes[:, 2:] > self._boxes[:, :2]) & (self._boxes_xywh[:, 2:] > 0), axis=1)
        outside = self._usable & np.any(np.abs(clipped - xyxy) > _CLIP_TOLERANCE, axis=1)
        empty = np.diff(self._offsets) == 0
        self.notes: list[str] = [
            f"{len(self)} images ({int(empty.sum())} without annotations), {int((~self._crowd).sum())} boxes of "
            f"{len(self.labels.labels)} classes, {int(self._crowd.sum())} crowd regions ({self.annotations})"
        ]
        if outside.any():
            self.notes.append(f"{int(outside.sum())} boxes reach outside of their image: clipped for training")
        if not self._usable.all():
            self.notes.append(
                f"{int((~self._usable).sum())} boxes have no area inside their image: dropped from training, "
                "still counted by evaluation"
            )

    def _check_files(self) -> None:
        """Miss an image now, not hours into training."""
        names = self.file_names.tolist()
        missing = missing_files(self.images, names)
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} images that {self.annotations} lists are missing in {self.images}, "
                f"first of all {', '.join(missing[:3])}. Is this the folder its file names start from?"
            )


def missing_files(folder: Path, names: Sequence[str]) -> list[str]:
    """The relative names that are no file in the folder. A listing is far cheaper than asking for every file."""
    folders = {name.rpartition("/")[0] for name in names}
    listed = {f"{f}/{n}" if f else n for f in folders if (folder / f).is_dir() for n in os.listdir(folder / f)}
    # Asked again by name: a file system may find what it lists in another spelling.
    return [name for name in names if name not in listed and not (folder / name).is_file()]


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] left, top, width, height to corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def is_inside(name: str) -> bool:
    """Whether a file name out of an annotation file is relative, and stays below its folder on any system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return bool(name) and not any(p.is_absolute() or p.drive or p.root or ".." in p.parts for p in paths)


def agreed_labels(own: LabelMap, labels: LabelMap, source: str) -> LabelMap:
    """`labels`, if every class of `own` has the same id and name there; a split may have fewer.

    Raises:
        ValueError: one has not.
    """
    known = {label.source_id: label.name for label in labels.labels}
    other = [f"{label.source_id} {label.name}" for label in own.labels if known.get(label.source_id) != label.name]
    if other:
        raise ValueError(
            f"{source}: its categories {', '.join(other[:5])} are not those of the training data or the model "
            f"({', '.join(f'{i} {name}' for i, name in list(known.items())[:5])}): ids and names have to agree"
        )
    return labels
