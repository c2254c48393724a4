"""Detection data in flat arrays, independent of the annotation format."""

import json
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np

from ...words import counted
from ..images.decoder import Decoder, PictureFile, decode_checked
from ..labels import LabelMap
from .faults import Fault, Report, Strict
from .near_names import missing_images, respelled, same_name_below
from .sample import NO_IMAGE, Pending, Sample, check_limit, digest
from .shared import Names, SharedArrays

CLIP_TOLERANCE = 0.5  # pixels; COCO's own boxes extend beyond the image by rounding errors
_SMALLEST = 8  # pixels of an image's side; in smaller ones all boxes may well lie in one pixel
MAX_BOXES = 50_000  # of one image; the densest data has some thousands
_STRANGE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and lone surrogates


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
    crowd: np.ndarray  # bool [M], regions where unmatched predictions are not errors

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

    def select(self, *, limit: int | None, with_annotations_only: bool) -> "BoxTable":
        """The first `limit` images, of all or of those with annotations."""
        rows = np.arange(len(self.image_ids))
        if with_annotations_only:
            rows = rows[np.isin(rows, self.image)]
        return self.take(rows[: check_limit(limit)])

    def clipped(self) -> np.ndarray:
        """float64 [M, 4], the boxes' corners clipped to their images; a box outside its image becomes empty."""
        return clip(self.boxes_xywh, np.stack([self.widths, self.heights] * 2, 1)[self.image])


class TableBuilder:
    """Builds a table record by record."""

    def __init__(self, source: str, labels: LabelMap) -> None:
        self._source, self._labels = source, labels
        self._names: list[str] = []
        self._ids, self._sizes, self._rows, self._slots = array("q"), array("q"), array("q"), array("q")
        self._boxes, self._areas, self._crowd = array("d"), array("d"), array("b")
        self._counts = Counter[int]()

    def add_image(self, name: str, size: tuple[int, int], *, image_id: int | None = None) -> None:
        """Add an image of `size` (h, w). Without an id, images are numbered from 1."""
        self._names.append(name)
        self._ids.append(len(self._names) if image_id is None else image_id)
        self._sizes.extend(size)

    def add_box(
        self, slot: int, box_xywh: Sequence[float], *, row: int = -1, area: float | None = None, crowd: bool = False
    ) -> None:
        """Add a box to the image number `row`, by default the last one; without an `area` it is the box's.

        Raises:
            ValueError: the image has far too many; a damaged file of a few megabytes would take gigabytes.
        """
        row = len(self._names) - 1 if row < 0 else row
        self._counts[row] += 1
        if self._counts[row] > MAX_BOXES:
            raise ValueError(
                f"{self._source}: {self._names[row]} has more than {MAX_BOXES:,} boxes: is its annotation damaged?"
            )
        self._rows.append(row)
        self._slots.append(slot)
        self._boxes.extend(box_xywh)
        self._areas.append(float(box_xywh[2]) * float(box_xywh[3]) if area is None else area)
        self._crowd.append(crowd)

    def table(self) -> BoxTable:
        """Everything that was added."""
        heights, widths = np.array(self._sizes, np.int64).reshape(-1, 2).T
        return BoxTable(
            self._source,
            self._labels,
            image_ids=np.array(self._ids, np.int64),
            file_names=np.array(self._names, dtype=str),
            heights=heights,
            widths=widths,
            image=np.array(self._rows, np.int64),
            boxes_xywh=np.array(self._boxes, np.float64).reshape(-1, 4),
            slots=np.array(self._slots, np.int64),
            area=np.array(self._areas, np.float64),
            crowd=np.array(self._crowd, bool),
        )


class FoundBoxes(NamedTuple):
    """A split as a format's reader finds it."""

    table: BoxTable
    images: Path  # file names are relative to this folder
    notes: list[str]  # what the user should know about it


