"""Segmentation data: pairs of an image and a mask of class indices, in any pair of folders."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..words import counted
from .annotations.faults import Fault, Report, Strict, tell_left_out
from .annotations.holdout import check_holdout
from .annotations.mask_layout import Folders, Pair, divide, find_folders
from .annotations.near_names import near_names
from .annotations.sample import NO_IMAGE, Pending, Sample, check_limit, digest
from .annotations.shared import Names
from .images.decoder import Decoder, PictureFile, decode_checked
from .images.files import IMAGE_ENDINGS, find_files
from .images.label_colors import Color, ColorTable
from .labels import IGNORE, LabelMap, class_rows, segmentation_labels

_SHOWN = 8  # values of a message
UNKNOWN = 254  # marks values outside the class list; a uint8 mask has room for 254 classes

_VOID = re.compile(
    r"void|unlabel|un(?:known|annotated|defined|classified)|ignore|background|no.?data|^(?:others?|none|misc)$", re.I
)


class MaskPairs:
    """A source of (image file, label file) pairs whose values a 256-entry table turns into slots.

    `colors` gives the values of masks in color. `folders` are the parent folders of the images and the masks;
    file names are relative to them. `instances` are instance-id pictures, one for each pair (empty if it has
    none) or none at all; `instance_values` gives the meaning of the classes in them. `spare` are masks without an
    image. `unlisted` are values that are ignored although nobody listed them. Without a mask file (None) samples have
    no mask.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, Path, Path | None]],
        *,
        folders: tuple[Path, Path],
        labels: LabelMap,
        table: np.ndarray,
        notes: Sequence[str],
        instances: Sequence[Path | str] = (),
        colors: ColorTable | None = None,
        spare: Sequence[Path] = (),
        instance_values: np.ndarray | None = None,
        unlisted: Sequence[int] = (),
    ) -> None:
        if labels.num_classes > UNKNOWN:
            raise ValueError(
                f"{counted(labels.num_classes, 'class')}: a mask of one byte per pixel has room for {UNKNOWN}; "
                "merge classes"
            )
        self.image_ids = Names([name for name, _, _ in pairs])
        self._images = Names([str(image) for _, image, _ in pairs])
        self._masks = Names([str(mask or "") for _, _, mask in pairs])
        self._instances = Names([str(path) for path in instances])
        self.folders, self.colors = folders, colors
        self.labels, self.table, self.notes = labels, table, list(notes)
        self.spare, self.instance_values, self.unlisted = spare, instance_values, unlisted
        self.decoder = Decoder()

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def image_paths(self) -> list[str]:
        return self._images.tolist()

    @property
    def mask_paths(self) -> list[str]:
        """The mask files, empty where an image has none."""
        return self._masks.tolist()

    def read(self, index: int) -> Sample:
        """Decode image and mask; the mask holds slots, 255 for pixels without a class."""
        pending = self.open(index)
        return pending.read() if isinstance(pending, Pending) else pending

    def open(self, index: int) -> Pending | Sample:
        """The same before its image is decoded, if there is a mask, which has the size."""
        path, mask_path = self._images[index], self._masks[index]
        if not mask_path:  # a test split
            return Sample(self.decoder.image(path), self.image_ids[index], path=path)
        mask = self.read_mask(index)
        decode = partial(decode_checked, decoder=self.decoder, path=path, size=mask.shape, source=mask_path)
        sample = Sample(
            NO_IMAGE,
            self.image_ids[index],
            mask=mask,
            ground_truth={"mask": mask},
            path=path,
            instances_path=self.instances_path(index),
        )
        return Pending(sample, mask.shape, decode)

    def files(self, index: int) -> list[PictureFile]:
        """What `read` decodes."""
        files = [PictureFile(Path(self._images[index]))]
        return (
            [*files, PictureFile(Path(self._masks[index]), mask=True, colors=self.colors)]
            if self._masks[index]
            else files
        )

    def instances_path(self, index: int) -> str:
        """An image's instance-id picture, empty if there is none."""
        return self._instances[index] if len(self._instances) else ""

    def stored_mask(self, index: int) -> np.ndarray:
        """uint8 [H, W], the values in the file."""
        return self.decoder.mask(self._masks[index], self.colors)

    def read_mask(self, index: int) -> np.ndarray:
        mask_path, stored = self._masks[index], self.stored_mask(index)
        mask = cv2.LUT(stored, self.table)
        if (mask == UNKNOWN).any():
            raise ValueError(_unknown_values(mask_path, np.unique(stored[mask == UNKNOWN]).tolist(), self.labels))
        return mask

    def fingerprint(self) -> str:
        """Over the names of images and masks, the masks' sizes in bytes, the table and the classes.

        Raises:
            FileNotFoundError: a mask was removed since the source was created.
        """
        names = [
            [Path(path).relative_to(folder).as_posix() for path in paths.tolist() if path]
            for paths, folder in zip((self._images, self._masks), self.folders, strict=True)
        ]
        sizes = np.array([os.stat(path).st_size for path in self._masks.tolist() if path], np.int64)
        colors = [self.colors.content()] if self.colors else []
        return digest(json.dumps([names, sorted(self.labels.names.items()), *colors]), sizes, self.table)


