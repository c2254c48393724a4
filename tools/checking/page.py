"""The check as one page that needs nothing beside it."""

import base64
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ...datasets.annotations.faults import KINDS, Severity
from ...datasets.checking.check import Checked
from ...datasets.checking.remedies import REMEDIES
from ..drawing.canvas import Canvas
from ..drawing.html import Markup, element
from ..reporting.page import document

_ROWS = 200  # findings of a kind; check.json has all


def page(checked: Checked, charts: Mapping[str, Canvas], grids: Mapping[str, np.ndarray], title: str) -> str:
    """HTML: counts, charts, and the findings of each kind with their picture."""
    figures = [
        element("figure", element("figcaption", chart.title), chart.svg(), class_="chart-box")
        for chart in charts.values()
    ]
    main = element(
        "main", _cards(checked), element("div", figures, class_="charts"),
        [_section(kind, checked, grids.get(kind)) for kind in checked.by_kind()],
    )  # fmt: skip
    body = element("body", element("header", element("h1", title)), main)
    return document(title, body)


def _cards(checked: Checked) -> Markup:
    numbers = {f"{severity.value}s": checked.number(severity) for severity in Severity}
    numbers |= {f"images of {split}": len(contents.pictures) for split, contents in checked.contents.items()}
    cards = [
        element(
            "div",
            element("div", name, class_="key"),
            element("div", f"{number:,}", class_="value"),
            class_="card",
        )
        for name, number in numbers.items()
    ]
    return element("div", cards, class_="cards")


def _section(kind: str, checked: Checked, grid: np.ndarray | None) -> Markup:
    findings = checked.by_kind()[kind]
    rows = [
        element("tr", element("td", finding.split), element("td", finding.fault.message, style="white-space:normal"))
        for finding in findings[:_ROWS]
    ]
    more = len(findings) - _ROWS
    told = f"Remedy: {REMEDIES[kind]}." + (f" {more:,} more are in check.json." if more > 0 else "")
    image = None
    if grid is not None:
        _, data = cv2.imencode(".jpg", grid[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        image = element("img", src=source, alt=f"examples of {kind}", style="max-width:100%")
    table = element("div", element("table", element("tbody", rows)), class_="scroll", tabindex="0", role="group",
                    aria_label=kind)  # fmt: skip
    return element(
        "section", element("h2", f"{KINDS[kind].value}: {kind} ({len(findings):,})"),
        element("p", told, class_="muted"), image, table,
    )  # fmt: skip


def write_page(path: Path, checked: Checked, charts: Mapping[str, Canvas], grids: Mapping[str, np.ndarray]) -> None:
    """The page as a file."""
    folders = sorted({str(contents.folder) for contents in checked.contents.values()})
    path.write_text(page(checked, charts, grids, f"Check of {', '.join(folders)}"), encoding="utf-8")
