"""Print the MobileNetV3 paper's tables beside our parameter counts, multiply-adds and times.

pocketvision paper table=6
pocketvision paper table=7 latency=true
pocketvision paper format=markdown output=tables.md

More examples:

  pocketvision paper table=4
  pocketvision paper table=3 results=[runs/table3_v3_small/results.json]
"""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pocketvision.absent import Results, from_file, written
from pocketvision.backbones.counting import Counts, count
from pocketvision.conf.paper_tables import TABLES, Row, Table, prints
from pocketvision.conf.schema import PaperConfig
from pocketvision.files import write_text
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.runs.config_file import read_config
from pocketvision.tools.system.console import columns, log, progress
from pocketvision.words import counted

SCALES = {"M": 1e6, "B": 1e9}
LEGEND = (
    "= equals the printed number, rounded or truncated (the paper does both); ~ is within 1 % (Small: 4 %); ! differs. "
    "MAdds: convolutions plus 2 for every element of a squeeze-and-excite and of an h-swish / convolutions only; the "
    "closer one is compared."
)


@dataclass
class Ours:
    """Our counts and times for one row's network, by the name of the size."""

    counts: dict[str, Counts]
    milliseconds: dict[str, float] = field(default_factory=dict)


def paper(config: DictConfig) -> None:
    """Print the requested tables and write them to `output` if it is set."""
    settings = settings_of(config, PaperConfig)
    if settings.table not in (None, *TABLES):
        raise ValueError(f"table={settings.table}: choose one of {', '.join(map(str, TABLES))}, or null for all")
    if settings.format not in ("text", "markdown"):
        raise ValueError(f"format={settings.format}: expected text or markdown")
    if settings.repeats < 1:
        raise ValueError(f"repeats={settings.repeats}: expected 1 or more")
    accuracies = read_results(settings.results)
    tables = [TABLES[settings.table]] if settings.table else list(TABLES.values())
    markdown = settings.format == "markdown"
    texts = [LEGEND] if any(table.stored is None for table in tables) else []
    for table in tables:
        if table.stored is not None:
            texts.append(as_measured(table, json.loads(table.stored.read_text()), markdown=markdown))
            continue
        rows = [row for row in table.rows if row.experiment]
        measured = {
            row.name: measure(row, table, repeats=settings.repeats if settings.latency else 0)
            for row in progress(rows, total=len(rows), title=f"table {table.number}")
        }
        texts.append(as_text(table, measured, accuracies, markdown=markdown))
    text = "\n\n".join(texts)
    log.info("%s", text)
    if settings.output:
        write_text(Path(settings.output), text + "\n")


def measure(row: Row, table: Table, *, repeats: int) -> Ours:
    """Counts, from shapes alone, and with `repeats` the median time for one image."""
    config = build.compose(f"experiment=paper/{row.experiment}", *row.overrides)
    with torch.device("meta"):
        model = build.build_task(config).model
    sizes = _sizes(row, table)
    ours = Ours({name: count(model, torch.empty(1, 3, *size, dtype=torch.uint8, device="meta"))
                 for name, size in sizes.items()})  # fmt: skip
    if repeats:
        model = build.build_task(config).model.eval().to(memory_format=torch.channels_last)
        ours.milliseconds = {name: milliseconds(model, size, repeats) for name, size in sizes.items()}
    return ours


def _sizes(row: Row, table: Table) -> dict[str, tuple[int, int]]:
    """The sizes at which the paper reports numbers for this row."""
    return {name: size for name, size in table.sizes.items() if not isinstance(row.madds, Mapping) or name in row.madds}


@torch.inference_mode()
def milliseconds(model: torch.nn.Module, size: tuple[int, int], repeats: int) -> float:
    """Median time of the network for one image, after one warm-up call."""
    images = torch.zeros(1, 3, *size, dtype=torch.uint8)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model(images)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])


