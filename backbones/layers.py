"""The layers of trunks and heads."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_choice


def make_divisible(value: float, divisor: int = 8, *, min_depth: int = 8) -> int:
    """Round channels to the nearest multiple of `divisor`, at least `min_depth`, never more than 10 % below `value`."""
    rounded = max(min_depth, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that already: losses and decoding never run in half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Float32TrainedConv2d(nn.Conv2d):
    """`nn.Conv2d` that trains in float32 on a CPU, even under bfloat16 autocast.

    There oneDNN's weight gradient reads uninitialized memory (torch 2.14, channels_last, padded): with a
    stride on maps one pixel wide, and with dilated depthwise or grouped convolutions. Gradients are then sometimes
    NaN, and more often wrong.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        misread = self.dilation != (1, 1) or input.shape[-1] == 1
        if misread and self.training and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


class SamePaddedConv2d(nn.Conv2d):
    """TensorFlow's `SAME` padding: `ceil(n / stride)` outputs; an odd pixel of padding goes to the bottom and right."""

    def forward(self, input: Tensor) -> Tensor:
        """Pad by the input's size: for a 3x3 kernel at stride 2 by (0, 1) where it is even, by (1, 1) where odd."""
        (top, bottom), (left, right) = (
            same_padding(size, kernel=kernel, stride=stride, dilation=dilation)
            for size, kernel, stride, dilation in zip(
                input.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        return super().forward(F.pad(input, (left, right, top, bottom)))


def same_padding(size: int, *, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """`SAME` padding (before, after) along a side of `size` pixels, for a kernel not smaller than the stride."""
    total = (kernel - 1) * dilation - (size - 1) % stride
    return total // 2, total - total // 2


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = False,
    padding: str = "symmetric",
) -> nn.Conv2d:
    """Make a convolution with an odd kernel that keeps the map's size (at stride 1); every padding is decided here."""
    check_choice("padding", padding, ("symmetric", "same"))  # "same" is TensorFlow's
    assert kernel % 2 == 1, f"the kernel must be odd to keep the map's size, got {kernel}"
    assert kernel == 1 or kernel >= stride, f"a kernel of {kernel} at stride {stride} skips pixels"
    # At stride 1 and for 1x1 kernels the two paddings are the same.
    if padding == "symmetric" or stride == 1 or kernel == 1:
        misread = kernel > 1 and (stride > 1 or (dilation > 1 and groups > 1))
        kind = Float32TrainedConv2d if misread else nn.Conv2d
        return kind(in_channels, out_channels, kernel, stride, kernel // 2 * dilation, dilation, groups, bias)
    return SamePaddedConv2d(in_channels, out_channels, kernel, stride, 0, dilation, groups, bias)


class TFHardSigmoid(nn.Module):
    """TF-slim's gate, `relu6(x + 3) * 0.16667`, as the released weights were trained with; it reaches 1.00002."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return F.relu6(x + 3) * 0.16667


# In place if the gradient is a function of the output; h-swish needs its input, which autograd would have to copy.
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hswish": nn.Hardswish,
    "none": nn.Identity,
}
_GATES: dict[str, Callable[[], nn.Module]] = {"exact": nn.Hardsigmoid, "tf": TFHardSigmoid, "sigmoid": nn.Sigmoid}


def activation(name: str) -> nn.Module:
    """Make the activation `relu`, `relu6`, `hswish` or `none`."""
    check_choice("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]()


def gate_activation(name: str) -> nn.Module:
    """Make a gate: `exact` is relu6(x + 3) / 6, `tf` the released code's relu6(x + 3) * 0.16667, or `sigmoid`."""
    check_choice("gate", name, _GATES)
    return _GATES[name]()


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        act: str = "relu",
        padding: str = "symmetric",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.003,
    ) -> None:
        super().__init__()
        self.conv = conv2d(
            in_channels, out_channels, kernel, stride=stride, groups=groups, dilation=dilation, padding=padding
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        return self.act(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Gates each channel by a function of the map's mean (MobileNetV3, section 5.3: a quarter of the channels)."""

    def __init__(self, channels: int, *, squeeze: int | None = None, gate: str = "exact") -> None:
        super().__init__()
        squeeze = make_divisible(channels / 4) if squeeze is None else squeeze
        self.squeeze = conv2d(channels, squeeze, 1, bias=True)
        self.act = activation("relu")
        self.excite = conv2d(squeeze, channels, 1, bias=True)
        self.gate = gate_activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.excite(self.act(self.squeeze(pooled))))


class Normalize(nn.Module):
    """Maps images [B, 3, H, W] in 0..255, uint8 or float, to `(x / 255 - mean) / std` in the model's dtype.

    As one multiplication and addition; exact after `model.double()` too. `out_dtype` is for models whose other parts
    compute in half precision: 0..255 is not rounded to that before the mean is subtracted.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std must be three numbers each, std positive; got mean {mean} and std {std}")
        self.constants = {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}
        self.out_dtype: torch.dtype | None = None
        # Not persistent: they belong to the architecture, and other libraries' state dicts have no such keys.
        for name, values in self._factors().items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def _factors(self) -> dict[str, list[float]]:
        pairs = list(zip(self.constants["mean"], self.constants["std"], strict=True))
        return {"scale": [1 / (255 * std) for _, std in pairs], "shift": [-mean / std for mean, std in pairs]}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Normalize":
        """Move or convert, then set the constants again: rounded to float32 they differ from float64."""
        super()._apply(fn, recurse)
        for name, values in self._factors().items():
            buffer = getattr(self, name)
            setattr(self, name, torch.tensor(values, dtype=buffer.dtype, device=buffer.device).view(1, 3, 1, 1))
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, 3, H, W] to the same shape."""
        normalized = torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)
        return normalized if self.out_dtype is None else normalized.to(self.out_dtype)
