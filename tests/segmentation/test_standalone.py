"""ESPNet, ESPNetv2 and C3Net: published counts, sizes, and that every parameter learns.

Counts: measured on the released code with 20 classes at 512x1024, by FlopCounterMode; what ours leave out of the
released networks (a PReLU nobody calls, a convolution computed twice) stands beside them.
"""

import functools

import pytest
import torch
from pocketvision.backbones.counting import count, layer_table
from pocketvision.segmentation.c3net import C3Net
from pocketvision.segmentation.criterion import PixelCriterion
from pocketvision.segmentation.espnet import ESPNet
from pocketvision.segmentation.espnetv2 import ESPNetv2
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.segmentation.upsample import pad_to_multiple
from torch.utils.flop_counter import FlopCounterMode

FAMILIES = {
    "espnet": functools.partial(ESPNet, q=1, p=1),
    "espnet joined": functools.partial(ESPNet, q=1, p=1, skip="joined"),
    "espnetv2": functools.partial(ESPNetv2, width=0.5),
    "c3net": functools.partial(C3Net, q=1, p=1),
}
STRIDES = {"espnet": 8, "espnet joined": 8, "espnetv2": 16, "c3net": 8}
families = pytest.mark.parametrize("family", FAMILIES)

# The 1x1 reductions of C3Net's units at stride 1: two at 1/4, eight at 1/8, one in the decoder.
TWICE = 128 * 256 * 2 * 64 * 16 + 64 * 128 * 8 * 128 * 32 + 128 * 256 * 40 * 5


def random_images(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("make", "params", "unused", "madds", "twice"),
    [
        (functools.partial(ESPNet, q=3), 202_649, 0, 3398.722, 0),
        (functools.partial(ESPNet, q=5), 267_417, 0, 3923.010, 0),
        (functools.partial(ESPNet, q=8), 364_569, 0, 4709.442, 0),
        (functools.partial(ESPNetv2, width=0.5), 80_342, 128 - 16, 596.248, 0),
        (functools.partial(ESPNetv2, width=1.0), 234_010, 256 - 32, 1085.284, 0),
        (functools.partial(ESPNetv2, width=1.5), 468_362, 384 - 32, 1713.256, 0),
        (functools.partial(ESPNetv2, width=2.0), 789_242, 512 - 32, 2697.743, 0),
        (C3Net, 191_614, 0, 3392.930, TWICE),
    ],
    ids=str,
)
def test_counts_of_the_released_networks(make, params, unused, madds, twice):
    with torch.device("meta"):
        model = make(num_classes=20).eval()
        images = torch.empty(1, 3, 512, 1024, dtype=torch.uint8)
    counts = count(model, images)
    assert counts.params == params - unused
    assert round((counts.madds + twice) / 1e6, 3) == madds
    assert counts.madds == counts.conv_madds


@families
def test_counts_are_half_of_torchs_flops(family):
    with torch.device("meta"):
        model, images = FAMILIES[family](num_classes=20).eval(), torch.empty(1, 3, 64, 96, dtype=torch.uint8)
    with FlopCounterMode(display=False) as flops:
        model(images)
    assert flops.get_total_flops() == 2 * count(model, images).conv_madds


def test_table_8_counts_what_espnets_training_code_builds_without_transposed_convolutions():
    with torch.device("meta"):
        rows = layer_table(ESPNet(num_classes=20, skip="joined"), torch.empty(1, 3, 512, 1024, dtype=torch.uint8))
    transposed = [row.madds for row in rows if row.type == "ConvTranspose2d"]
    assert all(transposed)
    assert (sum(row.madds for row in rows) - sum(transposed)) / 1e9 == pytest.approx(4.505, abs=5e-4)


@families
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 70), (48, 81)])
def test_any_size(family, size):
    model, stride = FAMILIES[family](num_classes=5).eval(), STRIDES[family]
    with torch.no_grad():
        outputs = model(random_images(*size))
    padded = tuple(-(-side // stride) * stride for side in size)
    assert outputs["logits_size"] == padded
    scale = 2 if family == "espnetv2" else 1
    assert outputs["logits"].shape == (2, 5, padded[0] // scale, padded[1] // scale)
    metas = [{"image_id": i, "original_size": (20, 31), "input_size": size} for i in range(2)]
    assert [tuple(labels.shape) for labels in LabelMaps()(outputs, metas)] == [(20, 31)] * 2


def test_padding_is_zero_after_normalisation():
    """So the network sees the same as in an image that ends in the mean colour."""
    model = ESPNetv2(num_classes=4, width=0.5).double().eval()
    images = random_images(40, 50)
    mean = torch.tensor(model.normalize.constants["mean"], dtype=torch.float64).view(1, 3, 1, 1)
    by_hand = mean.repeat(2, 1, 48, 64) * 255
    by_hand[..., :40, :50] = images
    torch.testing.assert_close(model(images)["logits"], model(by_hand)["logits"], rtol=1e-9, atol=1e-9)
    assert pad_to_multiple(torch.ones(1, 1, 512, 1024), 16).shape[-2:] == (512, 1024)


@pytest.mark.parametrize("network", [ESPNet, C3Net])
def test_small_blue_green_red_inputs(network):
    """The released ESPNet and C3Net take (x - mean) / std / 255 with the channels of cv2.imread."""
    seen = []
    model = network(num_classes=5, p=1, q=1).double().eval()
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = random_images(8, 8)
    model(images)
    mean = torch.tensor([72.3923111, 82.90893555, 73.15840149], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([45.3192215, 46.15289307, 44.91483307], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(seen[0], (images[:, [2, 1, 0]] - mean) / std / 255, rtol=1e-12, atol=1e-15)


@families
def test_a_step_moves_every_parameter(family):
    torch.manual_seed(0)
    num_classes = 11
    model = FAMILIES[family](num_classes=num_classes)
    targets = [{"mask": torch.randint(0, num_classes, (40, 56), dtype=torch.uint8)} for _ in range(2)]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    PixelCriterion()(model(random_images(40, 56)), targets)["loss_pixel"].backward()
    optimizer.step()
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


@families
def test_bfloat16_autocast_trains(family):
    model = FAMILIES[family](num_classes=6)
    targets = [{"mask": torch.randint(0, 6, (32, 48), dtype=torch.uint8)} for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = PixelCriterion()(model(random_images(32, 48)), targets)["loss_pixel"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ESPNet(num_classes=256), r"num_classes must be in 1\.\.255"),
        (lambda: ESPNet(num_classes=20, skip="image"), "skip='image': choose one of 'stem', 'joined'"),
        (lambda: ESPNet(num_classes=20, channel_order="gbr"), "channel_order='gbr': choose one of 'rgb', 'bgr'"),
        (lambda: ESPNet(num_classes=20, q=0), "p and q must be numbers of units, 1 or more; got p=2, q=0"),
        (lambda: ESPNet(num_classes=4), "num_classes must be at least 5, one per branch; got 4"),
        (lambda: ESPNetv2(num_classes=20, width=0.75), r"width=0\.75: choose one of 0\.5, 1\.0"),
        (lambda: C3Net(num_classes=20, dilations=(1, 2)), "dilations must be 2 or more"),
    ],
)
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
