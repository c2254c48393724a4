"""From logits to ranked classes."""

import pytest
import torch
from pocketvision.backbones.postprocess import Rankings


def test_no_images() -> None:
    assert Rankings()({"logits": torch.zeros(0, 3)}, []) == []


@pytest.mark.parametrize(
    ("logits", "labels", "scores"),
    [
        ([0.0], [0], [1.0]),
        ([1.0, 1.0, 1.0], [0, 1, 2], [1 / 3] * 3),
        ([0.0, 2.0, 1.0], [1, 2, 0], [0.66524, 0.24473, 0.09003]),
        ([0.0, 400.0, 200.0], [1, 2, 0], [1.0, 0.0, 0.0]),  # the order outlives probabilities of 0
    ],
)
def test_classes_by_probability(logits: list[float], labels: list[int], scores: list[float]) -> None:
    ranking, other = Rankings()({"logits": torch.tensor([logits, logits[::-1]])}, [{}, {}])
    assert ranking.labels.tolist() == labels
    assert ranking.scores.tolist() == pytest.approx(scores, abs=1e-5)
    assert other.scores.tolist() == pytest.approx(scores, abs=1e-5)


def test_one_meta_for_each_image() -> None:
    with pytest.raises(ValueError, match="2 images in the logits, but 1 metas"):
        Rankings()({"logits": torch.zeros(2, 3)}, [{}])
