"""Absent metrics: None, null or "-", and -1 only in what earlier versions wrote."""

import math

import pytest
from pocketvision.absent import from_file, known, written


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_absent(value: float | None) -> None:
    assert known(value) is None
    assert known(0.0) == 0.0


def test_files_of_earlier_versions() -> None:
    found = from_file({"AP": -1.0, "APs": -1, "AR1": None, "loss": math.nan, "AP50": 0.0, "name": "x", "color": [1]})
    assert found == {"AP": None, "APs": None, "AR1": None, "loss": None, "AP50": 0.0, "name": "x", "color": [1]}


def test_text() -> None:
    assert [written(None), written(0.0), written(0.25, ".2f"), written(1234, ",")] == ["-", "0.000", "0.25", "1,234"]
