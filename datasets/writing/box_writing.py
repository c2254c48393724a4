"""Writes detection data in the layouts of COCO, PASCAL VOC and YOLO, from any source of images and boxes."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from ...files import whole_folder
from ...words import counted
from ..annotations.boxes import BoxSource
from ..annotations.yolo_layout import label_name
from ..images.decode import check_size
from ..images.files import image_size
from ..labels import LabelMap

Advance = Callable[[int], object]  # called with the number of images written since the last call
# What is lost, of one thing and of several.
_COPIED = tuple(f"{what} copied, because hard links are impossible there" for what in ("image", "images"))
_RENAMED = tuple(f"{what} renamed, because two would have shared one annotation file" for what in ("image", "images"))
_CROWD = (
    "crowd region (or difficult object) cannot be represented in YOLO; dropped",
    "crowd regions (or difficult objects) cannot be represented in YOLO; dropped",
)
_OUTSIDE = "box lies outside its image; dropped", "boxes lie outside their image; dropped"
_CUT = (
    "box extends outside its image; clipped to it, as usual in YOLO",
    "boxes extend outside their image; clipped to it, as usual in YOLO",
)
_AREAS = (
    "area other than the box's (of a polygon) is lost: object sizes then follow the box",
    "areas other than the box's (of polygons) are lost: object sizes then follow the box",
)
_NUMBERS = tuple(f"{what} renumbered from 1; the names are kept" for what in ("category id is", "category ids are"))
_GROUPS = "supercategory is lost", "supercategories are lost"
_IDS = tuple(f"{what} renumbered from 1 in each split" for what in ("image id is", "image ids are"))


IMAGES = ("link", "copy", "none")


@dataclass
class Writing:
    """One conversion: where it goes, what is written, and what the format cannot represent."""

    root: Path
    images: str  # link, copy or none
    labels: LabelMap
    lost: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def place(self, source: Path, target: str) -> None:
        """Put the image in its new place: a hard link, which takes no space, or a copy if links are impossible."""
        if self.images == "none":
            return
        path = self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.images == "link":
            try:
                os.link(source.resolve(), path)
                return
            except OSError:
                self.lost[_COPIED] += 1
        shutil.copyfile(source, path)

    def text(self, target: str, content: str) -> None:
        path = self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="\n")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder that becomes `output` once everything is in it; existing files are never touched.

    Raises:
        FileExistsError: `output` is a file, or a folder that is not empty.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} already exists: choose another output, or delete it if it is not needed")
    output = Path(os.path.abspath(output))
    with whole_folder(output) as made:
        yield made
        if output.exists():
            output.rmdir()  # fails if anything was added meanwhile


def write_boxes(
    sources: Mapping[str, BoxSource],
    output: Path,
    *,
    layout: str,
    images: str = "link",
    advance: Advance = lambda _: None,
) -> list[str]:
    """Write splits in the layout `coco`, `voc` or `yolo`; returns one line per kind of loss.

    Raises:
        ValueError: a name is invalid in the format, or an image contradicts its size.
        FileExistsError: `output` is not empty.
    """
    labels = next(iter(sources.values())).labels
    _check_names(sources, labels, layout)
    if layout == "coco":
        names = {split: source.file_names.tolist() for split, source in sources.items()}
    elif layout == "voc":
        names = _unique_stems(sources)
    else:  # each split has a folder of its own
        names = {split: _unique_stems({split: source})[split] for split, source in sources.items()}
    moved = sum(
        name != old for split, new in names.items() for name, old in zip(new, sources[split].file_names, strict=True)
    )
    if moved and images == "none":
        raise ValueError(
            f"{counted(moved, 'image needs', 'images need')} another name, because two that differ only in their "
            "extension or split cannot share an annotation file: choose images=link or images=copy"
        )
    with new_folder(output) as root:
        writing = Writing(root, images, labels)
        writing.lost[_RENAMED] += moved
        {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}[layout](writing, sources, names, advance)
    return [counted(count, *what) for what, count in writing.lost.items() if count]


# ---- names -----------------------------------------------------------------------------------------------

Names = dict[str, list[str]]


def _unique_stems(sources: Mapping[str, BoxSource]) -> Names:
    """Names that stay unique without their extensions; an image in several splits keeps one name."""
    taken: dict[str, str] = {}  # stem in lower case, for case-insensitive file systems -> the file that has it
    result: Names = {}
    for split, source in sources.items():
        result[split] = []
        for name in source.file_names.tolist():
            file, (stem, ending) = str(source.images / name), os.path.splitext(name)
            chosen, tries = stem, 1
            while taken.setdefault(chosen.lower(), file) != file:
                tries += 1
                chosen = f"{stem}_{ending[1:]}" if tries == 2 else f"{stem}_{tries}"
            result[split].append(chosen + ending)
    return result


def _check_names(sources: Mapping[str, BoxSource], labels: LabelMap, layout: str) -> None:
    classes = list(labels.names.values())
    if layout != "coco" and (twice := sorted({name for name in classes if classes.count(name) > 1})):
        raise ValueError(f"the class {twice[0]!r} occurs twice, but {layout} identifies classes by name: rename one")
    for name in (*classes, *(name for source in sources.values() for name in source.file_names.tolist())):
        if not name.isprintable() or name != name.strip() or not name:
            raise ValueError(f"the name {name!r} has surrounding spaces or invalid characters: rename it")


# ---- the three formats -----------------------------------------------------------------------------------


def write_coco(writing: Writing, sources: Mapping[str, BoxSource], names: Names, advance: Advance) -> None:
    """`annotations/instances_SPLIT.json` and `SPLIT/`. Image and category ids stay."""
    ids = writing.labels.source_ids
    categories = [
        {"id": label.source_id, "name": label.name, "supercategory": label.category or ""}
        for label in writing.labels.labels
    ]
    rows: dict[str, tuple[list[Any], list[Any]]] = {split: ([], []) for split in sources}
    number = 0
    for split, source, index, name in _images(sources, names, advance):
        images, annotations = rows[split]
        image_id, truth = int(source.image_ids[index]), source.ground_truth(index)
        height, width = int(source.heights[index]), int(source.widths[index])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for box, slot, area, crowd in zip(*(truth[key].tolist() for key in _COLUMNS), strict=True):
            number += 1
            annotation = {"id": number, "image_id": image_id, "category_id": ids[slot], "iscrowd": int(crowd)}
            annotations.append(annotation | {"bbox": [_short(value) for value in box], "area": _short(area)})
        writing.place(source.images / str(source.file_names[index]), f"{split}/{name}")
    for split, (images, annotations) in rows.items():
        content = {"images": images, "annotations": annotations, "categories": categories}
        writing.text(f"annotations/instances_{split}.json", json.dumps(content, ensure_ascii=False))


def write_voc(writing: Writing, sources: Mapping[str, BoxSource], names: Names, advance: Advance) -> None:
    """`JPEGImages`, `Annotations`, `ImageSets/Main/SPLIT.txt` and `classes.txt`; pixel numbers start at 1, to 0.001.

    Crowd regions are `difficult` objects.
    """
    for _, source, index, name in _images(sources, names, advance):
        truth = source.ground_truth(index)
        stem = os.path.splitext(name)[0]
        if not (writing.root / f"Annotations/{stem}.xml").exists():  # otherwise it is in several splits
            _count_lost(writing, truth)
            writing.text(f"Annotations/{stem}.xml", _voc_xml(name, source, index, truth, writing.labels))
            writing.place(source.images / str(source.file_names[index]), f"JPEGImages/{name}")
    for split, new in names.items():
        writing.text(f"ImageSets/Main/{split}.txt", "".join(f"{os.path.splitext(name)[0]}\n" for name in new))
    writing.text("classes.txt", "".join(f"{name}\n" for name in writing.labels.names.values()))
    _count_ids(writing, sources)


def write_yolo(writing: Writing, sources: Mapping[str, BoxSource], names: Names, advance: Advance) -> None:
    """`data.yaml`, `images/SPLIT/` and `labels/SPLIT/`; fractions to 1e-10. Crowd regions cannot be represented."""
    numbers = {slot: number for number, slot in enumerate(writing.labels.names)}
    for split, source, index, name in _images(sources, names, advance):
        path, truth = source.images / str(source.file_names[index]), source.ground_truth(index)
        size = int(source.heights[index]), int(source.widths[index])
        # Fractions of another size would be wrong.
        check_size(image_size(path), size, path=path, source=source.annotations)
        _count_lost(writing, truth)
        image = f"images/{split}/{name}"
        writing.text(label_name(image), _yolo_lines(truth, size, numbers, writing.lost))
        writing.place(path, image)
    # No `path`: Ultralytics resolves a relative one from the working directory, and uses the yaml's folder without one.
    splits = {split: f"images/{split}" if split in sources else None for split in ("train", "val")}
    data = {**splits, "names": dict(enumerate(writing.labels.names.values()))}
    writing.text("data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=4096))
    _count_ids(writing, sources)


_COLUMNS = ("boxes_xywh", "labels", "area", "crowd")


def _images(
    sources: Mapping[str, BoxSource], names: Names, advance: Advance
) -> Iterator[tuple[str, BoxSource, int, str]]:
    for split, source in sources.items():
        for index, name in enumerate(names[split]):
            yield split, source, index, name
            advance(1)


def _voc_xml(name: str, source: BoxSource, index: int, truth: dict[str, np.ndarray], labels: LabelMap) -> str:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, key: str, value: object) -> None:
        ElementTree.SubElement(parent, key).text = str(value)

    add(root, "folder", "JPEGImages")
    add(root, "filename", name)
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", source.widths[index]), ("height", source.heights[index]), ("depth", 3)):
        add(size, key, value)
    add(root, "segmented", 0)
    for (left, top, width, height), slot, _, crowd in zip(*(truth[key].tolist() for key in _COLUMNS), strict=True):
        node = ElementTree.SubElement(root, "object")
        unknown = {"pose": "Unspecified", "truncated": 0}
        for key, value in {"name": labels.names[slot], **unknown, "difficult": int(crowd)}.items():
            add(node, key, value)
        box = ElementTree.SubElement(node, "bndbox")
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
        for key, value in corners.items():
            add(box, key, _short(value, 3))
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _yolo_lines(
    truth: dict[str, np.ndarray], size: tuple[int, int], numbers: dict[int, int], lost: Counter[tuple[str, ...]]
) -> str:
    height, width = size
    kept = ~truth["crowd"]
    lost[_CROWD] += int((~kept).sum())
    left, top, w, h = truth["boxes_xywh"][kept].T
    sides = (width, height, width, height)
    corners = np.stack([left, top, left + w, top + h], 1)
    clipped = np.clip(corners, 0, sides)
    full = (w > 0) & (h > 0) & (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    lost[_OUTSIDE] += int((~full).sum())
    cut = np.abs(clipped - corners).max(1, initial=0) > 1e-3
    lost[_CUT] += int((cut & full).sum())
    x1, y1, x2, y2 = (clipped[full] / sides).T
    columns = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    lines = zip(truth["labels"][kept][full].tolist(), *(column.tolist() for column in columns), strict=True)
    return "".join(f"{numbers[slot]} {' '.join(_decimal(value) for value in box)}\n" for slot, *box in lines)


def _decimal(value: float) -> str:
    """To 1e-10, never with an exponent."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def _short(value: float, digits: int = 6) -> float | int:
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


# ---- what is lost ----------------------------------------------------------------------------------------


def _count_lost(writing: Writing, truth: dict[str, np.ndarray]) -> None:
    box_area = truth["boxes_xywh"][:, 2] * truth["boxes_xywh"][:, 3]
    other = np.abs(truth["area"] - box_area) > 0.01
    writing.lost[_AREAS] += int(other.sum())


def _count_ids(writing: Writing, sources: Mapping[str, BoxSource]) -> None:
    labels = writing.labels.labels
    changed = sum(label.source_id != number for number, label in enumerate(labels, start=1))
    writing.lost[_NUMBERS] += changed
    writing.lost[_GROUPS] += len({label.category for label in labels if label.category})
    for source in sources.values():
        renumbered = (np.sort(source.image_ids) != np.arange(1, len(source) + 1)).sum()
        writing.lost[_IDS] += int(renumbered)