def read_results(paths: Sequence[str]) -> dict[str, Results]:
    """Results of runs by experiment name, from the `results.json` files in run folders."""
    found = {}
    known = {_run_name(row): METRICS[table.metric][0] for table in TABLES.values() for row in table.rows}
    for path in map(Path, paths):
        config = path.parent / "config.yaml"
        if not config.is_file():
            raise ValueError(f"{config} does not exist: results={path} must be in its run folder")
        name, results = str(read_config(config).get("name")), _results(path)
        if name not in known:
            raise ValueError(f"{config} has name={name}, which matches no row: name the run after its experiment")
        if known[name] not in results:
            raise ValueError(f"{path} has no {known[name]}: run pocketvision evaluate run={path.parent} again")
        found[name] = results
    return found


def _results(path: Path) -> Results:
    try:
        results = from_file(json.loads(path.read_text()))
        return {str(key): None if value is None else float(value) for key, value in results.items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} has no results ({error!s:.100}): run pocketvision evaluate again") from error


def _run_name(row: Row) -> str:
    return (row.experiment or "").replace("/", "_")


MEASURED = {"top1": ("top-1", 100, ".1f"), "ms": ("ms", 1, ".2f"), "mb": ("MB", 1, ".2f")}  # by key: name, factor, form
METRICS = {"top-1": ("top1", 100), "mAP": ("AP", 100), "mIoU": ("mIoU", 100)}  # key and factor in results.json


def as_text(table: Table, measured: Mapping[str, Ours], accuracies: Mapping[str, Results], *,
            markdown: bool) -> str:  # fmt: skip
    """One table with its footnotes."""
    timed = any(ours.milliseconds for ours in measured.values())
    scored = any(_run_name(row) in accuracies for row in table.rows)
    with_params = any(row.params for row in table.rows)
    heads = ["", table.metric, *(["ours"] if scored else [])]
    heads += ["params M", "ours"] if with_params else []
    for name in table.sizes:
        heads += [f"MAdds {table.unit} {name}".strip(), "ours"]
    heads += [*table.phones, *(f"here ms {name}".strip() for name in table.sizes)] if timed else []
    lines, notes = [[*heads, "matches"]], []
    for row in table.rows:
        ours = measured.get(row.name)
        cells, marks = _cells(row, table, ours, with_params=with_params)
        matches = "-" if ours is None else "no" if "!" in marks else "yes"
        if row.note and (ours is None or set(marks) != {"="}):
            if row.note not in notes:
                notes.append(row.note)
            matches += f" ({notes.index(row.note) + 1})"
        score = [_score(accuracies.get(_run_name(row)), table)] if scored else []
        times = _times(row, table, ours) if timed else []
        lines.append([row.name, row.accuracy, *score, *cells, *times, matches])
    size = ", ".join(f"{name} {h}x{w}".strip() for name, (h, w) in table.sizes.items())
    counted = "all parameters" if table.batch_norm else "weights and biases without batch norm"
    about = f"{size}; {counted}" if with_params else size
    footnotes = [f"({i}) {note}." for i, note in enumerate(notes, start=1)]
    return _page(table, about, lines, footnotes, markdown=markdown)


def _page(table: Table, about: str, lines: Sequence[Sequence[str]], notes: Sequence[str], *, markdown: bool) -> str:
    title = f"{'## ' if markdown else ''}Table {table.number}: {table.title} ({about})"
    body = _markdown(lines) if markdown else columns(lines)
    return "\n".join([title, "", *body, "", *notes]).rstrip()


def as_measured(table: Table, stored: Mapping[str, Any], *, markdown: bool) -> str:
    """A table whose networks were measured before, on other data and another processor than the paper's."""
    pairs = [(key, precision) for key in MEASURED for precision in ("fp32", "int8")]
    heads = [f"paper: {head}" for head in (table.metric, *table.phones)]
    lines = [["", *heads, *(f"ours: {MEASURED[key][0]} {precision}" for key, precision in pairs)]]
    for row in table.rows:
        ours = stored["networks"][row.name]
        cells = [format(MEASURED[key][1] * ours[precision][key], MEASURED[key][2]) for key, precision in pairs]
        lines.append([row.name, row.accuracy, *row.times, *cells])
    return _page(table, "paper: ImageNet on phones; ours: small images on a CPU", lines, [conditions(stored)],
                 markdown=markdown)  # fmt: skip


