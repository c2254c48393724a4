"""The fused way from logits to labels against up-sampling everything."""

import pytest
import torch
import torch.nn.functional as F
from pocketvision.segmentation import labelling
from pocketvision.segmentation.labelling import axis_cells, label_map, resize_matrix
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.segmentation.upsample import full_size_logits, resize_logits

KIND = {"smooth": 0.0, "street": 0.3, "noise": 3.0}  # noise on maps of smooth blobs


def scores(size, *, classes=5, noise=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(size) + classes)
    blobs = torch.randn(2, classes, *(max(1, side // 6) for side in size), generator=generator, dtype=dtype)
    blobs = F.interpolate(blobs, size=size, mode="bilinear")
    return blobs + noise * torch.randn(2, classes, *size, generator=generator, dtype=dtype)


def plain(outputs, meta, *, align_corners):
    """Every score of every pixel, both resizes one after the other."""
    full = full_size_logits(outputs, meta["input_size"], align_corners=align_corners)
    left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
    full = full[..., top : full.shape[2] - bottom, left : full.shape[3] - right]
    return resize_logits(full, meta["original_size"], align_corners=False).argmax(1)


@pytest.mark.parametrize("noise", KIND.values(), ids=KIND)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("logits", "padded", "size", "pad", "original"),
    [
        ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((1, 1), (32, 40), (32, 40), (0, 0, 0, 0), (32, 40)),
        ((17, 33), (129, 257), (129, 257), (0, 0, 0, 0), (129, 257)),  # a factor of 8 with align_corners
        ((16, 32), (128, 256), (128, 256), (0, 0, 0, 0), (128, 256)),  # and without
        ((17, 33), (129, 257), (128, 250), (0, 0, 0, 0), (128, 250)),  # the network padded
        ((9, 13), (65, 97), (64, 96), (7, 3, 5, 11), (50, 84)),  # the data layer too
        ((9, 13), (65, 97), (64, 96), (0, 0, 16, 8), (173, 211)),  # the photograph was larger
        ((9, 13), (65, 97), (64, 96), (0, 0, 0, 0), (19, 7)),  # and smaller than the map
        ((30, 40), (30, 40), (30, 40), (0, 0, 0, 0), (30, 40)),  # nothing to resize
    ],
)
def test_is_up_sampling_and_argmax(logits, padded, size, pad, original, align_corners, noise):
    outputs = {"logits": scores(logits, noise=noise), "logits_size": padded}
    meta = {"input_size": size, "original_size": original, "pad": pad}
    found = LabelMaps(align_corners=align_corners)(outputs, [meta, meta])
    assert all(labels.dtype == torch.uint8 for labels in found)
    assert torch.equal(torch.stack(found).long(), plain(outputs, meta, align_corners=align_corners))


def test_pieces(monkeypatch):
    """Work in pieces of one cell gives the same as in one."""
    logits = scores((9, 13), noise=1.0)[0]
    axes = [
        axis_cells(n, 8 * n, 8 * n, 0, 0, 8 * n, False, torch.float64, torch.device("cpu")) for n in logits.shape[1:]
    ]
    whole = label_map(logits, *axes)
    monkeypatch.setattr(labelling, "_CPU_SCORES", 1)
    assert torch.equal(label_map(logits, *axes), whole)
    assert len(whole.unique()) > 2


@pytest.mark.parametrize("align_corners", [False, True])
def test_float32_differs_in_ties_only(align_corners):
    """Below 0.01 % of the pixels, however lively the scores."""
    outputs = {"logits": scores((65, 129), classes=19, noise=1.0, dtype=torch.float32), "logits_size": (513, 1025)}
    meta = {"input_size": (512, 1024), "original_size": (512, 1024)}
    found = torch.stack(LabelMaps(align_corners=align_corners)(outputs, [meta, meta]))
    assert (found != plain(outputs, meta, align_corners=align_corners)).double().mean() < 1e-4


def test_half_precision_logits_are_resized_in_float32():
    outputs = {"logits": scores((9, 13), noise=1.0).bfloat16(), "logits_size": (72, 104)}
    meta = {"input_size": (72, 104), "original_size": (72, 104)}
    expected = plain({**outputs, "logits": outputs["logits"].float()}, meta, align_corners=True)
    assert torch.equal(torch.stack(LabelMaps()(outputs, [meta, meta])).long(), expected)


def test_equal_cells_are_not_computed(monkeypatch):
    """One class everywhere: nothing is resized; a border of two: only along it."""
    seen = []
    original = labelling._cell_weights
    monkeypatch.setattr(labelling, "_cell_weights", lambda *a: seen.append(len(a[2])) or original(*a))
    outputs = {"logits": torch.zeros(1, 2, 16, 16), "logits_size": (128, 128)}
    meta = {"input_size": (128, 128), "original_size": (128, 128)}
    outputs["logits"][:, 1] = 1
    LabelMaps(align_corners=False)(outputs, [meta])
    assert seen == []
    outputs["logits"][:, 0, :, 8:] = 2
    LabelMaps(align_corners=False)(outputs, [meta])
    assert sum(seen) <= 17


def test_resize_matrix_rows_are_convex():
    for inputs, outputs in ((1, 7), (5, 40), (40, 13)):
        for align_corners in (False, True):
            matrix = resize_matrix(inputs, outputs, align_corners=align_corners)
            assert matrix.min() >= 0
            torch.testing.assert_close(matrix.sum(1), torch.ones(outputs, dtype=torch.float64))
