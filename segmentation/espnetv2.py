"""ESPNetv2 (Mehta et al., CVPR 2019) as released for segmentation in sacmehta/EdgeNets."""

import math
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.checks import check_choice
from ..backbones.conventions import flat_keywords
from ..backbones.init import initialize
from ..backbones.layers import conv2d
from .standalone import ConvNorm, ConvNormPReLU, MakeNorm, NormPReLU, StandaloneConventions, StandaloneNetwork

_BRANCHES = 4
_DECODER = (64, 48, 32)  # channels at 1/16, 1/8, 1/4
_MAX_POOL_WIDTH = 16
_POOL_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)

# width -> channels at 1/2, 1/4, 1/8, 1/16
_CHANNELS = {
    0.5: (16, 32, 64, 128),
    1.0: (32, 64, 128, 256),
    1.25: (32, 80, 160, 320),
    1.5: (32, 96, 192, 384),
    2.0: (32, 128, 256, 512),
}


class EESP(nn.Module):
    """Reduce by groups, four depthwise branches of increasing dilation that are summed, expand by groups.

    `reach`: the largest receptive field of a branch in pixels; a branch beyond it gets dilation 1.
    """

    def __init__(self, in_channels: int, out_channels: int, *, reach: int, stride: int = 1, norm: MakeNorm) -> None:
        super().__init__()
        inner = out_channels // _BRANCHES
        dilations = sorted(d if 2 * d + 1 <= reach else 1 for d in range(1, _BRANCHES + 1))
        self.reduce = ConvNormPReLU(in_channels, inner, 1, groups=_BRANCHES, norm=norm)
        self.branches = nn.ModuleList(
            conv2d(inner, inner, 3, stride=stride, groups=inner, dilation=dilation) for dilation in dilations
        )
        self.join = NormPReLU(out_channels, norm=norm)
        self.expand = ConvNorm(out_channels, out_channels, 1, groups=_BRANCHES, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)], not yet activated."""
        reduced = self.reduce(x)
        branches = accumulate(branch(reduced) for branch in self.branches)
        return self.expand(self.join(torch.cat(tuple(branches), 1)))


class EESPUnit(EESP):
    """`EESP` with a residual connection and PReLU."""

    def __init__(self, channels: int, *, reach: int, norm: MakeNorm) -> None:
        super().__init__(channels, channels, reach=reach, norm=norm)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return self.act(x + super().forward(x))


class Downsample(nn.Module):
    """Half the resolution: the averaged input next to an EESP's new channels, plus the downscaled image."""

    def __init__(self, in_channels: int, out_channels: int, *, reach: int, norm: MakeNorm) -> None:
        super().__init__()
        self.eesp = EESP(in_channels, out_channels - in_channels, reach=reach, stride=2, norm=norm)
        self.image = nn.Sequential(ConvNormPReLU(3, 3, 3, norm=norm), ConvNorm(3, out_channels, 1, norm=norm))
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """[B, in, H, W] and the image at half of that, [B, 3, H/2, W/2], to [B, out, H/2, W/2]."""
        return self.act(torch.cat((_halve(x), self.eesp(x)), 1) + self.image(image))


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=2, padding=1)


