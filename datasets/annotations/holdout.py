"""A validation split for data that has none."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from ...words import counted, verb
from .boxes import FoundBoxes


def held_out(names: Sequence[str], fraction: float) -> np.ndarray:
    """bool [N], the images of the validation split: about `fraction` of them, at least one, and never all.

    A hash of each name decides, so that the choice is the same everywhere and new photographs do not move others.

    Raises:
        ValueError: `fraction` is not between 0 and 1, or there are fewer than two images.
    """
    check_holdout(fraction)
    if len(names) < 2:
        raise ValueError(
            f"{counted(len(names), 'image')} cannot be split into training and validation: provide 2 or more"
        )
    digests = (sha256(name.encode("utf-8", "surrogatepass")).hexdigest() for name in names)
    hashes = np.array([int(digest[:16], 16) / 2**64 for digest in digests])
    chosen = hashes < fraction
    if not chosen.any():
        chosen[hashes.argmin()] = True
    if chosen.all():
        chosen[hashes.argmax()] = False
    return chosen


def check_holdout(fraction: float | None) -> None:
    """Raise ValueError unless it is a fraction or None, even if a validation split makes it unnecessary."""
    if fraction is not None and not (isinstance(fraction, int | float) and 0 < fraction < 1):
        raise ValueError(
            f"holdout={fraction}: expected the fraction of images for validation, between 0 and 1, such as 0.2"
        )


def split_rows(names: Sequence[str], split: str, fraction: float) -> tuple[np.ndarray, str]:
    """The rows of "train" or "val" for images without these splits, and a note about it.

    Raises:
        ValueError: another split, or as `held_out`.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split={split!r} does not exist; holdout creates only train and val")
    chosen = held_out(names, fraction)
    count = int(chosen.sum())
    note = (
        f"there is no validation split: {count} of {len(names)} images {verb(count, 'is', 'are')} held out, "
        f"selected by their names (holdout={fraction:g})"
    )
    return np.flatnonzero(chosen == (split == "val")), note


def cut(found: FoundBoxes, split: str, fraction: float | None, *, root: str | Path) -> FoundBoxes:
    """`split_rows` of images without splits; image ids stay. Without a `fraction` all images are for training.

    Raises:
        ValueError: the validation split is requested without a fraction; or as `split_rows`.
    """
    if fraction is None:
        if split == "val":
            raise ValueError(
                f"{root} has no validation split: set holdout, the fraction of images to hold out, such as 0.2"
            )
        return found
    rows, note = split_rows(found.table.file_names.tolist(), split, fraction)
    return FoundBoxes(found.table.take(rows), found.images, [*found.notes, note])