class MaskFolder(MaskPairs):
    """A folder of images and one of masks with the same names, any extensions, including subfolders.

    Either `root`, with `SPLIT/images` and `SPLIT/labels`, `images/SPLIT` and `labels/SPLIT`, or only `images` and
    `labels` below it (or `masks` for `labels`), or two folders `images` and `masks`. Where there is no folder for
    each split, `lists` (a folder of SPLIT.txt, one name per line; without it those below the root) divides the images;
    and without a validation split, `holdout` (a fraction, such as 0.2) is held out for it.

    Args:
        classes: names, a file of them (labels.read_class_file) or a label map. Its colors read masks with three
            channels.
        ignore_ids: values without a class, always including 255; listed classes with these numbers are left out.
        ignore_colors: RGB colors without a class.
        mask_suffix: what mask names have after the image's name (`_L` for `a_L.png`).
        report: gets every fault instead of an error at the first one; an image without a mask stays.
    """

    def __init__(
        self,
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
        report: Report | None = None,
    ) -> None:
        if (root is None) != (images is not None and masks is not None) or (root and (images or masks)):
            raise ValueError(
                "set either root (with split), or the two folders images and masks; "
                f"got root={root}, images={images}, masks={masks}"
            )
        ignored = set(ignore_ids)
        labels, table = _labels_and_table(classes, ignored)
        left_out = _left_out(classes, ignored, report)
        check_holdout(holdout)
        if images and masks:
            folders = Folders(Path(images), Path(masks), divided=False)
        else:
            folders = find_folders(Path(str(root)), split, may_cut=holdout is not None)
        strict, mask_suffix = Strict(), mask_suffix or folders.suffix
        pictures = _by_name(folders.images, "images", report=report or strict)
        truth = _by_name(folders.masks, "masks", report=report or strict)
        if folders.suffix:
            pictures, truth = _told_apart(pictures, truth, mask_suffix)
        pairs = _pairs(pictures, truth, folders, mask_suffix, report or strict)
        used, notes = {mask for _, _, mask in pairs}, []
        spare = [path for path in truth.values() if path not in used]
        if not folders.divided:
            pairs, notes = divide(pairs, folders, split, lists=None if lists is None else Path(lists), holdout=holdout)
        colors = _color_table(classes, ignored, ignore_colors, table)
        _check_masks(pairs, folders, mask_suffix, limit, report)
        pairs = pairs[: check_limit(limit)]
        told = f"{counted(labels.num_classes, 'class')}, ignored: {np.flatnonzero(table == IGNORE).tolist()}"
        unused = f"{counted(len(spare), 'mask')} in {folders.masks} without an image; skipped"
        super().__init__(
            pairs,
            folders=(folders.images, folders.masks),
            labels=labels,
            table=table,
            notes=[
                f"{counted(len(pairs), 'image')} of {folders.images}, {told}",
                *left_out,
                *[unused] * bool(spare),
                *notes,
                *strict.notes(),
            ],
            colors=colors,
            spare=spare if limit is None else (),
            unlisted=[] if IGNORE in {*ignored, *labels.source_ids.values()} or ignore_colors else [IGNORE],
        )


