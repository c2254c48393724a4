"""A chart of named points, whose names keep clear of each other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .charts import Color, number, paint, squares
from .figure import INK, MUTED, Chart, style

_WIDTH, _HEIGHT = 640, 400  # units
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 20, 14, 44
_SIZE, _LINE = 10, 12  # units: of the names' letters, and of their lines
_MARK = 5  # units from the middle of a point to its rim
_ROUNDS = 3
_REACH = (9, 18, 30, 44, 60, 80, 104, 130)  # units from a point to the nearest corner of its name


@dataclass(frozen=True)
class Point:
    name: str
    x: float  # positive: the axis is logarithmic
    y: float
    color: Color


@dataclass(frozen=True)
class Level:
    """A dashed line at a height, and what it means."""

    y: float
    name: str


class Box(NamedTuple):
    """In units of the chart, from the lower left corner of its axes."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: "Box") -> bool:
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high


@style()
def point_chart(
    title: str,
    points: Sequence[Point],
    *,
    axes: tuple[str, str],
    level: Level | None = None,
    legend: Sequence[tuple[str, Color]] = (),
) -> Chart:
    """Points over a logarithmic and a linear axis, each with its name, and a legend of the colors below."""
    chart = Chart(title, _WIDTH, _HEIGHT + bool(legend) * 22, summary=f"{axes[1]} over {axes[0]}")
    if not points:
        return chart.nothing()
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    size = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    plot = chart.axes(_LEFT, _TOP, *size)
    low, high = min(point.x for point in points) / 1.3, max(point.x for point in points) * 1.3
    heights = [point.y for point in points] + ([level.y] if level else [])
    margin = 0.15 * (max(heights) - min(heights)) or 0.01
    bottom, top = min(heights) - margin, max(heights) + margin
    plot.set_xscale("log")
    plot.set_xlim(low, high)
    plot.set_ylim(bottom, top)
    plot.xaxis.set_major_locator(FixedLocator(list(_round_numbers(low, high))))
    plot.xaxis.set_minor_locator(NullLocator())
    plot.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_formatter(lambda value, _: number(value))
    plot.set_xlabel(axes[0])
    plot.set_ylabel(axes[1])
    taken: list[Box] = []
    if level:
        plot.axhline(level.y, color=MUTED, linestyle="--", linewidth=1)
        plot.annotate(level.name, (0, level.y), (4, -12), xycoords=("axes fraction", "data"),
                      textcoords="offset points", color=MUTED, size=_SIZE)  # fmt: skip
        y = (level.y - bottom) / (top - bottom) * size[1]
        taken.append(Box(0, y - 14, _width(level.name) + 8, y + 1))
    places = [
        (math.log(point.x / low) / math.log(high / low) * size[0], (point.y - bottom) / (top - bottom) * size[1])
        for point in points
    ]
    boxes = place_names([_width(point.name) for point in points], places, size, taken)
    for point, place, box in zip(points, places, boxes, strict=True):
        (drawn,) = plot.plot(point.x, point.y, "o", color=paint(point.color), markersize=2 * _MARK, clip_on=False)
        chart.mark(drawn, f"{point.name}: {axes[1]} {point.y:.4g}, {axes[0]} {point.x:.3g}")
        corner = _nearest(box, place)
        if math.dist(corner, place) > _REACH[0]:
            plot.annotate("", _shares(corner, size), _shares(place, size), xycoords="axes fraction",
                          arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.7,
                                      "shrinkA": _MARK, "shrinkB": 0})  # fmt: skip
        plot.text(*_shares((box.left + 2, (box.low + box.high) / 2), size), point.name, transform=plot.transAxes,
                  va="center_baseline", size=_SIZE, color=INK)  # fmt: skip
    chart.legend(*squares(legend), left=_LEFT, top=_HEIGHT + 2, columns=max(1, len(legend)))
    return chart


def place_names(
    widths: Sequence[float], places: Sequence[tuple[float, float]], size: tuple[float, float], taken: Sequence[Box]
) -> list[Box]:
    """A box for every name inside the axes: the nearest one clear of all points, of the others, and of `taken`.

    Where there is no such box, the one that meets the least.

    Args:
        widths: of the names.
        places: the points, from the lower left corner of the axes.
        size: (width, height) of the axes.
    """
    points = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in places]
    boxes: dict[int, Box] = {}
    order = sorted(range(len(places)), key=lambda i: -_neighbors(places, i))  # those with little room choose first
    for i in order * _ROUNDS:  # and again, when all others have a place
        others = [j for j in boxes if j != i]
        solid = [*points, *taken, *(boxes[j] for j in others)]
        lines = [bit for j in others for bit in _bits(boxes[j], places[j])]
        choices = list(_around(places[i], widths[i] + 4))
        costs = [_cost(box, places[i], size, solid, lines) + rank for rank, box in enumerate(choices)]
        boxes[i] = choices[costs.index(min(costs))]
    return [boxes[i] for i in range(len(places))]


def _cost(
    box: Box, place: tuple[float, float], size: tuple[float, float], solid: Sequence[Box], lines: Sequence[Box]
) -> int:
    """Most for what is covered or cut off, less for what lines cross."""
    outside = box.left < 0 or box.low < 0 or box.right > size[0] or box.high > size[1]
    crossed = sum(any(map(bit.meets, (*solid, *lines))) for bit in _bits(box, place))
    return 1000 * (sum(map(box.meets, solid)) + 2 * outside) + 100 * (any(map(box.meets, lines)) + crossed)


def _neighbors(places: Sequence[tuple[float, float]], i: int) -> int:
    return sum(math.dist(places[i], place) < 3 * _LINE for place in places)


def _width(text: str) -> float:
    """Of a name, in units."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=_SIZE).get_extents().width


def _around(place: tuple[float, float], width: float) -> Iterator[Box]:
    """Boxes around a point, the nearest first: right, left, above, below, and the diagonals between."""
    x, y = place
    for reach in _REACH:
        for angle in (0, 180, 30, -30, 150, -150, 90, -90, 60, -60, 120, -120):
            across, up = reach * math.cos(math.radians(angle)), reach * math.sin(math.radians(angle))
            left = x + across - (width / 2 if abs(angle) == 90 else width if abs(angle) > 90 else 0)
            middle = y + up
            yield Box(left, middle - _LINE / 2, left + width, middle + _LINE / 2)


def _nearest(box: Box, place: tuple[float, float]) -> tuple[float, float]:
    """The point of a box that is nearest to a place."""
    return min(max(place[0], box.left), box.right), min(max(place[1], box.low), box.high)


def _bits(box: Box, place: tuple[float, float]) -> list[Box]:
    """The line from a point's rim to its name, in small boxes."""
    end = _nearest(box, place)
    long = math.dist(end, place)
    steps = [i / 12 for i in range(1, 12)]
    middles = [(place[0] + t * (end[0] - place[0]), place[1] + t * (end[1] - place[1])) for t in steps]
    return [Box(x - 1, y - 1, x + 1, y + 1) for t, (x, y) in zip(steps, middles, strict=True) if t * long > _MARK + 1]


def _shares(place: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    return place[0] / size[0], place[1] / size[1]


def _round_numbers(low: float, high: float) -> Iterator[float]:
    """1, 2, 3, 5, 7 and their tens between two numbers."""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        yield from (tick * 10.0**exponent for tick in (1, 1.5, 2, 3, 5, 7) if low <= tick * 10.0**exponent <= high)
