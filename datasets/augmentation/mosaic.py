"""Mosaics: one training sample made from four ([YOLOv4](https://arxiv.org/abs/2004.10934), section 3.3)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..annotations.sample import Sample
from .resize import resize_bilinear, resize_mask

TILES = 4
LEAST_SHARE = 0.3  # of a box's area must be inside, else it is not a target

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the four


def join(samples: Sequence[Sample], random: np.random.Generator, *, min_box_size: float) -> Sample:
    """Four samples of one size, two by two, of which a window of the same aspect becomes a sample of that size.

    The window is one to two sizes large and lies anywhere. Boxes are clipped to it; those of which less than
    `LEAST_SHARE` is left, or less than `min_box_size` pixels on a side, are dropped. Of a crowd region any remainder is
    kept.

    Raises:
        ValueError: the samples differ in size.
    """
    size = samples[0].image.shape[:2]
    for other in samples:
        if other.image.shape[:2] != size:
            raise ValueError(
                f"a mosaic joins pictures of equal size, but after the transform {samples[0].path} is "
                f"{size[1]}x{size[0]} and "
                f"{other.path} {other.image.shape[1]}x{other.image.shape[0]}: set augment.mosaic=0 or another "
                "data.resize, or start augment.train with a crop"
            )
    left, top, right, bottom = window = _draw(size, random)
    rows, columns = slice(top, bottom), slice(left, right)
    changes: dict[str, Any] = {"image": resize_bilinear(_tiled([s.image for s in samples])[rows, columns], size)}
    if samples[0].mask is not None:
        changes["mask"] = resize_mask(_tiled([s.mask for s in samples])[rows, columns], size)
    for boxes, labels, least in (("boxes", "labels", LEAST_SHARE), ("crowd_boxes", "crowd_labels", 0.0)):
        if getattr(samples[0], boxes) is not None:
            moved, share = _moved([getattr(s, boxes) for s in samples], window, size)
            kept = (share > least) & (moved[:, 2:] - moved[:, :2] >= min_box_size).all(1)
            changes |= {boxes: moved[kept], labels: np.concatenate([getattr(s, labels) for s in samples])[kept]}
    return replace(samples[0], path=" + ".join(s.path or str(s.image_id) for s in samples), **changes)


def _draw(size: tuple[int, int], random: np.random.Generator) -> Window:
    scale = random.uniform(1, 2)
    height, width = (round(scale * side) for side in size)
    top, left = random.integers(2 * size[0] - height + 1), random.integers(2 * size[1] - width + 1)
    return int(left), int(top), int(left) + width, int(top) + height


def _tiled(tiles: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])


def _moved(tiles: Sequence[np.ndarray], window: Window, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """All tiles' boxes [N, 4] clipped to the window, in pixels of the result; and the fraction [N] of each inside."""
    height, width = size
    places = [(0, 0), (width, 0), (0, height), (width, height)]
    boxes = np.concatenate([found + np.array(place * 2) for found, place in zip(tiles, places, strict=True)])
    left, top, right, bottom = window
    inside = np.clip(boxes, (left, top) * 2, (right, bottom) * 2)
    share = (inside[:, 2:] - inside[:, :2]).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
    scale = np.array([width / (right - left), height / (bottom - top)] * 2)
    return ((inside - np.array((left, top) * 2)) * scale).astype(np.float32), share