def _unknown_values(path: str, unknown: list[int], labels: LabelMap) -> str:
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    remedy = "add them to the class list, or ignore such pixels with ignore_ids"
    if more or path.lower().endswith((".jpg", ".jpeg", ".jfif", ".jpe")):
        remedy = (
            "if they are traces of a lossy compression or of resizing (only resize with nearest neighbor), round the "
            f"mask to class numbers and save it as PNG; else {remedy}"
        )
    return (
        f"{path} contains the values {unknown[:_SHOWN]}{more}, which belong to no class: the class list has "
        f"{counted(labels.num_classes, 'class')} with the values {sorted(labels.source_ids.values())}. Remedy: {remedy}"
    )


def _told_apart(
    pictures: dict[str, Path], truth: dict[str, Path], suffix: str
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks of one folder that has both."""
    images = {name: path for name, path in pictures.items() if not name.endswith(suffix)}
    return images, {name: path for name, path in truth.items() if name.endswith(suffix)}


def _pairs(
    pictures: dict[str, Path], truth: dict[str, Path], folders: Folders, suffix: str, report: Report
) -> list[Pair]:
    """Each image with its mask; one in another spelling is taken if it can belong to no other image, and reported."""
    own = {name: truth[name + suffix] for name in pictures if name + suffix in truth}
    used = set(own.values())
    wanted = {
        name: [name + suffix, f"{name}{path.suffix}{suffix}"] for name, path in pictures.items() if name not in own
    }
    near = near_names(wanted, {name: name for name, path in truth.items() if path not in used}).pairs
    for name, mask in near.items():
        own[name] = truth[mask]
        message = f"{truth[mask]} is read as the mask of {pictures[name]}, although its name differs"
        image = pictures[name].relative_to(folders.images).as_posix()
        report(Fault("near_name", str(truth[mask]), message, image=image))
    if suffix := _common_suffix(set(pictures) - set(own), set(truth) - set(near.values())):
        own |= {name: truth[name + suffix] for name in pictures if name not in own and name + suffix in truth}
        message = f"{folders.masks}: the masks are those whose names have {suffix!r} after the image's name"
        report(Fault("near_name", str(folders.masks), message))
    return [(name, path, own.get(name)) for name, path in pictures.items()]


def _common_suffix(images: set[str], masks: set[str]) -> str:
    """The only ending that masks have after the names of images without a mask, such as `_mask`; else empty."""
    ends = {mask[at:] for mask in masks for at, sign in enumerate(mask) if sign in "_-." and mask[:at] in images}
    return ends.pop() if len(ends) == 1 else ""


def _check_masks(
    pairs: Sequence[Pair], folders: Folders, suffix: str, limit: int | None, report: Report | None
) -> None:
    """Raise FileNotFoundError for images without a mask, or report those among the first `limit`."""
    missing = [(name, path) for name, path, mask in pairs if mask is None]
    if missing and report is None:
        raise FileNotFoundError(
            f"{len(missing)} of {len(pairs)} images in {folders.images} have no mask in {folders.masks}, "
            f"the first ones: {', '.join(name + suffix + '.*' for name, _ in missing[:3])}"
        )
    for name, path, mask in pairs[:limit]:
        if mask is None and report:
            wanted = folders.masks / f"{name}{suffix}.*"
            report(Fault("missing_mask", str(path), f"{path} has no mask {wanted}", image=path.name))


def _left_out(classes: Sequence[str] | str | Path | LabelMap, ignored: set[int], report: Report | None) -> list[str]:
    """A note about classes whose numbers are ignored; also a warning, unless their names say that they are void."""
    rows = [] if isinstance(classes, LabelMap) else class_rows(classes)
    dropped = [(number, row["name"]) for number, row in rows if number in ignored]
    if not dropped:
        return []
    if not (named := [(number, name) for number, name in dropped if not _VOID.search(name)]):
        return [f"left out, because ignore_ids lists their numbers: {', '.join(f'{n} ({i})' for i, n in dropped)}"]
    number, name = named[0]
    kept = next((f", and {i} is {row['name']!r}" for i, row in rows if i > number and i not in ignored), "")
    how = "" if any("id" in row for _, row in rows) else ", as the list counts from 0"
    message = (
        f"ignore_ids has {number}, the number of the class {name!r}{how}: it is left out{kept}. Remedy: if {number} "
        "has another meaning in the masks, add its name to the class list in front of this one"
    )
    if report:
        report(Fault("class_ignored", str(classes) if isinstance(classes, str | Path) else "data.classes", message))
    return [message]


def _color_table(
    classes: Sequence[str] | str | Path | LabelMap,
    ignore_ids: set[int],
    ignore_colors: Iterable[Sequence[int]],
    table: np.ndarray,
) -> ColorTable | None:
    """The colors of a class list, None if it has none; ignored ones become a value that `table` ignores."""
    if isinstance(classes, LabelMap):
        rows = [(label.source_id, label.color) for label in classes.labels]
    else:
        rows = [(number, row.get("color")) for number, row in class_rows(classes)]
    void = next((value for value in (IGNORE, *sorted(ignore_ids)) if table[value] == IGNORE), None)
    if void is None and ignore_colors:
        raise ValueError(f"{IGNORE} is the number of a class, so that ignored colors have none: list one in ignore_ids")
    colors: list[tuple[int, Color]] = [
        (void if void is not None and number in ignore_ids else number, color) for number, color in rows if color
    ]
    for color in ignore_colors:
        if len(color) != 3 or not all(type(value) is int for value in color):
            raise ValueError(f"ignore_colors has {color!r}: expected red, green and blue, such as [0,0,0]")
        colors.append((IGNORE if void is None else void, (color[0], color[1], color[2])))
    return ColorTable(colors) if colors else None


def _labels_and_table(classes: Sequence[str] | str | Path | LabelMap, ignored: set[int]) -> tuple[LabelMap, np.ndarray]:
    if classes is None:
        raise ValueError("classes=null: expected a list of names, or a file of them (data.classes=[sky,road])")
    try:
        labels = classes if isinstance(classes, LabelMap) else segmentation_labels(classes, ignore_ids=ignored)
        return labels, slot_table({value: slot for slot, value in labels.source_ids.items()}, ignore_ids=ignored)
    except ValueError as error:
        if isinstance(classes, str | Path) and str(classes) not in str(error):
            raise ValueError(f"{classes}: {error}") from error
        raise


def slot_table(slots: dict[int, int], *, ignore_ids: Iterable[int] = ()) -> np.ndarray:
    """uint8 [256]: maps a stored value to its slot, to 255 if ignored, or to a marker if unknown."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    for value, slot in {**dict.fromkeys(ignore_ids, IGNORE), **slots}.items():
        if not 0 <= value <= 255:
            raise ValueError(f"a mask can only contain the values 0 to 255, but the class list has {value}")
        table[value] = slot
    return table


def _by_name(folder: Path, what: str, *, report: Report) -> dict[str, Path]:
    """Pictures below a folder by their relative name without extension, sorted.

    Raises:
        FileNotFoundError: the folder does not exist, or contains no picture.
        ValueError: two differ only in their extension; a `report` that returns keeps the first one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder not found: {folder}, expected {what} in it")
    found: dict[str, Path] = {}
    files = find_files(folder, IMAGE_ENDINGS)
    tell_left_out(files, report)
    for file in sorted(files.names, key=lambda name: name.split("/")):
        path, name = folder / file, file.rpartition(".")[0]
        if name in found:
            message = f"{found[name]} and {path} differ only in their extension: remove one of them"
            report(Fault("same_name", str(path), message))
            continue
        found[name] = path
    if not found:
        raise FileNotFoundError(f"no {what} in {folder} (extensions {', '.join(sorted(IMAGE_ENDINGS))})")
    return found
