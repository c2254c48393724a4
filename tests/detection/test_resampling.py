"""Resampled figures are pycocotools' for the drawn data set, its copies renamed."""

from typing import Any

import numpy as np
import pytest
from pocketvision.backbones.image_metric import draw_weights
from pocketvision.detection.resampling import weighted_precision


def drawn(truth: dict[str, Any], results: list[dict[str, Any]], weights: np.ndarray) -> tuple[Any, Any]:
    """The data set in which each image stands as often as its weight says, under new ids."""
    copies: dict[int, list[int]] = {}
    for image, count in zip(sorted(i["id"] for i in truth["images"]), weights.tolist(), strict=True):
        copies[image] = [image * 100 + n for n in range(count)]

    def renamed(records: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        return [{**record, key: new} for record in records for new in copies[record[key]]]

    annotations = renamed(truth["annotations"], "image_id")
    annotations = [{**annotation, "id": n} for n, annotation in enumerate(annotations, start=1)]
    images = renamed(truth["images"], "id")
    return {**truth, "images": images, "annotations": annotations}, renamed(results, "image_id")


@pytest.mark.parametrize("seed", range(3))
def test_is_pycocotools_on_the_drawn_data(coco_files: Any, seed: int) -> None:
    truth, results = coco_files.made_up(seed, crowds=0.3)
    metric = coco_files.metric(truth, results)
    weights = draw_weights(12, 4, seed)
    weights[0] = 1  # the data set itself
    found = metric.bootstrap(4, weights=weights)
    precision = [weighted_precision(metric.matches().of_class(slot), weights) for slot in metric.names]
    for s, row in enumerate(weights):
        evaluation = coco_files.pycocotools(*drawn(truth, results, row))
        expected = evaluation.eval["precision"][..., 0, 2]
        np.testing.assert_array_equal(np.stack([p[s] for p in precision], 2), np.where(expected < 0, np.nan, expected))
        assert [found["AP"][s], found["AP50"][s]] == pytest.approx(evaluation.stats[:2].tolist(), abs=1e-12)
    figures = metric.compute()
    own = {key: None if np.isnan(values[0]) else values[0] for key, values in found.items()}
    assert own == pytest.approx({key: figures[key] for key in found})
    assert np.isnan(found["AP/class 12"]).all()
    assert len(set(found["AP"].tolist())) == 4


def test_nothing_to_draw_from(coco_files: Any) -> None:
    metric = coco_files.metric({"images": [], "categories": [{"id": 1, "name": "cat"}], "annotations": []}, [])
    found = metric.bootstrap(3, 0)
    assert found.keys() == {"AP", "AP50", "AP/cat"}
    assert all(np.isnan(values).all() and len(values) == 3 for values in found.values())


def test_draws_depend_on_the_seed(coco_files: Any) -> None:
    metric = coco_files.metric(*coco_files.made_up())
    assert not np.array_equal(metric.bootstrap(5, 1)["AP"], metric.bootstrap(5, 2)["AP"])
    with pytest.raises(ValueError, match=r"\[2, 12\], got \[2, 3\]"):
        metric.bootstrap(2, weights=np.ones((2, 3), int))
