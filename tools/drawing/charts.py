"""The report's charts: lines, bars and a matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Color, Line, Rectangles, Words

WIDTH, HEIGHT = 400, 270  # units; on a phone one is a little less than a pixel
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 14, 42
RIGHT_COLOR, WRONG_COLOR = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion
_SHADES = 12
_MAX_LEGEND = 8
_MAX_NAMED = 200  # classes; more have no names beside a matrix, and no bar each
_SMALL = 11.5  # size of the numbers at the axes


@dataclass(frozen=True)
class Series:
    """A named line; a value of None (or one that isn't finite) is a gap."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    color: Color
    faint: bool = False  # one of many, told apart by hovering only
    dashed: bool = False

    def known(self) -> list[tuple[float, float]]:
        pairs = zip(self.xs, self.ys, strict=True)
        return [(float(x), float(y)) for x, y in pairs if y is not None and math.isfinite(y)]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    axes: tuple[str, str],
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    band: Sequence[tuple[float, float, float]] = (),
) -> Canvas:
    """Lines over one pair of axes, named below in a legend unless faint; where there are none it says so.

    Ranges that are not given hold all values, and 0.

    Args:
        band: (x, lowest, highest) in the order of x, a shade between them behind the lines.
    """
    points = [point for line in series for point in line.known()]
    named = [line for line in series if not line.faint and line.known()][:_MAX_LEGEND]
    named = named if len(series) > 1 else []
    canvas = Canvas(WIDTH, HEIGHT + _legend_height(len(named)), title, f"{axes[1]} over {axes[0]}")
    if not points:
        return _nothing(canvas)
    x_range = x_range or _range([x for x, _ in points])
    y_range = y_range or _range([1.05 * y for _, y in points])
    _axes(canvas, x_range, y_range, axes)
    canvas.add(*_band(band, x_range, y_range))
    for line in sorted(series, key=lambda line: not line.faint):
        places = [(_place_x(x, x_range), _place_y(y, y_range)) for x, y in line.known()]
        if len(places) == 1:
            canvas.add(Rectangles([(places[0][0] - 3, places[0][1] - 3, 6, 6)], line.color, tip=line.name))
        elif places:
            width = 1.5 if line.faint else 2.25
            canvas.add(Line(places, line.color, width=width, faint=line.faint, dashed=line.dashed, tip=line.name))
    for number, line in enumerate(named):
        x, y = _legend_place(number)
        canvas.add(Line([(x, y - 4), (x + 18, y - 4)], line.color, width=3, dashed=line.dashed))
        canvas.add(Words(shorten(line.name, 24), x + 24, y, _SMALL))
    return canvas


