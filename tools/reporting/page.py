"""The page: one self-contained file, for one run or for several."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..drawing.figure import Chart
from ..drawing.html import render
from ..runs.keys import is_compared
from .drawn import CLASS_FIGURE, charts_of, charts_of_several, matrix_of
from .gallery_page import gallery
from .summary import HEADLINES, Summary

_MAX_PAIRS = 20


def page(runs: Sequence[tuple[Summary, Path]]) -> tuple[str, dict[str, Chart]]:
    """The HTML for runs of one task, each with the folder of its pictures; and the charts to write beside it."""
    summaries = [summary for summary, _ in runs]
    title = " and ".join(s.name for s in summaries) if len(summaries) < 4 else f"{len(summaries)} runs"
    values: dict[str, Any] = {
        "title": title,
        "runs": [_run(summary, folder, f"run-{number}") for number, (summary, folder) in enumerate(runs)],
        "compared": _compared(summaries) if len(runs) > 1 else None,
    }
    html = render(Path(__file__).with_name("report.html.jinja"), values)
    return html, (values["compared"] or values["runs"][0])["charts"]


def _run(summary: Summary, folder: Path, name: str) -> dict[str, Any]:
    results = summary.results
    return {
        "name": name,
        "summary": summary,
        "cards": [_card(key, results) for key in HEADLINES[summary.kind] if key in results],
        "charts": charts_of(summary),
        "notes": {"object_sizes": _sizes_told(results)},
        "titles": [key for key in (summary.classes or [{}])[0] if key not in ("name", "color")],
        "matrix": matrix_of(summary),
        "pairs": _pairs(summary.confusion),
        "gallery": gallery(summary, folder, name),
        "small_print": {
            "what was evaluated": {**summary.facts, "command": summary.command},
            "all metrics": {
                key: "no ground truth" if value is None else f"{value:.4f}" for key, value in results.items()
            },
            "environment": summary.environment,
            "configuration": summary.config,
        },
    }


def _card(key: str, results: Mapping[str, float | None]) -> tuple[str, str, str]:
    value, low, high = (results.get(name) for name in (key, f"{key}/low", f"{key}/high"))
    if value is None:
        return key.replace("_", " "), "\N{EN DASH}", "no ground truth"
    between = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
    return key.replace("_", " "), f"{value:.3f}", between


def _sizes_told(results: Mapping[str, float | None]) -> str:
    """A note that relates COCO's three sizes to the histogram."""
    sizes = {"APs": "small, below 32 pixels", "APm": "medium, 32 to 96", "APl": "large, from 96"}
    values = {size: results.get(key) for key, size in sizes.items()}
    parts = [f"{size}: {'no ground truth' if value is None else f'{value:.3f}'}" for size, value in values.items()]
    return f"Size is the square root of an object's area. AP by size: {'; '.join(parts)}."


def _pairs(confusion: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The most frequently confused classes, by count; the background is not a class."""
    sums = Counter[int]()
    for row, _, count in confusion["cells"]:
        sums[row] += count
    outside = len(confusion["rows"]) - 1 if confusion["background"] else None
    wrong = [cell for cell in confusion["cells"] if cell[0] != cell[1] and outside not in cell[:2]]
    return [
        (confusion["rows"][row], confusion["columns"][column], f"{count:,}", f"{100 * count / sums[row]:.1f} %")
        for row, column, count in sorted(wrong, key=lambda cell: (-cell[2], cell[0], cell[1]))[:_MAX_PAIRS]
    ]


def _compared(summaries: Sequence[Summary]) -> dict[str, Any]:
    """Headline metrics, facts, classes by name, and the configuration keys that differ."""
    kind = summaries[0].kind
    headlines = {key: [s.results.get(key) for s in summaries] for key in HEADLINES[kind]}
    facts = [key for key in ("parameters", "checkpoint", "data", "data hash") if key in summaries[0].facts]
    by_name = [{row["name"]: row[CLASS_FIGURE[kind]] for row in s.classes} for s in summaries]
    config = {key: [s.config.get(key, "not there") for s in summaries] for s in summaries for key in s.config}
    return {
        "other_data": len({summary.facts["data hash"] for summary in summaries}) > 1,
        "names": [summary.name for summary in summaries],
        "figure": CLASS_FIGURE[kind],
        "headlines": {key: values for key, values in headlines.items() if values != [None] * len(values)},
        "facts": {key: [summary.facts.get(key, "") for summary in summaries] for key in facts},
        "charts": charts_of_several(summaries),
        "classes": {name: [run.get(name) for run in by_name] for run in by_name for name in run},
        "config": {key: values for key, values in config.items() if len(set(values)) > 1 and is_compared(key)},
    }
