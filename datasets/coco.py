"""COCO annotations: the official layout, or any JSON in COCO's format with a folder of images."""

import math
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .annotations.boxes import BoxSource, BoxTable, FoundBoxes, TableBuilder, is_inside
from .annotations.faults import Fault, Report, refuse
from .annotations.near_names import endings_of
from .annotations.records import read_tables
from .class_files import class_name
from .images.files import image_size
from .labels import LabelMap, detection_labels

T = TypeVar("T")
Record = dict[str, Any]


class CocoDetection(BoxSource):
    """Images and boxes of a JSON file in COCO's format.

    Either `annotations` (a JSON file) with `images` (a folder), or `root` with `split` for the official layout
    `annotations/instances_SPLIT.json` and `SPLIT/`. `labels` imposes the slots of another dataset or a checkpoint.
    A `report` gets every fault instead of an error at the first one.
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
        report: Report | None = None,
    ) -> None:
        path, folder = locate(annotations, images, root=root, split=split)
        found = FoundBoxes(read_coco(path, folder, slots=slots, labels=labels, report=report or refuse), folder, [])
        super().__init__(found, limit=limit, with_annotations_only=with_annotations_only, report=report)


def locate(
    annotations: str | Path | None, images: str | Path | None, *, root: str | Path | None, split: str
) -> tuple[Path, Path]:
    """The JSON file and the image folder that `CocoDetection`'s arguments name.

    Raises:
        ValueError: they name both layouts, or neither.
        FileNotFoundError: one of the two does not exist.
    """
    if root is not None and annotations is None and images is None:
        annotations, images = Path(root, "annotations", f"instances_{split}.json"), Path(root, split)
        images = inside if not images.is_dir() and (inside := Path(root, "images", split)).is_dir() else images
        layout = f" (the official layout below {root} for split {split!r})"
    elif root is None and annotations is not None and images is not None:
        annotations, images, layout = Path(annotations), Path(images), ""
    else:
        raise ValueError(
            "set either root (with split) for COCO's official layout, or annotations (a JSON file) with images (a "
            f"folder); got root={root}, annotations={annotations}, images={images}"
        )
    if not annotations.is_file():
        raise FileNotFoundError(f"annotation file not found: {annotations}, expected JSON in COCO's format{layout}")
    if not images.is_dir():
        raise FileNotFoundError(f"image folder not found: {images}, expected the pictures of {annotations}{layout}")
    return annotations, images


def read_coco(
    path: Path,
    images: Path | None = None,
    *,
    slots: str = "contiguous",
    labels: LabelMap | None = None,
    report: Report = refuse,
) -> BoxTable:
    """Read a JSON file in COCO's format. A `report` that returns gets every fault; records with a fault are skipped.

    Sizes that it lacks are read from the pictures in the folder `images`.

    Raises:
        ValueError: the file is not COCO JSON at all, or `report` rejects a fault.
    """
    reader = _Reader(path, report, images)
    labels = reader.labels(slots) if labels is None else reader.agree_with(labels)
    builder, row_of = TableBuilder(str(path), labels), {}
    for number, height, width, name in reader.table("images", reader.image):
        row_of[number] = len(row_of)
        builder.add_image(name, (height, width), image_id=number)
    reader.annotations(builder, labels, row_of)
    return builder.table()


def read_truth(annotations: str | Path) -> tuple[LabelMap, dict[int, dict[str, np.ndarray]]]:
    """Label map and `ground_truth` of every image of an annotation file, without the images.

    Raises:
        ValueError: the file is not in COCO's format.
        FileNotFoundError: it does not exist.
    """
    path = Path(annotations)
    if not path.is_file():
        raise FileNotFoundError(f"annotation file not found: {path}, expected JSON in COCO's format")
    reader = _Reader(path, refuse)
    labels = reader.labels("contiguous")
    row_of = {image_id: row for row, image_id in enumerate(reader.table("images", reader.image_id))}
    builder = TableBuilder(str(path), labels)
    reader.annotations(builder, labels, row_of)
    table = builder.table()
    order = np.argsort(table.image, kind="stable")
    ends = np.searchsorted(table.image[order], np.arange(len(row_of) + 1)).tolist()
    arrays = {"boxes_xywh": table.boxes_xywh, "labels": table.slots, "area": table.area, "crowd": table.crowd}
    arrays = {key: values[order] for key, values in arrays.items()}
    parts = map(slice, ends[:-1], ends[1:])
    return labels, {
        image: {key: values[part] for key, values in arrays.items()} for image, part in zip(row_of, parts, strict=True)
    }


class RecordError(Exception):
    """A record's fault: its kind, and the text that follows the record in the message."""


