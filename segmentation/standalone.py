"""Shared parts of the networks with their own backbone: input preprocessing, and layers with PReLU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..backbones.checks import check_choice
from ..backbones.classifier import IMAGENET_MEAN, IMAGENET_STD
from ..backbones.layers import Normalize, conv2d
from .upsample import pad_to_multiple

MakeNorm = Callable[[int], nn.BatchNorm2d]  # creates the batch norm for a number of channels


@dataclass(frozen=True, kw_only=True)
class StandaloneConventions:
    """Batch norm's momentum, and how the encoder expects the images.

    `mean` and `std` are for red, green and blue in 0..1, whatever the channel order.
    """

    bn_momentum: float = 0.1
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        check_choice("channel_order", self.channel_order, ("rgb", "bgr"))

    def norm(self, *, eps: float) -> MakeNorm:
        return partial(nn.BatchNorm2d, eps=eps, momentum=self.bn_momentum)


class StandaloneNetwork(nn.Module):
    """Normalize, order the channels, pad, `encoder`, `decoder`, and the dict that criterion and postprocess read.

    The normalized image is zero-padded at the bottom and right until its sides are multiples of `stride`; sides that
    are, as the released networks require, are unchanged. With `void` there is an extra last output for pixels of
    none of the classes, as in the networks released for Cityscapes.

    A subclass sets `encoder`, whose output is the input of `decoder`, and `decoder`, whose last layer is named
    `logits`.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, *, num_classes: int, void: bool, stride: int, conventions: StandaloneConventions) -> None:
        super().__init__()
        if not 1 <= num_classes <= 255 - void:
            raise ValueError(
                f"num_classes must be in 1..255 (all classes; the value 255 marks ignored pixels), got {num_classes}"
            )
        self.num_classes = num_classes
        self.num_outputs = num_classes + void
        self.stride = stride
        self.channel_order = conventions.channel_order
        self.normalize = Normalize(mean=conventions.mean, std=conventions.std)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """RGB [B, 3, H, W] in 0..255 (uint8 or float) -> `logits` [B, num_outputs, h, w], and `logits_size`.

        That size is the input's (h, w) with its padding.
        """
        images = self.normalize(images)
        if self.channel_order == "bgr":
            images = images.flip(1)
        images = pad_to_multiple(images, self.stride)
        return {"logits": self.decoder(self.encoder(images)), "logits_size": (images.shape[-2], images.shape[-1])}


class NormPReLU(nn.Module):
    """Batch norm and a PReLU with one slope per channel."""

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
