"""The resize shared by training, evaluation, prediction and export; and boxes as rows that policies transform."""

from typing import Any

import cv2
import numpy as np

from ..annotations.sample import Sample

FILL = (128, 128, 128)  # the color of padding: the mean, which normalization maps to (almost) zero
RESIZES = ("stretch", "letterbox", "shorter", "center_crop", "none")
CROP_FRACTION = 0.875


def resize_bilinear(image: np.ndarray, size: tuple[int, int], *, exact: bool = False) -> np.ndarray:
    """[H, W, 3] uint8 to `size` (h, w): half-pixel bilinear without antialias, uint8 or (`exact`) float32 in 0..255.

    The grid of torch's interpolate(align_corners=False, antialias=False), which torchvision's detector uses: identical
    to it in float32, within 0.8 gray levels as uint8. That rounding matters: 5 to 7 % of a trained detector's boxes
    left torchvision's by more than IoU 0.95 or a score of 0.02. So evaluation and prediction are exact; training, whose
    augmentation changes far more, moves a quarter of the bytes.
    """
    if exact:
        image = image.astype(np.float32)
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W] to `size` by the nearest pixel center (cv2.INTER_NEAREST would be half a pixel off the image)."""
    if mask.shape[:2] == tuple(size):
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def center_crop(image: np.ndarray, fraction: float) -> np.ndarray:
    """The middle `fraction` of both sides, with tf.image.central_crop's rounding: margins rounded down."""
    top, left = (int((side - side * fraction) / 2) for side in image.shape[:2])
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def prepare(
    image: np.ndarray,
    input_size: tuple[int, int] | None,
    resize: str = "stretch",
    *,
    crop_fraction: float = CROP_FRACTION,
    exact: bool = True,
) -> tuple[np.ndarray, dict[str, Any]]:
    """An RGB image as the model expects it, and its meta: original_size, input_size, pad (left, top, right, bottom).

    With an `input_size`, `exact` gives float32 in 0..255, not rounded after the resize; otherwise uint8. "center_crop"
    stretches the middle `crop_fraction` of both sides, TF-slim's evaluation on ImageNet.
    """
    check_resize(input_size, resize)
    inner, pad = fitted(image.shape[:2], input_size, resize)
    seen = center_crop(image, crop_fraction) if resize == "center_crop" else image
    resized = pad_image(resize_bilinear(seen, inner, exact=exact and input_size is not None), pad, FILL)
    return resized, {"original_size": image.shape[:2], "input_size": resized.shape[:2], "pad": pad}


def pad_image(image: np.ndarray, pad: tuple[int, int, int, int], fill: int | tuple[int, ...]) -> np.ndarray:
    """Pad by (left, top, right, bottom) with a constant."""
    if not any(pad):
        return image
    left, top, right, bottom = pad
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)


def stack_boxes(sample: Sample) -> np.ndarray:
    """Boxes and crowd regions as float64 [N, 5].

    The fifth column is the row a box came from; below zero marks crowd regions, which crops treat differently.
    """
    none = np.zeros((0, 4), np.float32)
    boxes, crowd = (none if found is None else found for found in (sample.boxes, sample.crowd_boxes))
    stacked = np.empty((len(boxes) + len(crowd), 5))
    stacked[: len(boxes), :4], stacked[len(boxes) :, :4] = boxes, crowd
    stacked[: len(boxes), 4], stacked[len(boxes) :, 4] = np.arange(len(boxes)), -1 - np.arange(len(crowd))
    return stacked


def unstack_boxes(sample: Sample, found: np.ndarray) -> dict[str, Any]:
    """The remaining rows of `stack_boxes`, as fields of a sample."""
    rows = found[:, 4].astype(np.int64) if len(found) else np.zeros(0, np.int64)
    boxes = found[:, :4].astype(np.float32).reshape(-1, 4)
    changes: dict[str, Any] = {"boxes": boxes[rows >= 0], "labels": _take(sample.labels, rows[rows >= 0])}
    if sample.crowd_boxes is not None:
        changes |= {"crowd_boxes": boxes[rows < 0], "crowd_labels": _take(sample.crowd_labels, -1 - rows[rows < 0])}
    return changes


def check_resize(input_size: tuple[int, int] | None, resize: str) -> None:
    if resize not in RESIZES:
        raise ValueError(f"unknown resize {resize!r}: choose one of {', '.join(RESIZES)}")
    if (input_size is None) != (resize == "none"):
        raise ValueError(
            f"resize={resize!r} with input_size={input_size}: stretch, letterbox, shorter and center_crop need "
            "an input_size (h, w); none keeps the images' sizes (input_size null)"
        )


def fitted(
    size: tuple[int, int], input_size: tuple[int, int] | None, resize: str
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size to resize to, and the padding to add."""
    if input_size is None:
        return size, (0, 0, 0, 0)
    height, width = int(input_size[0]), int(input_size[1])
    if resize in ("stretch", "center_crop"):
        return (height, width), (0, 0, 0, 0)
    scale = (max if resize == "shorter" else min)(height / size[0], width / size[1])
    inner = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    if resize == "shorter":
        return inner, (0, 0, 0, 0)
    return inner, (0, 0, width - inner[1], height - inner[0])


def _take(labels: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    assert labels is not None, "boxes need labels"
    return labels[rows]
