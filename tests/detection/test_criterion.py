import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.detection.anchors import AnchorLayout, make_anchors
from pocketvision.detection.boxes import decode, encode
from pocketvision.detection.criterion import (
    AlignedCriterion,
    DetectionCriterion,
    FocalCriterion,
    HardNegativeCriterion,
)
from pocketvision.detection.matching import assign
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou, generalized_box_iou_loss, sigmoid_focal_loss

NO_BOXES = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
REFERENCES: list[Callable[..., DetectionCriterion]] = [FocalCriterion, HardNegativeCriterion]
CRITERIA = [*REFERENCES, AlignedCriterion]


def anchors_256(dtype: torch.dtype = torch.float64) -> Tensor:
    return make_anchors(AnchorLayout(), [(s, s) for s in (16, 8, 4, 2, 1, 1)], (256, 256), dtype=dtype)


def random_outputs(batch: int, anchors: Tensor, num_slots: int = 5, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, len(anchors), num_slots, generator=generator, dtype=torch.float64) * 3
    deltas = torch.randn(batch, len(anchors), 4, generator=generator, dtype=torch.float64)
    return {"class_logits": logits.to(anchors), "box_deltas": deltas.to(anchors), "anchors": anchors}


def random_target(rng: np.random.Generator, num_slots: int = 5, size: int = 256) -> dict[str, Tensor]:
    """Up to 12 boxes or none; some twice, some on the grid, so that boxes and anchors tie."""
    count = int(rng.integers(0, 9)) * int(rng.integers(0, 4) > 0)
    low = rng.random((count, 2)) * 0.8
    boxes = np.concatenate((low, low + 0.02 + rng.random((count, 2)) * (0.98 - low)), 1)
    boxes[: count // 3] = np.round(boxes[: count // 3] * 8) / 8 + [0, 0, 0.125, 0.125]
    boxes = np.concatenate((boxes, boxes[rng.integers(0, max(count, 1), count // 2)]))
    labels = rng.integers(1, num_slots, len(boxes))
    return {"boxes": torch.from_numpy(boxes * size), "labels": torch.from_numpy(labels)}


def slow_targets(boxes: np.ndarray, labels: np.ndarray, anchors: np.ndarray, num_slots: int) -> tuple[np.ndarray, ...]:
    """FACTS of the TF reference for one image, box by box; all corners (y1, x1, y2, x2) in 0..1."""
    overlaps = np.zeros((len(boxes), len(anchors)))
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        for j, (ay1, ax1, ay2, ax2) in enumerate(anchors):
            shared = max(min(y2, ay2) - max(y1, ay1), 0) * max(min(x2, ax2) - max(x1, ax1), 0)
            overlaps[i, j] = shared / ((x2 - x1) * (y2 - y1) + (ax2 - ax1) * (ay2 - ay1) - shared)
    match = np.full(len(anchors), -1)
    for j in range(len(anchors)):
        if len(boxes) and overlaps[:, j].max() >= 0.5:
            match[j] = overlaps[:, j].argmax()
    for i in reversed(range(len(boxes))):  # backwards: of two boxes that force one anchor the first stays
        match[overlaps[i].argmax()] = i
    one_hot = np.zeros((len(anchors), num_slots))
    deltas = np.zeros((len(anchors), 4))
    epsilon = 1e-8  # of the reference's box coder
    for j in np.flatnonzero(match >= 0):
        one_hot[j, labels[match[j]]] = 1
        (y1, x1, y2, x2), (ay1, ax1, ay2, ax2) = boxes[match[j]], anchors[j]
        h, w, ah, aw = y2 - y1 + epsilon, x2 - x1 + epsilon, ay2 - ay1 + epsilon, ax2 - ax1 + epsilon
        deltas[j] = (
            10 * ((y1 + y2) / 2 - (ay1 + ay2) / 2) / ah,
            10 * ((x1 + x2) / 2 - (ax1 + ax2) / 2) / aw,
            5 * np.log(h / ah),
            5 * np.log(w / aw),
        )
    return match, one_hot, deltas


def slow_losses(outputs: dict[str, Tensor], targets: list[dict[str, Tensor]], size: int) -> tuple[float, float, float]:
    """Class sum, box sum and matches of a batch."""
    yxyx = [1, 0, 3, 2]
    class_sum = box_sum = matches = 0.0
    for logits, found, target in zip(outputs["class_logits"], outputs["box_deltas"], targets, strict=True):
        match, one_hot, deltas = slow_targets(
            target["boxes"].numpy()[:, yxyx] / size,
            target["labels"].numpy(),
            outputs["anchors"].numpy()[:, yxyx] / size,
            logits.shape[1],
        )
        p = 1 / (1 + np.exp(-logits.numpy()))
        p_true = np.where(one_hot == 1, p, 1 - p)
        alpha = np.where(one_hot == 1, 0.75, 0.25)
        class_sum += (-alpha * (1 - p_true) ** 2 * np.log(p_true)).sum()
        error = np.abs(found.numpy()[:, yxyx] - deltas)[match >= 0]
        box_sum += np.where(error <= 1, 0.5 * error**2, error - 0.5).sum() / 4
        matches += (match >= 0).sum()
    return class_sum, box_sum, matches


@pytest.mark.parametrize("seed", range(50))
def test_focal_is_the_slow_transcription(seed: int) -> None:
    """50 times four images: 200 cases. Their anchors: the four coarse maps, and a corner of the finest."""
    rng = np.random.default_rng(seed)
    everything = anchors_256()
    anchors = torch.cat((everything[:60], everything[16 * 16 * 3 :]))[:330]
    targets = [random_target(rng) for _ in range(4)]
    outputs = random_outputs(4, anchors, seed=seed)
    sums, count = FocalCriterion().sums(outputs, targets)
    class_sum, box_sum, matches = slow_losses(outputs, targets, 256)
    assert count.item() == matches
    assert sums["loss_class"].item() == pytest.approx(class_sum, rel=1e-9)
    assert sums["loss_box"].item() == pytest.approx(box_sum, rel=1e-6)


def test_the_random_cases_have_empties_and_duplicate_best_anchors() -> None:
    counts, duplicates = [], 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        for target in (random_target(rng) for _ in range(4)):
            counts.append(len(target["boxes"]))
            best = box_iou(target["boxes"], anchors_256()).argmax(1) if counts[-1] else torch.zeros(0)
            duplicates += len(best) != len(best.unique())
    assert min(counts) == 0
    assert max(counts) == 12
    assert duplicates > 50


def golden_batch(golden: Any) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """In float32, as the graph: one box lies so that rounding decides between two anchors."""
    xyxy = [1, 0, 3, 2]
    sizes = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    outputs = {
        "class_logits": (torch.from_numpy(golden["class_predictions_i8_div16"]).float() / 16).requires_grad_(),
        "box_deltas": torch.from_numpy(golden["box_encodings_f16"][..., xyxy]).float().requires_grad_(),
        "anchors": make_anchors(AnchorLayout.reference(), sizes, (320, 320)),
    }
    ends = np.cumsum(golden["gt_counts"])[:-1]
    boxes = np.split(golden["gt_boxes"][:, xyxy] * np.float32(320), ends)
    labels = np.split(golden["gt_classes"].astype(np.int64) + 1, ends)
    targets = [
        {"boxes": torch.from_numpy(b), "labels": torch.from_numpy(slots)}
        for b, slots in zip(boxes, labels, strict=True)
    ]
    return outputs, targets


def test_focal_is_the_tf_graphs(tf_assets: Path) -> None:
    golden = np.load(tf_assets / "ssd_loss.npz")
    outputs, targets = golden_batch(golden)
    found = assign(targets, outputs["anchors"])
    assert torch.equal(found.matched, torch.from_numpy(golden["match"] >= 0))
    image, anchor = found.matched.nonzero(as_tuple=True)
    slots = torch.stack((image, anchor, found.labels[image, anchor]), dim=1)
    assert torch.equal(slots, torch.from_numpy(golden["cls_targets_nonzero"]).long())
    rows = torch.from_numpy(golden["match"]).long()[found.matched]
    chosen = torch.stack([targets[i]["boxes"][row] for i, row in zip(image.tolist(), rows, strict=True)])
    assert torch.equal(found.boxes[found.matched], chosen)
    deltas = encode(found.boxes, outputs["anchors"])[found.matched][:, [1, 0, 3, 2]]
    np.testing.assert_allclose(deltas.numpy(), golden["reg_targets_pos"], rtol=1e-5, atol=1e-5)

    losses = FocalCriterion()(outputs, targets)
    assert losses["loss_class"].item() == pytest.approx(golden["classification_loss"].item(), rel=1e-6)
    assert losses["loss_box"].item() == pytest.approx(golden["localization_loss"].item(), rel=1e-6)
    torch.stack(list(losses.values())).sum().backward()
    class_gradient, box_gradient = outputs["class_logits"].grad, outputs["box_deltas"].grad
    assert class_gradient is not None
    assert box_gradient is not None
    np.testing.assert_allclose(class_gradient[:, ::29, ::7], golden["grad_cls_sub"], atol=1e-6)
    np.testing.assert_allclose(box_gradient[found.matched][:, [1, 0, 3, 2]], golden["grad_box_pos"], atol=1e-6)
    assert class_gradient.double().abs().sum() == pytest.approx(golden["grad_cls_abs_sum"].item(), rel=1e-6)
    assert box_gradient.double().abs().sum() == pytest.approx(golden["grad_box_abs_sum"].item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_hard_negatives_are_torchvisions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    anchors = anchors_256()
    targets = [random_target(rng) for _ in range(4)]
    outputs = random_outputs(4, anchors, seed=seed)
    losses = HardNegativeCriterion()(outputs, targets)
    theirs = SSD.__new__(SSD)
    torch.nn.Module.__init__(theirs)
    theirs.box_coder, theirs.neg_to_pos_ratio = BoxCoder((10.0, 10.0, 5.0, 5.0)), 3.0
    matcher = SSDMatcher(0.5)
    unmatched = torch.full((len(anchors),), -1)
    matches = [matcher(box_iou(t["boxes"], anchors)) if len(t["boxes"]) else unmatched for t in targets]
    head = {"cls_logits": outputs["class_logits"], "bbox_regression": outputs["box_deltas"]}
    expected = theirs.compute_loss(targets, head, [anchors] * 4, matches)
    torch.testing.assert_close(losses["loss_class"], expected["classification"], rtol=1e-12, atol=0)
    torch.testing.assert_close(losses["loss_box"], expected["bbox_regression"], rtol=1e-12, atol=1e-15)


def test_images_without_boxes_teach_only_if_asked() -> None:
    outputs = random_outputs(2, anchors_256())
    targets = [NO_BOXES, NO_BOXES]
    assert HardNegativeCriterion()(outputs, targets)["loss_class"].item() == 0
    losses = torch.nn.functional.cross_entropy(
        outputs["class_logits"].flatten(0, 1),
        torch.zeros(2 * len(outputs["anchors"]), dtype=torch.int64),
        reduction="none",
    )
    hardest = losses.view(2, -1).topk(5, dim=1).values.sum()
    found = HardNegativeCriterion(min_negatives=5)(outputs, targets)
    assert found["loss_class"].item() == pytest.approx(hardest.item())
    assert found["loss_box"].item() == 0


@pytest.mark.parametrize("make", CRITERIA)
def test_empties_have_finite_losses_and_gradients(make: Callable[..., DetectionCriterion]) -> None:
    outputs = random_outputs(2, anchors_256(torch.float32))
    outputs = {name: value.requires_grad_(name != "anchors") for name, value in outputs.items()}
    losses = make()(outputs, [NO_BOXES, NO_BOXES])
    assert set(losses) == {"loss_class", "loss_box"}
    torch.stack(list(losses.values())).sum().backward()
    for name in ("class_logits", "box_deltas"):
        gradient = outputs[name].grad
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("make", CRITERIA)
def test_sums_add_up_over_parts_of_a_batch(make: Callable[..., DetectionCriterion]) -> None:
    rng = np.random.default_rng(5)
    targets = [random_target(rng) for _ in range(4)]
    outputs = random_outputs(4, anchors_256())
    criterion = make()
    whole = criterion(outputs, targets)
    total, count = {"loss_class": 0.0, "loss_box": 0.0}, 0.0
    for part in (slice(0, 1), slice(1, 4)):
        piece = {name: value if name == "anchors" else value[part] for name, value in outputs.items()}
        sums, matched = criterion.sums(piece, targets[part])
        count += matched.item()
        total = {name: total[name] + sums[name].item() for name in total}
    for name, value in whole.items():
        assert total[name] / count == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("make", CRITERIA)
def test_half_precision_outputs_have_float32_losses(make: Callable[..., DetectionCriterion]) -> None:
    rng = np.random.default_rng(2)
    targets = [random_target(rng) for _ in range(3)]
    outputs = random_outputs(3, anchors_256(torch.float32))
    half = {name: value if name == "anchors" else value.bfloat16() for name, value in outputs.items()}
    rounded = {name: value if name == "anchors" else value.bfloat16().float() for name, value in outputs.items()}
    for name, value in make()(half, targets).items():
        assert value.dtype == torch.float32
        assert torch.equal(value, make()(rounded, targets)[name])


@pytest.mark.parametrize("make", [FocalCriterion, partial(HardNegativeCriterion, min_negatives=9999), AlignedCriterion])
def test_anchors_in_a_crowd_are_no_negatives(make: Callable[..., DetectionCriterion]) -> None:
    outputs = random_outputs(1, anchors_256())
    logits = outputs["class_logits"].requires_grad_()
    boxes = torch.tensor([[100.0, 100, 160, 160]], dtype=torch.float64)
    crowded = {"boxes": boxes, "labels": torch.tensor([2]), "crowd_boxes": torch.tensor([[64.0, 64, 192, 192]])}
    found = make().assign([crowded], outputs["anchors"], logits=logits.detach(), deltas=outputs["box_deltas"])
    assert 20 < found.ignored.sum() < 1000
    make()(outputs, [crowded])["loss_class"].backward()
    assert logits.grad is not None
    touched = (logits.grad != 0).any(dim=2)
    assert torch.equal(touched, ~found.ignored)
    logits.grad = None
    make(crowd_fraction=None)(outputs, [crowded])["loss_class"].backward()
    assert (logits.grad != 0).any(dim=2).all()


@pytest.mark.parametrize("make", REFERENCES)
def test_options(make: Callable[..., DetectionCriterion]) -> None:
    rng = np.random.default_rng(3)
    targets = [random_target(rng) for _ in range(3)]
    outputs = random_outputs(3, anchors_256())
    found = assign(targets, outputs["anchors"], ties=make().ties)
    boxes = decode(outputs["box_deltas"], outputs["anchors"])
    expected = generalized_box_iou_loss(boxes[found.matched], found.boxes[found.matched], reduction="mean")
    giou = make(box_loss="giou", box_weight=2.0)(outputs, targets)["loss_box"]
    assert giou.item() == pytest.approx(2 * expected.item())
    stricter = make(threshold=0.7).sums(outputs, targets)[1]
    assert 0 < stricter < make().sums(outputs, targets)[1]


@pytest.mark.parametrize(
    ("makes", "options", "message"),
    [
        (CRITERIA, {"box_loss": "l2"}, "box_loss='l2': choose one of 'huber', 'giou'"),
        (CRITERIA, {"box_weight": -1}, "box_weight=-1: expected a number of 0 or more"),
        (CRITERIA, {"crowd_fraction": 7}, "crowd_fraction=7: expected a number from 0 to 1"),
        (CRITERIA, {"crowd_fraction": math.nan}, "crowd_fraction=nan: expected a number from 0 to 1"),
        (REFERENCES, {"ties": "best"}, "ties='best': choose one of 'first', 'last'"),
        (REFERENCES, {"threshold": 1.5}, "threshold=1.5: expected a number from 0 to 1"),
        ([AlignedCriterion], {"anchors_per_box": 0}, "anchors_per_box=0: expected an integer of 1 or more"),
        ([AlignedCriterion], {"anchors_per_box": 2.5}, "anchors_per_box=2.5: expected an integer of 1 or more"),
        ([AlignedCriterion], {"gamma": -1.0}, "gamma=-1.0: expected a number of 0 or more"),
        ([AlignedCriterion], {"gamma": 0.5}, "gamma=0.5: expected 0, or 1 or more"),
        ([AlignedCriterion], {"score_power": math.nan}, "score_power=nan: expected a number of 0 or more"),
        ([AlignedCriterion], {"overlap_power": "x"}, "overlap_power=x: expected a number of 0 or more"),
        ([AlignedCriterion], {"class_weight": -0.5}, "class_weight=-0.5: expected a number of 0 or more"),
        ([AlignedCriterion], {"least_matches": math.inf}, "least_matches=inf: expected a number of 0 or more"),
    ],
)
def test_options_are_checked(makes: list[Callable[..., Any]], options: dict[str, Any], message: str) -> None:
    for make in makes:
        with pytest.raises(ValueError, match=message):
            make(**options)


def test_focal_alpha_and_gamma() -> None:
    targets = [random_target(np.random.default_rng(1))]
    outputs = random_outputs(1, anchors_256())
    one_hot = torch.nn.functional.one_hot(assign(targets, outputs["anchors"]).labels, 5).double()
    one_hot[..., 0] = 0
    sums, _ = FocalCriterion(alpha=0.25, gamma=1.5).sums(outputs, targets)
    expected = sigmoid_focal_loss(outputs["class_logits"], one_hot, alpha=0.25, gamma=1.5, reduction="sum")
    torch.testing.assert_close(sums["loss_class"], expected)


def test_label_smoothing() -> None:
    targets = [random_target(np.random.default_rng(1))]
    outputs = random_outputs(1, anchors_256())
    labels = assign(targets, outputs["anchors"], ties="last").labels[0]
    sums, _ = HardNegativeCriterion(label_smoothing=0.1, min_negatives=9999).sums(outputs, targets)
    expected = torch.nn.functional.cross_entropy(
        outputs["class_logits"][0], labels, label_smoothing=0.1, reduction="sum"
    )
    torch.testing.assert_close(sums["loss_class"], expected)


@pytest.mark.parametrize("make", CRITERIA)
@pytest.mark.parametrize("box_loss", ["huber", "giou"])
def test_what_unmatched_anchors_predict_has_no_gradient(make: Callable[..., DetectionCriterion], box_loss: str) -> None:
    """Nor a NaN, however far they are: zero times what overflows is one."""
    anchors = anchors_256(torch.float32)
    outputs = random_outputs(1, anchors)
    targets = [{"boxes": torch.tensor([[16.0, 16.0, 80.0, 80.0]]), "labels": torch.tensor([1])}]
    criterion = make(box_loss=box_loss)
    found = criterion.assign(targets, anchors, logits=outputs["class_logits"], deltas=outputs["box_deltas"])
    deltas = torch.where(found.matched[..., None], outputs["box_deltas"], 3e37).requires_grad_()
    criterion.sums({**outputs, "box_deltas": deltas}, targets)[0]["loss_box"].backward()
    assert deltas.grad is not None
    assert deltas.grad[found.matched].any()
    assert not deltas.grad[~found.matched].any()
