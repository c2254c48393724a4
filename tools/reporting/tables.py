"""The tables of a page: classes with bars, pairs that are confused, keys and values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..drawing.html import Markup, element
from .drawn import CLASS_FIGURE
from .gallery_page import swatch
from .summary import Summary

MANY_ROWS = 20  # above that a table can be searched
_COUNTS = ("truths", "detections", "images")
_MAX_PAIRS = 20


def class_table(summary: Summary) -> Markup:
    """A row for each class, a bar for each figure in 0..1; headings sort."""
    if not summary.classes:
        return element("p", "There are no classes.")
    titles = [key for key in summary.classes[0] if key not in ("name", "color")]
    rows = [
        element("tr", element("th", swatch(row), row["name"], scope="row"), [_cell(row[key], key) for key in titles])
        for row in summary.classes
    ]
    return _sortable(["class", *titles], rows)


def compared_classes(summaries: Sequence[Summary]) -> Markup:
    """The classes' main figure in every run, by name, and how far the last run is from the first."""
    figure = CLASS_FIGURE[summaries[0].kind]
    by_name = [{row["name"]: row[figure] for row in summary.classes} for summary in summaries]
    names = list(dict.fromkeys(name for values in by_name for name in values))
    rows = []
    for name in names:
        values = [run.get(name) for run in by_name]
        rows.append(
            element("tr", element("th", name, scope="row"), [_cell(v, figure) for v in values], _change(values))
        )
    return _sortable(["class", *(summary.name for summary in summaries), "last - first"], rows)


def compared_figures(summaries: Sequence[Summary], figures: Sequence[str]) -> Markup:
    """A row for each headline figure, a column for each run."""
    rows = []
    for key in figures:
        values = [summary.results.get(key) for summary in summaries]
        values = [None if value is None or value < 0 else value for value in values]
        if any(value is not None for value in values):
            rows.append(
                element("tr", element("th", key, scope="row"), [_cell(v, key) for v in values], _change(values))
            )
    facts = [key for key in ("parameters", "checkpoint", "data", "data hash") if key in summaries[0].facts]
    for key in facts:
        cells = [element("td", summary.facts.get(key, ""), class_="fact") for summary in summaries]
        rows.append(element("tr", element("th", key, scope="row"), cells, element("td")))
    head = element(
        "tr", [element("th", text, scope="col") for text in ("", *(s.name for s in summaries), "last - first")]
    )
    return _wrapped(element("table", element("thead", head), element("tbody", rows)))


def differing_config(summaries: Sequence[Summary]) -> Markup | None:
    """Keys that not all runs have alike."""
    keys = list(dict.fromkeys(key for summary in summaries for key in summary.config))
    rows = []
    for key in keys:
        values = [summary.config.get(key, "not there") for summary in summaries]
        if len(set(values)) > 1 and key not in ("name", "run_dir"):
            rows.append(element("tr", element("th", key, scope="row"), [element("td", value) for value in values]))
    if not rows:
        return None
    head = element("tr", [element("th", text, scope="col") for text in ("key", *(s.name for s in summaries))])
    return _wrapped(element("table", element("thead", head), element("tbody", rows), class_="values"))


def pairs_table(confusion: Mapping[str, Any], counts: np.ndarray) -> Markup:
    """The classes that are taken for others most often, by count; background is no class."""
    sums = counts.sum(axis=1)
    outside = len(confusion["rows"]) - 1 if confusion["background"] else None
    wrong = [cell for cell in confusion["cells"] if cell[0] != cell[1] and outside not in cell[:2]]
    rows = []
    for row, column, count in sorted(wrong, key=lambda cell: (-cell[2], cell[0], cell[1]))[:_MAX_PAIRS]:
        names = confusion["rows"][row], confusion["columns"][column]
        share = f"{100 * count / sums[row]:.1f} %"
        rows.append(element("tr", [element("td", text) for text in (*names, f"{count:,}", share)]))
    if not rows:
        return element("p", "Nothing was confused.")
    titles = ("truth", "predicted", "count", "share of the truth")
    head = element("tr", [element("th", text, scope="col") for text in titles])
    return _wrapped(element("table", element("thead", head), element("tbody", rows)))


def rows_table(values: Mapping[str, Any]) -> Markup:
    """Keys and values."""
    rows = [element("tr", element("th", key, scope="row"), element("td", value)) for key, value in values.items()]
    return _wrapped(element("table", element("tbody", rows), class_="values"))


def _sortable(titles: Sequence[str], rows: Sequence[Markup]) -> Markup:
    heads = [element("th", element("button", title, type="button"), scope="col") for title in titles]
    table = element("table", element("thead", element("tr", heads)), element("tbody", list(rows)), class_="sortable")
    search = element("label", "find a class ", element("input", type="search", class_="row-search"))
    return element("div", search if len(rows) > MANY_ROWS else None, _wrapped(table), class_="table")


def _wrapped(table: Markup) -> Markup:
    return element("div", table, class_="scroll", tabindex="0", role="group", aria_label="table")


def _cell(value: float | None, key: str) -> Markup:
    """A number, with a bar behind it where it is a share."""
    if value is None:
        return element("td", "\N{EN DASH}", data_value="-1", class_="number")
    if key in _COUNTS:
        return element("td", f"{value:,}", data_value=value, class_="number")
    if key == "at score":  # no figure of merit
        return element("td", f"{value:.3f}", data_value=value, class_="number")
    style = f"--share:{100 * min(max(value, 0.0), 1.0):.1f}%"
    return element("td", f"{value:.3f}", data_value=value, class_="number bar", style=style)


def _change(values: Sequence[float | None]) -> Markup:
    first, last = values[0], values[-1]
    if first is None or last is None:
        return element("td", "\N{EN DASH}", data_value="-1", class_="number")
    return element("td", f"{last - first:+.3f}", data_value=last - first, class_="number")
