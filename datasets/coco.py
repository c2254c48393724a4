"""COCO annotations: official layout, or any json in COCO's format with a folder of images."""

import json
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from .decoder import Decoder, PictureFile, decode_checked
from .labels import LabelMap, detection_labels
from .sample import NO_IMAGE, Pending, Sample, check_limit, digest

_CLIP_TOLERANCE = 0.5  # pixels; COCO's own boxes reach outside by rounding


class CocoDetection:
    """Images and boxes. Everything stays in flat arrays, so that forked workers share instead of copying it.

    Either `annotations` (a json file) with `images` (a folder), or `root` with `split` for the official layout
    `annotations/instances_SPLIT.json` and `SPLIT/`. Crowd regions are kept apart. Images without annotations are
    negatives, unless `with_annotations_only`. `labels` imposes the slots of another dataset or a checkpoint.
    """

    def __init__(
        self,
        annotations: str | Path | None = None,
        images: str | Path | None = None,
        *,
        root: str | Path | None = None,
        split: str = "train2017",
        slots: str = "contiguous",
        labels: LabelMap | None = None,
        limit: int | None = None,
        with_annotations_only: bool = False,
    ) -> None:
        self.annotations, self.images = _locate(annotations, images, root, split)
        reader = _Reader(self.annotations, _load(self.annotations))
        self.labels = reader.label_map(slots) if labels is None else reader.agree_with(labels)
        table = reader.image_table()
        columns = reader.annotation_columns(self.labels, table["id"])
        rows = np.arange(len(table["id"]))
        if with_annotations_only:
            rows = rows[np.isin(table["id"], columns["image_id"])]
        rows = rows[: check_limit(limit)]
        if not len(rows):
            which = " with annotations" if with_annotations_only else ""
            raise ValueError(f"{self.annotations} lists no images{which}")
        self.image_ids, self.heights, self.widths = (table[key][rows] for key in ("id", "height", "width"))
        self.file_names = table["file_name"][rows]
        self._group(columns)
        self._clip()
        self._check_files()
        self.decoder = Decoder()

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, index: int) -> Sample:
        """Decode one image. Boxes are clipped and clean for training, `ground_truth` is exactly the file's."""
        return self.open(index).read()

    def open(self, index: int) -> Pending:
        """The same before its picture is decoded."""
        path = self.images / str(self.file_names[index])
        size = int(self.heights[index]), int(self.widths[index])
        part = slice(self._offsets[index], self._offsets[index + 1])
        usable, crowd, slots = self._usable[part], self._crowd[part], self._slots[part]
        boxes = self._boxes[part]
        sample = Sample(
            NO_IMAGE,
            int(self.image_ids[index]),
            boxes=boxes[usable & ~crowd],
            labels=slots[usable & ~crowd],
            crowd_boxes=boxes[usable & crowd],
            crowd_labels=slots[usable & crowd],
            ground_truth={
                "boxes_xywh": self._boxes_xywh[part],
                "labels": slots,
                "area": self._area[part],
                "crowd": crowd,
            },
            path=str(path),
        )
        decode = partial(decode_checked, decoder=self.decoder, path=path, size=size, source=self.annotations)
        return Pending(sample, size, decode)

    def has_boxes(self, index: int) -> bool:
        """Whether there is one that training learns from."""
        part = slice(self._offsets[index], self._offsets[index + 1])
        return bool((self._usable[part] & ~self._crowd[part]).any())

    def files(self, index: int) -> list[PictureFile]:
        """What `read` decodes."""
        size = int(self.heights[index]), int(self.widths[index])
        return [PictureFile(self.images / str(self.file_names[index]), size)]

    def fingerprint(self) -> str:
        """Over the list of images, every annotation of theirs (also those that training drops) and the classes."""
        # Names as json: the width of numpy's strings also tells of images beyond `limit`.
        texts = [self.file_names.tolist(), self.labels.num_classes, sorted(self.labels.names.items())]
        truth = (self._offsets, self._boxes_xywh, self._slots, self._area, self._crowd)
        return digest(json.dumps(texts), self.image_ids, self.widths, self.heights, *truth)

    def _group(self, columns: dict[str, np.ndarray]) -> None:
        """Sort the annotations by image, in the file's order within one; image i owns rows offsets[i]:offsets[i+1]."""
        by_id = np.argsort(self.image_ids, kind="stable")
        place = np.searchsorted(self.image_ids, columns["image_id"], sorter=by_id)
        place = by_id[np.minimum(place, len(by_id) - 1)]
        kept = self.image_ids[place] == columns["image_id"]  # the others belong to images beyond `limit`
        order = np.flatnonzero(kept)[np.argsort(place[kept], kind="stable")]
        self._image_of = place[order]
        self._offsets = np.searchsorted(self._image_of, np.arange(len(self) + 1))
        self._boxes_xywh, self._slots = columns["bbox"][order], columns["slot"][order]
        self._area, self._crowd = columns["area"][order], columns["crowd"][order]

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
        """Miss an image now, not hours into training. A listing is far cheaper than asking for every file."""
        names = self.file_names.tolist()
        folders = {name.rpartition("/")[0] for name in names}
        listed = {
            f"{f}/{n}" if f else n for f in folders if (self.images / f).is_dir() for n in os.listdir(self.images / f)
        }
        # Asked again by name: a file system may find what it lists in another spelling.
        missing = [name for name in names if name not in listed and not (self.images / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(names)} images that {self.annotations} lists are missing in {self.images}, "
                f"first of all {', '.join(missing[:3])}. Is this the folder its file names start from?"
            )


