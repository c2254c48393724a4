"""Charts by themselves: ticks, shapes in SVG and in pixels, the cells of a matrix; and the choice of images."""

import numpy as np
import pytest
from pocketvision.tools.drawing.canvas import Canvas, Line, Rectangles, Words
from pocketvision.tools.drawing.charts import Series, bar_chart, class_bars, line_chart, matrix_chart, ticks
from pocketvision.tools.drawing.html import Markup, data_island, element
from pocketvision.tools.reporting.gallery import Candidate, choose

BLUE = (0, 114, 178)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.003, [0, 0.001, 0.002, 0.003]),
        (3, 17, [5, 10, 15]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    "chart",
    [
        line_chart("t", [], axes=("x", "y")),
        line_chart("t", [Series("a", [1, 2], [None, float("nan")], BLUE)], axes=("x", "y")),
        bar_chart("t", [], [], axis="y"),
        bar_chart("t", ["a"], [("s", [0], BLUE)], axis="y"),
        class_bars("t", []),
        matrix_chart("t", [], [], np.zeros((0, 0), int))[0],
        matrix_chart("t", ["a"], ["a"], np.zeros((1, 1), int))[0],
    ],
    ids=range(7),
)
def test_an_empty_chart_says_so(chart: Canvas) -> None:
    assert "nothing to draw" in chart.svg()
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
    points = [point for shape in chart.shapes if isinstance(shape, Line) for point in shape.points]
    assert all(0 <= x <= chart.width and 0 <= y <= chart.height for x, y in points)
    assert "<b>" not in chart.svg()
    blue = np.abs(chart.picture().astype(int) - BLUE).sum(axis=2) < 30
    assert blue.any()


def test_the_picture_has_what_the_svg_has() -> None:
    canvas = Canvas(40, 20, "t")
    canvas.add(Rectangles([(10, 5, 8, 4), (30, 0, 4, 4)], BLUE, tip="a & b"), Words("x", 2, 18, upward=True))
    assert 'd="M10 5h8v4h-8zM30 0h4v4h-4z"' in canvas.svg()
    assert "<title>a &amp; b</title>" in canvas.svg()
    picture = canvas.picture()[2 * 28 :]  # under the title, two pixels a unit
    blue = (picture == BLUE).all(axis=2)
    assert blue.sum() == 4 * (32 + 16)
    assert blue[10:18, 20:36].all()


def test_dashes_leave_gaps_however_many_corners_there_are() -> None:
    canvas = Canvas(200, 20, "t")
    canvas.add(Line([(float(x), 10.0) for x in range(201)], BLUE, dashed=True))
    row = (canvas.picture()[2 * 28 + 20] == BLUE).all(axis=1)
    assert 0.3 < row.mean() < 0.8
    assert np.abs(np.diff(row.astype(int))).sum() > 20


def test_shades_of_a_matrix() -> None:
    chart, layout = matrix_chart("t", ["a", "b"], ["a", "b"], np.array([[8, 2], [0, 0]]))
    found = {
        (place, shape.paint): shape.opacity
        for shape in chart.shapes
        if isinstance(shape, Rectangles) and shape.paint != "line"
        for place in shape.places
    }
    side = layout.cell
    right = ((layout.left, layout.top, side, side), BLUE)
    wrong = ((layout.left + side, layout.top, side, side), (213, 94, 0))
    assert found.keys() == {right, wrong}
    assert found[right] > 0.7 > 0.3 > found[wrong]
    words = [shape.words for shape in chart.shapes if isinstance(shape, Words)]
    assert {"80", "20"} <= set(words)


def test_a_thousand_classes_still_fit_into_pictures() -> None:
    names = [f"class {i}" for i in range(1000)]
    chart, layout = matrix_chart("t", names, names, np.eye(1000, dtype=int))
    bars = class_bars("t", [(name, i / 1000, BLUE) for i, name in enumerate(names)])
    assert max(chart.width, chart.height, bars.height) < 4000
    assert layout.cell > 1
    words = {shape.words for shape in bars.shapes if isinstance(shape, Words)}
    assert {"class 0", "class 999"} <= words
    assert "class 500" not in words


def test_markup_escapes_what_is_no_markup() -> None:
    assert element("p") == "<p></p>"
    assert element("p", "<&>", Markup("<br>"), None, ["a", 1]) == "<p>&lt;&amp;&gt;<br>a1</p>"
    assert element("a", class_="x", data_tip="\"'>", hidden=True, id=None) == (
        '<a class="x" data-tip="&quot;&#x27;&gt;" hidden></a>'
    )
    assert element("p", "a\x00b\ud800") == "<p>a\N{REPLACEMENT CHARACTER}b?</p>"
    assert "</script><" not in data_island("n", ["</script><script>"])


@pytest.mark.parametrize(
    ("candidates", "count", "expected"),
    [
        ([], 5, []),
        ([("a", 0.5, "")], 5, [("a", "worst")]),
        ([("a", 1.0, "")], 5, [("a", "best")]),
        ([("a", 0.1, ""), ("b", 0.9, "")], 1, [("a", "worst")]),
        ([("a", 0.1, ""), ("b", 0.9, "")], 0, []),
        # one worst, one best, and of the rest the one with what was not to be seen yet
        (
            [("a", 0.1, "x"), ("b", 0.2, "x"), ("c", 0.3, "x"), ("d", 0.4, "xy"), ("e", 0.9, "x")],
            4,
            [("a", "worst"), ("e", "best"), ("d", "more"), ("b", "more")],
        ),
    ],
)
def test_the_choice_of_images(
    candidates: list[tuple[str, float, str]], count: int, expected: list[tuple[str, str]]
) -> None:
    pool = [Candidate(name, score, tags=frozenset(tags)) for name, score, tags in candidates]
    assert [(candidate.image_id, group) for candidate, group in choose(pool, count)] == expected
