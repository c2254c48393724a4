"""How each kind of data set is read when everything in it may be wrong.

What finds a source's files also finds them for a check: with a `report` that returns, a fault of one image or record is
told and the rest goes on. What stops it is a ValueError or an OSError, as for the source.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations.boxes import FoundBoxes
from ..annotations.faults import Fault, Report
from ..cityscapes import IMAGE_END, Cityscapes, detected_suffix, label_file, list_images, value_table
from ..coco import CocoDetection, find_coco
from ..coco_json import CocoJson, find_jsons
from ..image_folder import ImageFolder, class_folders, class_slots, images_below
from ..labels import CITYSCAPES, Label, LabelMap
from ..mask_folder import MaskFolder, MaskPairs, find_masks
from ..voc import VocDetection, find_voc
from ..yolo import YoloDetection, find_yolo
from .contents import Contents, Picture, of_boxes, of_masks

_OF_BOXES: dict[type, Callable[..., FoundBoxes]] = {
    CocoDetection: find_coco,
    CocoJson: find_jsons,
    VocDetection: find_voc,
    YoloDetection: find_yolo,
}


def read_split(source: type, arguments: Mapping[str, Any], *, labels: LabelMap | None, report: Report) -> Contents:
    """A split, by the class of its source and that one's arguments.

    Args:
        labels: the training split's classes, where there are any yet; they take the place of the source's own `labels`.

    Raises:
        ValueError, OSError: the reading stops.
    """
    given = dict(arguments)
    if find := _OF_BOXES.get(source):
        selection = {key: given.pop(key) for key in ("limit", "with_annotations_only") if key in given}
        return of_boxes(find(**given, labels=labels, report=report), **selection)
    if source is MaskFolder:
        return _read_mask_folder(given, given.pop("limit", None), report)
    return _READERS[source](**given, labels=labels, report=report)


def _read_mask_folder(arguments: Mapping[str, Any], limit: int | None, report: Report) -> Contents:
    """Two folders of pictures; images without a label picture are looked at by themselves."""
    found = find_masks(**arguments, report=report)
    pairs, folders = found.pairs[:limit], (found.folders.images, found.folders.masks)
    for name, path, mask in pairs:
        if mask is None:
            wanted = found.folders.masks / f"{name}{arguments.get('mask_suffix', '')}.*"
            report(Fault("missing_mask", str(path), f"{path} has no label picture {wanted}", image=path.name))
    source = MaskPairs(pairs, folders=folders, labels=found.labels, table=found.table, notes=(), colors=found.colors)
    return of_masks(source, spare=[str(path) for path in found.spare] if limit is None else [])


def _read_cityscapes(
    root: str | Path,
    *,
    split: str = "train",
    suffix: str | None = None,
    limit: int | None = None,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """Cityscapes' layout. Files of instance ids are looked at where at least one image has one."""
    folder, images = list_images(root, split)
    images = images[:limit]
    found = suffix or detected_suffix(images[0], root)
    pairs = [(path.name.removesuffix(IMAGE_END), path, label_file(path, root, found)) for path in images]
    instances = [label_file(path, root, "instanceIds") for path in images]
    there = [path.is_file() for path in instances]
    if any(there):
        for image, path, is_there in zip(images, instances, there, strict=True):
            if not is_there:
                name = image.relative_to(folder).as_posix()
                message = f"{path} is not there, though other images have theirs: no iIoU without it"
                report(Fault("instances", str(path), message, image=name))
    source = MaskPairs(
        pairs,
        folders=(folder, Path(root, "gtFine", split)),
        labels=CITYSCAPES,
        table=value_table(found),
        notes=(),
    )
    truth = Path(root, "gtFine", split).glob(f"*/*_gtFine_{found}.png")
    spare = sorted({str(path) for path in truth} - set(source.mask_paths)) if limit is None else []
    known = [str(path) if is_there else "" for path, is_there in zip(instances, there, strict=True)]
    return of_masks(source, instances=known, instance_values=value_table("labelIds"), spare=spare)


def _read_image_folder(
    root: str | Path,
    *,
    split: str = "train",
    limit: int | None = None,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """A folder for each class."""
    folder = Path(root, split)
    classes = class_folders(folder)
    labels = labels or LabelMap(tuple(Label(i, name, i) for i, name in enumerate(classes)), len(classes))
    slot_of = class_slots(classes, labels)
    pictures, slots = [], []
    for name in classes:
        if name not in slot_of:
            message = f"{folder / name} is the folder of a class that the training split has not"
            report(Fault("other_classes", str(folder / name), message))
            continue
        try:
            images = images_below(folder / name)
        except FileNotFoundError as error:
            report(Fault("class_empty", str(folder / name), str(error)))
            continue
        for path, _ in images:
            pictures.append(Picture(Path(path).relative_to(folder).as_posix(), path))
            slots.append(slot_of[name])
    if limit is not None:
        kept = [i * len(pictures) // limit for i in range(min(limit, len(pictures)))]
        pictures, slots = [pictures[i] for i in kept], [slots[i] for i in kept]
    return Contents(labels, folder, pictures, slots=np.array(slots, np.int64))


_READERS: dict[type, Callable[..., Contents]] = {Cityscapes: _read_cityscapes, ImageFolder: _read_image_folder}
SOURCES = (*_OF_BOXES, MaskFolder, *_READERS)  # what can be read
