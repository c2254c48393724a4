"""A validation split for data that has none."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .boxes import FoundBoxes


def held_out(names: Sequence[str], fraction: float) -> np.ndarray:
    """bool [N], the images that validate: about `fraction` of them, at least one, and never all.

    A hash of each name decides, so that the choice is the same everywhere and further photographs move no others.

    Raises:
        ValueError: `fraction` is not between 0 and 1, or there are fewer than two images.
    """
    check_holdout(fraction)
    if len(names) < 2:
        raise ValueError(f"{len(names)} images cannot be divided into training and validation: give 2 or more")
    hashes = np.array([_place(name) for name in names])
    chosen = hashes < fraction
    if not chosen.any():
        chosen[hashes.argmin()] = True
    if chosen.all():
        chosen[hashes.argmax()] = False
    return chosen


def check_holdout(fraction: float | None) -> None:
    """Raise ValueError unless it is a share, or None; also where a validation split makes it needless."""
    if fraction is not None and not (isinstance(fraction, int | float) and 0 < fraction < 1):
        raise ValueError(f"holdout={fraction}: expected the share of images that validate, between 0 and 1, as 0.2")


def _place(name: str) -> float:
    """A number in [0, 1) that only the name decides."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def split_rows(names: Sequence[str], split: str, fraction: float) -> tuple[np.ndarray, str]:
    """The rows of "train" or "val" of images that have no such splits, and a note that says so.

    Raises:
        ValueError: another split, or as `held_out`.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split={split!r} is not there; holdout cuts train and val only")
    chosen = held_out(names, fraction)
    note = (
        f"there is no validation split: {int(chosen.sum())} of {len(names)} images are held out for it, chosen by "
        f"their names (holdout={fraction:g})"
    )
    return np.flatnonzero(chosen == (split == "val")), note


def cut(found: FoundBoxes, split: str, fraction: float) -> FoundBoxes:
    """`split_rows` of what was found; image ids stay."""
    rows, note = split_rows(found.table.file_names.tolist(), split, fraction)
    return FoundBoxes(found.table.take(rows), found.images, [*found.notes, note])


def cut_undivided(found: FoundBoxes, split: str, fraction: float | None, *, root: str | Path) -> FoundBoxes:
    """`cut` of images that nothing divides; without a `fraction` all of them train.

    Raises:
        ValueError: the validation split is asked for, and no fraction given; or as `cut`.
    """
    if fraction is not None:
        return cut(found, split, fraction)
    if split == "val":
        raise ValueError(f"{root} has no validation split: give holdout, the share to cut off for it, as 0.2")
    return found
