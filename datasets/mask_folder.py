"""Segmentation data: pairs of an image and a label picture of class numbers, in any pair of folders."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from .decode import check_size, decode_image, decode_mask
from .faults import Fault, Report, refuse
from .labels import IGNORE, LabelMap, segmentation_labels
from .sample import Sample, check_limit, digest

IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
UNKNOWN = 254  # marks values outside of the class list; a uint8 mask has room for 254 classes


class MaskPairs:
    """A source of (image file, label file) pairs whose values a 256-entry table turns into slots.

    `folders` are those that the images and the label files lie below; file names count from there. `instances` are
    pictures of instance ids, one for each pair or none at all. Without a label file (None) samples have no mask.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, Path, Path | None]],
        *,
        folders: tuple[Path, Path],
        labels: LabelMap,
        table: np.ndarray,
        notes: Sequence[str],
        instances: Sequence[Path] = (),
    ) -> None:
        assert labels.num_classes <= UNKNOWN
        # numpy strings, not lists: forked workers share them
        self.image_ids = np.array([name for name, _, _ in pairs])
        self._images = np.array([str(image) for _, image, _ in pairs])
        self._masks = np.array([str(mask or "") for _, _, mask in pairs])
        self._instances = np.array([str(path) for path in instances])
        self.folders = folders
        self.labels, self.table, self.notes = labels, table, list(notes)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def image_paths(self) -> list[str]:
        return self._images.tolist()

    @property
    def mask_paths(self) -> list[str]:
        """The label files, empty where an image has none."""
        return self._masks.tolist()

    def read(self, index: int) -> Sample:
        """Decode image and mask; the mask holds slots, 255 where no class owns a pixel."""
        path, image = str(self._images[index]), decode_image(self._images[index])
        if not self._masks[index]:  # a test split
            return Sample(image, str(self.image_ids[index]), path=path)
        mask = self.read_mask(index)
        check_size(image.shape[:2], mask.shape, path=path, source=str(self._masks[index]))
        return Sample(
            image,
            str(self.image_ids[index]),
            mask=mask,
            ground_truth={"mask": mask},
            path=path,
            instances_path=self.instances_path(index),
        )

    def instances_path(self, index: int) -> str:
        """The picture of an image's instance ids, empty where there is none."""
        return str(self._instances[index]) if len(self._instances) else ""

    def read_mask(self, index: int) -> np.ndarray:
        """The mask alone."""
        mask_path = str(self._masks[index])
        stored = decode_mask(mask_path)
        mask = cv2.LUT(stored, self.table)
        if (mask == UNKNOWN).any():
            unknown = sorted(set(np.unique(stored[mask == UNKNOWN]).tolist()))
            raise ValueError(
                f"{mask_path} holds the values {unknown}, which are no class: the class list has "
                f"{self.labels.num_classes} classes with the values {sorted(self.labels.source_ids.values())}. Remedy: "
                "complete the class list, or ignore such pixels with ignore_ids"
            )
        return mask

    def fingerprint(self) -> str:
        """Over the names of images and label files, the label files' sizes in bytes, the table and the classes.

        Raises:
            FileNotFoundError: a label file has gone since the source was made.
        """
        names = [
            [Path(path).relative_to(folder).as_posix() for path in paths.tolist() if path]
            for paths, folder in zip((self._images, self._masks), self.folders, strict=True)
        ]
        sizes = np.array([os.stat(path).st_size for path in self._masks.tolist() if path], np.int64)
        return digest(json.dumps([names, sorted(self.labels.names.items())]), sizes, self.table)


class MaskFolder(MaskPairs):
    """A folder of images and one of label pictures with the same names, any endings, sub-folders included.

    Either `root` with `split` for `SPLIT/images/` and `SPLIT/labels/` below it, or two folders `images` and `masks`.
    `classes` is a list of names, a file of them (labels.read_class_file) or a label map; `ignore_ids` are values no
    class owns, 255 always is. `mask_suffix` is what label names have after the image's name (`_L` for `a_L.png`).
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        classes: Sequence[str] | str | Path | LabelMap,
        split: str = "train",
        images: str | Path | None = None,
        masks: str | Path | None = None,
        ignore_ids: Iterable[int] = (),
        mask_suffix: str = "",
        limit: int | None = None,
    ) -> None:
        image_dir, mask_dir = locate_masks(root, split, images, masks)
        labels, table = classes_of_masks(classes, ignore_ids)
        pairs, notes = _match(image_dir, mask_dir, mask_suffix)
        pairs = pairs[: check_limit(limit)]
        ignored_values = sorted({*ignore_ids, IGNORE})
        notes.insert(0, f"{len(pairs)} images of {image_dir}, {labels.num_classes} classes, ignored: {ignored_values}")
        super().__init__(pairs, folders=(image_dir, mask_dir), labels=labels, table=table, notes=notes)


def locate_masks(
    root: str | Path | None, split: str, images: str | Path | None, masks: str | Path | None
) -> tuple[Path, Path]:
    """The two folders that `MaskFolder`'s arguments name.

    Raises:
        ValueError: they name both layouts, or none.
    """
    if (root is None) != (images is not None and masks is not None) or (root and (images or masks)):
        raise ValueError(
            "give either root (with split), or both images and masks, two folders; "
            f"got root={root}, images={images}, masks={masks}"
        )
    return (
        Path(images) if images else Path(str(root), split, "images"),
        Path(masks) if masks else Path(str(root), split, "labels"),
    )


def classes_of_masks(
    classes: Sequence[str] | str | Path | LabelMap, ignore_ids: Iterable[int]
) -> tuple[LabelMap, np.ndarray]:
    """The classes that `MaskFolder`'s arguments name, and what the values of label pictures mean."""
    ignored = set(ignore_ids)
    labels = classes if isinstance(classes, LabelMap) else segmentation_labels(classes, ignore_ids=ignored)
    return labels, slot_table({source_id: slot for slot, source_id in labels.source_ids.items()}, ignore_ids=ignored)


def slot_table(slots: dict[int, int], *, ignore_ids: Iterable[int] = ()) -> np.ndarray:
    """uint8 [256]: a stored value to its slot, to 255 where ignored, to a mark where it is neither."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    for value, slot in {**dict.fromkeys(ignore_ids, IGNORE), **slots}.items():
        if not 0 <= value <= 255:
            raise ValueError(f"a label picture holds the values 0 to 255, but the class list has {value}")
        table[value] = slot
    return table


def _match(image_dir: Path, mask_dir: Path, suffix: str) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    images, masks = by_name(image_dir, "images"), by_name(mask_dir, "label pictures")
    missing = [name for name in images if name + suffix not in masks]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(images)} images in {image_dir} have no label picture in {mask_dir}, first of all "
            f"{', '.join(name + suffix + '.*' for name in missing[:3])}"
        )
    spare = len(masks) - len(images)
    notes = [f"{spare} label pictures in {mask_dir} have no image: left out"] if spare else []
    return [(name, images[name], masks[name + suffix]) for name in images], notes


def by_name(folder: Path, what: str, *, report: Report = refuse) -> dict[str, Path]:
    """Pictures below a folder by their relative name without ending, sorted.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
        ValueError: two differ only in their ending, unless `report` takes note of it: then the first one counts.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder not found: {folder}, expected {what} in it")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_ENDINGS or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            message = f"{found[name]} and {path} differ only in their ending: remove the one that is not meant"
            report(Fault("same_name", str(path), message))
            continue
        found[name] = path
    if not found:
        raise FileNotFoundError(f"no {what} in {folder} (endings {', '.join(sorted(IMAGE_ENDINGS))})")
    return found
