from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.detection.boxes import clip_to_images, decode
from pocketvision.detection.postprocess import Postprocess, class_nms, rank_in_class
from torch import Tensor
from torchvision.ops import batched_nms

META = {"input_size": (320, 320), "original_size": (320, 320)}


def sparse_outputs(golden: Any) -> dict[str, Tensor]:
    xyxy = [1, 0, 3, 2]
    return {
        "class_logits": torch.from_numpy(golden["class_predictions_f16"].astype(np.float32)),
        "box_deltas": torch.from_numpy(golden["box_encodings_f16"].astype(np.float32)[..., xyxy]),
        "anchors": torch.from_numpy(golden["anchors"][:, xyxy]) * 320,
    }


def noisy_outputs(batch: int, *, num_anchors: int = 400, num_slots: int = 6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(num_anchors, 2, generator=generator, dtype=torch.float64) * 280
    size = 20 + torch.rand(num_anchors, 2, generator=generator, dtype=torch.float64) * 60
    return {
        "class_logits": torch.randn(batch, num_anchors, num_slots, generator=generator, dtype=torch.float64) * 2,
        "box_deltas": torch.randn(batch, num_anchors, 4, generator=generator, dtype=torch.float64),
        "anchors": torch.cat((low, low + size), dim=1),
    }


def plain(outputs: dict[str, Tensor], config: Postprocess) -> list[tuple[Tensor, Tensor, Tensor]]:
    """All candidates of all classes, one class after the other; no meta, 320 x 320."""
    results = []
    limits = torch.full((4,), 320.0, dtype=torch.float64)
    for logits, deltas in zip(outputs["class_logits"], outputs["box_deltas"], strict=True):
        boxes = decode(deltas, outputs["anchors"], max_log_size=config.max_log_size)
        boxes = clip_to_images(boxes, limits) if config.clip == "before" else boxes
        scores = logits.sigmoid() if config.activation == "sigmoid" else logits.softmax(1)
        kept = []
        for label in range(1, logits.shape[1]):
            candidates = (scores[:, label] > config.min_score).nonzero()[:, 0]
            order = candidates[scores[candidates, label].argsort(descending=True)][: config.top_k]
            survivors = batched_nms(boxes[order], scores[order, label], torch.zeros(len(order)), config.max_iou)
            kept += [(scores[i, label].item(), label, int(i)) for i in order[survivors][: config.max_per_class]]
        kept = [k for k in kept if config.clip == "before" or clip_area(boxes[k[2]]) > 0]
        kept = sorted(kept, reverse=True)[: config.max_detections]
        index = torch.tensor([k[2] for k in kept], dtype=torch.int64)
        results.append(
            (
                clip_to_images(boxes[index], limits),
                torch.tensor([k[0] for k in kept]),
                torch.tensor([k[1] for k in kept]),
            )
        )
    return results


def clip_area(box: Tensor) -> float:
    x1, y1, x2, y2 = box.clamp(0, 320).tolist()
    return (x2 - x1) * (y2 - y1)


def test_nothing_and_no_images() -> None:
    outputs = noisy_outputs(2)
    outputs["class_logits"] -= 1000
    assert [len(found) for found in Postprocess()(outputs, [META, META])] == [0, 0]
    outputs = {name: value if name == "anchors" else value[:0] for name, value in outputs.items()}
    assert Postprocess()(outputs, []) == []


@pytest.mark.parametrize("max_candidates", [None, 2000])
def test_reference_preset_is_the_tf_graphs(tf_assets: Path, max_candidates: int | None) -> None:
    golden = np.load(tf_assets / "ssd_post__sparse.npz")
    (found,) = Postprocess(max_candidates=max_candidates)(sparse_outputs(golden), [META])
    assert len(found) == golden["num_detections"][0] == 43
    boxes = golden["detection_boxes"][0, :43][:, [1, 0, 3, 2]]
    np.testing.assert_allclose(found.boxes.numpy() / 320, boxes, atol=1e-6)
    np.testing.assert_allclose(found.scores.numpy(), golden["detection_scores"][0, :43], atol=1e-6)
    np.testing.assert_array_equal(found.labels.numpy() - 1, golden["detection_classes"][0, :43])


@pytest.mark.parametrize(
    "config",
    [
        Postprocess.reference(),
        Postprocess.torchvision(),
        Postprocess(max_detections=1),
        Postprocess(max_detections=2000),  # more than there are: every candidate is needed
        Postprocess(max_per_class=7, max_detections=50, max_iou=0.2, min_score=0.6),
        Postprocess(top_k=20, max_per_class=None, clip="before", max_detections=70),
    ],
)
def test_is_the_plain_way(config: Postprocess) -> None:
    outputs = noisy_outputs(3)
    outputs["class_logits"][1, :, 1:] -= 10
    outputs["class_logits"][2, :, 2] += 10  # one class has all the best candidates, many of them suppressed
    outputs["box_deltas"][2, :200, 0] -= 150  # far outside
    found = Postprocess(**vars(config))(outputs, [META] * 3)
    for ours, (boxes, scores, labels) in zip(found, plain(outputs, config), strict=True):
        assert len(ours) == len(boxes) <= config.max_detections
        torch.testing.assert_close(ours.boxes, boxes)
        torch.testing.assert_close(ours.scores, scores.double())
        assert torch.equal(ours.labels, labels)


def test_a_crowd_of_equal_boxes_is_searched_to_the_end() -> None:
    """The best 3000 candidates are one object: the others are found behind them, unless the bound forbids."""
    outputs = noisy_outputs(1, num_anchors=3010, num_slots=2)
    outputs["box_deltas"].zero_()
    outputs["anchors"][:3000] = torch.tensor([50.0, 50, 100, 100], dtype=torch.float64)
    outputs["class_logits"][:, :3000] += 100
    (found,) = Postprocess(max_iou=0.9)(outputs, [META])
    assert len(found) == 11
    (bounded,) = Postprocess(max_iou=0.9, max_candidates=2000)(outputs, [META])
    assert len(bounded) == 1


def test_diverged_outputs_are_dropped() -> None:
    outputs = noisy_outputs(1, num_anchors=4)
    outputs["class_logits"][0, 0] = float("nan")
    outputs["box_deltas"][0, 1, 2:] = 5e4  # exp overflows
    (found,) = Postprocess(max_iou=1.0)(outputs, [META])
    assert len(found) == 3 * 5
    assert found.boxes.isfinite().all()
    scores = outputs["class_logits"][0, 1:, 1:].sigmoid()
    torch.testing.assert_close(found.scores, scores.flatten().sort(descending=True).values)
    index = (found.scores[0] == scores).nonzero()[0]
    assert found.labels[0] == index[1] + 1


def test_metas_bring_boxes_to_the_original() -> None:
    outputs = {
        "class_logits": torch.tensor([[[0.0, 5.0]], [[0.0, 5.0]]]),
        "box_deltas": torch.zeros(2, 1, 4),
        "anchors": torch.tensor([[10.0, 20, 50, 90]]),
    }
    metas = [
        {"input_size": (100, 100), "original_size": (200, 50)},
        {"input_size": (100, 100), "original_size": (120, 160), "pad": (10, 20, 10, 20)},
    ]
    stretched, padded = Postprocess()(outputs, metas)
    torch.testing.assert_close(stretched.boxes, torch.tensor([[5.0, 40, 25, 180]]))
    torch.testing.assert_close(padded.boxes, torch.tensor([[0.0, 0, 80, 120]]))


def test_half_precision_outputs() -> None:
    outputs = {name: value.float() for name, value in noisy_outputs(1).items()}
    half = {name: value if name == "anchors" else value.bfloat16() for name, value in outputs.items()}
    (found,) = Postprocess()(half, [META])
    assert found.boxes.dtype == found.scores.dtype == torch.float32


def test_rank_in_class() -> None:
    assert rank_in_class(torch.tensor([], dtype=torch.int64)).tolist() == []
    assert rank_in_class(torch.tensor([4, 2, 4, 4, 2, 9])).tolist() == [0, 0, 1, 2, 1, 0]


def test_class_nms_is_batched_nms() -> None:
    outputs = noisy_outputs(1, num_anchors=2000)
    labels = torch.randint(1, 91, (2000,), generator=torch.Generator().manual_seed(0))
    scores = outputs["class_logits"][0, :, 0]
    expected = batched_nms(outputs["anchors"], scores, labels, 0.3)
    assert 100 < len(expected) < 2000
    assert torch.equal(class_nms(outputs["anchors"], scores, labels, max_iou=0.3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation='relu': choose one of 'sigmoid', 'softmax'"),
        ({"clip": "never"}, "clip='never': choose one of 'before', 'after'"),
        ({"min_score": -1.0}, "must not be negative, got -1.0"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Postprocess(**options)
