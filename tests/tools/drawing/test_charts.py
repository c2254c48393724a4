"""Charts read back out of their SVG and their pictures, and templates in which data is no markup."""

import base64
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
import pytest
from jinja2 import UndefinedError
from pocketvision.tools.drawing.charts import Bar, Series, bar_chart, line_chart, matrix_chart, row_chart
from pocketvision.tools.drawing.figure import Chart
from pocketvision.tools.drawing.html import clean, render

BLUE = (0, 114, 178)
EMPTY = np.zeros((0, 0), int)


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg("c"))


def marks(chart: Chart) -> dict[str, np.ndarray]:
    """What the pointer is told, and the corners [N, 2] of the shape that tells it."""
    found = {}
    for group in parsed(chart).iter("g"):
        title, shape = group.find("title"), next(group.iter("path"))
        if title is not None:
            corners = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", shape.get("d", ""))
            found[title.text] = np.array(corners, float)
    return found


def words(chart: Chart) -> set[str | None]:
    return {text.text for text in parsed(chart).iter("text")}


@pytest.mark.parametrize(
    "chart",
    [
        line_chart("t", [], axes=("x", "y")),
        line_chart("t", [Series("a", [1, 2], [None, float("nan")], BLUE)], axes=("x", "y")),
        bar_chart("t", [], [], axis="y"),
        bar_chart("t", ["a"], [("s", [0], BLUE)], axis="y"),
        row_chart("t", []),
        matrix_chart("t", [], [], EMPTY),
        matrix_chart("t", ["a"], ["a"], np.zeros((1, 1), int)),
    ],
    ids=range(7),
)
def test_an_empty_chart_says_so(chart: Chart) -> None:
    assert words(chart) == {"no data"}
    assert chart.picture().std() > 0


@pytest.mark.parametrize(
    "series",
    [
        [Series("a", [5], [0.5], BLUE)],  # one value
        [Series("a", [5, 5], [0, 0], BLUE)],
        [Series("a", [0, 1, 2], [1, None, 3], BLUE, dashed=True)],
        [Series("<b>", [0, 1], [-1, 1e6], BLUE), *(Series(f"s{i}", [0, 1], [i, i], BLUE) for i in range(20))],
    ],
    ids=range(4),
)
def test_lines_stay_inside_of_their_chart(series: list[Series]) -> None:
    chart = line_chart("t", series, axes=("x", "y"))
    points = np.concatenate(list(marks(chart).values()))
    left, top, width, height = map(float, parsed(chart).get("viewBox", "").split())
    assert ((points >= (left, top)) & (points <= (left + width, top + height))).all()
    assert "<b>" not in chart.svg("c")
    assert (np.abs(chart.picture().astype(int) - BLUE).sum(axis=2) < 30).any()


def test_lines_and_bars_stand_for_their_values() -> None:
    ys = [0.1, 0.9, 0.30, 0.25]
    lines = line_chart("t", [Series("a", [0, 1, 2, 4], ys, BLUE)], axes=("x", "y"), x_range=(0, 4), y_range=(0, 1),
                       band=[(0, 0.1, 0.3), (4, 0.2, 0.5)])  # fmt: skip
    left, right, top, bottom = 58, 386, 42, 256  # of the axes
    corners = (marks(lines)["a"] - (left, bottom)) / (right - left, top - bottom)
    np.testing.assert_allclose(corners, np.stack([np.array([0, 1, 2, 4]) / 4, ys], 1), atol=1e-3)
    assert "fill:var(--muted);fill-opacity:0.25" in lines.svg("c")
    bars = marks(bar_chart("t", ["a", "b"], [("s", [3, 1.5], BLUE), ("u", [0, 4], BLUE)], axis="y", form=".1f"))
    heights = {name: float(np.ptp(corners[:, 1])) * 4 * 1.08 / (bottom - top) for name, corners in bars.items()}
    assert heights == pytest.approx({"s, a: 3.0": 3, "s, b: 1.5": 1.5, "u, a: 0.0": 0, "u, b: 4.0": 4}, abs=0.01)
    rows = row_chart("t", [("a", [Bar([(1, BLUE), (2, BLUE)], "3", tip="x")]), ("b", [Bar([(1, BLUE)], "1", tip="y")])])
    widths = [np.ptp(corners[:, 0]) for corners in marks(rows).values()]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)
    assert {"a", "b", "3", "1"} == words(rows)


def test_the_picture_has_what_the_svg_has() -> None:
    chart = bar_chart("t", ["a & b"], [("s", [5], BLUE)], axis="y")
    assert "<title>a &amp; b: 5</title>" in chart.svg("c")
    (left, top), (right, bottom) = (np.rint(2 * side(marks(chart)["a & b: 5"], axis=0)) for side in (np.min, np.max))
    rows, columns = np.nonzero((chart.picture() == BLUE).all(axis=2))  # two pixels a unit
    assert (
        np.abs(np.array([columns.min(), rows.min(), columns.max(), rows.max()]) - (left, top, right, bottom)).max() < 3
    )
    assert len(rows) > 0.98 * (right - left) * (bottom - top)


