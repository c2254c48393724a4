"""The page: one file that needs nothing beside it, for one run or for several."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..drawing.canvas import Canvas
from ..drawing.charts import MatrixLayout
from ..drawing.html import Markup, data_island, element, join
from .drawn import CLASS_FIGURE, charts_of, charts_of_several, counts_of, matrix_of
from .gallery_page import gallery
from .summary import Summary
from .tables import class_table, compared_classes, compared_figures, differing_config, pairs_table, rows_table

HEADLINES = {
    "detection": ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"),
    "segmentation": ("mIoU", "pixel_accuracy", "mIoU_category", "iIoU"),
    "classification": ("top1", "top5"),
}
# Nothing is loaded, whatever a page says: the browser itself holds that line.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_HERE = Path(__file__).parent


def page(runs: Sequence[tuple[Summary, Path]]) -> str:
    """HTML of runs of one task, each with the folder that its pictures lie in."""
    summaries = [summary for summary, _ in runs]
    title = " and ".join(s.name for s in summaries) if len(summaries) < 4 else f"{len(summaries)} runs"
    body = element(
        "body",
        element("header", element("h1", title), _navigation(summaries)),
        element("main", _compared(summaries), [_run(s, folder, i, len(runs)) for i, (s, folder) in enumerate(runs)]),
        _hatch(),
        element("div", id="tip", role="status"),
        element("script", Markup((_HERE / "page.js").read_text())),
    )
    return document(f"{title}: evaluation", body)


def document(title: str, body: Markup) -> str:
    """A whole page of the reports' look, which loads nothing."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup((_HERE / "page.css").read_text())),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _hatch() -> Markup:
    """The pattern over crowd regions."""
    line = element("path", d="M-2 10L10 -2M6 18L18 6", stroke="#ccc", stroke_width="3")
    pattern = element("pattern", line, id="hatch", width="16", height="16", patternUnits="userSpaceOnUse")
    return element("svg", element("defs", pattern), width="0", height="0", aria_hidden="true", class_="defs")


def _navigation(summaries: Sequence[Summary]) -> Markup | None:
    if len(summaries) < 2:
        return None
    links = [("compared", "compared"), *((f"run-{i}", s.name) for i, s in enumerate(summaries))]
    return element("nav", [element("a", text, href=f"#{name}") for name, text in links], aria_label="runs")


def _compared(summaries: Sequence[Summary]) -> Markup | None:
    if len(summaries) < 2:
        return None
    hashes = {summary.facts["data hash"] for summary in summaries}
    warning = "These runs were evaluated on different data: their figures do not compare." if len(hashes) > 1 else None
    figures = HEADLINES[summaries[0].kind]
    charts = charts_of_several(summaries)
    differing = differing_config(summaries)
    return element(
        "section", element("h2", "Compared"), element("p", warning, class_="note") if warning else None,
        compared_figures(summaries, figures), _charts(charts),
        element("h3", f"{CLASS_FIGURE[summaries[0].kind]} of each class"), compared_classes(summaries),
        element("h3", "Configuration where it differs"), differing or element("p", "It does not."),
        id="compared",
    )  # fmt: skip


def _run(summary: Summary, folder: Path, number: int, count: int) -> Markup:
    heading = element("h2", summary.name) if count > 1 else None
    return element(
        "section", heading,
        element("p", _told(summary), class_="muted"),
        [element("p", note, class_="note") for note in summary.notes],
        _cards(summary), _charts(charts_of(summary), {"object_sizes": _sizes_told(summary)}),
        element("h3", "Classes"), class_table(summary),
        _confusion(summary, number), gallery(summary, folder, number), _small_print(summary),
        id=f"run-{number}", class_="run", aria_label=summary.name,
    )  # fmt: skip


def _told(summary: Summary) -> str:
    facts = summary.facts
    return f"{facts['network']}, {facts['parameters']} parameters. {facts['data']}. Evaluated {facts['evaluated']}."


def _cards(summary: Summary) -> Markup:
    cards = []
    for key in HEADLINES[summary.kind]:
        if key in summary.results:
            value, low, high = (summary.results.get(name) for name in (key, f"{key}/low", f"{key}/high"))
            known = value is not None and value >= 0
            between = f"{low:.3f} to {high:.3f}" if known and low is not None and high is not None else None
            name = element("div", key.replace("_", " "), class_="key")
            number = element("div", f"{value:.3f}" if known else "\N{EN DASH}", class_="value")
            small = element("div", between or ("" if known else "no such truth"), class_="muted")
            cards.append(element("div", name, number, small, class_="card"))
    return element("div", cards, class_="cards")


def _charts(charts: Mapping[str, Canvas], notes: Mapping[str, Markup | None] | None = None) -> Markup:
    figures = [
        element("figure", element("figcaption", chart.title), chart.svg(), (notes or {}).get(name), class_="chart-box")
        for name, chart in charts.items()
    ]
    return element("div", figures, class_="charts")


def _sizes_told(summary: Summary) -> Markup | None:
    """The link between COCO's three sizes and the histogram."""
    if summary.kind != "detection":
        return None
    parts = []
    for key, size in (("APs", "small, below 32 pixels"), ("APm", "medium, 32 to 96"), ("APl", "large, from 96")):
        value = summary.results.get(key)
        parts.append(f"{size}: {'no truth' if value is None or value < 0 else f'{value:.3f}'}")
    return element(
        "p", "Size is the root of an object's area. AP of the sizes: ", "; ".join(parts), ".", class_="muted"
    )


def _confusion(summary: Summary, number: int) -> Markup:
    chart, layout = matrix_of(summary)
    name = f"matrix-{number}"
    cells = summary.confusion["cells"]
    told = "Each row is divided by its sum. Point at a cell for counts; with the keyboard, walk with the arrow keys."
    box = element(
        "div", chart.svg(name=name), _island(summary, name, layout), class_="matrix", tabindex="0", role="group",
        aria_label="confusion matrix: arrow keys walk through the cells",
        style=f"--width:{chart.width:.0f}px",
    )  # fmt: skip
    pairs = element("div", element("h4", "Most confused"), pairs_table(summary.confusion, counts_of(summary.confusion)))
    return element(
        "section", element("h3", "Confusion"), element("p", told, class_="muted") if cells else None,
        element("div", box, pairs, class_="beside"),
    )  # fmt: skip


def _island(summary: Summary, name: str, layout: MatrixLayout) -> Markup:
    content = {**summary.confusion, "left": layout.left, "top": layout.top, "cell": layout.cell}
    return data_island(f"{name}-data", content)


def _small_print(summary: Summary) -> Markup:
    results = {
        key: "no truth" if value is None or value < 0 else f"{value:.4f}" for key, value in summary.results.items()
    }
    parts = {
        "what was evaluated": rows_table({**summary.facts, "command": summary.command}),
        "all figures": rows_table(results),
        "environment": rows_table(summary.environment),
        "configuration": rows_table(summary.config),
    }
    return join([element("details", element("summary", name), table) for name, table in parts.items()])
