import contextlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.detection.coco_results import to_records
from pocketvision.detection.metric import CocoMetric
from pocketvision.detection.results import Detections
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
NAMES = {1: "cat", 3: "dog"}
NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
NO_TARGET = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def by_hand(truth: Path, results: Path) -> tuple[list[float], dict[int, float]]:
    """pycocotools on files, as its own demo does it: the twelve figures and the AP of each category."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    per_class = {}
    for k, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        known = precision[precision > -1]
        per_class[category] = np.mean(known) if known.size else -1
    return evaluation.stats.tolist(), per_class


def truth_of(annotations: list[dict[str, Any]], slots: dict[int, int]) -> dict[str, Any]:
    return {
        "boxes_xywh": np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4),
        "labels": np.array([slots[a["category_id"]] for a in annotations], dtype=np.int64),
        "area": np.array([a["area"] for a in annotations], dtype=np.float64),
        "crowd": np.array([a["iscrowd"] for a in annotations], dtype=bool),
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


def records_of(metric: CocoMetric, image: int, source_ids: dict[int, int]) -> list[dict[str, Any]]:
    return to_records(image, metric.state()[image][0], source_ids)


def compare(path: Path, source: dict[str, Any], slots: dict[int, int], seed: int) -> dict[str, float]:
    """Feed the metric image by image, score the same with files, and demand the same bits."""
    rng = np.random.default_rng(seed)
    names = {slots[c["id"]]: c["name"] for c in source["categories"]}
    metric = CocoMetric(names)
    predictions, metas = [], []
    for image in rng.permutation(source["images"]):
        annotations = [a for a in source["annotations"] if a["image_id"] == image["id"]]
        truth = truth_of(annotations, slots)
        predictions.append(perturbed(truth, rng, sorted(names)))
        metas.append({"image_id": image["id"], "ground_truth": truth})
    metric.update(predictions, [NO_TARGET] * len(metas), metas)
    (path / "truth.json").write_text(json.dumps(source))
    source_ids = {slot: i for i, slot in slots.items()}
    results = [record for meta in metas for record in records_of(metric, meta["image_id"], source_ids)]
    (path / "results.json").write_text(json.dumps(results))
    expected, per_class = by_hand(path / "truth.json", path / "results.json")
    found = metric.compute()
    assert [found[name] for name in FIGURES] == expected
    assert {category["id"]: found[f"AP/{category['name']}"] for category in source["categories"]} == per_class
    return found


def made_up_source(rng: np.random.Generator, images: int = 25) -> dict[str, Any]:
    annotations = []
    for image in range(images):
        for _ in range(int(rng.integers(0, 8)) if image % 5 else 0):
            x, y, w, h = (rng.random(4) * [300, 300, 200, 200]).tolist()
            fields = {"category_id": int(rng.integers(1, 5)), "iscrowd": int(rng.random() < 0.15)}
            fields["image_id"] = 100 - image
            annotations.append({"id": len(annotations) + 1, "bbox": [x, y, w, h], "area": w * h * 0.7, **fields})
    return {
        "images": [{"id": 100 - image} for image in range(images)],
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2, 3, 4, 9)],
        "annotations": annotations,
    }


@pytest.mark.parametrize("seed", range(4))
def test_is_pycocotools_on_files(tmp_path: Path, seed: int) -> None:
    found = compare(tmp_path, made_up_source(np.random.default_rng(seed)), {1: 1, 2: 2, 3: 3, 4: 4, 9: 5}, seed)
    assert 0.1 < found["AP"] < 0.9
    assert found["AP/class 9"] == -1


@pytest.mark.parametrize("slots", ["coco91", "contiguous"])
def test_is_pycocotools_on_real_annotations(tmp_path: Path, data_root: Path, slots: str) -> None:
    source = json.loads((data_root / "coco_mini" / "annotations" / "instances_val2017.json").read_text())
    assert any(a["iscrowd"] for a in source["annotations"])
    ids = sorted(c["id"] for c in source["categories"])
    found = compare(tmp_path, source, {i: i if slots == "coco91" else n for n, i in enumerate(ids, start=1)}, 0)
    assert 0.1 < found["AP"] < 0.9


def test_nothing_at_all() -> None:
    metric = CocoMetric(NAMES)
    assert set(metric.compute()) == {*FIGURES, "AP/cat", "AP/dog"}
    assert set(metric.compute().values()) == {-1}
    metric.update([NOTHING], [NO_TARGET], [{"image_id": 0, "ground_truth": truth_of([], {})}])
    assert set(metric.compute().values()) == {-1}


def one_dog(image_id: int | str = 0) -> dict[str, Any]:
    annotation = {"bbox": [10.0, 10, 50, 50], "category_id": 3, "area": 2500.0, "iscrowd": 0}
    return {"image_id": image_id, "ground_truth": truth_of([annotation], {3: 3})}


DOG = Detections(torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([0.9]), torch.tensor([3]))


def test_no_detections_and_no_annotations() -> None:
    metric = CocoMetric(NAMES)
    metric.update([NOTHING], [NO_TARGET], [one_dog()])
    assert metric.compute() | {"AP": 0, "AP/dog": 0, "AP/cat": -1, "APm": 0, "APl": -1} == metric.compute()
    metric.reset()
    metric.update([DOG], [NO_TARGET], [{"image_id": 0, "ground_truth": truth_of([], {})}])
    assert set(metric.compute().values()) == {-1}


def test_perfect_and_gaps() -> None:
    """Image id 0 is found, and a detection in a slot without a class does not count."""
    metric = CocoMetric(NAMES)
    gap = Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0.99]), torch.tensor([2]))
    metric.update([DOG, gap], [NO_TARGET] * 2, [one_dog(0), {"image_id": 1, "ground_truth": truth_of([], {})}])
    figures = metric.compute()
    assert [figures[name] for name in ("AP", "AP/dog", "AR1")] == pytest.approx([1, 1, 1])
    assert type(figures["AP"]) is float
    assert records_of(metric, 1, {1: 1, 3: 18}) == []


def test_images_count_once_and_states_merge() -> None:
    parts = [CocoMetric(NAMES), CocoMetric(NAMES)]
    parts[0].update([DOG, NOTHING], [NO_TARGET] * 2, [one_dog("a"), one_dog("b")])
    parts[1].update([DOG, DOG], [NO_TARGET] * 2, [one_dog("c"), one_dog("a")])  # a sampler that pads repeats "a"
    parts[1].update([DOG], [NO_TARGET], [one_dog("c")])
    whole = CocoMetric(NAMES)
    whole.update([DOG, NOTHING, DOG], [NO_TARGET] * 3, [one_dog("a"), one_dog("b"), one_dog("c")])
    merged = CocoMetric(NAMES)
    merged.update([NOTHING], [NO_TARGET], [one_dog("forgotten")])
    merged.merge([pickle.loads(pickle.dumps(part.state())) for part in parts])
    assert merged.compute() == whole.compute()
    assert 0.6 < whole.compute()["AP"] < 0.7
    merged.merge([])
    assert merged.compute()["AP"] == -1


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
    cat = {"category_id": 1, "area": 100, "iscrowd": 0}
    truth = truth_of([{"bbox": [i * 20.0, 0, 10, 10], **cat} for i in range(120)], {1: 1})
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