def test_dashes_leave_gaps() -> None:
    chart = line_chart("t", [Series("a", range(201), [0.5] * 201, BLUE, dashed=True)], axes=("x", "y"), y_range=(0, 1))
    row = (np.abs(chart.picture()[2 * 149].astype(int) - BLUE).max(axis=1) < 40)[2 * 60 : 2 * 380]
    assert 0.3 < row.mean() < 0.8
    assert np.abs(np.diff(row.astype(int))).sum() > 20


def test_shades_of_a_matrix() -> None:
    chart = matrix_chart("t", ["a", "b"], ["a", "b"], np.array([[8, 2], [0, 0]]))
    (image,) = parsed(chart).iter("image")
    data = base64.b64decode(image.get("href", "").partition(",")[2])
    cells = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]]
    assert cells[0, 0].tolist() == [*BLUE, round(255 * (0.05 + 0.95 * 0.8))]
    assert cells[0, 1].tolist() == [213, 94, 0, round(255 * (0.05 + 0.95 * 0.2))]
    assert not cells[1, :, 3].any()
    assert {"80", "20"} <= words(chart)


def test_a_thousand_classes_still_fit_into_pictures() -> None:
    names = [f"class {i}" for i in range(1000)]
    matrix = matrix_chart("t", names, names, np.eye(1000, dtype=int))
    bars = row_chart("t", [(name, [Bar([(i, BLUE)], "")]) for i, name in enumerate(names)])
    assert max(matrix.width, matrix.height, bars.height) < 4000
    assert bars.title == "t: the top 100 and the bottom 100 of 1000"
    assert {"class 0", "class 999"} <= words(bars)
    assert "class 500" not in words(bars)


@pytest.mark.parametrize(
    "name", ["<b>&", "$x^2$", "50 % of $", "a\x1b\n\x00b", "\ud800", "\N{CJK UNIFIED IDEOGRAPH-732B}"]
)
def test_names_are_text(name: str, recwarn: pytest.WarningsRecorder) -> None:
    shown = " ".join(clean(name).split())
    series = [Series(name, [0, 1], [0, 1], BLUE), Series("b", [0, 1], [1, 0], BLUE)]
    for chart in (
        line_chart(name, series, axes=("x", "y")),
        row_chart(name, [(name, [Bar([(1, BLUE)], "1", tip=name)])], legend=[(name, BLUE)]),
        bar_chart(name, [name], [(name, [1], BLUE), ("b", [2], BLUE)], axis="y"),
        matrix_chart(name, [name], [name], np.ones((1, 1), int)),
    ):
        assert shown in words(chart)
        assert chart.picture().std() > 0
    assert not recwarn.list


def test_a_page_decides_on_colours_and_fonts_and_ids_are_of_one_chart() -> None:
    def drawn() -> Chart:
        return line_chart("t", [Series(n, [0, 1], [0, i], (33, 37, 41)) for i, n in enumerate("ab")], axes=("x", "y"))

    svg = drawn().svg("c")
    with matplotlib.rc_context({"font.size": 40, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert drawn().svg("c") == svg  # whatever the user's settings are
    assert re.findall("#212529|#606870|#dee2e6|#ffffff|font-family|http", svg) == []
    assert {"var(--ink)", "var(--muted)", "var(--line)"} <= set(re.findall(r"var\(--\w+\)", svg))
    ids, others = (set(re.findall(r'id="([^"]*)"', drawn().svg(name))) for name in "cd")
    assert len(ids) > 1
    assert not ids & others
    assert set(re.findall(r"url\(#([^)]*)\)", svg)) <= ids


def test_only_charts_import_matplotlib() -> None:
    modules = "train evaluate predict export compare benchmark browse check_data"
    code = "import sys; from pocketvision.tools import {}; print('matplotlib' in sys.modules)"
    command = [sys.executable, "-c", code.format(modules.replace(" ", ", "))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("<p>{{ x }}</p>", "<p>&lt;/script&gt;&lt;b&gt;&#34;&#39;a\N{REPLACEMENT CHARACTER}b?</p>"),
        ("{{ x|tojson }}", '"\\u003c/script\\u003e\\u003cb\\u003e\\"\\u0027a\\u0000b\\ud800"'),
        ("{{ nothing }}", None),
    ],
)
def test_data_is_no_markup(template: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html.jinja").write_text(template)
    if expected is None:
        with pytest.raises(UndefinedError):
            render(tmp_path / "a.html.jinja", {})
    else:
        assert render(tmp_path / "a.html.jinja", {"x": "</script><b>\"'a\x00b\ud800"}) == expected
