"""The check as one self-contained page."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ...datasets.annotations.faults import KINDS, Severity
from ...datasets.checking.check import Checked
from ...datasets.checking.remedies import REMEDIES
from ..drawing.figure import Chart
from ..drawing.html import data_uri, render

_ROWS = 200  # findings per kind; check.json has all


def write_page(path: Path, checked: Checked, charts: Mapping[str, Chart], grids: Mapping[str, np.ndarray]) -> None:
    """Write counts, charts, and the findings of each kind with their picture."""
    numbers = {f"{severity.value}s": checked.number(severity) for severity in Severity}
    numbers |= {f"{split} images": len(contents.pictures) for split, contents in checked.contents.items()}
    folders = sorted({str(contents.folder) for contents in checked.contents.values()})
    values = {
        "title": f"Check of {', '.join(folders)}", "cards": [(name, f"{n:,}", "") for name, n in numbers.items()],
        "charts": charts, "kinds": checked.by_kind(), "severities": {kind: s.value for kind, s in KINDS.items()},
        "remedies": REMEDIES, "pictures": {kind: _inlined(grid) for kind, grid in grids.items()}, "most": _ROWS,
    }  # fmt: skip
    path.write_text(render(Path(__file__).with_name("check.html.jinja"), values), encoding="utf-8")


def _inlined(picture: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data_uri(data.tobytes(), kind="jpeg")
