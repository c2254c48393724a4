"""How each kind of data set is read when everything in it may be wrong.

A reader takes the arguments of its source, `labels` (the training split's classes, where there are any yet) and
`report`; a fault of one image or record is reported, and the rest goes on. What stops a reader is a ValueError or an
OSError, as for the source.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..cityscapes import IMAGE_END, Cityscapes, detected_suffix, label_file, list_images, value_table
from ..coco import CocoDetection, locate, read_coco
from ..coco_json import CocoJson, locate_jsons
from ..faults import Fault, Report
from ..holdout import cut
from ..image_folder import ImageFolder, class_folders, class_slots, images_below
from ..labels import CITYSCAPES, Label, LabelMap
from ..mask_folder import MaskFolder, MaskPairs, classes_of_masks, color_table, find_pairs
from ..voc import VocDetection, locate_voc, read_voc_layout
from ..yolo import YoloDetection, read_yolo_layout
from ..yolo_layout import locate_yolo
from .contents import Contents, Picture, of_boxes, of_masks


def read_coco_json(
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    *,
    root: str | Path | None = None,
    split: str = "train2017",
    slots: str = "contiguous",
    limit: int | None = None,
    with_annotations_only: bool = False,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """A json in COCO's format."""
    path, folder = locate(annotations, images, root=root, split=split)
    table = read_coco(path, slots=slots, labels=labels, report=report)
    return of_boxes(table, folder, limit=limit, with_annotations_only=with_annotations_only)


def read_two_jsons(
    train_json: str | Path,
    images: str | Path,
    *,
    split: str = "train",
    val_json: str | Path | None = None,
    val_images: str | Path | None = None,
    holdout: float | None = None,
    slots: str = "contiguous",
    limit: int | None = None,
    with_annotations_only: bool = False,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """Jsons in COCO's format, of which the one for validation may be missing."""
    path, folder = locate_jsons(
        train_json, images, split=split, val_json=val_json, val_images=val_images, holdout=holdout
    )
    table = read_coco(path, slots=slots, labels=labels, report=report)
    if val_json is None and holdout is not None:
        table, _ = cut(table, split, holdout)
    return of_boxes(table, folder, limit=limit, with_annotations_only=with_annotations_only)


def read_voc_xmls(
    root: str | Path,
    *,
    split: str = "train",
    annotations: str | Path | None = None,
    years: Sequence[int | str] | None = None,
    classes: Sequence[str] | str | Path | None = None,
    difficult: str = "crowd",
    one_based: bool | None = None,
    holdout: float | None = None,
    limit: int | None = None,
    with_annotations_only: bool = False,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """PASCAL VOC's xmls."""
    layout = locate_voc(root, split=split, annotations=annotations, years=years)
    table = read_voc_layout(
        layout, Path(root), classes=classes, labels=labels, difficult=difficult, one_based=one_based, report=report
    )
    if layout.whole and holdout is not None:
        table, _ = cut(table, split, holdout)
    return of_boxes(table, layout.images, limit=limit, with_annotations_only=with_annotations_only)


def read_yolo_files(
    root: str | Path,
    *,
    split: str = "train",
    folder: str | Path | None = None,
    annotations: str | Path | None = None,
    classes: Sequence[str] | str | Path | None = None,
    holdout: float | None = None,
    limit: int | None = None,
    with_annotations_only: bool = False,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """YOLO's txt files."""
    layout = locate_yolo(root, split=split, folder=folder, annotations=annotations, classes=classes)
    table, _ = read_yolo_layout(layout, labels=labels, report=report)
    if layout.whole and holdout is not None:
        table, _ = cut(table, split, holdout)
    return of_boxes(table, layout.images, limit=limit, with_annotations_only=with_annotations_only)


def read_mask_folder(
    root: str | Path | None = None,
    *,
    classes: Sequence[str] | str | Path | LabelMap,
    split: str = "train",
    images: str | Path | None = None,
    masks: str | Path | None = None,
    lists: str | Path | None = None,
    ignore_ids: Iterable[int] = (),
    ignore_colors: Iterable[Sequence[int]] = (),
    mask_suffix: str = "",
    holdout: float | None = None,
    limit: int | None = None,
    labels: LabelMap | None = None,
    report: Report,
) -> Contents:
    """Two folders of pictures; images without a label picture are looked at by themselves."""
    own, table = classes_of_masks(classes, ignore_ids)
    found = find_pairs(
        root, split=split, images=images, masks=masks, lists=lists, mask_suffix=mask_suffix, holdout=holdout,
        report=report,
    )  # fmt: skip
    pairs = found.pairs[:limit]
    for name, path, mask in pairs:
        if mask is None:
            wanted = found.folders.masks / f"{name}{mask_suffix}.*"
            report(Fault("missing_mask", str(path), f"{path} has no label picture {wanted}", image=path.name))
    folders = found.folders.images, found.folders.masks
    colors = color_table(classes, ignore_ids=set(ignore_ids), ignore_colors=ignore_colors)
    source = MaskPairs(pairs, folders=folders, labels=own, table=table, notes=(), colors=colors)
    return of_masks(source, spare=[str(path) for path in found.spare] if limit is None else [])


def read_cityscapes(
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


def read_image_folder(
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


READERS: dict[type, Callable[..., Contents]] = {
    CocoDetection: read_coco_json,
    CocoJson: read_two_jsons,
    VocDetection: read_voc_xmls,
    YoloDetection: read_yolo_files,
    MaskFolder: read_mask_folder,
    Cityscapes: read_cityscapes,
    ImageFolder: read_image_folder,
}