def read_truth(annotations: str | Path) -> tuple[LabelMap, dict[int, dict[str, np.ndarray]]]:
    """Label map and `ground_truth` of every image of an annotation file, without the images.

    Raises:
        ValueError: the file is not in COCO's format.
        FileNotFoundError: it does not exist.
    """
    path = Path(annotations)
    if not path.is_file():
        raise FileNotFoundError(f"annotation file not found: {path}, expected a json in COCO's format")
    reader = _Reader(path, _load(path))
    labels, ids = reader.label_map("contiguous"), reader.image_ids()
    columns = reader.annotation_columns(labels, ids)
    order = np.argsort(columns["image_id"], kind="stable")
    image_ids = columns["image_id"][order]
    names = {"bbox": "boxes_xywh", "slot": "labels", "area": "area", "crowd": "crowd"}
    arrays = {name: columns[key][order] for key, name in names.items()}
    starts, ends = (np.searchsorted(image_ids, ids, side=side) for side in ("left", "right"))
    rows = zip(ids.tolist(), starts.tolist(), ends.tolist(), strict=True)
    return labels, {image: {key: array[start:end] for key, array in arrays.items()} for image, start, end in rows}


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] left, top, width, height to corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _locate(
    annotations: str | Path | None, images: str | Path | None, root: str | Path | None, split: str
) -> tuple[Path, Path]:
    if root is not None and annotations is None and images is None:
        annotations, images = Path(root, "annotations", f"instances_{split}.json"), Path(root, split)
        layout = f" (the official layout below {root} for split {split!r})"
    elif root is None and annotations is not None and images is not None:
        annotations, images, layout = Path(annotations), Path(images), ""
    else:
        raise ValueError(
            "give either root (with split) for COCO's official layout, or annotations (a json file) with images (a "
            f"folder); got root={root}, annotations={annotations}, images={images}"
        )
    if not annotations.is_file():
        raise FileNotFoundError(f"annotation file not found: {annotations}, expected a json in COCO's format{layout}")
    if not images.is_dir():
        raise FileNotFoundError(f"image folder not found: {images}, expected the pictures of {annotations}{layout}")
    return annotations, images


