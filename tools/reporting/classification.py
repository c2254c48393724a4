"""The classification part of a report: accuracy and confusion of the classes, and the mistakes."""

from typing import Any

import numpy as np

from ...backbones.metric import TopAccuracy
from ..drawing.annotate import GREY, class_colors
from .detection import confusion
from .gallery import Candidate, Store, choose, indices_by_id
from .summary import Summary

SIDE = 320  # pixels: a classifier's photos need no fine detail


def describe(summary: Summary, metric: TopAccuracy, labels: Any) -> None:
    """Fill in everything except the pictures."""
    counts, colors = metric.confusion(), class_colors(labels)
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


def pictures(summary: Summary, metric: TopAccuracy, source: Any, store: Store, count: int) -> None:
    """Add the mistakes, most confident first."""
    mistakes = {image_id: p for image_id, p in metric.state().items() if p.place}
    candidates = [
        Candidate(i, 1 - p.probability, tags=frozenset({f"class {p.label}", f"class {p.first}"}))
        for i, p in mistakes.items()
    ]
    chosen = choose(candidates, count)
    index = indices_by_id(source, [candidate.image_id for candidate, _ in chosen])
    for candidate, _ in sorted(chosen, key=lambda pair: (pair[0].score, str(pair[0].image_id))):
        found = mistakes[candidate.image_id]
        entry = store.photo(source.read(index[candidate.image_id]).image, side=SIDE)
        entry |= {"id": str(candidate.image_id), "group": "worst", "score": candidate.score}
        summary.gallery.append(
            entry | {"label": found.label, "first": found.first, "probability": found.probability, "place": found.place}
        )
