"""Which images a report shows."""

import pytest
from pocketvision.tools.reporting.gallery import Candidate, choose


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
