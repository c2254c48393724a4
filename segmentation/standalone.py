"""What the networks without an exchangeable backbone share: the images' way in, and layers with PReLU."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.layers import Normalize, conv2d

MakeNorm = Callable[[int], nn.BatchNorm2d]  # from channels to their batch norm

_CHANNEL_ORDERS = ("rgb", "bgr")


class StandaloneNetwork(nn.Module):
    """Normalise, order the channels, pad, `encoder`, `decoder`, and the dict that criterion and postprocess read.

    The normalised image gets zeros at the bottom and the right until its sides are multiples of `stride`; sides that
    are, as the released networks demand, are left alone. `mean` and `std` are those of red, green and blue in 0..1
    whatever the order in which the encoder takes them. With `void` there is one output more, the last, for pixels of
    none of the classes: the networks released for Cityscapes have it.

    A subclass sets `encoder`, whose output is what `decoder` takes, and `decoder`, whose last layer is named `logits`.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(
        self,
        *,
        num_classes: int,
        void: bool,
        stride: int,
        mean: Sequence[float],
        std: Sequence[float],
        channel_order: str,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= 255 - void:
            raise ValueError(f"num_classes counts all classes, in 1..255 (255 itself marks ignored); got {num_classes}")
        if channel_order not in _CHANNEL_ORDERS:
            raise ValueError(f'channel_order must be "rgb" or "bgr", got {channel_order!r}')
        self.num_classes = num_classes
        self.num_outputs = num_classes + void
        self.stride = stride
        self.channel_order = channel_order
        self.normalize = Normalize(mean=mean, std=std)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """RGB [B, 3, H, W] in 0..255 (uint8 or float) -> `logits` [B, num_outputs, h, w], and `logits_size`.

        That size is the input's (h, w) with its padding.
        """
        images = self.normalize(images)
        if self.channel_order == "bgr":
            images = images.flip(1)
        images = pad_to_multiple(images, self.stride)
        return {"logits": self.decoder(self.encoder(images)), "logits_size": (images.shape[-2], images.shape[-1])}


def pad_to_multiple(images: Tensor, stride: int) -> Tensor:
    """Zeros at the bottom and the right of [B, C, H, W] until both sides are multiples of `stride`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % stride, 0, -height % stride))


class NormPReLU(nn.Module):
    """Batch norm and a PReLU with a slope for each channel."""

    def __init__(self, channels: int, *, norm: MakeNorm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return self.act(self.norm(x))


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, norm: MakeNorm, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel, stride=stride, groups=groups)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        return self.norm(self.conv(x))


class ConvNormPReLU(ConvNorm):
    """Convolution without bias, batch norm, PReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, norm: MakeNorm, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, norm=norm, stride=stride, groups=groups)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        return self.act(super().forward(x))