def _load(path: Path) -> dict[str, Any]:
    def without_segmentation(record: dict[str, Any]) -> dict[str, Any]:
        record.pop("segmentation", None)  # most of COCO's json; not kept even while loading
        return record

    try:
        data = json.loads(path.read_bytes(), object_hook=without_segmentation)
    except ValueError as error:
        raise ValueError(f"{path} is not json: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(
            f"{path}: expected an object with images, annotations, categories, found a {type(data).__name__}"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise ValueError(f"{path} lacks the list {key!r}: expected COCO's instances format (found {sorted(data)})")
    return data


class _Reader:
    """Turns the json's records into arrays; every complaint names file, record, key and remedy."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path, self.data = path, data

    def _column(self, table: str, key: str, default: Any = None) -> list[Any]:
        try:
            if default is not None:
                return [record.get(key, default) for record in self.data[table]]
            return [record[key] for record in self.data[table]]
        except (KeyError, TypeError, AttributeError) as error:
            bad = next(r for r in self.data[table] if not isinstance(r, dict) or (default is None and key not in r))
            raise self._error(table, bad, f"lacks the key {key!r}") from error

    def _error(self, table: str, record: Any, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {table} record {str(record)[:200]} {problem}")

    def _integers(self, table: str, key: str) -> np.ndarray:
        values = self._column(table, key)
        for value, record in zip(values, self.data[table], strict=True):
            if type(value) is not int:
                raise self._error(table, record, f"has {key} {value!r}: expected a whole number")
        return np.array(values, np.int64)

    def label_map(self, slots: str) -> LabelMap:
        ids, names = self._integers("categories", "id").tolist(), self._column("categories", "name")
        if not ids:
            raise ValueError(f"{self.path}: its list of categories is empty: it has to name the classes")
        categories = [str(category) or None for category in self._column("categories", "supercategory", "")]
        try:
            return detection_labels(list(zip(ids, map(str, names), categories, strict=True)), slots=slots)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def agree_with(self, labels: LabelMap) -> LabelMap:
        """`labels`, if every category of the file has the same id and name there; the file may have fewer."""
        known = {label.source_id: label.name for label in labels.labels}
        own = self.label_map("contiguous").labels
        other = [f"{label.source_id} {label.name}" for label in own if known.get(label.source_id) != label.name]
        if other:
            raise ValueError(
                f"{self.path}: its categories {', '.join(other[:5])} are not those of the training data or the model "
                f"({', '.join(f'{i} {name}' for i, name in list(known.items())[:5])}): ids and names have to agree"
            )
        return labels

    def image_ids(self) -> np.ndarray:
        all_ids = self._integers("images", "id")
        ids, counts = np.unique(all_ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"{self.path}: image id {ids[counts > 1][0]} occurs {counts.max()} times: ids must be unique"
            )
        return all_ids

    def image_table(self) -> dict[str, np.ndarray]:
        table = {"id": self.image_ids()} | {key: self._integers("images", key) for key in ("width", "height")}
        names = self._column("images", "file_name")
        for name, record in zip(names, self.data["images"], strict=True):
            if not isinstance(name, str) or not _is_inside(name):
                raise self._error(
                    "images",
                    record,
                    "has a file_name outside of the image folder: expected a relative path without '..'",
                )
        small = np.flatnonzero((table["width"] < 1) | (table["height"] < 1))
        if len(small):
            raise self._error(
                "images", self.data["images"][small[0]], "has no size: expected width and height of 1 or more"
            )
        return table | {"file_name": np.array(names, dtype=str)}

    def annotation_columns(self, labels: LabelMap, known_images: np.ndarray) -> dict[str, np.ndarray]:
        """`image_id`, `slot`, `bbox` float64 [M, 4] xywh, `area`, `crowd` of every annotation."""
        records = self.data["annotations"]
        image_ids, categories = self._integers("annotations", "image_id"), self._integers("annotations", "category_id")
        slot_of = {source_id: slot for slot, source_id in labels.source_ids.items()}
        known = np.isin(categories, list(slot_of))
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            remedy = f"the label map has {len(slot_of)} categories, ids {_shorten(sorted(slot_of))}"
            raise self._error(
                "annotations", records[row], f"has category_id {categories[row]}, which is unknown: {remedy}"
            )
        listed = np.isin(image_ids, known_images)
        if not listed.all():
            row = int(np.flatnonzero(~listed)[0])
            raise self._error(
                "annotations", records[row], f"has image_id {image_ids[row]}, which `images` does not list"
            )
        boxes = self._column("annotations", "bbox")
        for box, record in zip(boxes, records, strict=True):
            if not _is_box(box):
                raise self._error("annotations", record, f"has bbox {box!r}: expected four finite numbers x, y, w, h")
        bbox = np.array(boxes, np.float64).reshape(-1, 4)
        areas = self._column("annotations", "area", math.nan)
        try:
            area = np.array(areas, np.float64)
        except (TypeError, ValueError) as error:
            bad = next(r for r in records if not isinstance(r.get("area", 0), int | float))
            raise self._error("annotations", bad, f"has area {bad['area']!r}: expected a number") from error
        return {
            "image_id": image_ids,
            "slot": np.array([slot_of[category] for category in categories.tolist()], np.int64),
            "bbox": bbox,
            "area": np.where(np.isnan(area), bbox[:, 2] * bbox[:, 3], area),
            "crowd": np.array(self._column("annotations", "iscrowd", 0), bool),
        }


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in box)


def _is_inside(name: str) -> bool:
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return bool(name) and not any(p.is_absolute() or p.drive or p.root or ".." in p.parts for p in paths)


def _shorten(values: Sequence[int]) -> str:
    return str(list(values)) if len(values) <= 12 else f"{values[0]} to {values[-1]}"
