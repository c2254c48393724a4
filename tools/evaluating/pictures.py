"""Ground truth beside prediction, as pictures in a run's folder."""

from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.annotations.sample import evenly
from ...datasets.labels import LabelMap
from ...files import flat_names
from ..drawing import annotate
from ..drawing.pictures import draw_truth, shrink, truth_of, write_image
from ..predicting.predictor import Predictor
from ..predicting.result import Result
from ..runs.loaded import LoadedRun

CELL, WRONG = 480, (200, 30, 30)  # longer side of a picture in a classifier's grid; the color of its mistakes


def write_comparisons(run: LoadedRun, source: Any, *, count: int, score_threshold: float) -> Path:
    """Write ground truth beside prediction for `count` images spread over the dataset to `pictures/` in the run folder.

    For a classifier, one picture: a grid of all images.
    """
    folder, model = run.folder / "pictures", Predictor(run)
    indices = evenly(len(source), count)
    if run.task.kind == "classification":
        samples = (source.read(i) for i in indices)
        cells = [_classified(sample, model(sample.image), source.labels) for sample in samples]
        write_image(folder / "classes.png", annotate.grid(cells, 4))
        return folder
    ids: list[str] = []
    for i in indices:
        sample = source.read(i)
        ids.append(str(sample.image_id))
        result: Result = model(sample.image)
        panels = [
            draw_truth(sample.image, truth_of(sample), source.labels),
            result.draw(score_threshold=score_threshold),
        ]
        write_image(
            folder / f"{flat_names(ids)[-1]}.png", annotate.side_by_side(panels, ["ground truth", "prediction"])
        )
    return folder


def _classified(sample: Any, result: Result, labels: LabelMap) -> np.ndarray:
    """A small picture above its predicted class; in red, with the true class, if that is wrong."""
    (name, probability), truth = result.top(1)[0], labels.names[sample.label]
    right = name == truth
    text = f"{name} {probability:.2f}" if right else f"{name} {probability:.2f}, is {truth}"
    return annotate.draw_caption(shrink(sample.image, CELL), [text], annotate.INK if right else WRONG)