class _Reader:
    """Converts the JSON's records to columns; every fault names file, record, key and remedy."""

    def __init__(self, path: Path, report: Report, images: Path | None = None) -> None:
        self.path, self.report, self.images, self.data = path, report, images, read_tables(path)
        self._image_ids: set[int] = set()

    def table(self, table: str, parse: Callable[[Record], T]) -> Iterator[T]:
        """The results of `parse`, without the records it rejects."""
        for record in self.data[table]:
            try:
                yield parse(record)
            except RecordError as wrong:
                kind, problem = wrong.args
                image = record.get("file_name", "") if isinstance(record, dict) and table == "images" else ""
                message = f"{self.path}: {table} record {str(record)[:200]} {problem}"
                self.report(Fault(kind, str(self.path), message, image=str(image)))

    def labels(self, slots: str) -> LabelMap:
        known: set[int] = set()

        def category(record: Record) -> tuple[int, str, str | None]:
            number = _integer(record, "id")
            if number in known:
                raise RecordError(
                    "clashing_ids", f"has the id {number}, which another category also uses: ids must be unique"
                )
            try:
                name = class_name(_value(record, "name"))
            except ValueError as error:
                raise RecordError("format", f"has no name: {error}") from None
            known.add(number)
            return number, name, str(record.get("supercategory") or "") or None

        rows = _apart(list(self.table("categories", category)))
        if not rows:
            raise ValueError(f"{self.path}: its list of categories is empty: it must name the classes")
        try:
            return detection_labels(rows, slots=slots)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def agree_with(self, labels: LabelMap) -> LabelMap:
        """`labels`, which must have every class of the file under the same id and name; it may have more."""
        known = {label.source_id: label.name for label in labels.labels}
        try:
            own = self.labels("contiguous").labels
        except ValueError as error:
            self.report(Fault("other_classes", str(self.path), str(error)))
            return labels
        if other := [f"{one.source_id} {one.name}" for one in own if known.get(one.source_id) != one.name]:
            message = (
                f"{self.path}: its categories {', '.join(other[:5])} do not match those of the training data or the "
                f"model ({', '.join(f'{i} {name}' for i, name in list(known.items())[:5])}): ids and names must agree"
            )
            self.report(Fault("other_classes", str(self.path), message))
        return labels

    def image_id(self, record: Record) -> int:
        number = _integer(record, "id")
        if number in self._image_ids:
            raise RecordError("clashing_ids", f"has the id {number}, which another image also uses: ids must be unique")
        self._image_ids.add(number)
        return number

    def image(self, record: Record) -> tuple[int, int, int, str]:
        """Id, height, width, file name of an `images` record."""
        number, height, width = self.image_id(record), _side(record, "height"), _side(record, "width")
        name = _value(record, "file_name")
        if not isinstance(name, str) or not is_inside(name):
            raise RecordError(
                "outside_root",
                "has a file_name outside the image folder: expected a relative path without '..' or control characters"
                + self._found_as(name),
            )
        if height < 1 or width < 1:
            height, width = self._size(name)
        return number, height, width, name

    def _found_as(self, name: Any) -> str:
        """The remedy for a path of another machine."""
        ends = [end for end in endings_of(name)[1:] if is_inside(end)] if isinstance(name, str) and self.images else []
        there = next((end for end in ends if self.images and (self.images / end).is_file()), "")
        return f". Remedy: write {there!r}, which exists in {self.images}" if there else ""

    def _size(self, name: str) -> tuple[int, int]:
        try:
            if self.images is not None:
                path = self.images / name
                return image_size(path if path.is_file() else self.images / name.replace("\\", "/"))
            problem = ""
        except FileNotFoundError:
            return 0, 0  # the source reports all missing images at once
        except (OSError, ValueError) as error:
            problem = f", and the picture's cannot be read: {error}"
        raise RecordError("no_size", f"has no size: expected width and height of 1 or more{problem}")

    def annotations(self, builder: TableBuilder, labels: LabelMap, row_of: dict[int, int]) -> None:
        """Add the boxes to images, whose rows `row_of` has by their ids."""
        slot_of = {source_id: slot for slot, source_id in labels.source_ids.items()}
        ids = sorted(slot_of)
        known = f"{len(ids)} categories, ids {ids if len(ids) <= 12 else f'{ids[0]} to {ids[-1]}'}"
        own_ids = array("q")

        def annotation(record: Record) -> None:
            image_id, category = _integer(record, "image_id"), _integer(record, "category_id")
            if category not in slot_of:
                raise RecordError(
                    "unknown_category", f"has the unknown category_id {category}: the label map has {known}"
                )
            if image_id not in row_of:
                raise RecordError("unknown_image", f"has image_id {image_id}, which `images` does not list")
            box = _value(record, "bbox")
            if not _is_box(box):
                raise RecordError("format", f"has bbox {box!r}: expected four finite numbers x, y, w, h")
            area, crowd = record.get("area"), record.get("iscrowd", 0)
            if area is not None and not _is_number(area):
                raise RecordError("format", f"has area {area!r}: expected a number")
            if crowd not in (0, 1):
                raise RecordError("format", f"has iscrowd {crowd!r}: expected 0 or 1")
            if type(number := record.get("id")) is int and abs(number) < 2**63:
                own_ids.append(number)
            builder.add_box(slot_of[category], box, row=row_of[image_id], area=area, crowd=bool(crowd))

        for _ in self.table("annotations", annotation):
            pass
        self._check_own_ids(np.array(own_ids, np.int64))

    def _check_own_ids(self, ids: np.ndarray) -> None:
        """Not used here, but by other tools."""
        found, counts = np.unique(ids, return_counts=True)
        for number, count in zip(found[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
            message = f"{self.path}: {count} annotations have the id {number}: other tools would keep only one of them"
            self.report(Fault("clashing_annotation_ids", str(self.path), message))


def _value(record: Record, key: str) -> Any:
    try:
        return record[key]
    except (KeyError, TypeError, IndexError):
        raise RecordError("format", f"lacks the key {key!r}") from None


def _integer(record: Record, key: str) -> int:
    value = _value(record, key)
    if type(value) is float and value.is_integer():  # as pandas writes numbers
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise RecordError("format", f"has {key} {value!r}: expected an integer")
    return value


def _side(record: Record, key: str) -> int:
    """A width or height; 0 if the record has none, or pandas' NaN."""
    value = record.get(key) if isinstance(record, dict) else None
    return 0 if value is None or value != value else _integer(record, key)


def _apart(rows: list[tuple[int, str, str | None]]) -> list[tuple[int, str, str | None]]:
    """Roboflow lists the project as a category of its own, whose name may be that of its only class."""
    children = {name for _, name, category in rows if name == category}
    return [
        (number, f"{name} ({category})" if category == "none" and name in children else name, category)
        for number, name, category in rows
    ]


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False