class BoxSource:
    """Images and boxes. Everything stays in flat arrays that worker processes share (48 MB for all of COCO).

    Crowd regions are kept apart. Images without annotations are negatives, unless `with_annotations_only`. With a
    `report` images may be missing, and `table` keeps what was read; otherwise it is None.
    """

    def __init__(
        self,
        found: FoundBoxes,
        *,
        limit: int | None = None,
        with_annotations_only: bool = False,
        report: Report | None = None,
    ) -> None:
        table, strict = found.table.select(limit=limit, with_annotations_only=with_annotations_only), Strict()
        names = respelled(table.file_names.tolist(), found.images, source=found.table.source, report=report or strict)
        table = replace(table, file_names=np.array(names, dtype=str))
        if not len(table.image_ids) and report is None:
            which = " with annotations" if with_annotations_only else ""
            raise ValueError(f"{table.source} contains no images{which}")
        self.annotations, self.images, self.labels = table.source, found.images, table.labels
        self.file_names = Names(table.file_names.tolist())
        with np.errstate(all="ignore" if report else None):  # numbers in files may be arbitrarily large
            clipped = table.clipped()
            usable = has_area(clipped.astype(np.float32), table.boxes_xywh)
            notes = self._notes(table, clipped, usable)
        self._shared = SharedArrays(
            {
                "image_ids": table.image_ids,
                "sizes": np.stack([table.heights, table.widths], 1).astype(np.int32),
                # image i owns rows [i]:[i + 1]
                "offsets": np.searchsorted(table.image, np.arange(len(table.image_ids) + 1)),
                "boxes_xywh": table.boxes_xywh,
                "slots": table.slots.astype(np.int32),
                "area": table.area,
                "crowd": table.crowd,
                "usable": usable,
            }
        )
        if problem := _fractions(table):
            (report or strict)(Fault("format", table.source, problem))
        self.table = table if report else None
        self.notes = [*notes, *strict.notes(), *found.notes]
        if report is None:
            self._check_files()
        self.decoder = Decoder()

    def __len__(self) -> int:
        return len(self.file_names)

    @property
    def image_ids(self) -> np.ndarray:
        """int64 [N]"""
        return self._shared["image_ids"]

    @property
    def heights(self) -> np.ndarray:
        """int32 [N]"""
        return self._shared["sizes"][:, 0]

    @property
    def widths(self) -> np.ndarray:
        """int32 [N]"""
        return self._shared["sizes"][:, 1]

    def read(self, index: int) -> Sample:
        """Decode one image. Boxes are clipped and clean for training, `ground_truth` is exactly the file's."""
        return self.open(index).read()

    def open(self, index: int) -> Pending:
        """The same before its picture is decoded."""
        path, shared = self.images / self.file_names[index], self._shared
        height, width = shared["sizes"][index].tolist()
        truth = self.ground_truth(index)
        boxes_xywh, slots, crowd = truth["boxes_xywh"], truth["labels"], truth["crowd"]
        boxes = clip(boxes_xywh, np.array([width, height, width, height])).astype(np.float32)
        usable = has_area(boxes, boxes_xywh)
        sample = Sample(
            NO_IMAGE,
            int(self.image_ids[index]),
            boxes=boxes[usable & ~crowd],
            labels=slots[usable & ~crowd],
            crowd_boxes=boxes[usable & crowd],
            crowd_labels=slots[usable & crowd],
            ground_truth=truth,
            path=str(path),
        )
        decode = partial(decode_checked, decoder=self.decoder, path=path, size=(height, width), source=self.annotations)
        return Pending(sample, (height, width), decode)

    def files(self, index: int) -> list[PictureFile]:
        """What `read` decodes."""
        height, width = self._shared["sizes"][index].tolist()
        return [PictureFile(self.images / self.file_names[index], (height, width))]

    def ground_truth(self, index: int) -> dict[str, np.ndarray]:
        """`boxes_xywh`, `labels`, `area` and `crowd` of one image as the files have them, without its pixels."""
        shared = self._shared
        part = slice(*shared["offsets"][index : index + 2].tolist())
        return {
            "boxes_xywh": shared["boxes_xywh"][part],
            "labels": shared["slots"][part].astype(np.int64),
            "area": shared["area"][part],
            "crowd": shared["crowd"][part],
        }

    def all_boxes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every annotation [M]: its slot, whether it is a crowd region, whether training keeps an area."""
        return self._shared["slots"], self._shared["crowd"], self._shared["usable"]

    def fingerprint(self) -> str:
        """Over the list of images, all their annotations (also those that training drops) and the classes."""
        # Names as JSON: the width of numpy's strings also depends on images beyond `limit`.
        texts = [self.file_names.tolist(), self.labels.num_classes, sorted(self.labels.names.items())]
        shared = self._shared
        heights, widths = shared["sizes"].astype(np.int64).T
        truth = (shared["boxes_xywh"], shared["slots"].astype(np.int64), shared["area"], shared["crowd"])
        return digest(json.dumps(texts), self.image_ids, widths, heights, shared["offsets"], *truth)

    def _notes(self, table: BoxTable, clipped: np.ndarray, usable: np.ndarray) -> list[str]:
        moved = np.abs(clipped - xywh_to_xyxy(table.boxes_xywh)) > CLIP_TOLERANCE
        outside, lost = int((usable & moved.any(1)).sum()), int((~usable).sum())
        num_empty, num_crowd = len(self) - len(np.unique(table.image)), int(table.crowd.sum())
        notes = [
            f"{counted(len(self), 'image')} ({num_empty} without annotations), "
            f"{counted(len(table.crowd) - num_crowd, 'box')} of {counted(len(self.labels.labels), 'class')}, "
            f"{counted(num_crowd, 'crowd region')} ({self.annotations})"
        ]
        if (again := len(self) - len(set(names := table.file_names.tolist()))) > 0:
            name, times = Counter(names).most_common(1)[0]
            notes.append(
                f"{again} of {len(self)} records list an image again, such as {name} ({times} times): each counts with "
                "its own boxes. Remedy: merge the records of one file"
            )
        if outside:
            told = counted(outside, "box extends outside its image", "boxes extend outside their image")
            notes.append(f"{told}; clipped for training")
        if lost:
            told = counted(lost, "box has no area inside its image", "boxes have no area inside their image")
            notes.append(f"{told}; dropped in training, kept in evaluation")
        return notes

    def _check_files(self) -> None:
        """Report missing images now, not hours into training."""
        names = self.file_names.tolist()
        if missing := missing_images(names, self.images):
            found = same_name_below(missing[0], self.images)
            there = f" ({found} exists)" if found else ""
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} images that {self.annotations} lists are missing in {self.images}, "
                f"the first ones: {', '.join(missing[:3])}{there}. Are the file names relative to this folder?"
            )


def _fractions(table: BoxTable) -> str:
    """What is wrong where all boxes lie in the first pixel of their images, between whole numbers; else empty."""
    ends = xywh_to_xyxy(table.boxes_xywh)
    sides = (side[side > 0] for side in (table.widths, table.heights))
    if not len(ends) or not ((ends >= 0) & (ends <= 1)).all() or not (ends % 1).any():
        return ""
    if min(side.min(initial=1 << 31) for side in sides) <= _SMALLEST:
        return ""
    shown = [round(value, 4) for value in ends[0].tolist()]
    return (
        f"{table.source}: no box extends beyond the first pixel of its image, such as {shown}: these are fractions. "
        "Remedy: multiply them by the images' widths and heights"
    )


def clip(boxes_xywh: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Corners [N, 4] of boxes clipped to their images; `limits` are width, height, width, height, [4] or [N, 4]."""
    return np.minimum(np.maximum(xywh_to_xyxy(boxes_xywh), 0), limits)  # np.clip takes five times as long for few boxes


def has_area(boxes: np.ndarray, boxes_xywh: np.ndarray) -> np.ndarray:
    """bool [N]: whether a box had an area and still has one as clipped float32."""
    return np.all((boxes[:, 2:] > boxes[:, :2]) & (boxes_xywh[:, 2:] > 0), axis=1)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] left, top, width, height to corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def is_inside(name: str) -> bool:
    """Whether a file name from an annotation file is relative and stays below its folder on every system.

    A link below the folder may point outside it: no annotation file can create one.
    """
    paths = (PurePosixPath(name), PureWindowsPath(name))
    if not paths[0].name or name.endswith(("/", "/.")) or _STRANGE.search(name):
        return False
    return not any(p.is_absolute() or p.drive or p.root or ".." in p.parts for p in paths)
