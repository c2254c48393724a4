"""Rounding of channels, paddings, gates, normalisation, initialisation."""

import numpy as np
import pytest
import torch
from pocketvision.backbones.init import initialize
from pocketvision.backbones.layers import (
    ConvNormAct,
    Normalize,
    SqueezeExcite,
    activation,
    conv2d,
    gate_activation,
    make_divisible,
    same_padding,
)
from torch import nn


@pytest.mark.parametrize(
    ("value", "min_depth", "expected"),
    [
        (0.1, 8, 8),
        (8, 8, 8),
        (12, 8, 16),  # halves go up
        (11.2, 8, 16),  # 8 would be more than 10 % below
        (33.6, 8, 32),
        (18, 8, 24),
        (16 * 0.35, 16, 16),
        (672, 8, 672),
    ],
)
def test_make_divisible(value: float, min_depth: int, expected: int) -> None:
    assert make_divisible(value, min_depth=min_depth) == expected


@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "expected"),
    [
        (1, 3, 1, (1, 1)),
        (2, 3, 1, (0, 1)),
        (320, 3, 1, (0, 1)),
        (320, 5, 1, (1, 2)),
        (1025, 5, 1, (2, 2)),
        (8, 3, 2, (1, 2)),
    ],
)
def test_same_padding_at_stride_two(size: int, kernel: int, dilation: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel=kernel, stride=2, dilation=dilation) == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (6, 9), (7, 8)])
def test_same_is_symmetric_but_for_the_odd_pixel(size: tuple[int, int], kernel: int, stride: int) -> None:
    """Both have ceil(n / stride) outputs; they are equal where the total padding is even."""
    symmetric, same = (
        conv2d(2, 3, kernel, stride=stride, padding=padding).double() for padding in ("symmetric", "same")
    )
    same.load_state_dict(symmetric.state_dict())
    images = torch.randn(1, 2, *size, dtype=torch.float64)
    ours, theirs = same(images), symmetric(images)
    assert ours.shape[-2:] == theirs.shape[-2:] == tuple(-(-n // stride) for n in size)
    symmetric_size = kernel == 1 or stride == 1 or all(n % 2 for n in size)
    assert torch.equal(ours, theirs) == symmetric_size


def test_conv2d_refuses_an_unknown_padding() -> None:
    with pytest.raises(ValueError, match="'valid'"):
        conv2d(1, 1, 3, padding="valid")


def test_gates_and_activations() -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    clipped = (x + 3).clamp(0, 6)
    torch.testing.assert_close(gate_activation("exact")(x), clipped / 6, rtol=0, atol=1e-15)
    torch.testing.assert_close(gate_activation("tf")(x), clipped * 0.16667, rtol=0, atol=1e-15)
    torch.testing.assert_close(gate_activation("sigmoid")(x), x.sigmoid())
    torch.testing.assert_close(activation("hswish")(x), x * clipped / 6, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="hswish"):
        activation("swish")
    with pytest.raises(ValueError, match="exact"):
        gate_activation("hard")


@pytest.mark.parametrize("act", ["relu", "relu6", "hswish", "none"])
def test_gradients_pass_through_the_in_place_activations(act: str) -> None:
    layer = ConvNormAct(2, 4, 3, act=act).double()
    images = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (images,))


def test_squeeze_excite_gates_by_the_mean_of_the_whole_map() -> None:
    layer = SqueezeExcite(16).double()
    assert layer.squeeze.out_channels == 8
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        scale = layer.gate(layer.excite(layer.squeeze(x.flatten(2).mean(2)[..., None, None]).relu()))
        torch.testing.assert_close(layer(x), x * scale)


def test_normalize_is_exact_in_every_dtype() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = nn.Sequential(Normalize(mean=mean, std=std))
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    pixels = images.numpy().astype(np.float64) / 255
    expected = (pixels - np.array(mean).reshape(3, 1, 1)) / np.array(std).reshape(3, 1, 1)
    assert model(images).dtype == torch.float32
    # The buffers were float32 before: 0.485 rounded to that would be 1e-8 off.
    np.testing.assert_allclose(model.double()(images).numpy(), expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(model.float().double()(images.double()).numpy(), expected, rtol=1e-14, atol=1e-15)
    assert model(images[:0]).shape == (0, 3, 16, 16)
    assert not model.state_dict()


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,)), ((0.5,) * 3, (0.5, 0.5, 0.0))])
def test_normalize_refuses(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three numbers"):
        Normalize(mean=mean, std=std)


@pytest.mark.parametrize(
    ("scheme", "conv_std", "linear_std", "bound"),
    [  # cutting a normal off at two deviations leaves 0.88 of its deviation
        ("tf_slim", 0.09 * 0.8796, 0.09 * 0.8796, 0.18),
        ("tf_detection", 0.03 * 0.8796, 0.03 * 0.8796, 0.06),
        ("torchvision", (2 / (9 * 128)) ** 0.5, 0.01, None),
        ("torchvision_detection", 0.03, 0.03, None),
    ],
)
def test_initialize(scheme: str, conv_std: float, linear_std: float, bound: float | None) -> None:
    torch.manual_seed(0)
    conv, norm, linear = nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.Linear(128, 500)
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        assert tensor is not None
        tensor.fill_(7)
    initialize(nn.Sequential(conv, norm, linear), scheme)
    assert conv.weight.std().item() == pytest.approx(conv_std, rel=0.02)
    assert linear.weight.std().item() == pytest.approx(linear_std, rel=0.02)
    assert bound is None or 0.95 * bound < conv.weight.abs().max().item() <= bound
    assert all(not zeros.any() for zeros in (conv.bias, linear.bias, norm.bias, norm.running_mean))
    assert all(ones.eq(1).all() for ones in (norm.weight, norm.running_var))


def test_initialize_refuses_an_unknown_scheme() -> None:
    with pytest.raises(ValueError, match="tf_slim"):
        initialize(nn.Conv2d(1, 1, 1), "xavier")


def leave_nans_in_freed_memory() -> None:
    for numbers in (64, 256, 1024, 4096, 16384, 65536):
        _ = [torch.full((numbers,), float("nan")) for _ in range(20)]


SMALL_MAPS = [(1, 1), (2, 1), (5, 1), (1, 2), (3, 3)]


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("groups", [64, 8, 1])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("stride", "dilation", "size"), [*((2, 1, size) for size in SMALL_MAPS), (1, 2, (23, 31)), (1, 4, (23, 31))]
)
def test_gradients_in_bfloat16_read_no_memory_that_nobody_wrote(
    stride: int, dilation: int, size: tuple[int, int], kernel: int, groups: int, padding: str
) -> None:
    """An SSDLite's last maps are one pixel wide from inputs of 128 pixels down; LR-ASPP's last blocks are dilated."""
    torch.manual_seed(0)
    conv = conv2d(64, 64, kernel, stride=stride, dilation=dilation, groups=groups, padding=padding)
    conv = conv.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.randn(2, 64, *size).to(memory_format=torch.channels_last)
    out = conv(images)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    assert conv.weight.grad is not None
    expected = conv.weight.grad.clone()
    for _ in range(3):
        conv.zero_grad()
        leave_nans_in_freed_memory()
        with torch.autocast("cpu", torch.bfloat16):
            out = conv(images)
        out.float().backward(gradient)
        error = (conv.weight.grad - expected).abs().max() / expected.abs().max()
        assert error < 0.02  # not for NaN either


@pytest.mark.parametrize(
    ("stride", "dilation", "dtype"), [(1, 1, torch.bfloat16), (2, 1, torch.bfloat16), (1, 2, torch.float32)]
)
def test_bfloat16_stays_where_its_gradient_is_right(stride: int, dilation: int, dtype: torch.dtype) -> None:
    conv = conv2d(8, 8, 3, stride=stride, dilation=dilation, groups=8)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.zeros(1, 8, 6, 6)).dtype == dtype
        assert conv.eval()(torch.zeros(1, 8, 6, 6)).dtype == torch.bfloat16


def test_layers_with_no_neighbourhood_stay_torchs_own() -> None:
    assert type(conv2d(8, 8, 1, stride=2)) is nn.Conv2d
