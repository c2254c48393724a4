"""The charts of a report, for one run and for several: each by its file name."""

from collections.abc import Sequence

import numpy as np

from ..drawing.annotate import palette
from ..drawing.charts import (
    RIGHT_COLOR,
    WRONG_COLOR,
    Bar,
    Series,
    bar_chart,
    line_chart,
    matrix_chart,
    row_chart,
)
from ..drawing.figure import Chart
from .summary import HEADLINES, Summary

CLASS_FIGURE = {"detection": "AP", "segmentation": "IoU", "classification": "top-1"}
CHARTS = (  # beside a run's page
    *("precision_recall", "f1_confidence", "errors", "object_sizes"),
    *("training_loss", "training_figure", "training_lr", "classes", "confusion"),
)
MANY_CLASSES = 7  # beyond this, lines cannot be distinguished by color
_MAX_MATRIX = 3000  # classes
_ALL, _GREY = "all classes", (134, 142, 150)
GRID = np.linspace(0, 1, 101).tolist()  # for recall and for scores


def charts_of(summary: Summary) -> dict[str, Chart]:
    """The charts of one run that its task has, without the confusion matrix."""
    found = {}
    if summary.kind == "detection":
        found["precision_recall"] = line_chart(
            "Precision-recall curve at IoU 0.5", _class_lines(summary, "precision"), axes=("recall", "precision"),
            x_range=(0, 1), y_range=(0, 1),
        )  # fmt: skip
        lines = [*_class_lines(summary, "f1"), *_threshold(summary)]
        found["f1_confidence"] = line_chart(
            "F1 vs. confidence", lines, axes=("score threshold", "F1"), x_range=(0, 1), y_range=(0, 1)
        )
        found["errors"] = _errors([summary])
        found["object_sizes"] = bar_chart(
            "Objects by size", _size_names(summary.sizes["edges"]),
            [("ground truth", summary.sizes["truths"], _GREY), ("found", summary.sizes["found"], RIGHT_COLOR)],
            axis="objects",
        )  # fmt: skip
    return found | _training([summary])


def class_chart(summary: Summary) -> Chart:
    """Bars of the classes, the longest first, for a file: the page has a sortable table instead."""
    figure = CLASS_FIGURE[summary.kind]
    rows = []
    for row in sorted(summary.classes, key=lambda row: (row[figure] is None, -(row[figure] or 0.0))):
        value = row[figure]
        words = "no ground truth" if value is None else f"{value:.3f}"
        rows.append((row["name"], [Bar([(max(value or 0.0, 0.0), row["color"])], words)]))
    return row_chart(f"{figure} per class", rows, longest=1.0)


def matrix_of(summary: Summary) -> Chart:
    confusion, title = summary.confusion, "Confusion matrix, % of ground truth"
    rows, columns = confusion["rows"], confusion["columns"]
    if max(len(rows), len(columns)) > _MAX_MATRIX:  # its memory grows with the square
        return matrix_chart(f"{title}: too many classes to draw", rows[:1], columns[:1], np.zeros((1, 1)))
    counts = np.zeros((len(rows), len(columns)), np.int64)
    for row, column, count in confusion["cells"]:
        counts[row, column] = count
    return matrix_chart(title, rows, columns, counts)


def charts_of_several(summaries: Sequence[Summary]) -> dict[str, Chart]:
    """Charts in which every run has its own color."""
    colors = palette(len(summaries))
    found = {}
    if summaries[0].kind == "detection":
        for key, title, axes in (
            ("precision", "Precision-recall curve at IoU 0.5, mean over classes", ("recall", "precision")),
            ("f1", "F1 vs. confidence, mean over classes", ("score threshold", "F1")),
        ):
            lines = [
                Series(s.name, GRID, _mean(s.curves[key]), color) for s, color in zip(summaries, colors, strict=True)
            ]
            found[f"compared_{key}"] = line_chart(title, lines, axes=axes, x_range=(0, 1), y_range=(0, 1))
        found["compared_errors"] = _errors(summaries)
    return found | {f"compared_{name}": chart for name, chart in _training(summaries).items()}


def _class_lines(summary: Summary, key: str) -> list[Series]:
    curves = summary.curves[key]
    many = len(curves) > MANY_CLASSES
    lines = [
        Series(row["name"], GRID, values, row["color"], faint=many)
        for row, values in zip(summary.classes, curves, strict=True)
        if values is not None
    ]
    return lines if len(lines) < 2 else [*lines, Series(_ALL, GRID, _mean(curves), _GREY, dashed=not many)]


def _mean(curves: Sequence[Sequence[float] | None]) -> list[float | None]:
    known = [values for values in curves if values is not None]
    return np.mean(known, axis=0).tolist() if known else [None] * len(GRID)


def _threshold(summary: Summary) -> list[Series]:
    threshold = summary.curves["threshold"]
    return [Series(f"threshold {threshold:.2f}", [threshold] * 2, [0.0, 1.0], _GREY, dashed=True)]


def _errors(summaries: Sequence[Summary]) -> Chart:
    if len(summaries) == 1:
        series = [("lost", list(summaries[0].errors.values()), WRONG_COLOR)]
    else:
        colors = palette(len(summaries))
        series = [(s.name, list(s.errors.values()), color) for s, color in zip(summaries, colors, strict=True)]
    return bar_chart("AP50 lost per kind of error", list(summaries[0].errors), series, axis="AP50 lost", form=".3f")


def _training(summaries: Sequence[Summary]) -> dict[str, Chart]:
    """Losses, the metric that selects the best checkpoint, and the learning rate; for one run, train beside val."""
    primary = HEADLINES[summaries[0].kind][0]
    wanted = {
        "training_loss": ("Loss", [("train", "loss"), ("val", "loss")], "loss"),
        "training_figure": (f"{primary} on the validation split", [("val", primary)], primary),
        "training_lr": ("Learning rate", [("train", "lr")], "lr"),
    }
    found = {}
    for name, (title, columns, axis) in wanted.items():
        lines = []
        for summary, color in zip(summaries, palette(len(summaries)), strict=True):
            for number, (kind, key) in enumerate(columns):
                rows = [
                    row for row in summary.training if row["kind"] == kind and isinstance(row.get(key), int | float)
                ]
                label = " ".join([summary.name] * (len(summaries) > 1) + [kind] * (len(columns) > 1))
                line_color = color if len(summaries) > 1 else (RIGHT_COLOR, WRONG_COLOR)[number]
                xs, ys = [row["step"] for row in rows], [row[key] for row in rows]
                lines.append(Series(label, xs, ys, line_color, dashed=number > 0))
        if any(line.known() for line in lines):
            found[name] = line_chart(title, lines, axes=("step", axis))
    return found


def _size_names(edges: Sequence[int]) -> list[str]:
    """`<8`, `8-16` ... as their lower limits: the bars are side by side."""
    return [f"<{edges[1]}", *(f"{edge}+" for edge in edges[1:])]
