"""Text that stands in columns."""

import pytest
from pocketvision.tools.system.console import columns


@pytest.mark.parametrize(
    ("rows", "left", "expected"),
    [
        ([], (0,), []),
        ([["a", "1"], ["bcd", "23"]], (0,), ["a     1", "bcd  23"]),
        ([["a", "1"], ["bcd", "23"]], (), ["  a   1", "bcd  23"]),
        ([["a", "b", ""], ["", "bcd", "c"]], (0, 1, 2), ["a  b", "   bcd  c"]),
    ],
)
def test_columns(rows: list[list[str]], left: tuple[int, ...], expected: list[str]) -> None:
    assert columns(rows, left=left) == expected
    assert columns(rows, left=left, indent="  ") == [f"  {line}" for line in expected]
