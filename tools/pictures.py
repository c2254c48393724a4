"""Pictures of samples and of runs: truth drawn, truth beside prediction."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from ..datasets.labels import LabelMap
from . import drawing
from .inference import Predictor, Result
from .runs import LoadedRun

CELL, WRONG = 480, (200, 30, 30)  # longer side of a picture in a classifier's grid; the colour of its mistakes


def write_image(path: Path, image: np.ndarray) -> None:
    """uint8 RGB (or grey) to a file, whatever characters its name has.

    Raises:
        ValueError: the ending is no image format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        ok, data = cv2.imencode(path.suffix, image if image.ndim == 2 else image[..., ::-1])
    except cv2.error as error:
        raise ValueError(f"{path}: {path.suffix!r} is no image format that can be written; use .png or .jpg") from error
    assert ok
    data.tofile(path)


def to_picture(image: Tensor) -> np.ndarray:
    """An image as a data set gives it, [3, H, W] in 0..255 (uint8 or float), as uint8 [H, W, 3]."""
    return np.ascontiguousarray(image.round().byte().permute(1, 2, 0).numpy())


def draw_truth(image: np.ndarray, truth: Mapping[str, Any], labels: LabelMap) -> np.ndarray:
    """The image with a target (`boxes`, `labels`, `crowd_boxes`, or `mask`) drawn on it, or its `label` below."""
    if "label" in truth:
        return drawing.draw_caption(image, [labels.names[int(truth["label"])]])
    colors = drawing.class_colors(labels)
    if "mask" in truth:
        return drawing.draw_mask(image, truth["mask"], colors, names=labels.names)
    return drawing.draw_detections(
        image, truth["boxes"], truth["labels"], names=labels.names, crowd=truth["crowd_boxes"], colors=colors
    )


def truth_of(sample: Any) -> dict[str, Any]:
    """A source's sample as a target in original pixels."""
    if sample.mask is not None:
        return {"mask": sample.mask}
    if sample.label is not None:
        return {"label": sample.label}
    return {"boxes": sample.boxes, "labels": sample.labels, "crowd_boxes": sample.crowd_boxes}


def write_comparisons(run: LoadedRun, source: Any, *, count: int, score_threshold: float) -> Path:
    """Truth beside prediction for `count` images spread over the data set, into `pictures/` of the run folder.

    Of a classifier one picture, a grid of them all.
    """
    folder, model = run.folder / "pictures", Predictor(run)
    indices = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)).tolist()
    if run.task.kind == "classification":
        samples = (source.read(i) for i in indices)
        cells = [_classified(sample, model(sample.image), source.labels) for sample in samples]
        write_image(folder / "classes.png", drawing.grid(cells, 4))
        return folder
    for i in indices:
        sample = source.read(i)
        result: Result = model(sample.image)
        panels = [
            draw_truth(sample.image, truth_of(sample), source.labels),
            result.draw(score_threshold=score_threshold),
        ]
        name = str(sample.image_id).replace("/", "_") + ".png"
        write_image(folder / name, drawing.side_by_side(panels, ["truth", "prediction"]))
    return folder


def _classified(sample: Any, result: Result, labels: LabelMap) -> np.ndarray:
    """A small picture over its class and what was predicted, red where that is wrong."""
    scale = min(1.0, CELL / max(sample.image.shape[:2]))
    small = cv2.resize(sample.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (name, probability), truth = result.top(1)[0], labels.names[sample.label]
    right = name == truth
    text = f"{name} {probability:.2f}" if right else f"{name} {probability:.2f}, is {truth}"
    return drawing.draw_caption(small, [text], drawing.INK if right else WRONG)
