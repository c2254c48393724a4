"""The segmentation part of a report: metrics per class, and images with their masks."""

from typing import Any

import numpy as np

from ...datasets.labels import IGNORE
from ..drawing.annotate import GREY, class_colors
from ..drawing.charts import WRONG_COLOR
from ..evaluating.scores import Evaluation
from ..predicting.predictor import Predictor
from .gallery import SIDE, Candidate, Gallery, choose
from .summary import Summary, confusion

_RIGHT_OR_WRONG = np.array([(0, 0, 0, 0), (*WRONG_COLOR, 230)], np.uint8)  # RGBA
_ALPHA = 165  # of 255: opacity of a class's color over the photo


def describe(summary: Summary, evaluation: Evaluation) -> None:
    """Fill in everything except the pictures."""
    metric: Any = evaluation.metric
    counts, colors = metric.confusion(), class_colors(evaluation.labels)
    total = int(counts.sum())
    for slot, name in enumerate(metric.names):
        both, truth, predicted = (int(n) for n in (counts[slot, slot], counts[slot].sum(), counts[:, slot].sum()))
        summary.classes.append({
            "name": name, "color": colors.get(slot) or GREY,
            "IoU": _share(both, truth + predicted - both),
            "recall": _share(both, truth), "precision": _share(both, predicted),
            "share of pixels": _share(truth, total),
        })  # fmt: skip
    outside = counts[:, -1].any()  # predicted as no class, by networks with an output for void
    columns = [*metric.names, "no class"] if outside else list(metric.names)
    summary.confusion = confusion(list(metric.names), columns, counts if outside else counts[:, :-1])
    if not counts.any():
        summary.notes.append("No pixel of the data has a class, so IoU cannot be computed.")


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def pictures(summary: Summary, evaluation: Evaluation, gallery: Gallery) -> None:
    """Add the best and worst images: ground truth, prediction, and where they differ."""
    metric, model, table = evaluation.metric, Predictor(gallery.run), _color_table(evaluation.labels)
    candidates = {c.image_id: (c, ious) for c, ious in (_candidate(metric, i) for i in metric.state())}
    chosen = choose((candidate for candidate, _ in candidates.values()), gallery.count)
    for candidate, sample, entry in gallery.photos(chosen):
        truth, found = sample.mask, model(sample.image).mask
        assert truth is not None
        entry["classes"] = [[slot, iou] for slot, iou in candidates[candidate.image_id][1].items()]
        wrong = (truth != found) & (truth != IGNORE)
        entry["wrong_share"] = float(wrong.sum() / max(1, (truth != IGNORE).sum()))
        ignored = _hatch(truth)
        entry["layers"] = {
            "truth": gallery.layer("truth", _over(table[truth], ignored)),
            "prediction": gallery.layer("prediction", table[found]),
            "wrong": gallery.layer("wrong", _over(_RIGHT_OR_WRONG[wrong * 1], ignored)),
        }  # fmt: skip
        summary.gallery.append(entry)


def _candidate(metric: Any, image_id: Any) -> tuple[Candidate, dict[int, float]]:
    """The mean IoU over the classes in the image's ground truth or prediction, and each class's IoU."""
    counts = metric.confusion(image_id)
    both = counts.diagonal()
    union = counts.sum(axis=1) + counts.sum(axis=0)[:-1] - both
    ious = {int(slot): float(both[slot] / union[slot]) for slot in np.flatnonzero(union)}
    score = sum(ious.values()) / len(ious) if ious else 1.0
    pixels = int(counts.sum() - both.sum())
    return Candidate(image_id, score, weight=pixels, tags=frozenset(f"class {slot}" for slot in ious)), ious


def _color_table(labels: Any) -> np.ndarray:
    """uint8 [256, 4]: RGBA of every slot; transparent for a class named background and for pixels without a class."""
    table = np.zeros((256, 4), np.uint8)
    for slot, color in class_colors(labels).items():
        if color is not None:
            table[slot] = (*color, _ALPHA)
    return table


def _hatch(truth: np.ndarray) -> np.ndarray:
    """uint8 RGBA: diagonal stripes over ignored pixels, wide enough to survive downscaling."""
    layer = np.zeros((*truth.shape, 4), np.uint8)
    rows, columns = np.nonzero(truth == IGNORE)
    unit = max(1, round(max(truth.shape) / SIDE))
    light = (rows + columns) // unit % 8 < 2
    layer[rows, columns] = np.where(light[:, None], (255, 255, 255, 190), (60, 60, 60, 150))
    return layer


def _over(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    return np.where(above[..., 3:] > 0, above, below)
