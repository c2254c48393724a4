"""Bars of stages and lines of growth, as pictures (uint8 RGB)."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..drawing.annotate import GREY, palette
from ..drawing.charts import Bar, number, paint, row_chart
from ..drawing.figure import Chart, style
from .case import Case
from .timing import Spread

_WIDTH = 600  # units
_REST = "rest"  # of a whole call that its stages leave


def draw_bars(cases: Sequence[Case]) -> np.ndarray:
    """Every case below the last, a bar of stages for every variant, its length the median time."""
    return np.concatenate([_bars(case).picture() for case in cases])


def _bars(case: Case) -> Chart:
    stages = list(case.rows[0].times.stages)
    colors = dict(zip([*stages, _REST], [*palette(len(stages)), GREY], strict=True))
    rows = []
    for row in case.rows:
        whole = Spread.of(row.times.whole).median
        parts = [(end - start, colors[stage]) for stage, start, end in segments(row.times.stages, whole)]
        rows.append((row.name, [Bar(parts, f"{1e3 * whole:.1f} ms, x {row.ratio:.2f}")]))
    return row_chart(case.title, rows, legend=[(stage, colors[stage]) for stage in stages], width=_WIDTH)


def segments(stages: Mapping[str, Sequence[float]], whole: float) -> list[tuple[str, float, float]]:
    """(stage, start, end) in seconds that fill `whole`; stages whose sum is longer are shrunk to it."""
    medians = {name: Spread.of(times).median for name, times in stages.items()}
    total = sum(medians.values())
    factor = min(1.0, whole / total) if total else 0.0
    found, at = [], 0.0
    for name, seconds in medians.items():
        found.append((name, at, at + seconds * factor))
        at += seconds * factor
    if whole - at > 1e-3 * whole:
        found.append((_REST, at, whole))
    return found


@style()
def draw_growth(title: str, axis: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> np.ndarray:
    """Time over size, both axes logarithmic; a line of (size, seconds) for every variant."""
    from matplotlib.ticker import LogLocator

    chart = Chart(title, _WIDTH, 300 + 18 * len(lines))
    plot = chart.axes(76, 14, _WIDTH - 100, 240)
    handles = []
    for points, color in zip(lines.values(), palette(len(lines)), strict=True):
        sizes, seconds = zip(*points, strict=True)
        times = [1e3 * second for second in seconds]
        handles += plot.plot(sizes, times, color=paint(color), marker="o", markersize=5, linewidth=2, clip_on=False)
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_xlabel(axis)
    plot.set_ylabel("ms")
    plot.xaxis.set_ticks(sorted({size for points in lines.values() for size, _ in points}))
    plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plot.minorticks_off()
    for one in (plot.xaxis, plot.yaxis):
        one.set_major_formatter(lambda value, _: number(value))
    chart.legend(handles, list(lines), left=76, top=300, columns=1)
    return chart.picture()
