"""Names beside points: in the axes, and clear of points and of each other."""

import itertools

import numpy as np
import pytest
from pocketvision.tools.drawing.points import Box, Level, Point, place_names, point_chart

SIZE = 560.0, 340.0


def box_around(place: tuple[float, float]) -> Box:
    return Box(place[0] - 5, place[1] - 5, place[0] + 5, place[1] + 5)


def crowd(count: int, spread: float) -> list[tuple[float, float]]:
    random = np.random.default_rng(0)
    return [(280 + spread * x, 170 + spread * y / 4) for x, y in random.uniform(-1, 1, (count, 2)).tolist()]


@pytest.mark.parametrize(
    "places",
    [
        [],
        [(0.0, 0.0)],
        [(560.0, 340.0)],
        [(280.0, 170.0)] * 3,
        [(100.0 + 12 * i, 170.0) for i in range(8)],
        crowd(14, 150),
    ],
    ids=["none", "lower corner", "upper corner", "one place", "a row", "a crowd"],
)
def test_names_keep_clear(places: list[tuple[float, float]]) -> None:
    taken = Box(0, 0, 80, 14)
    boxes = place_names([70.0] * len(places), places, SIZE, [taken])
    assert len(boxes) == len(places)
    for box in boxes:
        assert box.left >= 0 <= box.low
        assert box.right <= SIZE[0]
        assert box.high <= SIZE[1]
        assert not box.meets(taken)
        assert not any(box.meets(box_around(place)) for place in places)
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))


def test_a_name_without_room_is_still_beside_its_point() -> None:
    (box,) = place_names([70.0], [(20.0, 10.0)], (40.0, 20.0), [])
    assert not box.meets(box_around((20.0, 10.0)))


def test_an_empty_chart_says_so_and_one_point_has_axes_of_its_own() -> None:
    empty = point_chart("t", [], axes=("x", "y"))
    assert [text.get_text() for text in empty.figure.texts] == ["t", "no data"]
    chart = point_chart("t", [Point("a", 5.0, 0.4, (0, 114, 178))], axes=("x", "y"), level=Level(0.4, "limit"))
    (axes,) = chart.figure.axes
    low, high = axes.get_ylim()
    assert low < 0.4 < high
    assert 5.0 in axes.get_xticks()
    assert chart.picture().std() > 0
