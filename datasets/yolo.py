"""YOLO annotations: one .txt per image, one line per object, `class cx cy w h` as fractions of the image's sides."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..files import read_text
from ..words import counted
from .annotations.boxes import BoxSource, FoundBoxes, TableBuilder
from .annotations.class_names import known_names
from .annotations.faults import Fault, Report, Strict
from .annotations.holdout import check_holdout, cut
from .annotations.watched import watched
from .annotations.yolo_labels import pair_labels
from .annotations.yolo_layout import YoloLayout, locate_yolo
from .annotations.yolo_lines import Outlines, box_of, is_box, outside
from .images.files import image_size
from .labels import LabelMap


class YoloDetection(BoxSource):
    """Images and boxes from YOLO's .txt files. Polygons (more than four numbers) become their bounding box.

    `root` is a data.yaml, a folder with one, or a folder of images and label files: `images/` next to `labels/`
    (with SPLIT in or around them), or all in one folder; its class list is `classes` or a file classes.txt. An image
    without a label file has no objects. Without a validation split, `holdout` (such as 0.2) is held out for `val`.

    Args:
        folder: the base of a data.yaml's paths, instead of its `path`.
        annotations: the label files' folder, if it is elsewhere.
        labels: the slots of another dataset or a checkpoint; classes are matched by name.
        report: gets every fault; None rejects errors, and turns warnings into notes.

    Class 0 in the files has id 1 in `labels` (and in COCO's results), class 1 has id 2. Image ids number the
    images from 1, in order of their names.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        folder: str | Path | None = None,
        annotations: str | Path | None = None,
        classes: Sequence[str] | str | Path | None = None,
        labels: LabelMap | None = None,
        holdout: float | None = None,
        limit: int | None = None,
        with_annotations_only: bool = False,
        report: Report | None = None,
    ) -> None:
        check_holdout(holdout)
        strict = Strict()
        layout = locate_yolo(root, split=split, folder=folder, annotations=annotations, classes=classes)
        tell = report or strict
        for fault in layout.faults:
            tell(fault)
        labels_of, spare = pair_labels(layout, tell)
        if layout.names and not any(labels_of) and (layout.images / layout.names[0]).is_file():
            there = (
                f"; {counted(len(spare), 'has another name', 'have other names')}, such as {spare[0]}" if spare else ""
            )
            raise FileNotFoundError(
                f"{layout.source}: none of the {len(labels_of)} images has a label file, such as "
                f"{layout.label_files[0]}{there}. "
                "Expected label files next to the images, or in a folder `labels` instead of `images`"
            )
        reader = _Reader(layout, labels or layout.classes, tell)
        rows = list(zip(layout.names, labels_of, strict=True))
        for name, path in watched(rows, "images and label files read"):
            reader.add(name, path)
        reader.judge_outlines()
        notes, polygons = [*layout.notes, *strict.notes()], counted(reader.outlines.count, "polygon")
        notes += [f"{polygons}: bounding boxes are used"] if reader.outlines.count else []
        found = FoundBoxes(reader.builder.table(), layout.images, notes)
        found = cut(found, split, holdout, root=root) if layout.whole else found
        super().__init__(found, limit=limit, with_annotations_only=with_annotations_only, report=report)


_AFTER_BOX = (
    ". Remedy: if these numbers are a box and a confidence or a track, remove what follows the box; if landmarks "
    "follow it, set kpt_shape in a data.yaml"
)


class _Reader:
    def __init__(self, layout: YoloLayout, labels: LabelMap, report: Report) -> None:
        self._layout, self._report = layout, report
        self.builder = TableBuilder(layout.source, labels)
        slots = {name: slot for slot, name in labels.names.items()}
        self._slots = {label.source_id - 1: slots.get(label.name) for label in layout.classes.labels}
        self._owner: dict[Path, str] = {}
        self.outlines = Outlines()
        if other := [label.name for label in layout.classes.labels if label.name not in slots]:
            message = (
                f"{layout.source}: its classes {', '.join(other[:5])} do not match those of the training data "
                f"or the model ({known_names(labels)}): names must agree"
            )
            report(Fault("other_classes", layout.source, message))

    def add(self, name: str, path: Path | None) -> None:
        try:
            size = image_size(self._layout.images / name)
        except FileNotFoundError:
            size = (0, 0)  # missing images of a list: the source reports all of them at once
        except (OSError, ValueError) as error:
            self._report(Fault("undecodable", str(self._layout.images / name), str(error), image=name))
            return
        self.builder.add_image(name, size)
        if path is None:
            return
        owner = self._owner.setdefault(path, name)
        if owner != name:
            message = (
                f"{path} belongs to two images that differ in their extension, {owner} and {name}: rename one of them"
            )
            self._report(Fault("shared_annotation", str(path), message, image=name))
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            self._report(Fault("format", str(path), str(error), image=name))
            return
        for number, line in enumerate(text.splitlines(), start=1):
            if values := line.split():
                self._line(values, size, name, f"{path}, line {number}", path)

    def _line(self, values: list[str], size: tuple[int, int], name: str, where: str, path: Path) -> None:
        def tell(kind: str, problem: str) -> None:
            self._report(Fault(kind, str(path), f"{where} {problem}", image=name))

        try:
            numbers = [float(value) for value in values]
        except ValueError:
            numbers = []
        keypoints = self._layout.keypoints
        if keypoints and len(numbers) not in (5, 5 + keypoints):
            count = counted(len(numbers) - 1, "number")
            tell("format", f"has {count} after the class, but kpt_shape says {4 + keypoints}, with the box")
            return
        box = box_of(numbers[1:], keypoints=bool(keypoints))
        if box is None or not numbers[0].is_integer() or not all(map(math.isfinite, numbers)):
            shown = " ".join(values)[:80]
            expected = "expected class cx cy w h, or class x1 y1 x2 y2 x3 y3 ... of a polygon"
            more = len(numbers) > 5 and all(map(math.isfinite, numbers)) and is_box(numbers[1:])
            tell("format", f"is {shown!r}: {expected}{_AFTER_BOX if more else ''}")
            return
        if outside([*numbers[1:5], *box]):
            more = len(numbers) > 5 and not keypoints and is_box(numbers[1:])
            wrong = outside(numbers[5:]) if more else []
            shown = f"{wrong[0]:g} after a box" if wrong else values[1:5]
            hint = _AFTER_BOX if more else ""
            tell("not_normalized", f"has {shown}: expected fractions of the image's width and height, 0 to 1{hint}")
            return
        slot = self._slots.get(int(numbers[0]))
        if slot is None:
            if int(numbers[0]) not in self._slots:  # otherwise its name was already reported
                known = known_names(self._layout.classes)
                tell("unknown_category", f"has the unknown class {int(numbers[0])}: the names are {known}")
            return
        if len(numbers) > 5 and not keypoints:
            self.outlines.add(values[1:], numbers[1:], where)
        height, width = size
        cx, cy, w, h = box
        self.builder.add_box(slot, ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height))

    def judge_outlines(self) -> None:
        """Report lines that are boxes with something else behind them."""
        if problem := self.outlines.problem():
            where = self.outlines.first
            self._report(Fault("format", where.rpartition(", line ")[0], f"{where} {problem}"))
