from pathlib import Path

import numpy as np
import pytest
import torch
from pocketvision.detection.anchors import AnchorLayout, make_anchors
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

MAPS_320 = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))


def maps_of(size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (16, 32, 64, 128, 256, 512)]


def test_reference_layout_is_the_tf_graphs(tf_assets: Path) -> None:
    golden = np.load(tf_assets / "ssd_v3_large__320.npz")["anchors"]
    anchors = make_anchors(AnchorLayout.reference(), MAPS_320, (320, 320), dtype=torch.float64)
    assert anchors.shape == (2034, 4)
    np.testing.assert_allclose(anchors.numpy()[:, [1, 0, 3, 2]] / 320, golden, atol=2e-7, rtol=0)
    assert anchors.min() < 0, "the reference does not clip"


@pytest.mark.parametrize(("size", "count"), [((320, 320), 3234), ((512, 256), 4098), ((96, 640), 1980), ((1, 1), 36)])
def test_torchvision_layout_is_its_generators(size: tuple[int, int], count: int, float64: None) -> None:
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    generator._wh_pairs = generator._generate_wh_pairs(6, dtype=torch.float64)
    maps = maps_of(size)
    features = [torch.zeros(1, 1, *s) for s in maps]
    expected = generator(ImageList(torch.zeros(1, 3, *size), [size]), features)[0]
    layout = AnchorLayout.torchvision()
    anchors = make_anchors(layout, maps, size, dtype=torch.float64)
    torch.testing.assert_close(anchors, expected, rtol=1e-12, atol=1e-10)
    assert len(anchors) == count
    assert layout.num_anchors == tuple(generator.num_anchors_per_location())


def test_squares_stay_square_in_a_rectangle() -> None:
    """TF's generator sizes anchors by the shorter side, torchvision's each by its own."""
    size = (160, 320)
    cell = [len(s) for s in AnchorLayout.reference().shapes()]
    assert cell == [3, 6, 6, 6, 6, 6]
    for layout, ratio in ((AnchorLayout.reference(), 1), (AnchorLayout.torchvision(), 2)):
        first = make_anchors(layout, maps_of(size), size)[0]
        assert ((first[2] - first[0]) / (first[3] - first[1])).item() == pytest.approx(ratio)


def test_dtype_is_a_rounding_of_the_same_numbers() -> None:
    single, double = (
        make_anchors(AnchorLayout(), MAPS_320, (320, 320), dtype=d) for d in (torch.float32, torch.float64)
    )
    assert torch.equal(single, double.float())


def test_one_map_and_lists_from_yaml() -> None:
    layout = AnchorLayout(num_maps=1, aspect_ratios=[1.0, 2.0], reduce_first=False, extra_position=2)
    assert hash(layout) == hash(
        AnchorLayout(num_maps=1, aspect_ratios=(1.0, 2.0), reduce_first=False, extra_position=2)
    )
    assert layout.num_anchors == (3,)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="made for 6 feature maps, got 2"):
        make_anchors(AnchorLayout(), MAPS_320[:2], (320, 320))
    with pytest.raises(ValueError, match="needs at least one map and one aspect ratio"):
        AnchorLayout(num_maps=0)
    with pytest.raises(ValueError, match=r"0 < min_scale <= max_scale, got 0.9 and 0.2"):
        AnchorLayout(min_scale=0.9, max_scale=0.2)