def _band(
    band: Sequence[tuple[float, float, float]], x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[Rectangles]:
    """A shade made of upright strips one unit wide, which SVG and picture both know."""
    if not band:
        return []
    xs, lows, highs = zip(*band, strict=True)
    left, right = (round(_place_x(x, x_range)) for x in (xs[0], xs[-1]))
    strips = []
    for place in range(left, max(right, left + 1)):
        x = x_range[0] + (place + 0.5 - _LEFT) / (WIDTH - _LEFT - _RIGHT) * (x_range[1] - x_range[0])
        top, bottom = (_place_y(float(np.interp(x, xs, ys)), y_range) for ys in (highs, lows))
        strips.append((place, top, 1.0, bottom - top))
    return [Rectangles(strips, "muted", opacity=0.25)]


def bar_chart(
    title: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[float], Color]],
    *,
    axis: str,
    form: str = "{:,.0f}",
) -> Canvas:
    """Groups of bars side by side, one of each series, which a legend names if there is more than one."""
    canvas = Canvas(WIDTH, HEIGHT + (_legend_height(len(series)) if len(series) > 1 else 0), title, axis)
    values = [value for _, heights, _ in series for value in heights]
    if not values or not any(values):
        return _nothing(canvas)
    y_range = (min(0.0, *values), max(0.0, *values) * 1.08)
    _axes(canvas, None, y_range, ("", axis))
    room = (WIDTH - _LEFT - _RIGHT) / len(groups)
    width = 0.8 * room / len(series)
    for number, (name, heights, color) in enumerate(series):
        for place, value in enumerate(heights):
            x = _LEFT + place * room + 0.1 * room + number * width
            top, bottom = sorted((_place_y(value, y_range), _place_y(0, y_range)))
            tip = f"{name}, {groups[place]}: " if len(series) > 1 else f"{groups[place]}: "
            bar = (x, top, width * 0.94, max(bottom - top, 0.5))
            canvas.add(Rectangles([bar], color, tip=tip + form.format(value)))
            if len(series) == 1 and len(groups) <= 12:
                canvas.add(Words(form.format(value), x + width * 0.47, top - 3, 10, "middle", "muted"))
    wide = max(len(name) for name in groups) * 0.52 * _SMALL > room  # then every other name stands lower
    for place, name in enumerate(groups):
        y = HEIGHT - _BOTTOM + (30 if wide and place % 2 else 16)
        canvas.add(Words(name, _LEFT + (place + 0.5) * room, y, _SMALL, "middle", "muted"))
    if len(series) > 1:
        for number, (name, _, color) in enumerate(series):
            x, y = _legend_place(number)
            canvas.add(Rectangles([(x, y - 10, 12, 12)], color), Words(shorten(name, 24), x + 18, y, _SMALL))
    return canvas


def class_bars(title: str, rows: Sequence[tuple[str, float | None, Color]]) -> Canvas:
    """A bar in 0..1 for each class, the longest first; None where a class has no value. For the file: the page has
    a table that sorts."""
    rows = sorted(rows, key=lambda row: (row[1] is None, -(row[1] or 0.0)))
    if len(rows) > _MAX_NAMED:
        half = _MAX_NAMED // 2
        rows, title = [*rows[:half], *rows[-half:]], f"{title}: the {half} first and the {half} last"
    canvas = Canvas(WIDTH, 18 * len(rows) + 12, title)
    for number, (name, value, color) in enumerate(rows):
        y = 18 * number + 6
        canvas.add(Words(shorten(name, 20), 140, y + 12, 11, "end"))
        if value is not None:
            canvas.add(Rectangles([(146, y + 2, 240 * max(0.0, value), 13)], color))
        label = "no truth" if value is None else f"{value:.3f}"
        canvas.add(Words(label, 150 + 240 * max(0.0, value or 0.0), y + 12, 10.5, paint="muted"))
    return canvas if rows else _nothing(Canvas(WIDTH, HEIGHT, title))


@dataclass(frozen=True)
class MatrixLayout:
    """Where the cells of a confusion matrix lie, in units: the page's script finds the cell below the pointer by it."""

    left: float
    top: float
    cell: float


