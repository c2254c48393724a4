"""Finds the images and masks of a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...words import counted
from ..images.files import IMAGE_ENDINGS, folder_named, list_files
from .holdout import split_rows
from .near_names import endings_of, near_names, stem_of
from .split_lists import list_for, named_split, read_list, split_folder

_IMAGES = ("images", "img", "imgs", "data")
_VOC_MASKS = ("SegmentationClassPNG", "SegmentationClass")
_SUPERVISELY = "masks_machine"  # beside img and masks_human
_MASKS = ("labels", "masks", "annotations", _SUPERVISELY)
_VOC_LISTS = "ImageSets/Segmentation"
Pair = tuple[str, Path, Path | None]  # name without extension, image, mask


class Folders(NamedTuple):
    """The folders of images and masks; `divided` means of one split only."""

    images: Path
    masks: Path
    divided: bool
    root: Path | None = None
    suffix: str = ""  # what masks have after the image's name


def find_folders(root: Path, split: str, *, may_cut: bool) -> Folders:
    """The folders of a split, or of all images if there are no splits.

    Args:
        may_cut: whether `train` may replace a missing `val`.
    """
    for of_split in (_around, _inside, _beside):
        if found := of_split(root, split):
            return found._replace(divided=split != "train" or not may_cut or bool(of_split(root, "val")))
        if split == "val" and may_cut and (found := of_split(root, "train")):
            return found._replace(divided=False)
    if (folder := _of_supervisely(root)) is not None:
        return Folders(folder / "img", folder / _SUPERVISELY, divided=False, root=root)
    images = folder_named(root, *_IMAGES)
    if images and not split_folder(root, "train") and not split_folder(images, "train"):
        return Folders(images, _masks(root), divided=False, root=root)
    if (root / "JPEGImages").is_dir():  # as CVAT and labelme export them
        masks = next((root / name for name in _VOC_MASKS if (root / name).is_dir()), root / _VOC_MASKS[-1])
        return Folders(root / "JPEGImages", masks, divided=False, root=root)
    if not root.is_dir():
        raise FileNotFoundError(f"folder not found: {root}, expected images and masks in it")
    there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())[:5]) or "no folders"
    wanted = root / split / "images"
    raise FileNotFoundError(f"folder not found: {wanted}, nor {root / 'images'}; {root} has {there}")


def _of_supervisely(root: Path) -> Path | None:
    """The folder itself, or the only one in a project, that Supervisely exported masks to."""
    found = [path.parent for path in (root / _SUPERVISELY, *sorted(root.glob(f"*/{_SUPERVISELY}"))) if path.is_dir()]
    return found[0] if found and (found[0] / "img").is_dir() and (found[0] == root or len(found) == 1) else None


def _around(root: Path, split: str) -> Folders | None:
    folder = split_folder(root, split)
    images = folder and folder_named(folder, *_IMAGES)
    return Folders(images, _masks(folder), divided=True) if folder and images else None


def _inside(root: Path, split: str) -> Folders | None:
    above = folder_named(root, *_IMAGES)
    images = above and split_folder(above, split)
    return Folders(images, _masks(root) / images.name, divided=True) if images else None


def _beside(root: Path, split: str) -> Folders | None:
    """All in one folder, as Roboflow exports them, or in two, as CamVid's."""
    images = split_folder(root, split)
    if images and any(images.glob("*_mask.png")):
        return Folders(images, images, divided=True, suffix="_mask")
    if images and (masks := images.with_name(f"{images.name}annot")).is_dir():
        return Folders(images, masks, divided=True)
    return None


def _masks(folder: Path) -> Path:
    there = [found for name in _MASKS if (found := folder_named(folder, name))]
    if len(there) > 1:  # `labels` may hold the text files of YOLO
        there = [found for found in there if list_files(found, IMAGE_ENDINGS)] or there
    return there[0] if there else folder / "labels"


def divide(
    pairs: Sequence[Pair], folders: Folders, split: str, *, lists: Path | None, holdout: float | None
) -> tuple[list[Pair], list[str]]:
    """The pairs of a split by a list of names, or by `holdout`; all pairs without either. And notes about it.

    Raises:
        FileNotFoundError: there are lists, but none for this split.
        ValueError: a list names an image that does not exist.
    """
    pairs = list(pairs)
    if lists is not None and not lists.is_dir():
        raise FileNotFoundError(f"folder not found: {lists}, expected lists of names in it, such as {split}.txt")
    if lists is None and folders.root and (folders.root / _VOC_LISTS).is_dir():
        lists = folders.root / _VOC_LISTS
    where = next((folder for folder in (lists, folders.root) if folder and _lists_in(folder)), lists)
    files = _lists_in(where) if where else {}
    if lists is None and not named_split("train", files, where=str(where)):
        files = {}  # another text file next to the images
    listed, cut_off = list_for(split, files, may_cut=holdout is not None, where=str(where))
    if listed in files:
        pairs = _listed(pairs, files[listed])
    elif files or lists is not None:
        raise FileNotFoundError(
            f"list of images not found: {where}/{split}.txt; there are {', '.join(sorted(files)) or 'none'}"
        )
    if not cut_off or holdout is None:
        return pairs, []
    rows, note = split_rows([name for name, _, _ in pairs], split, holdout)
    return [pairs[row] for row in rows.tolist()], [note]


def _lists_in(folder: Path) -> dict[str, Path]:
    return {stem_of(name): folder / name for name in list_files(folder, frozenset({".txt"}), deep=False)}


def _listed(pairs: list[Pair], path: Path) -> list[Pair]:
    by_name = {name: pair for pair in pairs for name in (pair[0], f"{pair[0]}{pair[1].suffix}")}
    names = read_list(path, by_name)
    missing = [name for name in names if name not in by_name]
    spare = {key: key for key in by_name if key not in set(names)}
    near = near_names({name: endings_of(name) for name in missing}, spare).pairs
    names = list(dict.fromkeys(near.get(name, name) for name in names))
    missing = [name for name in missing if name not in near]
    if missing:
        raise ValueError(
            f"{path} lists {counted(len(missing), 'image')} that cannot be found, such as {', '.join(missing[:3])}: "
            "expected names relative to the images' folder, with or without extension"
        )
    return [by_name[name] for name in names]
