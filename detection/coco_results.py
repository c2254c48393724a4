"""Reads, writes and checks COCO's results format, the input of its server and of pycocotools."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_text
from .accumulation import Arrays
from .matching_coco import ranked
from .metric import CocoMetric

_MOST = 100  # per image and class; lower-scoring detections do not count
_NAMED = 3  # examples named in a message
_LARGEST = 1e300


def check_results(
    records: Any, *, image_ids: Collection[int | str], category_ids: Collection[int]
) -> tuple[list[str], list[str]]:
    """Check results that were read from JSON: faults, with which they cannot be scored, and remarks for the user.

    Every message counts the affected entries and names the first.
    """
    if not isinstance(records, list):
        return [f"expected a list of detections, found a {type(records).__name__}"], []
    records = [_with_whole_ids(entry) for entry in records]
    images, categories = frozenset(image_ids), frozenset(category_ids)
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "image_id": (lambda value: _is_in(value, images), "an image_id that the annotations do not list"),
        "category_id": (lambda value: _is_in(value, categories), "a category_id that the annotations do not list"),
        "bbox": (_is_box, "a bbox that is not four finite numbers x, y, width, height, the latter two not negative"),
        "score": (_is_number, "a score that is not a finite number"),
    }
    whole = {i: entry for i, entry in enumerate(records) if isinstance(entry, dict) and checks.keys() <= entry.keys()}
    wrong = {f"are not objects with {', '.join(checks)}": {i: e for i, e in enumerate(records) if i not in whole}}
    for key, (is_right, problem) in checks.items():
        wrong[f"have {problem}"] = {i: entry[key] for i, entry in whole.items() if not is_right(entry[key])}
    errors = []
    for problem, found in wrong.items():
        if found:
            named = ", ".join(f"entry {i} ({found[i]!r:.80})" for i in list(found)[:_NAMED])
            more = ", ..." if len(found) > _NAMED else ""
            text = " (text: write numbers without quotes)" if any(map(_is_number_as_text, found.values())) else ""
            errors.append(f"{len(found)} of {len(records)} entries {problem}: {named}{more}{text}")
    return errors, [] if errors else _crowded(records)


def read_results(
    path: str | Path, *, image_ids: Collection[int | str], slots: Mapping[int, int]
) -> tuple[dict[int | str, Arrays], list[str]]:
    """Detections of every image as `CocoMetric.add` expects them, and notes.

    Args:
        slots: the slot of every category id.

    Raises:
        ValueError: the file is not JSON, or its content cannot be scored; all faults are listed.
        FileNotFoundError: it does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"predictions not found: {path} (expected JSON in COCO's results format)")
    try:
        records = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    errors, notes = check_results(records, image_ids=image_ids, category_ids=slots.keys())
    if errors:
        raise ValueError(f"{path} cannot be scored: " + "; ".join(errors))
    of_image: dict[int | str, list[Any]] = {image: [] for image in image_ids}
    for record in map(_with_whole_ids, records):
        of_image[record["image_id"]].append(record)
    return {image: _arrays(own, slots) for image, own in of_image.items()}, notes


def to_records(image_id: int | str, detections: Arrays, source_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """One image's entries of COCO results.

    Args:
        detections: `boxes_xywh` [N, 4], `labels` (slots), `scores`.
        source_ids: the category id of every slot; detections of other slots are dropped.
    """
    rows = zip(*(detections[key].tolist() for key in ("labels", "boxes_xywh", "scores")), strict=True)
    return [
        {"image_id": image_id, "category_id": source_ids[label], "bbox": box, "score": score}
        for label, box, score in rows
        if label in source_ids
    ]


def write_results(path: str | Path, metric: CocoMetric, *, source_ids: Mapping[int, int]) -> int:
    """Write a metric's detections, the best 100 per image and class, once they are checked.

    Args:
        source_ids: the category id of every slot; detections of other slots are dropped.

    Returns:
        The number of detections written.

    Raises:
        ValueError: a detection cannot be scored, for example because its box is not finite.
    """
    state, records = metric.state(), []
    for image in metric.images():
        found, _ = state[image]
        kept = ranked(found, list(source_ids), _MOST)
        records += to_records(image, {key: array[kept] for key, array in found.items()}, source_ids)
    text = json.dumps(records)
    errors, _ = check_results(json.loads(text), image_ids=metric.images(), category_ids=source_ids.values())
    if errors:
        raise ValueError(f"{path} cannot be scored and was not written: " + "; ".join(errors))
    write_text(Path(path), text)
    return len(records)


def _arrays(records: list[dict[str, Any]], slots: Mapping[int, int]) -> Arrays:
    return {
        "boxes_xywh": np.array([record["bbox"] for record in records], np.float64).reshape(-1, 4),
        "labels": np.array([slots[record["category_id"]] for record in records], np.int64),
        "scores": np.array([record["score"] for record in records], np.float64),
    }


def _crowded(records: list[dict[str, Any]]) -> list[str]:
    counts = Counter((record["image_id"], record["category_id"]) for record in records)
    over = [(pair, count) for pair, count in counts.items() if count > _MOST]
    if not over:
        return []
    (image, category), count = over[0]
    return [
        f"{len(over)} pairs of image and class have more than {_MOST} detections, the first one image {image} and "
        f"category {category} with {count}: only the best {_MOST} count"
    ]


def _with_whole_ids(entry: Any) -> Any:
    """An entry whose ids are integers where they are written as 1.0, as pandas writes a column with gaps."""
    if not isinstance(entry, dict):
        return entry
    ids = {key: entry.get(key) for key in ("image_id", "category_id")}
    whole = {key: int(value) for key, value in ids.items() if isinstance(value, float) and value.is_integer()}
    return {**entry, **whole} if whole else entry


def _is_number_as_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _is_in(value: Any, known: Collection[Any]) -> bool:
    return type(value) in (int, str) and value in known


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST  # excludes NaN and infinities


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)) and min(value[2:]) >= 0
