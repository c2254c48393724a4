"""Average precision of many datasets drawn from the same images: matched once, counted with weights."""

from collections.abc import Mapping

import numpy as np

from ..backbones.image_metric import Weights
from .accumulation import RECALLS
from .matching_coco import ClassMatches, Floats, Ints, Matches

_CHUNK = 4_000_000  # weights processed together: 32 MB


def resampled_precision(matches: Matches, names: Mapping[int, str], weights: Weights) -> dict[str, Floats]:
    """AP, AP50 and `AP/<name>` of each dataset, NaN where it has no ground truth."""
    classes = [matches.of_class(slot) for slot in names]
    tables = [np.concatenate([_means(c, part) for part in _parts(weights, len(c.image))]) for c in classes]
    overall = _mean_of_known(np.stack(tables))
    per_class = {f"AP/{name}": table[:, 0] for name, table in zip(names.values(), tables, strict=True)}
    return {"AP": overall[:, 0], "AP50": overall[:, 1], **per_class}


def weighted_precision(matches: ClassMatches, weights: Weights) -> Floats:
    """Precision [S, T, R] at COCO's recalls as interpolated by pycocotools, NaN in datasets without ground truth.

    Only correct detections matter: recall grows at no others, and precision between two of them is
    below that of the first. An image drawn twice counts as two consecutive images, like renamed copies.
    """
    truths = weights @ matches.truths
    precision = np.stack([_at_threshold(matches, weights, truths, t) for t in range(len(matches.correct))], axis=1)
    return np.where(truths[:, None, None] > 0, precision, np.nan)


def _at_threshold(matches: ClassMatches, weights: Weights, truths: Ints, t: int) -> Floats:
    places = np.flatnonzero(matches.correct[t])
    if not len(places):
        return np.zeros((len(weights), len(RECALLS)))
    until = places[-1] + 1  # later detections do not affect any relevant precision
    seen = np.where(matches.ignored[t, :until], 0, weights[:, matches.image[:until]]).cumsum(axis=1)[:, places]
    hits = weights[:, matches.image[places]].cumsum(axis=1)
    precision = hits / (seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    first = _first_reaching(hits, _hits_needed(truths))
    reached = np.take_along_axis(envelope, np.minimum(first, len(places) - 1), axis=1)
    return np.where(first < len(places), reached, 0.0)


def _hits_needed(truths: Ints) -> Ints:
    """[S, R]: the smallest number of hits whose fraction of the annotations, in floats, reaches the recall."""
    total = np.maximum(truths, 1)[:, None]
    needed = np.ceil(RECALLS * total).astype(np.int64)
    needed -= (needed - 1) / total >= RECALLS
    return needed + (needed / total < RECALLS)


def _first_reaching(hits: Ints, needed: Ints) -> Ints:
    """[S, R]: the first place in each row with this many hits; the row's length if there is none."""
    rows, length = hits.shape
    step = max(int(hits.max()), int(needed.max())) + 1
    apart = np.arange(rows)[:, None] * step  # rows concatenated, so that one search covers all
    places = np.searchsorted((hits + apart).ravel(), (needed + apart).ravel()).reshape(rows, -1)
    return np.minimum(places - np.arange(rows)[:, None] * length, length)


def _means(matches: ClassMatches, weights: Weights) -> Floats:
    """[S, 2]: AP and AP50."""
    precision = weighted_precision(matches, weights)
    return np.stack([precision.mean(axis=(1, 2)), precision[:, 0].mean(axis=1)], axis=1)


def _parts(weights: Weights, length: int) -> list[Weights]:
    rows = max(1, _CHUNK // max(1, length))
    return [weights[start : start + rows] for start in range(0, len(weights), rows)]


def _mean_of_known(values: Floats) -> Floats:
    """The mean over the first axis, ignoring NaN; NaN if there is nothing else."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
