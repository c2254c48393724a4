"""Cross entropy of labels: against numbers by hand and torch's own, and how sums join."""

import math

import pytest
import torch
from pocketvision.backbones.criterion import LabelCriterion


def targets(*labels: int) -> list[dict[str, torch.Tensor]]:
    return [{"label": torch.tensor(label)} for label in labels]


def test_no_images_are_no_loss_but_have_a_gradient() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    sums, count = LabelCriterion().sums({"logits": logits}, [])
    assert (sums["loss_class"].item(), count.item()) == (0, 0)
    losses = LabelCriterion()({"logits": logits}, [])
    losses["loss_class"].backward()
    assert losses["loss_class"].item() == 0


@pytest.mark.parametrize(
    ("smoothing", "labels", "expected"),
    [  # logits 0, log 3: probabilities 1/4, 3/4
        (0.0, [1, 0], -(math.log(0.75) + math.log(0.25)) / 2),
        (0.2, [1, 0], -(math.log(0.75) + math.log(0.25)) / 2),  # both once: smoothing exchanges equal shares
        (0.2, [1], -0.9 * math.log(0.75) - 0.1 * math.log(0.25)),
    ],
)
def test_by_hand(smoothing: float, labels: list[int], expected: float) -> None:
    logits = torch.tensor([[0.0, math.log(3)]] * len(labels))
    loss = LabelCriterion(label_smoothing=smoothing)({"logits": logits}, targets(*labels))["loss_class"]
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sums_of_parts_make_the_mean_of_the_whole(smoothing: float) -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 3, 4, 0, 3]
    criterion = LabelCriterion(label_smoothing=smoothing)
    parts = [criterion.sums({"logits": logits[cut]}, targets(*labels[cut])) for cut in (slice(0, 2), slice(2, 7))]
    mean = sum(sums["loss_class"] for sums, _ in parts) / sum(count for _, count in parts)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=smoothing)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(criterion({"logits": logits}, targets(*labels))["loss_class"], expected)


def test_half_precision_logits_have_a_float32_loss() -> None:
    logits = torch.tensor([[10.0, -10.0]], dtype=torch.bfloat16)
    assert LabelCriterion()({"logits": logits}, targets(0))["loss_class"].dtype == torch.float32


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"got 1\.0"):
        LabelCriterion(label_smoothing=1.0)
    with pytest.raises(ValueError, match="1 targets for the logits of 2 images"):
        LabelCriterion().sums({"logits": torch.zeros(2, 3)}, targets(0))
