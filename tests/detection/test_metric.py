import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.detection.coco_results import to_records
from pocketvision.detection.metric import CocoMetric
from pocketvision.detection.results import Detections

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
NAMES = {1: "cat", 3: "dog"}
NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
NO_TARGET = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def truth_of(boxes: list[list[float]], *, label: int = 3) -> dict[str, Any]:
    xywh = np.array(boxes, float).reshape(-1, 4)
    count = len(xywh)
    return {
        "boxes_xywh": xywh,
        "labels": np.full(count, label),
        "area": xywh[:, 2:].prod(1),
        "crowd": np.zeros(count, bool),
    }


def perturbed(truth: dict[str, Any], rng: np.random.Generator, slots: list[int]) -> Detections:
    """Every box about twice, moved and sometimes renamed, and a few out of nowhere."""
    index = rng.permutation(np.repeat(np.arange(len(truth["labels"])), 2))
    index = index[: int(len(index) * 0.9)]
    xywh = truth["boxes_xywh"][index]
    xywh = xywh + rng.normal(0, 0.08, xywh.shape) * xywh[:, [2, 3, 2, 3]]
    labels = np.where(rng.random(len(index)) < 0.9, truth["labels"][index], rng.choice(slots, len(index)))
    xywh = np.concatenate((xywh, rng.random((3, 4)) * 100))
    labels = np.concatenate((labels, rng.choice(slots, 3)))
    scores = np.round(rng.random(len(labels)), 2)  # ties
    boxes = np.concatenate((xywh[:, :2], xywh[:, :2] + np.abs(xywh[:, 2:])), axis=1)
    order = np.argsort(-scores, kind="stable")
    return Detections(
        torch.from_numpy(boxes[order]).float(), torch.from_numpy(scores[order]).float(), torch.from_numpy(labels[order])
    )


def compare(coco_files: Any, source: dict[str, Any], slots: dict[int, int], seed: int) -> dict[str, float]:
    """Feed the metric image by image, score the same with files, and demand the same bits."""
    rng = np.random.default_rng(seed)
    metric = CocoMetric({slots[c["id"]]: c["name"] for c in source["categories"]})
    predictions, metas = [], []
    for image in rng.permutation(source["images"]):
        truth = coco_files.truth([a for a in source["annotations"] if a["image_id"] == image["id"]], slots)
        predictions.append(perturbed(truth, rng, sorted(slots.values())))
        metas.append({"image_id": image["id"], "ground_truth": truth})
    metric.update(predictions, [NO_TARGET] * len(metas), metas)
    source_ids = {slot: i for i, slot in slots.items()}
    results = [r for image, (found, _) in metric.state().items() for r in to_records(image, found, source_ids)]
    evaluation = coco_files.pycocotools(source, results)
    found = metric.compute()
    assert [as_printed(found[name]) for name in FIGURES] == evaluation.stats.tolist()
    names = {c["id"]: c["name"] for c in source["categories"]}
    for k, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        known = precision[precision > -1]
        assert found[f"AP/{names[category]}"] == (np.mean(known) if known.size else None)
    return found


def as_printed(value: float | None) -> float:
    """pycocotools' summary has -1 where there is no ground truth."""
    return -1 if value is None else value


@pytest.mark.parametrize("seed", range(2))
def test_is_pycocotools_on_files(coco_files: Any, seed: int) -> None:
    source, _ = coco_files.made_up(seed, images=25)
    found = compare(coco_files, source, {1: 1, 3: 2, 12: 3, 70: 4}, seed)
    assert 0.1 < found["AP"] < 0.9
    assert found["AP/class 12"] is None


def test_is_pycocotools_on_real_annotations(coco_files: Any, data_root: Path) -> None:
    source = json.loads((data_root / "coco_mini" / "annotations" / "instances_val2017.json").read_text())
    crowded = {a["image_id"] for a in source["annotations"] if a["iscrowd"]}
    images = sorted(source["images"], key=lambda image: image["id"] not in crowded)[:40]
    kept = {image["id"] for image in images}
    assert crowded & kept
    annotations = [a for a in source["annotations"] if a["image_id"] in kept]
    slots = {c["id"]: c["id"] for c in source["categories"]}  # with the gaps of COCO's 91
    found = compare(coco_files, {**source, "images": images, "annotations": annotations}, slots, 0)
    assert 0.1 < found["AP"] < 0.9