def matrix_chart(
    title: str, rows: Sequence[str], columns: Sequence[str], counts: np.ndarray
) -> tuple[Canvas, MatrixLayout]:
    """A confusion matrix, each row divided by its sum: what is right in blue, mistakes in orange."""
    size = max(len(rows), len(columns), 1)
    cell = min(44.0, max(9.0, 660 / size)) if size <= _MAX_NAMED else 9.0 * _MAX_NAMED / size
    font = min(12.0, cell * 0.85)
    longest = max((len(name) for name in (*rows, *columns)), default=0) if size <= _MAX_NAMED else 0
    margin = min(22, longest) * font * 0.56 + 26
    canvas = Canvas(
        margin + cell * len(columns) + 10, margin + cell * len(rows) + 10, title, "rows truth, columns predicted"
    )
    if not counts.any():
        return _nothing(Canvas(WIDTH, HEIGHT, title)), MatrixLayout(0, 0, 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    canvas.add(Rectangles([(margin, margin, cell * len(columns), cell * len(rows))], "line", opacity=0.35))
    _shades(canvas, shares, margin, cell)
    for number, name in enumerate(rows if size <= _MAX_NAMED else []):
        canvas.add(Words(shorten(name, 22), margin - 5, margin + (number + 0.5) * cell + font * 0.36, font, "end"))
    for number, name in enumerate(columns if size <= _MAX_NAMED else []):
        x = margin + (number + 0.5) * cell + font * 0.36
        canvas.add(Words(shorten(name, 22), x, margin - 5, font, upward=True))
    canvas.add(
        Words("truth", 12, margin + 4, 11, "end", "muted", upward=True),
        Words("predicted", margin, 12, 11, paint="muted"),
    )
    if cell >= 30:
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            x, y = margin + (column + 0.5) * cell, margin + (row + 0.5) * cell + 4
            light = shares[row, column] > 0.55
            canvas.add(
                Words(f"{100 * shares[row, column]:.0f}", x, y, 11.5, "middle", (255, 255, 255) if light else "ink")
            )
    return canvas, MatrixLayout(margin, margin, cell)


def _shades(canvas: Canvas, shares: np.ndarray, margin: float, cell: float) -> None:
    """One path for all cells of a shade: matrices of 150 classes have 20,000 of them."""
    right = np.eye(*shares.shape, dtype=bool)
    shade = np.where(shares > 0, np.rint(shares * _SHADES), -1)
    for color, where in ((RIGHT_COLOR, right), (WRONG_COLOR, ~right)):
        for level in range(_SHADES + 1):
            found = np.argwhere(where & (shade == level))
            places = [(margin + c * cell, margin + r * cell, cell, cell) for r, c in found.tolist()]
            if places:
                canvas.add(Rectangles(places, color, opacity=0.05 + 0.95 * level / _SHADES))


def _legend_height(count: int) -> int:
    return 18 * math.ceil(count / 2) + (4 if count else 0)


def _legend_place(number: int) -> tuple[float, float]:
    """Two in a row, below the axes."""
    return _LEFT + number % 2 * 175, HEIGHT + 12 + 18 * (number // 2)


def shorten(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    span = (high - low) / count
    power = 10 ** math.floor(math.log10(span))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= span * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(0.0, *values), max(0.0, *values)
    return (low, high) if high > low else (0.0, 1.0)


def _axes(
    canvas: Canvas, x_range: tuple[float, float] | None, y_range: tuple[float, float], names: tuple[str, str]
) -> None:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for value in ticks(*y_range):
        y = _place_y(value, y_range)
        canvas.add(Line([(_LEFT, y), (right, y)], "line", width=1))
        canvas.add(Words(_number(value), _LEFT - 6, y + 4, _SMALL, "end", "muted"))
    for value in ticks(*x_range) if x_range else []:
        canvas.add(Words(_number(value), _place_x(value, x_range or (0, 1)), bottom + 16, _SMALL, "middle", "muted"))
    canvas.add(Words(names[0], (_LEFT + right) / 2, HEIGHT - 10, _SMALL, "middle", "muted"))
    canvas.add(Words(names[1], 11, (_TOP + bottom) / 2, _SMALL, "middle", "muted", upward=True))


def _place_x(x: float, limits: tuple[float, float]) -> float:
    return _LEFT + (x - limits[0]) / (limits[1] - limits[0]) * (WIDTH - _LEFT - _RIGHT)


def _place_y(y: float, limits: tuple[float, float]) -> float:
    return HEIGHT - _BOTTOM - (y - limits[0]) / (limits[1] - limits[0]) * (HEIGHT - _TOP - _BOTTOM)


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k"
    return f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.0e}"


def _nothing(canvas: Canvas) -> Canvas:
    canvas.add(Words("nothing to draw", canvas.width / 2, canvas.height / 2, 13, "middle", "muted"))
    return canvas
