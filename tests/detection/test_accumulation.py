"""Figures and arrays are pycocotools' own, bit by bit; faster-coco-eval's to the last rounding."""

import importlib.util
from typing import Any

import numpy as np
import pytest
from pocketvision.detection import accumulation
from pocketvision.detection.accumulation import check_backend
from pocketvision.detection.metric import CocoMetric

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
CASES: dict[str, dict[str, Any]] = {
    "no detections": {"detections": 0},
    "no annotations": {"truths": 0},
    "one image": {"images": 1},
    "ids with gaps, in any order": {"categories": (90, 2, 17, 5)},
    "one class": {"categories": (7, 9)},
    "crowds": {"crowds": 0.5},
    "crowds only": {"crowds": 1.0},
    "more than 100 of a class": {"categories": (1, 2), "detections": 250, "images": 4, "truths": 40},
    "image ids that are texts": {"text_ids": True},
}


@pytest.fixture(params=["pycocotools", "faster"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "faster" and importlib.util.find_spec("faster_coco_eval") is None:
        pytest.skip("needs faster-coco-eval: pip install 'pocketvision[faster]'")
    return request.param


@pytest.mark.parametrize(
    ("case", "most"),
    [*((case, 100) for case in CASES), *(("more than 100 of a class", most) for most in (10, 37, 300)), ("crowds", 10)],
)
def test_is_pycocotools_on_files(coco_files: Any, case: str, most: int, backend: str) -> None:
    truth, results = coco_files.made_up(**CASES[case])
    expected = coco_files.pycocotools(truth, results, most=most)
    metric = coco_files.metric(truth, results, max_detections=most, backend=backend)
    found = metric.accumulate()
    rounding = 0 if backend == "pycocotools" else 1e-15
    np.testing.assert_allclose(found.precision, expected.eval["precision"], rtol=0, atol=rounding)
    np.testing.assert_allclose(found.recall, expected.eval["recall"], rtol=0, atol=rounding)
    figures, stats = metric.compute(), expected.stats.tolist()
    if most != 100:  # pycocotools' own AP is then -1
        known = expected.eval["precision"][:, :, :, 0, 2]
        stats[0] = np.mean(known[known > -1]) if (known > -1).any() else -1
    rounding = 1e-15 if most == 10 else rounding  # pycocotools averages the same 10 detections twice
    printed = [-1 if figures[name] is None else figures[name] for name in FIGURES]
    assert printed == pytest.approx(stats, rel=0, abs=rounding)
    empty = case in ("no annotations", "crowds only", "no detections")
    assert (not figures["AP"]) if empty else (0.01 < figures["AP"] < 0.9)


def test_the_third_limit_matters(coco_files: Any) -> None:
    truth, results = coco_files.made_up(**CASES["more than 100 of a class"])
    found = [coco_files.metric(truth, results, max_detections=most).compute() for most in (10, 100, 300)]
    assert found[0]["AR100"] < found[1]["AR100"] < found[2]["AR100"]
    assert found[0]["AP"] > 0


def test_a_class_that_changes_is_noticed(coco_files: Any) -> None:
    """The comparison can fail: one box renamed, and the arrays differ."""
    truth, results = coco_files.made_up()
    expected = coco_files.pycocotools(truth, results).eval["precision"]
    best = max(results, key=lambda result: result["score"])
    best["category_id"] = 12 if best["category_id"] != 12 else 3
    assert not np.array_equal(coco_files.metric(truth, results).accumulate().precision, expected)


def test_backends_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="backend=fast: choose pycocotools or faster"):
        CocoMetric({1: "cat"}, backend="fast")
    monkeypatch.setattr(accumulation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pocketvision\[faster\]'"):
        check_backend("faster")
