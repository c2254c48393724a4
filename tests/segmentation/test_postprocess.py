"""Label maps at original sizes, and the up-sampling before them."""

import pytest
import torch
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.segmentation.upsample import full_size_logits


def one_hot(labels, classes=4):
    return torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2).float()


def meta(original, size, pad=None):
    return {"image_id": 1, "original_size": original, "input_size": size} | ({} if pad is None else {"pad": pad})


def test_empty_batch():
    assert LabelMaps()({"logits": torch.zeros(0, 4, 5, 5), "logits_size": (40, 40)}, []) == []


def test_network_and_data_padding_are_removed():
    labels = torch.randint(0, 4, (2, 17, 33), generator=torch.Generator().manual_seed(0))
    outputs = {"logits": one_hot(labels), "logits_size": (17, 33)}
    first, second = LabelMaps()(outputs, [meta((16, 32), (16, 32)), meta((10, 20), (16, 32), pad=(5, 2, 7, 4))])
    assert first.dtype == torch.uint8
    assert torch.equal(first.long(), labels[0, :16, :32])
    assert torch.equal(second.long(), labels[1, 2:12, 5:25])


def test_logits_are_resized_and_not_labels():
    """Between labels 0 and 2 no class 1 appears, and a border moves by parts of input pixels."""
    logits = torch.tensor([[[[4.0, -1.0]], [[0.0, 0.0]], [[-4.0, 1.0]]]])
    (labels,) = LabelMaps()({"logits": logits, "logits_size": (1, 2)}, [meta((1, 40), (1, 2))])
    assert set(labels.unique().tolist()) <= {0, 1, 2}
    # Half-pixel grid: x = (i + 0.5) / 20 - 0.5; class 0 leads while 4 - 5x > 0, class 2 once -4 + 5x > 0.
    assert torch.equal(labels[0], torch.tensor([0] * 26 + [2] * 14, dtype=torch.uint8))


@pytest.mark.parametrize("align_corners", [False, True])
def test_full_size_logits(align_corners):
    logits = torch.randn(2, 3, 5, 9, dtype=torch.bfloat16)
    full = full_size_logits({"logits": logits, "logits_size": (33, 65)}, (30, 64), align_corners=align_corners)
    expected = torch.nn.functional.interpolate(logits.float(), (33, 65), mode="bilinear", align_corners=align_corners)
    assert full.dtype == torch.float32
    assert torch.equal(full, expected[..., :30, :64])
    if align_corners:
        assert torch.equal(full[..., ::8, ::8], logits.float()[..., :4, :8])


@pytest.mark.parametrize(
    ("classes", "metas", "message"), [(4, 2, "1 image in the logits, but 2 metas"), (256, 1, "at most 255 classes")]
)
def test_errors(classes, metas, message):
    outputs = {"logits": torch.zeros(1, classes, 2, 2), "logits_size": (2, 2)}
    with pytest.raises(ValueError, match=message):
        LabelMaps()(outputs, [meta((2, 2), (2, 2))] * metas)
