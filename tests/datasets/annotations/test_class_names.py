"""Class lists: as many names as there may be."""

import time
from pathlib import Path

import pytest
from pocketvision.datasets.annotations.class_names import numbered
from pocketvision.datasets.annotations.yolo_layout import load_yaml


def test_twenty_thousand_names_take_no_time(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(20_000)]
    start = time.process_time()
    assert numbered(dict(enumerate(names, 1)), "x").num_classes == 20_000
    (tmp_path / "data.yaml").write_text(f"names: [{','.join(names)}]")
    assert load_yaml(tmp_path / "data.yaml")["names"] == names
    assert time.process_time() - start < 5  # they took 10 s
    with pytest.raises(ValueError, match="x: the class 'c3' is listed twice"):
        numbered(dict(enumerate([*names, "c3"], 1)), "x")
