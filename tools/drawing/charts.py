"""The charts for pages and files: lines, grouped bars, rows of bars, and a matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...absent import written
from .figure import INK, LINE, MUTED, Chart, shorten, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Color = tuple[int, int, int]

WIDTH, HEIGHT = 400, 270  # units; on a phone, a unit is a little less than a pixel
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 42
RIGHT_COLOR, WRONG_COLOR = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion
_MAX_LEGEND = 8
_MAX_NAMED = 200  # classes; with more, a matrix has no names


@dataclass(frozen=True)
class Series:
    """A named line; values of None (or non-finite ones) are skipped."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    color: Color
    faint: bool = False  # one of many, identified only by hovering
    dashed: bool = False

    def known(self) -> list[tuple[float, float]]:
        pairs = zip(self.xs, self.ys, strict=True)
        return [(float(x), float(y)) for x, y in pairs if y is not None and math.isfinite(y)]


@style()
def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    axes: tuple[str, str],
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    band: Sequence[tuple[float, float, float]] = (),
) -> Chart:
    """Lines over one pair of axes, with a legend below unless faint; says so if there are none.

    Default ranges include all values and 0.

    Args:
        band: (x, lowest, highest) in the order of x, shaded behind the lines.
    """
    points = [point for line in series for point in line.known()]
    named = [line for line in series if not line.faint and line.known()][:_MAX_LEGEND] if len(series) > 1 else []
    chart = Chart(title, WIDTH, HEIGHT + _legend_height(len(named)), summary=f"{axes[1]} over {axes[0]}")
    if not points:
        return chart.nothing()
    plot = _plot(chart, axes)
    plot.set_xlim(x_range or _range([x for x, _ in points]))
    plot.set_ylim(y_range or _range([1.05 * y for _, y in points]))
    if band:
        xs, lows, highs = zip(*band, strict=True)
        plot.fill_between(xs, lows, highs, color=MUTED, alpha=0.25, linewidth=0, clip_on=False)
    handles = {}
    for line in sorted(series, key=lambda line: not line.faint):
        if points := line.known():
            (drawn,) = plot.plot(
                *zip(*points, strict=True), color=paint(line.color), linestyle="--" if line.dashed else "-",
                linewidth=1.5 if line.faint else 2.25, alpha=0.4 if line.faint else None,
                marker="s" if len(set(points)) == 1 else None, markersize=6, clip_on=False,
            )  # fmt: skip
            chart.mark(drawn, line.name, kind="line faint" if line.faint else "line")
            handles[id(line)] = drawn
    if named:
        chart.legend([handles[id(line)] for line in named], [line.name for line in named], left=_LEFT, top=HEIGHT)
    return chart


@style()
def bar_chart(
    title: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None], Color]],
    *,
    axis: str,
    form: str = ",.0f",
) -> Chart:
    """Groups of bars side by side, one bar per series, with a legend if there is more than one. No bar for None."""
    several = len(series) > 1
    chart = Chart(title, WIDTH, HEIGHT + several * _legend_height(len(series)), summary=axis)
    values = [value for _, heights, _ in series for value in heights if value is not None]
    if not any(values):
        return chart.nothing()
    plot = _plot(chart, ("", axis))
    plot.set_ylim(min(0.0, *values), max(0.0, *values) * 1.08)
    plot.set_xlim(0, len(groups))
    handles, width = [], 0.8 / len(series)
    for number, (name, heights, color) in enumerate(series):
        lefts = np.arange(len(groups)) + 0.1 + number * width
        drawn = [height or 0 for height in heights]
        bars = plot.bar(lefts, drawn, 0.94 * width, align="edge", color=paint(color), edgecolor=paint(color),
                        linewidth=0.5, clip_on=False)  # fmt: skip
        handles.append(bars)
        for group, bar, value in zip(groups, bars, heights, strict=True):
            chart.mark(bar, (f"{name}, " if several else "") + f"{group}: {written(value, form)}")
        if not several and len(groups) <= 12:
            plot.bar_label(bars, [written(value, form) for value in heights], padding=1, color=MUTED, fontsize=9.5)
    wide = max(map(len, groups)) * 6.5 > (WIDTH - _LEFT - _RIGHT) / len(groups)  # then every other name is placed lower
    names = [f"\n{shorten(name, 24)}" if wide and i % 2 else shorten(name, 24) for i, name in enumerate(groups)]
    plot.set_xticks(np.arange(len(groups)) + 0.5, names)
    if several:
        chart.legend(handles, [name for name, _, _ in series], left=_LEFT, top=HEIGHT)
    return chart


@dataclass(frozen=True)
class Bar:
    """Parts of these lengths and colors one after the other, followed by text."""

    parts: Sequence[tuple[float, Color]]
    words: str
    tip: str = ""