class Encoder(nn.Module):
    """ESPNetv2's trunk up to 1/16."""

    def __init__(self, channels: tuple[int, int, int, int], *, norm: MakeNorm) -> None:
        super().__init__()
        stem, c2, c3, c4 = channels
        self.stem = ConvNormPReLU(3, stem, 3, stride=2, norm=norm)
        self.down2 = Downsample(stem, c2, reach=13, norm=norm)
        self.down3 = Downsample(c2, c3, reach=11, norm=norm)
        self.stage3 = nn.Sequential(*(EESPUnit(c3, reach=9, norm=norm) for _ in range(3)))
        self.down4 = Downsample(c3, c4, reach=9, norm=norm)
        self.stage4 = nn.Sequential(*(EESPUnit(c4, reach=7, norm=norm) for _ in range(7)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[B, 3, H, W] -> maps at 1/2, 1/4, 1/8 and 1/16."""
        image4 = _halve(_halve(images))
        image8 = _halve(image4)
        out1 = self.stem(images)
        out2 = self.down2(out1, image4)
        out3 = self.stage3(self.down3(out2, image8))
        return out1, out2, out3, self.stage4(self.down4(out3, _halve(image8)))


class PyramidPool(nn.Module):
    """Depthwise convolutions at five scales of the map, resized to its size and mixed: `width` channels."""

    def __init__(self, in_channels: int, width: int, *, norm: MakeNorm) -> None:
        super().__init__()
        self.reduce = ConvNormPReLU(in_channels, width, 1, norm=norm)
        self.scales = nn.ModuleList(conv2d(width, width, 3, groups=width) for _ in _POOL_SCALES)
        self.join = NormPReLU(len(_POOL_SCALES) * width, norm=norm)
        self.mix = ConvNormPReLU(len(_POOL_SCALES) * width, width, 3, groups=width, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, width, H, W]."""
        x = self.reduce(x)
        pooled = [self._at_scale(x, conv, scale) for conv, scale in zip(self.scales, _POOL_SCALES, strict=True)]
        joined = self.join(torch.cat(pooled, 1))
        # The five maps of each channel next to each other: one group of the mixing convolution.
        return self.mix(joined.unflatten(1, (len(_POOL_SCALES), -1)).transpose(1, 2).flatten(1, 2))

    def _at_scale(self, x: Tensor, conv: nn.Module, scale: float) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        scaled = (max(5, math.ceil(size[0] * scale)), max(5, math.ceil(size[1] * scale)))
        if scale < 1:
            return _resize(conv(F.adaptive_avg_pool2d(x, scaled)), size)
        if scale > 1:
            return F.adaptive_avg_pool2d(conv(_resize(x, scaled)), size)
        return conv(x)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class GatedSkip(nn.Module):
    """A grouped 3x3 convolution of an encoder's map, each channel gated by a function of the map's mean."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: MakeNorm) -> None:
        super().__init__()
        groups = math.gcd(in_channels, out_channels)
        self.gate = conv2d(in_channels, out_channels, 1)
        self.expand = ConvNormPReLU(in_channels, out_channels, 3, groups=groups, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H, W]."""
        return self.expand(x) * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()


class Decoder(nn.Module):
    """Pyramid pooling at 1/16, 1/8, 1/4 and 1/2, the encoder's maps added from 1/8 on."""

    def __init__(self, channels: tuple[int, int, int, int], *, num_classes: int, norm: MakeNorm) -> None:
        super().__init__()
        width = max(1, min(num_classes // 2, _MAX_POOL_WIDTH))
        self.pools = nn.ModuleList(PyramidPool(inputs, width, norm=norm) for inputs in (channels[-1], *_DECODER))
        self.projects = nn.ModuleList(ConvNormPReLU(width, outputs, 1, norm=norm) for outputs in _DECODER)
        self.skips = nn.ModuleList(
            GatedSkip(inputs, outputs, norm=norm)
            for inputs, outputs in zip(reversed(channels[:-1]), _DECODER, strict=True)
        )
        self.norms = nn.ModuleList(NormPReLU(outputs, norm=norm) for outputs in _DECODER)
        self.logits = conv2d(width, num_classes, 1, bias=True)

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Logits [B, K, H/2, W/2] from the encoder's maps."""
        *encoded, x = features
        stages = zip(self.pools[:-1], self.projects, self.skips, self.norms, reversed(encoded), strict=True)
        for pool, project, skip, norm, high in stages:
            x = norm(skip(high) + _resize(project(pool(x)), (high.shape[-2], high.shape[-1])))
        return self.logits(self.pools[-1](x))


_RELEASED = StandaloneConventions()


@flat_keywords
class ESPNetv2(StandaloneNetwork):
    """ESPNetv2 for segmentation; the released networks have `width` 0.5, 1.0, 1.5 or 2.0, and 20 classes.

    Logits are at half the size of the input; criterion and postprocess upsample them with `align_corners=True`, as the
    reference does inside its network. The width of the decoder depends on the number of classes.

    The reference has another PReLU in each of the three units that halve the resolution, which its `forward` never
    calls. They are omitted here, and with them one parameter per channel that those units add.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        void: bool = False,
        width: float = 2.0,
        conventions: StandaloneConventions = _RELEASED,
    ) -> None:
        super().__init__(num_classes=num_classes, void=void, stride=16, conventions=conventions)
        check_choice("width", width, _CHANNELS)
        norm = conventions.norm(eps=1e-5)
        self.encoder = Encoder(_CHANNELS[width], norm=norm)
        self.decoder = Decoder(_CHANNELS[width], num_classes=self.num_outputs, norm=norm)
        initialize(self, "torchvision")  # Kaiming, fan out, like the reference
