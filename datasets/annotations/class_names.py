"""The class list of formats that identify classes by name, or by position in a list."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..labels import LabelMap, class_rows, detection_labels


def class_list(
    classes: Sequence[str] | str | Path | None, beside: Path, found: Iterable[str], *, source: str
) -> LabelMap:
    """`classes` (names or a file of them), or the file `beside` the data, or the names `found`, sorted.

    The first class has slot 1 and number 1.

    Raises:
        ValueError: there are no classes, or a class occurs twice.
    """
    classes = beside if classes is None and beside.is_file() else classes
    names = sorted(set(found)) if classes is None else _in_order(class_rows(classes))
    if not names:
        raise ValueError(f"{source} lists no classes, and there are no objects to infer them from: set classes, a list")
    return numbered(dict(enumerate(names, start=1)), source)


def _in_order(rows: list[tuple[int, Any]]) -> list[str]:
    """The names by their numbers, if those count from 0."""
    by_number = {number: row["name"] for number, row in rows}
    counted = len(by_number) == len(rows) and all(number in by_number for number in range(len(rows)))
    return [by_number[number] for number in range(len(rows))] if counted else [row["name"] for _, row in rows]


def numbered(names: dict[int, str], source: str) -> LabelMap:
    """Slots for names by their number.

    Raises:
        ValueError: a name occurs twice.
    """
    if twice := sorted(name for name, count in Counter(names.values()).items() if count > 1):
        raise ValueError(f"{source}: the class {twice[0]!r} is listed twice: every class needs a unique name")
    return detection_labels([(number, name, None) for number, name in names.items()])


def known_names(labels: LabelMap) -> str:
    """The first classes, for messages."""
    names = list(labels.names.values())
    return ", ".join(names[:6]) + (f", ... {len(names)} in total" if len(names) > 6 else "")