@style()
def row_chart(
    title: str,
    rows: Sequence[tuple[str, Sequence[Bar]]],
    *,
    longest: float | None = None,
    legend: Sequence[tuple[str, Color]] = (),
    limit: int = 200,
    width: int = WIDTH,
) -> Chart:
    """Rows with a name and one or several bars; of more than `limit` rows, only the first and the last.

    Args:
        longest: the length of a bar across the whole chart; None for the longest bar.
    """
    if len(rows) > limit:
        title = f"{title}: the top {limit // 2} and the bottom {limit // 2} of {len(rows)}"
        rows = [*rows[: limit // 2], *rows[-(limit // 2) :]]
    if not rows:
        return Chart(title, WIDTH, HEIGHT).nothing()
    bars = max(len(of_row) for _, of_row in rows)
    row_height = 7 + 11 * bars
    height = row_height * len(rows)
    names = [shorten(name, 30) for name, _ in rows]
    left = 14 + 6.6 * max(map(len, names))
    right = 14 + 6 * max(len(bar.words) for _, of_row in rows for bar in of_row)
    chart = Chart(title, width, height + 12 + bool(legend) * 22)
    plot = chart.axes(left, 6, width - left - right, height)
    plot.set_axis_off()
    longest = longest or max(sum(length for length, _ in bar.parts) for _, of_row in rows for bar in of_row) or 1.0
    unit = longest / (width - left - right)
    plot.set_xlim(0, longest)
    plot.set_ylim(height, 0)
    for number, (name, (_, of_row)) in enumerate(zip(names, rows, strict=True)):
        plot.text(-6 * unit, row_height * (number + 0.5), name, ha="right", va="center")
        for line, bar in enumerate(of_row):
            y, end = row_height * number + 3.5 + 11 * line, 0.0
            for length, color in bar.parts:
                (part,) = plot.barh(y, length, 10, left=end, align="edge", color=paint(color), clip_on=False,
                                    edgecolor=paint(color), linewidth=0.0 if length else 0.5)  # fmt: skip
                end += length
                if bar.tip:
                    chart.mark(part, bar.tip)
            plot.text(end + 4 * unit, y + 5, bar.words, va="center", size=10, color=MUTED)
    chart.legend(*squares(legend), left=left, top=height + 14, columns=max(1, len(legend)))
    return chart


def squares(entries: Sequence[tuple[str, Color]]) -> tuple[list[Any], list[str]]:
    """Legend handles and names for colors without a shape in the chart."""
    from matplotlib.patches import Patch

    return [Patch(color=paint(color)) for _, color in entries], [name for name, _ in entries]


@style()
def matrix_chart(title: str, rows: Sequence[str], columns: Sequence[str], counts: np.ndarray) -> Chart:
    """A confusion matrix, each row divided by its sum: correct predictions in blue, mistakes in orange.

    The cells are an image with one pixel per cell, which the page's script uses to find the cell below the pointer.
    """
    if not counts.any():
        return Chart(title, WIDTH, HEIGHT).nothing()
    size = max(len(rows), len(columns))
    cell = min(44.0, max(9.0, 660 / size)) if size <= _MAX_NAMED else 9.0 * _MAX_NAMED / size
    font = min(11.5, cell * 0.85)
    longest = max(len(name) for name in (*rows, *columns)) if size <= _MAX_NAMED else 0
    margin = min(22, longest) * font * 0.6 + 26
    width, height = cell * len(columns), cell * len(rows)
    chart = Chart(title, margin + width + 10, margin + height + 10, summary="rows: ground truth, columns: predictions")
    plot = chart.axes(margin, margin, width, height)
    plot.set_facecolor((LINE, 0.35))
    plot.grid(visible=False)
    plot.xaxis.set_ticks([])
    plot.yaxis.set_ticks([])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    plot.imshow(_shades(shares), interpolation="none", aspect="auto", clip_on=False)
    edge = -0.5 - 5 / cell
    for row, name in enumerate(rows if size <= _MAX_NAMED else []):
        plot.text(edge, row, shorten(name, 22), ha="right", va="center", size=font)
    for column, name in enumerate(columns if size <= _MAX_NAMED else []):
        plot.text(column, edge, shorten(name, 22), ha="center", va="bottom", size=font, rotation=90)
    chart.write(margin, 12, "predicted")
    chart.figure.text(
        12 / chart.width, plot.get_position().y1, "truth", rotation=90, color=MUTED, ha="center", va="top"
    )
    for row, column in np.argwhere(shares >= 0.005).tolist() if cell >= 30 else []:
        color = "white" if shares[row, column] > 0.55 else INK
        plot.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", color=color)
    return chart


def _shades(shares: np.ndarray) -> np.ndarray:
    """uint8 RGBA: the higher the share, the more opaque."""
    right = np.eye(*shares.shape, dtype=bool)[..., None]
    opacity = np.where(shares > 0, 255 * (0.05 + 0.95 * shares), 0)[..., None]
    return np.concatenate([np.where(right, RIGHT_COLOR, WRONG_COLOR), opacity], axis=2).round().astype(np.uint8)


def paint(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def number(value: float) -> str:
    """The short label of a tick."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k"
    return f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.0e}"


def _plot(chart: Chart, names: tuple[str, str]) -> "Axes":
    """Axes with round numbers and horizontal grid lines."""
    from matplotlib.ticker import MaxNLocator

    plot = chart.axes(_LEFT, _TOP, WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM)
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(lambda value, _: number(value))
    plot.set_xlabel(names[0])
    plot.set_ylabel(names[1])
    return plot


def _legend_height(count: int) -> int:
    return 18 * math.ceil(count / 2) + (4 if count else 0)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(0.0, *values), max(0.0, *values)
    return (low, high) if high > low else (0.0, 1.0)
