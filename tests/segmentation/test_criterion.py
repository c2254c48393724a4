"""PixelCriterion against torch's cross entropy and against a transcription in NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pocketvision.segmentation.criterion import PixelCriterion
from pocketvision.segmentation.upsample import full_size_logits

K = 5


def make_case(seed=0, *, batch=2, size=(20, 27), low=(3, 4), ignored=0.2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, K, *low, generator=generator, dtype=dtype) * 3
    masks = torch.randint(0, K, (batch, *size), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < ignored] = 255
    outputs = {"logits": logits.requires_grad_(), "logits_size": (size[0] + 5, size[1] + 6)}
    return outputs, [{"mask": mask.to(torch.uint8)} for mask in masks], masks


def mined_in_numpy(logits, masks, *, threshold, min_kept, weights):
    """Sum and count of hard-pixel mining, pixel by pixel from the definition."""
    difficulty, labels = [], []
    for image, mask in zip(logits, masks, strict=True):
        for y, x in np.ndindex(*mask.shape):
            if mask[y, x] != 255:
                exps = np.exp(image[:, y, x] - image[:, y, x].max())
                difficulty.append(-math.log(exps[mask[y, x]] / exps.sum()))
                labels.append(mask[y, x])
    order = np.argsort(difficulty)[::-1]
    min_kept *= len(masks)
    kept = [i for rank, i in enumerate(order) if rank < min_kept or math.exp(-difficulty[i]) <= threshold]
    return sum(weights[labels[i]] * difficulty[i] for i in kept), sum(weights[labels[i]] for i in kept)


@pytest.mark.parametrize("options", [{}, {"ohem_threshold": 0.7}, {"class_weights": [1.0, 2.0, 3.0, 0.5, 1.0]}])
def test_all_ignored_gives_zero_loss_and_a_gradient(options):
    outputs, targets, _ = make_case(ignored=1.1)
    loss = PixelCriterion(**options)(outputs, targets)["loss_pixel"]
    loss.backward()
    assert loss.item() == 0
    assert outputs["logits"].grad.abs().max() == 0


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.0, 4.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_equals_torch(weights, smoothing, align_corners, recompute):
    outputs, targets, masks = make_case()
    criterion = PixelCriterion(
        class_weights=weights, label_smoothing=smoothing, align_corners=align_corners, recompute=recompute
    )
    loss = criterion(outputs, targets)["loss_pixel"]
    (gradient,) = torch.autograd.grad(loss, outputs["logits"])
    full = full_size_logits(outputs, masks.shape[-2:], align_corners=align_corners)
    weight = None if weights is None else torch.tensor(weights, dtype=full.dtype)
    expected = F.cross_entropy(full, masks, weight=weight, label_smoothing=smoothing, ignore_index=255)
    (expected_gradient,) = torch.autograd.grad(expected, outputs["logits"])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("threshold", [0.05, 0.7, 1.0])
@pytest.mark.parametrize("min_kept", [1, 100, 10_000])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.25, 4.0]])
def test_mining_equals_numpy(threshold, min_kept, weights):
    outputs, targets, masks = make_case()
    criterion = PixelCriterion(ohem_threshold=threshold, ohem_min_kept=min_kept, class_weights=weights)
    sums, count = criterion.sums(outputs, targets)
    full = full_size_logits(outputs, masks.shape[-2:], align_corners=True).detach().numpy()
    expected, expected_count = mined_in_numpy(
        full, masks.numpy(), threshold=threshold, min_kept=min_kept, weights=weights or [1.0] * K
    )
    assert sums["loss_pixel"].item() == pytest.approx(expected, rel=1e-10)
    assert count.item() == pytest.approx(expected_count, rel=1e-10)


def test_mining_drops_easy_pixels_only():
    """So that the parametrised test above does not compare "everything kept" with itself."""
    outputs, targets, masks = make_case()
    counts = [
        PixelCriterion(ohem_threshold=threshold, ohem_min_kept=kept).sums(outputs, targets)[1].item()
        for threshold, kept in ((0.05, 1), (0.7, 1), (1.0, 1), (0.05, 300))
    ]
    valid = int((masks != 255).sum())
    assert 0 < counts[0] < counts[1] < counts[2] == valid
    assert counts[3] == 600 < valid


def test_sums_add_up_over_images():
    """What the loop relies on for accumulation and ranks: sums and counts of parts add up to those of the batch."""
    outputs, targets, _ = make_case(batch=3)
    criterion = PixelCriterion(class_weights=[0.5, 2.0, 1.0, 0.25, 4.0])
    whole, whole_count = criterion.sums(outputs, targets)
    parts = [criterion.sums({**outputs, "logits": outputs["logits"][i : i + 1]}, targets[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(sum(sums["loss_pixel"] for sums, _ in parts), whole["loss_pixel"])
    torch.testing.assert_close(sum(count for _, count in parts), whole_count)


@pytest.mark.parametrize("ohem", [None, 0.7])
def test_bfloat16_logits_are_compared_in_float32(ohem):
    outputs, targets, _ = make_case(dtype=torch.float32)
    criterion = PixelCriterion(ohem_threshold=ohem, ohem_min_kept=50)
    low = outputs["logits"].detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = criterion({**outputs, "logits": low}, targets)["loss_pixel"]
    exact = criterion({**outputs, "logits": low.detach().float()}, targets)["loss_pixel"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert low.grad.dtype == torch.bfloat16
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("label", [K, 254, -1])
def test_labels_outside_the_classes_raise_on_the_cpu(label):
    outputs, _, masks = make_case()
    masks[0, 0, 0] = label
    with pytest.raises(ValueError, match=rf"mask labels \[{label}\] are neither among the 5 classes"):
        PixelCriterion()(outputs, [{"mask": mask} for mask in masks])


@pytest.mark.parametrize("options", [{}, {"ohem_threshold": 0.7}, {"class_weights": [1.0] * K}])
def test_labels_outside_the_classes_make_the_loss_nan_elsewhere(options, monkeypatch):
    """On a GPU nothing looks at the labels in time; here the look is left out."""
    monkeypatch.setattr(PixelCriterion, "_refuse", lambda *_: None)
    outputs, _, masks = make_case()
    masks[0, 0, 0] = K
    loss = PixelCriterion(**options)(outputs, [{"mask": mask} for mask in masks])["loss_pixel"]
    loss.backward()
    assert loss.isnan()
    assert outputs["logits"].grad.isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ohem_threshold": 1.5}, "ohem_threshold must be a probability"),
        ({"ohem_threshold": 0}, "ohem_threshold must be a probability"),
        ({"ohem_min_kept": 0}, "ohem_min_kept=0: expected an integer of 1 or more"),
        ({"region_weight": float("nan")}, "region_weight=nan: expected a number of 0 or more"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1: expected a number from 0 to 1"),
        ({"class_weights": [1.0, 2.0]}, "2 class_weights for 5 classes"),
    ],
)
def test_wrong_options_raise(options, message):
    outputs, targets, _ = make_case()
    with pytest.raises(ValueError, match=message):
        PixelCriterion(**options)(outputs, targets)


def test_masks_of_another_size_raise():
    outputs, targets, _ = make_case()
    with pytest.raises(ValueError, match="masks and metas must have the size of the images"):
        PixelCriterion()({**outputs, "logits_size": (60, 60)}, targets)