def conditions(stored: Mapping[str, Any]) -> str:
    """What our figures are, and that they are not the paper's."""
    data, machine = stored["data"], stored["machine"]
    figures = [found for ours in stored["networks"].values() for found in ours.values()]
    error = 100 * max(math.sqrt(found["top1"] * (1 - found["top1"]) / data["val"]) for found in figures)
    spread = 100 * max(abs(found[end] / found["ms"] - 1) for found in figures for end in ("low", "high"))
    settings = "".join(f", {key}={value}" for key, value in stored["environment"].items())
    images = f"{data['train']} for training, {data['val']} for validation, {counted(data['classes'], 'class')}"
    where = f"OpenVINO {machine['openvino']} on {machine['processor']}, threads: {machine['threads']}{settings}"
    return (
        f"Ours: {data['name']} ({images}), {counted(stored['epochs'], 'epoch')}, one training of each network (seed "
        f"{stored['seed']}), quantized afterwards; a top-1 has a standard error of up to {error:.1f}. "
        f"{stored['clock']} of a whole call in {where}: medians, with quartiles up to {spread:.0f} % away, while "
        f"{machine['cores']} cores had a load of {machine['load']}. MB of weights. Measured on {stored['date']}; "
        f"`{stored['command']}` does it again. Do not compare accuracies or times with the paper's, only what int8 "
        "changes."
    )


def _cells(row: Row, table: Table, ours: Ours | None, *, with_params: bool) -> tuple[list[str], str]:
    """Alternating printed and counted numbers, and a mark for the agreement of each pair."""
    cells, marks = [], ""
    tolerance = 0.04 if "mall" in row.name else 0.01
    if with_params:
        first = next(iter(ours.counts.values())) if ours else None
        value = None if first is None else (first.params if table.batch_norm else first.conv_params) / 1e6
        mark = compare([value], row.params, tolerance)
        marks += mark
        cells += [row.params or "", "" if value is None else f"{value:.3f} {mark}".strip()]
    for name in table.sizes:
        printed = row.madds.get(name) if isinstance(row.madds, Mapping) else row.madds
        counts = ours.counts.get(name) if ours else None
        values = [] if counts is None else [n / SCALES[table.unit] for n in (counts.madds, counts.conv_madds)]
        mark = compare(values, printed, tolerance)
        marks += mark
        cells += [printed or "", f"{' / '.join(_number(value) for value in values)} {mark}".strip()]
    return cells, marks


def compare(values: Sequence[float | None], printed: str | None, tolerance: float) -> str:
    """`=`, `~` or `!` for the closest of `values` (see LEGEND); empty if there is nothing to compare."""
    known = [value for value in values if value is not None]
    if not known or not printed:
        return ""
    if any(prints(value, printed) for value in known):
        return "="
    return "~" if min(abs(value / float(printed) - 1) for value in known) <= tolerance else "!"


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.3f}"


def _times(row: Row, table: Table, ours: Ours | None) -> list[str]:
    printed = [*row.times, *[""] * (len(table.phones) - len(row.times))]
    here = [f"{ours.milliseconds[name]:.1f}" if ours and name in ours.milliseconds else "" for name in table.sizes]
    return [*printed, *here]


def _score(results: Results | None, table: Table) -> str:
    key, factor = METRICS[table.metric]
    return "" if results is None else written((value := results[key]) and value * factor, ".2f")


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return [head, "|" + "---|" * len(lines[0]), *rows]


main = command("paper", paper)

if __name__ == "__main__":
    main()
