"""Numbers of data sets, their charts, and anchors against boxes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pocketvision.datasets.checking.classes import ClassCounts
from pocketvision.datasets.checking.statistics import Statistics
from pocketvision.datasets.labels import nameless_labels
from pocketvision.detection.boxes import iou
from pocketvision.detection.matching import match as match_for_training
from pocketvision.tools.browse import browse
from pocketvision.tools.checking.anchors import Anchors, anchors_of, match, unreached
from pocketvision.tools.checking.charts import charts_of
from pocketvision.tools.checking.sources import count_samples
from pocketvision.tools.config.build import build_task, compose

NO_BOXES = np.zeros((0, 4))


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    """The paper's 2034 at 320."""
    config = compose("experiment=ssdlite_coco", "data.root=/nowhere")
    found = anchors_of(build_task(config).model, (320, 320), threshold=0.5)
    assert found is not None
    return found


def made(boxes: np.ndarray, slots: list[int], *, what: str = "boxes", images: int = 3) -> Statistics:
    labels = nameless_labels(2, first=1)
    counts = {slot: slots.count(slot) for slot in (1, 2)}
    return Statistics(
        labels, ClassCounts(what, counts, counts), images, boxes, np.array(slots, np.int64), np.zeros(images, int)
    )


def test_anchors_have_the_maps_of_the_network(anchors: Anchors) -> None:
    assert anchors.boxes.shape == (2034, 4)
    assert anchors.sizes == ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
    assert torch.bincount(anchors.levels).tolist() == [1200, 600, 150, 54, 24, 6]
    first = anchors.boxes[0]
    assert [round(float(s), 3) for s in first[2:] - first[:2]] == [round(s, 3) for s in anchors.shapes[0][0]]
    assert anchors_of(torch.nn.Identity(), (320, 320), threshold=0.5) is None


def test_no_boxes_reach_nothing(anchors: Anchors) -> None:
    found = match(NO_BOXES, anchors)
    assert (len(found.overlaps), len(found.reached)) == (0, 0)
    assert unreached(made(NO_BOXES, []), found) == {}


def test_an_anchor_reaches_itself_and_a_dot_reaches_none(anchors: Anchors) -> None:
    rows = [0, 1300, 1999, 2033]
    boxes = np.concatenate([anchors.boxes[rows].numpy().astype(float), [[50, 50, 53, 53]]])
    found = match(boxes, anchors)
    assert found.overlaps[:4] == pytest.approx([1, 1, 1, 1])
    assert found.levels[:4].tolist() == anchors.levels[rows].tolist()
    assert found.reached.tolist() == [True] * 4 + [False]
    assert unreached(made(boxes, [1, 1, 2, 2, 2]), found) == {"class 1": (0, 2), "class 2": (1, 3)}


def test_reached_is_what_training_matches_without_force(anchors: Anchors) -> None:
    corners = np.sort(np.random.default_rng(0).uniform(0, 320, (3000, 2, 2)), axis=1).reshape(-1, 4)
    found = match(corners, anchors)
    boxes = torch.from_numpy(corners).float()
    for number in range(0, 3000, 211):  # alone in their image
        box = boxes[number].expand(1, 1, 4)
        matched = match_for_training(box, torch.ones(1, 1, dtype=torch.bool), anchors.boxes, threshold=0.5) >= 0
        enough = matched & (iou(box, anchors.boxes)[:, 0] >= 0.5)
        assert bool(enough.any()) == bool(found.reached[number])
    assert 0.1 < found.reached.mean() < 0.9


def test_charts_of_every_kind_say_what_they_show(anchors: Anchors) -> None:
    boxes = np.array([[8, 8, 40, 40], [0, 0, 9, 300.0]])
    splits = {"train": made(boxes, [1, 2]), "val": made(boxes[:1], [1])}
    matches = {split: match(s.boxes, anchors) for split, s in splits.items()}
    drawn = charts_of(splits, anchors, matches)
    assert set(drawn) == {"classes", "boxes_an_image", "sizes", "anchors"}
    assert {*drawn, "anchors"} - {*charts_of(splits, None, {})} == {"anchors"}
    assert "train, none: 50.0" in drawn["anchors"].svg("c")
    assert "val, none: 0.0" in drawn["anchors"].svg("c")
    empty = {"train": made(NO_BOXES, [], images=0)}
    for chart in charts_of(empty, anchors, {"train": match(NO_BOXES, anchors)}).values():
        assert chart.picture().ndim == 3
    pixels = charts_of({"train": made(NO_BOXES, [1, 1, 1, 2], what="pixels", images=4)}, None, {})
    assert "class 1: 75.00" in pixels["classes"].svg("c")
    assert "class 2: 25.0" in pixels["images"].svg("c")
    assert set(charts_of({"train": made(NO_BOXES, [1], what="images")}, None, {})) == {"classes"}


@pytest.mark.parametrize(("experiment", "what"), [("demo_detection", "boxes"), ("demo_segmentation", "pixels")])
def test_generated_data_are_counted_by_their_samples(experiment: str, what: str) -> None:
    found = count_samples(compose(f"experiment={experiment}", "data.num_train=9", "data.num_val=3"), 5)
    assert [of_split.num_images for of_split in found.values()] == [5, 3]
    train = found["train"]
    assert (train.counts.what, len(train.boxes_an_image)) == (what, 5)
    assert sum(train.counts.examples.values()) == (len(train.boxes) if what == "boxes" else 5 * 128 * 128)
    if what == "boxes":
        assert np.all(train.boxes[:, 2:] > train.boxes[:, :2])


def test_browse_writes_statistics_beside_the_grid(tmp_path: Path) -> None:
    browse(compose("experiment=demo_detection", "count=1", "statistics=3", f"output={tmp_path}/b.png",
                   config_name="browse"))  # fmt: skip
    picture = cv2.imread(str(tmp_path / "b_statistics.png"))
    assert min(picture.shape[:2]) > 500
    assert picture.std() > 10
