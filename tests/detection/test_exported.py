"""Detectors as one module of tensors: post-processing from operators that every converter knows is `Postprocess`."""

from dataclasses import replace

import pytest
import torch
from pocketvision.detection.exported import PortableDetector
from pocketvision.detection.postprocess import Postprocess
from torch import Tensor, nn

SIDE = 64.0


class Network(nn.Module):
    """Returns the same outputs for any image."""

    def __init__(self, outputs: dict[str, Tensor]) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.outputs


def found_by(post: Postprocess, outputs: dict[str, Tensor], candidates: int) -> dict[str, Tensor]:
    detector = PortableDetector(Network(outputs), post, candidates=candidates)
    found = detector(torch.zeros(1, 3, 64, 64), torch.full((4,), SIDE))
    return {name: value[0] for name, value in found.items()}


def some_outputs(*, anchors: int = 80, seed: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(anchors, 2, generator=generator) * 50
    return {
        "class_logits": torch.randn(1, anchors, 4, generator=generator),
        "box_deltas": torch.randn(1, anchors, 4, generator=generator),
        "anchors": torch.cat((corner, corner + 20), dim=1),
    }


def row_of_boxes(count: int) -> dict[str, Tensor]:
    """Boxes in a row, best first, each of which overlaps only its neighbors: every second one survives."""
    left = 3.0 * torch.arange(count)
    anchors = torch.stack((left, torch.zeros(count), left + 9, torch.full((count,), 9.0)), dim=1)
    logits = torch.stack((torch.zeros(count), torch.linspace(2, 1, count)), dim=1)
    return {"class_logits": logits[None], "box_deltas": torch.zeros(1, count, 4), "anchors": anchors}


POSTS = {
    "nothing is good enough": Postprocess(min_score=0.99),
    "reference": Postprocess.reference(),
    "torchvision": Postprocess.torchvision(),
    "ten of each class": Postprocess(top_k=10, max_per_class=None),
    "three survivors of each class": Postprocess(max_per_class=3),
    "five in all": Postprocess(max_detections=5),
}


@pytest.mark.parametrize("candidates", [10, 60, 240])
@pytest.mark.parametrize("name", POSTS)
def test_is_postprocess_with_as_many_candidates(name: str, candidates: int) -> None:
    post, outputs = POSTS[name], some_outputs()
    limited = replace(post, max_candidates=candidates)
    (expected,) = limited(outputs, [{"original_size": (64, 64), "input_size": (64, 64)}])
    assert (len(expected) == 0) == (name == "nothing is good enough")
    found = found_by(post, outputs, candidates)
    assert int(found["counts"]) == len(expected)
    torch.testing.assert_close(found["boxes"][: len(expected)], expected.boxes, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["scores"][: len(expected)], expected.scores, rtol=0, atol=1e-6)
    assert torch.equal(found["labels"][: len(expected)], expected.labels)
    assert not any(found[name][len(expected) :].any() for name in ("boxes", "scores", "labels"))  # zeros follow


def test_a_chain_of_suppressions_is_exact_up_to_the_number_of_rounds() -> None:
    post, longest = Postprocess(max_iou=0.4), PortableDetector.rounds + 1
    for count in (1, 2, longest):
        found = found_by(post, row_of_boxes(count), count)
        kept = found["boxes"][: int(found["counts"]), 0]
        assert kept.tolist() == [3.0 * i for i in range(0, count, 2)]
    found = found_by(post, row_of_boxes(longest + 1), longest + 1)
    assert int(found["counts"]) != (longest + 2) // 2  # a longer one is not: the number of rounds matters
