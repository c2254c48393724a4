"""The Lovász-softmax loss against a transcription of the paper's algorithm, and in the criterion."""

import pytest
import torch
from pocketvision.segmentation.criterion import PixelCriterion
from pocketvision.segmentation.lovasz import lovasz_softmax
from torch import Tensor


def slow_lovasz(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Berman et al., algorithm 1, class by class, for valid pixels only."""
    losses = []
    for label in labels.unique().tolist():
        truth = (labels == label).double()
        errors, order = (truth - probabilities[:, label]).abs().sort(descending=True)
        truth = truth[order]
        union = truth.sum() + (1 - truth).cumsum(0)
        jaccard = 1 - (truth.sum() - truth.cumsum(0)) / union
        jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
        losses.append(errors @ jaccard)
    return torch.stack(losses).mean()


def test_nothing_valid_is_zero_with_a_gradient() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    loss = lovasz_softmax(logits.softmax(1), torch.zeros(6, dtype=torch.int64), torch.zeros(6, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_papers_algorithm(seed: int) -> None:
    """Five classes of which one or two do not occur; a fifth of the pixels counts for nothing."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(80, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3 + seed % 2, (80,), generator=generator)
    valid = torch.rand(80, generator=generator) > 0.2
    found, expected = (
        lovasz_softmax(logits.softmax(1), labels, valid),
        slow_lovasz(logits.softmax(1)[valid], labels[valid]),
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    pairs = zip(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(0, 0.0), (1, 0.5 * (1 / 2 + 1 / 9)), (2, 0.5 * (1 + 2 / 10))],  # 1 - IoU of two classes, 2 and 8 pixels
)
def test_of_hard_predictions_it_is_one_minus_mean_iou(wrong: int, expected: float) -> None:
    labels = torch.tensor([1, 1, *[0] * 8])
    predicted = labels.clone()
    predicted[:wrong] = 0
    loss = lovasz_softmax(torch.eye(2, dtype=torch.float64)[predicted], labels, torch.ones(10, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("align_corners", "covered", "logits", "expected"),
    [
        # padded to 17: centres at 0, 8, 16, and the last one lies on the padding
        (True, (17, 17), (3, 3), [[0, 8, 255], [128, 136, 255], [255, 255, 255]]),
        (True, (16, 16), (1, 1), [[0]]),
        # cells of 8 pixels: the centre 3.5 rounds to 4
        (False, (16, 16), (2, 2), [[4 * 16 + 4, 4 * 16 + 12], [12 * 16 + 4, 12 * 16 + 12]]),
    ],
)
def test_labels_are_those_at_the_logits_centres(
    align_corners: bool, covered: tuple[int, int], logits: tuple[int, int], expected: list[list[int]]
) -> None:
    masks = torch.arange(256).reshape(1, 16, 16)
    criterion = PixelCriterion(align_corners=align_corners)
    assert criterion.labels_at(masks, logits, covered)[0].tolist() == expected


def test_the_weight_is_of_a_loss_of_its_own_and_ignored_pixels_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64)
    outputs = {"logits": logits, "logits_size": (17, 17)}
    masks = torch.randint(0, 4, (2, 16, 16), generator=generator)
    masks[0, :8] = 255
    targets = [{"mask": mask} for mask in masks]
    plain, both = PixelCriterion()(outputs, targets), PixelCriterion(region_weight=0.5)(outputs, targets)
    assert set(plain) == {"loss_pixel"}
    assert torch.equal(plain["loss_pixel"], both["loss_pixel"])
    labels = masks[:, ::8, ::8]
    valid = labels != 255
    at = logits[..., :2, :2].movedim(1, -1)[valid]
    assert both["loss_region"].item() == pytest.approx(0.5 * slow_lovasz(at.softmax(1), labels[valid]).item())


def test_all_ignored() -> None:
    logits = torch.randn(1, 4, 3, 3, requires_grad=True)
    outputs = {"logits": logits, "logits_size": (17, 17)}
    losses = PixelCriterion(region_weight=1.0)(outputs, [{"mask": torch.full((16, 16), 255)}])
    assert [value.item() for value in losses.values()] == [0, 0]
    torch.stack(list(losses.values())).sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_weight_is_checked() -> None:
    with pytest.raises(ValueError, match="region_weight=-1: expected a number of 0 or more"):
        PixelCriterion(region_weight=-1)
