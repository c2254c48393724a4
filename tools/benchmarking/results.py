"""Cases as tables, as plain JSON, and as a picture (uint8 RGB)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_json
from ..drawing.annotate import GREY, palette
from ..drawing.charts import Bar, row_chart
from ..drawing.figure import Chart
from ..drawing.pictures import write_image
from ..system.console import columns, log
from .case import Case, Row
from .timing import Spread

_WIDTH = 600  # units
_REST = "rest"  # of a whole call, beyond its stages


def table(case: Case) -> str:
    """One case as lines of text."""
    stages = list(case.rows[0].times.stages)
    first = case.rows[0].name
    loading = case.kind == "loading"
    heads = ["", "ms", *["images/s"] * loading, "quartiles", f"x {first}", *stages, "MB", "GMAdd/s", "of peak"]
    heads.append(f"against {first}")
    lines = [heads, *(_cells(row, stages, case.peaks, loading=loading) for row in case.rows)]
    used = [i for i in range(len(heads)) if any(line[i] for line in lines[1:])]
    ends = [place for place, i in enumerate(used) if i in (0, len(heads) - 1)]
    body = columns([[line[i] for i in used] for line in lines], left=ends)
    facts = [f"{name} {value:,.4g}" if value < 1e4 else f"{name} {value:,.0f}" for name, value in case.facts.items()]
    facts += [f"matrix product {precision} {peak / 1e9:.0f} GMAdd/s" for precision, peak in case.peaks.items()]
    if case.decode_seconds is not None:
        facts.append(f"JPEG decoding {1e3 * case.decode_seconds:.1f} ms, not included above")
    return "\n".join([case.title, *body, *(["; ".join(facts)] if facts else [])])


def _cells(row: Row, stages: Sequence[str], peaks: Mapping[str, float], *, loading: bool) -> list[str]:
    whole, rate, peak = Spread.of(row.times.whole), row.madds_per_second, peaks.get(row.precision)
    times = [f"{1e3 * Spread.of(row.times.stages[stage]).median:.1f}" for stage in stages]
    return [
        row.name,
        f"{1e3 * whole.median:.1f}",
        *[f"{1 / whole.median:.0f}"] * loading,
        f"{1e3 * whole.low:.1f} to {1e3 * whole.high:.1f}",
        f"{row.ratio:.2f}",
        *times,
        ("" if loading else "not measured") if row.memory_mb is None else f"{row.memory_mb:.0f}",
        "" if rate is None else f"{rate / 1e9:.1f}",
        "" if rate is None or peak is None else f"{rate / peak:.0%}",
        "" if row.agreement is None else str(row.agreement),
    ]


def write(
    folder: Path, cases: Sequence[Case], *, machine: dict[str, Any], pictures: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write results.json, with all times in seconds, benchmark.png, and other pictures."""
    write_json(folder / "results.json", {"machine": machine, "cases": [_case_json(case) for case in cases]})
    pictures = {**(pictures or {}), "benchmark.png": draw_bars(cases)}
    for name, picture in pictures.items():
        write_image(folder / name, picture)
    log.info("\nwritten: %s", ", ".join(str(folder / name) for name in ("results.json", *pictures)))


def _case_json(case: Case) -> dict[str, Any]:
    told = asdict(case)
    for row, data in zip(case.rows, told["rows"], strict=True):
        data["spread"] = asdict(Spread.of(row.times.whole))
        data["medians"] = {name: Spread.of(times).median for name, times in row.times.stages.items()}
    return told


# ---- the picture ------------------------------------------------------------------------------------------


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
