"""The classification part of a report: accuracy and confusion of the classes, and the mistakes."""

from typing import Any

import numpy as np

from ..drawing.annotate import GREY, class_colors
from ..evaluating.scores import Evaluation
from .gallery import Candidate, Gallery, choose
from .summary import Summary, confusion

SIDE = 320  # pixels: a classifier's photos need no fine detail


def describe(summary: Summary, evaluation: Evaluation) -> None:
    """Fill in everything except the pictures."""
    metric: Any = evaluation.metric
    counts, colors = metric.confusion(), class_colors(evaluation.labels)
    in_five = np.bincount([p.label for p in metric.state().values() if p.place < 5], minlength=len(metric.names))
    for slot, name in enumerate(metric.names):
        right, truths, predicted = int(counts[slot, slot]), int(counts[slot].sum()), int(counts[:, slot].sum())
        summary.classes.append({
            "name": name, "color": colors.get(slot) or GREY, "top-1": right / truths if truths else None,
            "top-5": int(in_five[slot]) / truths if truths else None,
            "precision": right / predicted if predicted else None, "images": truths,
        })  # fmt: skip
    summary.confusion = confusion(list(metric.names), list(metric.names), counts)
    if not counts.any():
        summary.notes.append("The data has no images.")


def pictures(summary: Summary, evaluation: Evaluation, gallery: Gallery) -> None:
    """Add the mistakes, most confident first."""
    mistakes = {image_id: p for image_id, p in evaluation.metric.state().items() if p.place}
    candidates = [
        Candidate(i, 1 - p.probability, tags=frozenset({f"class {p.label}", f"class {p.first}"}))
        for i, p in mistakes.items()
    ]
    chosen = [(candidate, "worst") for candidate, _ in choose(candidates, gallery.count)]
    chosen.sort(key=lambda pair: (pair[0].score, str(pair[0].image_id)))
    for candidate, _, entry in gallery.photos(chosen, side=SIDE):
        found = mistakes[candidate.image_id]
        told = {"label": found.label, "first": found.first, "probability": found.probability, "place": found.place}
        summary.gallery.append(entry | told)
