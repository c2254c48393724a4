"""Bars of stages and lines of growth, as pictures (uint8 RGB)."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..drawing.annotate import GREY, palette
from ..drawing.charts import Bar, row_chart
from ..drawing.figure import Chart
from .case import Case
from .timing import Spread

_WIDTH = 600  # units
_REST = "rest"  # of a whole call, beyond its stages


def draw_bars(cases: Sequence[Case]) -> np.ndarray:
    """One bar of stages per variant, as long as its median time; cases one below the other."""
    return np.concatenate([_bars(case).picture() for case in cases])


def _bars(case: Case) -> Chart:
    stages = list(case.rows[0].times.stages)
    colors = dict(zip([*stages, _REST], [*palette(len(stages)), GREY], strict=True))
    rows = []
    for row in case.rows:
        whole = Spread.of(row.times.whole).median
        parts = [(seconds, colors[stage]) for stage, seconds in lengths(row.times.stages, whole)]
        rows.append((row.name, [Bar(parts, f"{1e3 * whole:.1f} ms, x {row.ratio:.2f}")]))
    return row_chart(case.title, rows, legend=[(stage, colors[stage]) for stage in stages], width=_WIDTH)


def lengths(stages: Mapping[str, Sequence[float]], whole: float) -> list[tuple[str, float]]:
    """Stages and seconds that fill `whole`; stages with a longer sum are scaled down."""
    medians = {name: Spread.of(times).median for name, times in stages.items()}
    total = sum(medians.values())
    factor = min(1.0, whole / total) if total else 0.0
    rest = whole - factor * total
    return [(name, factor * seconds) for name, seconds in medians.items()] + [(_REST, rest)] * (rest > 1e-3 * whole)
