"""Checks a summary.json, which may be damaged or somebody else's, before a page is drawn from it."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...detection.errors import KINDS as ERRORS
from .drawn import CLASS_FIGURE, GRID
from .gallery_page import GROUPS, KINDS
from .summary import FILE, Summary

_FACTS = ("network", "parameters", "checkpoint", "data", "data hash", "evaluated")
_BOX_KINDS = {"correct", "crowd", *KINDS}
_LARGEST = 1e100
Check = Callable[[Any], bool]


def read_summary(folder: Path) -> Summary:
    """`Summary.load`, with every part as it was written.

    Raises:
        FileNotFoundError, ValueError: there is none; it is damaged, or is from another version.
    """
    summary = Summary.load(folder)
    if (name := _fault(vars(summary))) is not None:
        raise ValueError(f"{folder / FILE} is damaged, its {name!r} is wrong: evaluate with report=true again")
    return summary


def _fault(content: Mapping[str, Any]) -> str | None:
    """The first part of a summary that is not as it was written, or None."""
    classes = len(content["classes"]) if isinstance(content["classes"], list) else 0
    detection = content["kind"] == "detection"
    parts: dict[str, Check] = {
        "name": _text,
        "facts": lambda facts: _map(facts, _text) and facts.keys() >= set(_FACTS),
        "results": lambda results: _map(results, _or_none(_number)),
        "environment": lambda values: _map(values, _text),
        "command": _text,
        "config": lambda values: _map(values, _text),
        "training": lambda rows: _list(rows, _row),
        "classes": lambda rows: _list(rows, lambda row: _class(row, rows[0].keys(), content["kind"])),
        "confusion": _confusion,
        "curves": lambda curves: _curves(curves, classes) if detection else curves == {},
        "errors": lambda errors: _map(errors, _or_none(_number)) and set(errors) == set(ERRORS if detection else ()),
        "sizes": lambda sizes: _sizes(sizes) if detection else sizes == {},
        "notes": lambda notes: _list(notes, _text),
        "gallery": lambda entries: _list(entries, lambda entry: _entry(entry, content["kind"], classes)),
    }
    for name, check in parts.items():
        try:
            right = check(content[name])
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
            right = False
        if not right:
            return name
    return None


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= _LARGEST


def _whole(value: Any, most: float = 2**53) -> bool:
    return type(value) is int and 0 <= value <= most


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(value: Any, check: Check, length: int | None = None) -> bool:
    return isinstance(value, list) and length in (None, len(value)) and all(map(check, value))


def _map(value: Any, check: Check) -> bool:
    return isinstance(value, dict) and all(map(check, value.values()))


def _row(row: Any) -> bool:
    numbers = (value for value in row.values() if isinstance(value, int | float))
    return _text(row["kind"]) and _whole(row["step"]) and all(map(_number, numbers))


def _class(row: Any, keys: Any, kind: str) -> bool:
    figures = {key: value for key, value in row.items() if key not in ("name", "color")}
    return (
        row.keys() == keys
        and _text(row["name"])
        and _list(row["color"], lambda part: _whole(part, 255), 3)
        and _map(figures, _or_none(_number))
        and (figures[CLASS_FIGURE[kind]] is None or 0 <= figures[CLASS_FIGURE[kind]] <= 1)
    )


def _confusion(found: Any) -> bool:
    rows, columns = found["rows"], found["columns"]

    def cell(value: Any) -> bool:
        row, column, count = value
        return _whole(row, len(rows) - 1) and _whole(column, len(columns) - 1) and _whole(count)

    lists = _list(rows, _text) and _list(columns, _text) and _list(found["cells"], cell)
    return lists and type(found["background"]) is bool


def _curves(curves: Any, classes: int) -> bool:
    line = _or_none(lambda values: _list(values, _number, len(GRID)))
    return _number(curves["threshold"]) and all(_list(curves[key], line, classes) for key in ("precision", "f1"))


def _sizes(sizes: Any) -> bool:
    edges = len(sizes["edges"])
    return edges > 1 and all(_list(sizes[key], _whole, edges) for key in ("edges", "truths", "found"))


def _entry(entry: Any, kind: str, classes: int) -> bool:
    """One image of the gallery."""

    def slot(value: Any) -> bool:
        return _whole(value, classes - 1)

    def box(row: Any) -> bool:
        scored = _number(row["score"]) if "score" in row else True
        return scored and row["kind"] in _BOX_KINDS and _or_none(slot)(row["class"]) and _list(row["box"], _number, 4)

    sides = _whole(entry["width"], 1e6) and _whole(entry["height"], 1e6)
    if not (sides and _text(entry["photo"]) and _text(entry["id"]) and _number(entry["score"])):
        return False
    if entry["group"] not in GROUPS:
        return False
    if kind == "detection":
        return _list(entry["truth"], box) and _list(entry["found"], box)
    if kind == "segmentation":
        pairs = _list(entry["classes"], lambda pair: len(pair) == 2 and slot(pair[0]) and _number(pair[1]))
        return pairs and _map(entry["layers"], _text) and _number(entry["wrong_share"])
    return slot(entry["label"]) and slot(entry["first"]) and _number(entry["probability"]) and _whole(entry["place"])
