"""Sliding windows, scales and mirror images: what they must agree with, and what they average."""

import pytest
import torch
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.segmentation.network import LRASPP
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.segmentation.protocol import MultiView, spans
from torch import nn


class PointNetwork(nn.Module):
    """Logits of each pixel from itself alone, at full size: views cannot change them. `offset` breaks the symmetry."""

    def __init__(self, offset=0):
        super().__init__()
        self.offset = offset
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        images = images.double() / 50
        logits = torch.stack((images[:, 0], images[:, 1] - images[:, 2], images[:, 2].cos()), dim=1)
        logits[:, 0, :, : images.shape[-1] // 2] += self.offset
        return {"logits": logits, "logits_size": tuple(images.shape[-2:])}


def photo(height=37, width=51, seed=0):
    return torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def lively_network():
    torch.manual_seed(0)
    network = LRASPP(MobileNetV3("small", width=0.35), num_classes=5).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of all that was seen
    with torch.no_grad():
        network.train()(torch.cat([photo(64, 80, seed) for seed in range(4)]).double())
    network.low_logits.weight.data *= 20
    network.high_logits.weight.data *= 20
    return network.eval()


@pytest.mark.parametrize("length", [1, 3, 4, 5, 10, 11, 23])
@pytest.mark.parametrize(("window", "stride"), [(4, 4), (4, 3), (5, 1), (1, 1)])
def test_windows_cover_every_pixel(length, window, stride):
    found = list(spans(length, window, stride))
    assert set().union(*(range(*span.indices(length)) for span in found)) == set(range(length))
    assert all(span.stop - span.start == min(window, length) for span in found)
    assert len({span.start for span in found}) == len(found)
    assert len(found) == -(-max(0, length - window) // stride) + 1


@pytest.mark.parametrize(
    "options", [{}, {"window": (64, 80), "stride": (32, 40)}, {"window": (90, 900), "stride": (9, 9)}]
)
def test_one_view_is_the_network_s_own(options):
    network, images = lively_network(), photo(64, 80).double()
    with torch.no_grad():
        expected, found = network(images), MultiView(network, align_corners=True, **options)(images)
    assert torch.equal(found["logits"], expected["logits"])
    assert found["logits_size"] == expected["logits_size"]
    assert expected["logits"].std() > 0.1


def test_views_of_what_sees_single_pixels_change_nothing():
    network, images = PointNetwork(), photo()
    expected = network(images)["logits"]
    windows = MultiView(network, align_corners=False, window=(16, 20), stride=(9, 13))(images)
    torch.testing.assert_close(windows["logits"], expected)
    mirrored = MultiView(network, align_corners=False, flip=True)(images)
    torch.testing.assert_close(mirrored["logits"], expected.log_softmax(1))
    both = MultiView(network, align_corners=False, window=(16, 20), stride=(9, 13), flip=True)(images)
    torch.testing.assert_close(both["logits"], expected.log_softmax(1))
    assert all(outputs["logits_size"] == (37, 51) for outputs in (windows, mirrored, both))
    assert set(network.sizes[1:]) == {(16, 20), (37, 51)}


def test_a_mirrored_photo_gives_the_mirrored_answer():
    network, images = PointNetwork(offset=2), photo()
    multi = MultiView(network, align_corners=False, flip=True)
    torch.testing.assert_close(multi(images.flip(-1))["logits"], multi(images)["logits"].flip(-1))
    assert not torch.allclose(network(images.flip(-1))["logits"], network(images)["logits"].flip(-1))


def test_windows_average_logits_where_they_overlap():
    network, images = PointNetwork(offset=3), photo(8, 12)
    found = MultiView(network, align_corners=False, window=(8, 8), stride=(8, 4))(images)["logits"]
    own = PointNetwork()(images)["logits"]
    own[:, 0, :, :4] += 3  # the left half of the first window alone
    own[:, 0, :, 4:8] += 1.5  # the right half of the first, the left half of the second
    torch.testing.assert_close(found, own)


def test_scales_average_probabilities_at_the_size_of_the_input():
    network, images = lively_network(), photo(64, 80)
    multi = MultiView(network, align_corners=True, scales=[0.5, 1.0, 1.5], flip=True)
    with torch.no_grad():
        found = multi(images.double())
        parts = []
        for size in ((32, 40), (64, 80), (96, 120)):
            view = nn.functional.interpolate(images.double(), size, mode="bilinear", align_corners=False)
            for mirrored in (False, True):
                out = network(view.flip(-1) if mirrored else view)
                logits = nn.functional.interpolate(
                    out["logits"], out["logits_size"], mode="bilinear", align_corners=True
                )
                logits = logits[..., : size[0], : size[1]]
                logits = logits.flip(-1) if mirrored else logits
                logits = nn.functional.interpolate(logits, (64, 80), mode="bilinear", align_corners=False)
                parts.append(logits.softmax(1))
    expected = torch.stack(parts).mean(0)
    torch.testing.assert_close(found["logits"].exp(), expected, rtol=1e-9, atol=1e-12)
    assert (parts[0] - parts[-1]).abs().max() > 0.05
    meta = {"image_id": 0, "original_size": (32, 40), "input_size": (64, 80), "pad": (0, 0, 0, 0)}
    assert LabelMaps(align_corners=True)(found, [meta])[0].shape == (32, 40)


def test_an_image_smaller_than_the_window_in_one_direction():
    network = PointNetwork()
    found = MultiView(network, align_corners=False, window=(50, 20), stride=(25, 10))(photo(37, 51))["logits"]
    torch.testing.assert_close(found, PointNetwork()(photo(37, 51))["logits"])
    assert network.sizes == [(37, 20)] * 5


def test_probabilities_of_zero_have_finite_logits():
    class Sure(nn.Module):
        def forward(self, images):
            logits = torch.zeros(1, 2, *images.shape[-2:])
            logits[:, 0] = 1e4
            return {"logits": logits, "logits_size": tuple(images.shape[-2:])}

    assert MultiView(Sure(), align_corners=False, flip=True)(photo())["logits"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (4, 4)}, "set both or neither"),
        ({"window": (4,), "stride": (4, 4)}, r"window=\[4\]: expected \[h,w\]"),
        ({"window": (4, 4), "stride": (0, 4)}, r"stride=\[0, 4\]: expected \[h,w\]"),
        ({"window": (4, 4), "stride": (5, 4)}, r"stride=\[5, 4\] is larger than window=\[4, 4\]"),
        ({"scales": []}, r"scales=\[\]: expected"),
        ({"scales": [1.0, -1]}, r"scales=\[1.0, -1\]: expected"),
        ({"scales": [float("nan")]}, "factors above 0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        MultiView(PointNetwork(), align_corners=False, **options)
