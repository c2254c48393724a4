"""Finds duplicate pictures: the same bytes, or nearly the same picture."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..annotations.faults import Fault
from .contents import Contents
from .examine import THUMBNAIL, Examined

MAX_CELL, MAX_MEAN = 6, 1.0  # gray levels by which thumbnails of near duplicates may differ: any cell, and on average
MIN_CONTRAST = 4.0  # standard deviation of a thumbnail; flatter pictures all look alike
_MAX_PARTNERS = 5  # near duplicates reported per picture


def check_copies(contents: Mapping[str, Contents], examined: Mapping[str, Sequence[Examined]]) -> Iterator[Fault]:
    """Copies within and across splits, each reported once, with the picture that came first."""
    owners = [(split, index) for split, found in examined.items() for index in range(len(found))]
    seen: dict[bytes, int] = {}
    for number, (split, index) in enumerate(owners):
        digest = examined[split][index].digest
        if not digest:
            continue
        first = seen.setdefault(digest, number)
        if first != number:
            same_split = owners[first][0] == split
            yield _fault("duplicate_image" if same_split else "overlap", contents, owners[number], owners[first])
    unique = sorted(seen.values())  # copies of a file would be reported again
    thumbnails = [examined[owners[number][0]][owners[number][1]].thumbnail for number in unique]
    kept = [place for place, thumbnail in enumerate(thumbnails) if thumbnail]
    cells = np.frombuffer(b"".join(thumbnails[place] for place in kept), np.uint8).reshape(len(kept), THUMBNAIL**2)
    for a, b in near_pairs(cells):
        one, other = owners[unique[kept[a]]], owners[unique[kept[b]]]
        yield _fault("near_duplicate" if one[0] == other[0] else "near_overlap", contents, other, one)


def near_pairs(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (a < b) of rows of uint8 [N, cells] that are near duplicates, at most _MAX_PARTNERS for each b.

    That is: the averages differ by at most MAX_MEAN gray levels, no cell by more than MAX_CELL, and neither is flat.
    """
    if len(thumbnails) < 2:
        return []
    rows = np.flatnonzero(thumbnails.std(1) >= MIN_CONTRAST)
    means = thumbnails[rows].mean(1)
    order = np.argsort(means, kind="stable")
    rows, means = rows[order], means[order]
    cells = thumbnails[rows].astype(np.int16)
    coarse = np.ascontiguousarray(cells[:, :: cells.shape[1] // 8])  # eight cells exclude most pairs
    ends = np.searchsorted(means, means + MAX_MEAN, side="right")
    found: dict[int, list[int]] = {}
    for place, end in enumerate(ends.tolist()):
        near = np.flatnonzero((np.abs(coarse[place + 1 : end] - coarse[place]) <= MAX_CELL).all(1)) + place + 1
        near = near[(np.abs(cells[near] - cells[place]) <= MAX_CELL).all(1)]
        for other in rows[near].tolist():
            a, b = sorted((int(rows[place]), other))
            found.setdefault(b, []).append(a)
    return [(a, b) for b in sorted(found) for a in sorted(found[b])[:_MAX_PARTNERS]]


def _fault(kind: str, contents: Mapping[str, Contents], copy: tuple[str, int], first: tuple[str, int]) -> Fault:
    (split, index), (other_split, other_index) = copy, first
    picture, original = contents[split].pictures[index], contents[other_split].pictures[other_index]
    how = "the same file as" if kind in ("overlap", "duplicate_image") else "nearly the same picture as"
    message = f"{picture.path} of {split} is {how} {original.path} of {other_split}"
    return Fault(kind, picture.path, message, image=picture.name, other=original.path)
