"""The table of a run's formats as text, as plain JSON, and as a picture of accuracy against time."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...absent import written
from ...files import write_json
from ..drawing.annotate import GREY, palette
from ..drawing.figure import Chart
from ..drawing.pictures import write_image
from ..drawing.points import Level, Point, point_chart
from ..system.console import columns, log
from .formats import FormatRow, FormatTable
from .timing import Spread

MAX_LOSS = 0.01  # of the metric; more is marked


def table(found: FormatTable) -> str:
    """Lines of text. Columns with nothing in them are left out, and a loss of more than MAX_LOSS has a mark."""
    heads = ["", found.metric, "loss", "MB", ".xml", "/ fp32", found.clock, "quartiles", "x PyTorch", "x fp32"]
    heads += ["network", "x PyTorch", "x fp32", "peak MB"]
    lines = [_cells(found, row) for row in found.rows]
    used = [i for i in range(len(heads)) if any(line[i] for line in lines)]
    body = columns([[line[i] for i in used] for line in [heads, *lines]])
    photographs = f"times of {found.photographs} photographs" if found.photographs > 1 else "times of one photograph"
    notes = [f"{found.metric} on {found.images} validation images" if found.images else "no accuracy", photographs]
    if any((found.loss(row) or 0) > MAX_LOSS for row in found.rows):
        notes.append(f"! loses more than {MAX_LOSS}")
    return "\n".join([f"{found.run}, step {found.step}", *body, "; ".join(notes)])


def _cells(found: FormatTable, row: FormatRow) -> list[str]:
    whole, loss = Spread.of(row.times.whole), found.loss(row)
    facts = ratios(found, row)
    network = Spread.of(row.network).median if row.network else None
    mark = "!" if loss is not None and loss > MAX_LOSS else ""
    is_pytorch = not row.format
    return [
        row.name,
        written(row.accuracy, ".4f") if found.images else "",
        "" if is_pytorch or loss is None else f"{mark}{round(loss, 4) + 0.0:.4f}",
        f"{row.size / 1e6:.2f}",
        f"{row.sizes['.xml'] / 1e6:.2f}" if ".xml" in row.sizes else "",
        _ratio(facts["size_fp32"]),
        f"{1e3 * whole.median:.2f}",
        f"{1e3 * whole.low:.2f} to {1e3 * whole.high:.2f}",
        _ratio(facts["faster_than_pytorch"]),
        _ratio(facts["faster_than_fp32"]),
        "" if network is None else f"{1e3 * network:.2f}",
        _ratio(facts["network_faster_than_pytorch"]),
        _ratio(facts["network_faster_than_fp32"]),
        "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
    ]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def ratios(found: FormatTable, row: FormatRow) -> dict[str, float | None]:
    """Medians and sizes relative to those of PyTorch and of the same format in fp32; None where there is nothing."""
    pytorch, fp32 = found.rows[0], found.fp32(row) if row.format else None

    def faster(of: str, other: FormatRow | None) -> float | None:
        pair = [_median(one, of) for one in (other, row) if one]
        return pair[0] / pair[1] if len(pair) == 2 and pair[0] and pair[1] else None

    return {
        "size_fp32": row.size / fp32.size if fp32 else None,
        "faster_than_pytorch": faster("whole", pytorch),
        "faster_than_fp32": faster("whole", fp32),
        "network_faster_than_pytorch": faster("network", pytorch),
        "network_faster_than_fp32": faster("network", fp32),
    }


def _median(row: FormatRow, of: str) -> float | None:
    values = row.times.whole if of == "whole" else row.network
    return Spread.of(values).median if values else None


def write(folder: Path, found: FormatTable, *, machine: dict[str, Any]) -> None:
    """Write results.json, with all times in seconds, and formats.png if there is an accuracy."""
    told = asdict(found)
    for row, data in zip(found.rows, told["rows"], strict=True):
        spreads = {"spread": asdict(Spread.of(row.times.whole))}
        if row.network:
            spreads["network_spread"] = asdict(Spread.of(row.network))
        data |= {"loss": found.loss(row), **ratios(found, row), **spreads}
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    write_json(folder / "results.json", {"machine": machine, "date": when, "formats": told})
    names = ["results.json"]
    if found.images:
        write_image(folder / "formats.png", draw(found).picture())
        names.append("formats.png")
    log.info("\nwritten: %s", ", ".join(str(folder / name) for name in names))


def draw(found: FormatTable) -> Chart:
    """A point for every row: its time across, its accuracy up, its precision and size beside it, its format's color."""
    formats = list(dict.fromkeys(row.format for row in found.rows))
    colors = dict(zip(formats, [GREY, *palette(len(formats) - 1)], strict=True))
    names = {row.format: row.name.removesuffix(f" {row.precision}") for row in found.rows[::-1]}
    points = []
    for row in found.rows:
        if row.accuracy is not None:
            label = f"{row.precision if row.format else row.name}, {row.size / 1e6:.1f} MB"
            points.append(Point(label, 1e3 * Spread.of(row.times.whole).median, row.accuracy, colors[row.format]))
    best = found.rows[0].accuracy
    level = None if best is None else Level(best - MAX_LOSS, f"{MAX_LOSS} below PyTorch")
    return point_chart(
        f"{found.run}: accuracy against time of one photograph", points, level=level,
        axes=(f"{found.clock} per photograph, whole call", found.metric),
        legend=[(names[format], color) for format, color in colors.items()],
    )  # fmt: skip
