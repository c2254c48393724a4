"""Pictures of samples and of runs: annotated, or with ground truth beside prediction."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from ...datasets.labels import LabelMap
from ...files import whole_file
from . import annotate


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB (or gray) to a file, with any characters in its name.

    Raises:
        ValueError: the extension is not an image format.
    """
    try:
        ok, data = cv2.imencode(path.suffix, image if image.ndim == 2 else image[..., ::-1])
    except cv2.error as error:
        raise ValueError(f"{path}: {path.suffix!r} is not a supported image format; use .png or .jpg") from error
    assert ok
    with whole_file(path) as temporary:
        temporary.write_bytes(data.data)


def to_picture(image: Tensor) -> np.ndarray:
    """An image from a dataset, [3, H, W] in 0..255 (uint8 or float), as uint8 [H, W, 3]."""
    return np.ascontiguousarray(image.round().byte().permute(1, 2, 0).numpy())


def shrink(image: np.ndarray, side: int, how: int = cv2.INTER_AREA) -> np.ndarray:
    """The image, its longer side at most `side` pixels and the other at least one."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=how)


def draw_truth(image: np.ndarray, truth: Mapping[str, Any], labels: LabelMap) -> np.ndarray:
    """The image with a target (`boxes`, `labels`, `crowd_boxes`, or `mask`) drawn on it, or its `label` below it."""
    if "label" in truth:
        return annotate.draw_caption(image, [labels.names[int(truth["label"])]])
    colors = annotate.class_colors(labels)
    if "mask" in truth:
        return annotate.draw_mask(image, truth["mask"], colors, names=labels.names)
    return annotate.draw_detections(
        image, truth["boxes"], truth["labels"], names=labels.names, crowd=truth["crowd_boxes"], colors=colors
    )


def truth_of(sample: Any) -> dict[str, Any]:
    """A source's sample as a target, in original pixels."""
    if sample.mask is not None:
        return {"mask": sample.mask}
    if sample.label is not None:
        return {"label": sample.label}
    return {"boxes": sample.boxes, "labels": sample.labels, "crowd_boxes": sample.crowd_boxes}