def test_nothing_at_all() -> None:
    metric = CocoMetric(NAMES)
    assert set(metric.compute()) == {*FIGURES, "AP/cat", "AP/dog"}
    assert set(metric.compute().values()) == {None}
    metric.update([NOTHING], [NO_TARGET], [{"image_id": 0, "ground_truth": truth_of([])}])
    assert set(metric.compute().values()) == {None}


def one_dog(image_id: int | str = 0) -> dict[str, Any]:
    return {"image_id": image_id, "ground_truth": truth_of([[10, 10, 50, 50]])}


DOG = Detections(torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([0.9]), torch.tensor([3]))


def test_no_detections_and_no_annotations() -> None:
    metric = CocoMetric(NAMES)
    metric.update([NOTHING], [NO_TARGET], [one_dog()])
    assert metric.compute() | {"AP": 0, "AP/dog": 0, "AP/cat": None, "APm": 0, "APl": None} == metric.compute()
    metric.reset()
    metric.update([DOG], [NO_TARGET], [{"image_id": 0, "ground_truth": truth_of([])}])
    assert set(metric.compute().values()) == {None}


def test_perfect_and_gaps() -> None:
    """Image id 0 is found, and a detection in a slot without a class does not count."""
    metric = CocoMetric(NAMES)
    gap = Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0.99]), torch.tensor([2]))
    metric.update([DOG, gap], [NO_TARGET] * 2, [one_dog(0), {"image_id": 1, "ground_truth": truth_of([])}])
    figures = metric.compute()
    assert [figures[name] for name in ("AP", "AP/dog", "AR1")] == pytest.approx([1, 1, 1])
    assert type(figures["AP"]) is float
    assert to_records(1, metric.state()[1][0], {1: 1, 3: 18}) == []


def test_images_count_once() -> None:
    metric = CocoMetric(NAMES)
    metric.update([DOG, NOTHING, DOG], [NO_TARGET] * 3, [one_dog("a"), one_dog("b"), one_dog("b")])
    assert metric.compute()["AP"] == pytest.approx(51 / 101)


def test_targets_are_the_truth_where_there_is_no_other() -> None:
    target = {
        "boxes": torch.tensor([[5.0, 20, 30, 120]]),
        "labels": torch.tensor([3]),
        "crowd_boxes": torch.tensor([[50.0, 50, 100, 100]]),
        "crowd_labels": torch.tensor([3]),
    }
    meta = {"image_id": 7, "original_size": (100, 200), "input_size": (200, 100)}
    in_crowd = Detections(
        torch.tensor([[10.0, 10, 60, 60], [110, 30, 120, 40]]), torch.tensor([0.5, 0.9]), torch.tensor([3, 3])
    )
    metric = CocoMetric(NAMES)
    metric.update([in_crowd], [target], [meta])
    assert metric.compute()["AP"] == pytest.approx(1)
    metric.reset()
    metric.update([in_crowd], [{"boxes": target["boxes"], "labels": target["labels"]}], [meta])
    assert metric.compute()["AP"] == pytest.approx(0.5)


def test_more_detections() -> None:
    truth = truth_of([[i * 20, 0, 10, 10] for i in range(120)], label=1)
    xyxy = np.concatenate((truth["boxes_xywh"][:, :2], truth["boxes_xywh"][:, :2] + 10), axis=1)
    found = Detections(torch.from_numpy(xyxy), torch.linspace(1, 0.1, 120), torch.ones(120, dtype=torch.int64))
    recalls = []
    for most in (100, 300):
        metric = CocoMetric(NAMES, max_detections=most)
        metric.update([found], [NO_TARGET], [{"image_id": 1, "ground_truth": truth}])
        recalls.append(metric.compute()["AR100"])
    assert recalls == pytest.approx([100 / 120, 1])


def test_mistakes_are_named() -> None:
    metric = CocoMetric({1: "cat"})
    with pytest.raises(
        ValueError, match=r"image 'x': its annotations have the class indices \[3\], but the class list has only \[1\]"
    ):
        metric.update([NOTHING], [NO_TARGET], [one_dog("x")])
    with pytest.raises(ValueError, match="slots from 1 on"):
        CocoMetric({0: "background", 1: "cat"})
    with pytest.raises(ValueError, match="at least 10, for AR10; got 5"):
        CocoMetric(NAMES, max_detections=5)


def test_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    metric = CocoMetric(NAMES)
    metric.update([DOG], [NO_TARGET], [one_dog()])
    metric.compute()
    assert capsys.readouterr().out == ""
