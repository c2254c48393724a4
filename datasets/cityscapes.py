"""Cityscapes in its official layout."""

from pathlib import Path

import numpy as np

from ..words import counted
from .annotations.faults import Fault, Report, Strict, tell_left_out
from .annotations.sample import check_limit
from .images.files import find_files, list_files
from .labels import CITYSCAPES, CITYSCAPES_TABLE
from .mask_folder import MaskPairs, slot_table

PNG = frozenset({".png"})
IMAGE_END = "_leftImg8bit.png"
# The downloaded ground truth contains labelIds; cityscapesscripts can add labelTrainIds. Both give the same 19 classes.
_SUFFIXES = ("labelIds", "labelTrainIds")


class Cityscapes(MaskPairs):
    """`leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` with `gtFine/SPLIT/CITY/*_gtFine_SUFFIX.png` below `root`.

    `suffix` is labelIds or labelTrainIds; by default the first one that exists for the first image. Evaluation reads
    `*_gtFine_instanceIds.png` too, if all images have one. Without `truth` (the test split) there are only images.
    A `report` gets every fault instead of an error at the first one: label files may then be missing, and those of
    instances are used where they exist.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        suffix: str | None = None,
        limit: int | None = None,
        truth: bool = True,
        report: Report | None = None,
    ) -> None:
        if suffix not in (None, *_SUFFIXES):
            raise ValueError(f"unknown suffix {suffix!r}: expected {' or '.join(_SUFFIXES)}, or null to detect it")
        strict = Strict()
        folder, images = list_images(root, split, report or strict)
        images = images[: check_limit(limit)]
        if not truth:
            super().__init__(
                [(path.name.removesuffix(IMAGE_END), path, None) for path in images],
                folders=(folder, folder),
                labels=CITYSCAPES,
                table=value_table("labelIds"),
                notes=[f"{counted(len(images), 'image')} of {folder}, without ground truth", *strict.notes()],
            )
            return
        kinds = (kind for kind in _SUFFIXES if label_file(images[0], root, kind).is_file())
        found = suffix or next(kinds, _SUFFIXES[0])
        pairs = [(path.name.removesuffix(IMAGE_END), path, label_file(path, root, found)) for path in images]
        missing = [str(mask) for _, _, mask in pairs if not mask.is_file()]
        if missing and report is None:
            raise FileNotFoundError(
                f"{len(missing)} of {counted(len(pairs), 'label file')} of split {split!r} missing: "
                f"{', '.join(missing[:3])}. Remedy: unpack gtFine next to leftImg8bit"
            )
        count = counted(len(pairs), "image")
        instances = [label_file(path, root, "instanceIds") for path in images]
        there = [path.is_file() for path in instances]
        num_instances = sum(there)
        how = "as set" if suffix else "detected"
        notes = [f"{count} of {folder}, labels from *_gtFine_{found}.png ({how}), 19 classes"]
        if num_instances:
            what = "for iIoU" if num_instances == len(pairs) else f"but for {count}: not used, no iIoU"
            notes.append(f"{counted(num_instances, 'file')} *_gtFine_instanceIds.png, {what}")
        for image, path, is_there in zip(images, instances, there, strict=True):
            if report and num_instances and not is_there:
                message = f"{path} does not exist, although other images have theirs: iIoU needs all of them"
                report(Fault("instances", str(path), message, image=image.relative_to(folder).as_posix()))
        masks = Path(root, "gtFine", split)
        spare = _label_files(masks, found) - {mask for _, _, mask in pairs} if report else ()
        used = [path if is_there else "" for path, is_there in zip(instances, there, strict=True)]
        super().__init__(
            pairs,
            folders=(folder, masks),
            labels=CITYSCAPES,
            table=value_table(found),
            notes=[*notes, *strict.notes()],
            instances=used if report or all(there) else (),
            instance_values=value_table("labelIds"),
            spare=sorted(spare) if limit is None else (),
        )


def list_images(root: str | Path, split: str, report: Report) -> tuple[Path, list[Path]]:
    """The folder of a split's images, and the images.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no image.
    """
    folder = Path(root, "leftImg8bit", split)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder not found: {folder}, expected Cityscapes' layout leftImg8bit/SPLIT/CITY/")
    files = find_files(folder, PNG)
    tell_left_out(files, report)
    names = [name for name in files.names if name.endswith(IMAGE_END) and name.count("/") == 1]
    images = sorted(folder / name for name in names)
    if not images:
        raise FileNotFoundError(f"no images in {folder}: expected CITY/*{IMAGE_END}")
    return folder, images


def _label_files(masks: Path, suffix: str) -> set[Path]:
    """All label files of a split, also of missing images."""
    end = f"_gtFine_{suffix}.png"
    return {masks / name for name in list_files(masks, PNG) if name.endswith(end) and name.count("/") == 1}


def label_file(image: Path, root: str | Path, suffix: str) -> Path:
    split, city = image.parts[-3:-1]
    return Path(root, "gtFine", split, city, f"{image.name.removesuffix(IMAGE_END)}_gtFine_{suffix}.png")


def value_table(suffix: str) -> np.ndarray:
    """The meaning of the values of such label files (`slot_table`)."""
    if suffix == "labelTrainIds":
        return slot_table({slot: slot for slot in CITYSCAPES.names})
    ids = {label_id: train_id for _, label_id, train_id, _, _ in CITYSCAPES_TABLE if label_id >= 0}
    return slot_table(ids)  # the license plate's -1 is stored as 255
