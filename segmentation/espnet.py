"""ESPNet (Mehta et al., ECCV 2018; released as sacmehta/ESPNet), "ESPNetv1" of the MobileNetV3 paper's Table 8.

The encoder and the decoder also serve C3Net, which is ESPNet with other units.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from ..backbones.checks import check_choice
from ..backbones.conventions import flat_keywords
from ..backbones.layers import conv2d
from .standalone import ConvNormPReLU, MakeNorm, NormPReLU, StandaloneConventions, StandaloneNetwork

_DILATIONS = (1, 2, 4, 8, 16)
BN_EPS = 1e-3
_STEM, _STAGE2, _STAGE3 = 16, 64, 128  # channels at 1/2, 1/4, 1/8
_IMAGE = 3  # channels added by the downscaled image

# Cityscapes' mean and standard deviation as in the reference. The deviation is that of 0..255: the reference divides by
# 255 again after normalizing, and the released weights expect such small inputs.
RELEASED = StandaloneConventions(
    mean=(73.15840149 / 255, 82.90893555 / 255, 72.3923111 / 255),
    std=(44.91483307, 46.15289307, 45.3192215),
    channel_order="bgr",
)


class PyramidUnit(nn.Module):
    """Reduce, split into branches of increasing dilation, join: ESPNet's unit, and with other branches C3Net's.

    The joined map has `out_channels`; the remainder of the division by the number of branches goes to the first one.

    - `branches`: create each branch from its input and output channels.
    - `cumulative`: from the second branch on, add the sum of the previous branches (except the first) against gridding.
    - `stride` 2 reduces by a 3x3 convolution, 1 by a 1x1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        branches: Sequence[Callable[[int, int], nn.Module]],
        cumulative: bool,
        stride: int = 1,
        residual: bool = False,
        norm: MakeNorm,
    ) -> None:
        super().__init__()
        inner = out_channels // len(branches)
        first = out_channels - (len(branches) - 1) * inner
        if inner < 1:
            raise ValueError(f"num_classes must be at least {len(branches)}, one per branch; got {out_channels}")
        assert not residual or (stride == 1 and in_channels == out_channels)
        self.cumulative = cumulative
        self.residual = residual
        self.reduce = conv2d(in_channels, inner, 3 if stride == 2 else 1, stride=stride)
        self.branches = nn.ModuleList(
            branch(inner, first if index == 0 else inner) for index, branch in enumerate(branches)
        )
        self.join = NormPReLU(out_channels, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        reduced = self.reduce(x)
        first, *others = (branch(reduced) for branch in self.branches)
        joined = torch.cat((first, *(accumulate(others) if self.cumulative else others)), 1)
        return self.join(x + joined if self.residual else joined)


class Encoder(nn.Module):
    """Three scales of units (ESPNet-C without its classifier), each joined with the downscaled image.

    `unit` creates a unit from its channels, `shrink` halves the image, `p` and `q` are the numbers of units at 1/4 and
    1/8 after those that reduce the resolution.
    """

    def __init__(self, unit: Callable[..., PyramidUnit], *, p: int, q: int, shrink: nn.Module, norm: MakeNorm) -> None:
        super().__init__()
        if min(p, q) < 1:
            raise ValueError(f"p and q must be numbers of units, 1 or more; got p={p}, q={q}")
        self.shrink = shrink
        self.stem = ConvNormPReLU(3, _STEM, 3, stride=2, norm=norm)
        self.join1 = NormPReLU(_STEM + _IMAGE, norm=norm)
        self.down2 = unit(_STEM + _IMAGE, _STAGE2, stride=2)
        self.stage2 = nn.Sequential(*(unit(_STAGE2, _STAGE2, residual=True) for _ in range(p)))
        self.join2 = NormPReLU(2 * _STAGE2 + _IMAGE, norm=norm)
        self.down3 = unit(2 * _STAGE2 + _IMAGE, _STAGE3, stride=2)
        self.stage3 = nn.Sequential(*(unit(_STAGE3, _STAGE3, residual=True) for _ in range(q)))
        self.join3 = NormPReLU(2 * _STAGE3, norm=norm)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[B, 3, H, W] -> the stem [B, 16, H/2, W/2], joined maps [B, 19, H/2], [B, 131, H/4], [B, 256, H/8]."""
        image2 = self.shrink(images)
        image4 = self.shrink(image2)
        stem = self.stem(images)
        joined1 = self.join1(torch.cat((stem, image2), 1))
        reduced2 = self.down2(joined1)
        joined2 = self.join2(torch.cat((self.stage2(reduced2), reduced2, image4), 1))
        reduced3 = self.down3(joined2)
        joined3 = self.join3(torch.cat((reduced3, self.stage3(reduced3)), 1))
        return stem, joined1, joined2, joined3


class Decoder(nn.Module):
    """Classify at 1/8 and 1/4, merge, refine at 1/2, and upsample with learned kernels (2x2, stride 2).

    `skip` is the refinement's input at 1/2: "stem", or "joined", the stem joined with the downscaled image.
    """

    def __init__(self, unit: Callable[..., PyramidUnit], *, num_classes: int, skip: str, norm: MakeNorm) -> None:
        super().__init__()
        check_choice("skip", skip, ("stem", "joined"))
        self.skip = skip
        self.classify3 = conv2d(2 * _STAGE3, num_classes, 1)
        self.norm3 = norm(num_classes)
        self.up3 = _double(num_classes)
        self.classify2 = conv2d(2 * _STAGE2 + _IMAGE, num_classes, 1)
        self.join2 = NormPReLU(2 * num_classes, norm=norm)
        self.merge = unit(2 * num_classes, num_classes)
        self.up2 = _double(num_classes)
        self.norm2 = NormPReLU(num_classes, norm=norm)
        self.refine = ConvNormPReLU(
            (_STEM if skip == "stem" else _STEM + _IMAGE) + num_classes, num_classes, 3, norm=norm
        )
        self.logits = _double(num_classes)

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Logits [B, K, H, W] at the size of the input, from the encoder's output."""
        stem, joined1, joined2, joined3 = features
        coarse = self.up3(self.norm3(self.classify3(joined3)))
        merged = self.merge(self.join2(torch.cat((self.classify2(joined2), coarse), 1)))
        fine = torch.cat((self.norm2(self.up2(merged)), stem if self.skip == "stem" else joined1), 1)
        return self.logits(self.refine(fine))


def _double(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)


@flat_keywords
class ESPNet(StandaloneNetwork):
    """ESPNet with `p` and `q` units at 1/4 and 1/8; the released networks have p=2 and q=3, 5 or 8, and 20 classes.

    `skip="stem"` is the network of the released weights (test/Model.py). The repository's training code builds another
    one, `skip="joined"`, and the 4.5 B multiply-adds of Table 8 are that one's (without transposed convolutions).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        void: bool = False,
        p: int = 2,
        q: int = 8,
        skip: str = "stem",
        conventions: StandaloneConventions = RELEASED,
    ) -> None:
        super().__init__(num_classes=num_classes, void=void, stride=8, conventions=conventions)
        branches = [partial(conv2d, kernel=3, dilation=dilation) for dilation in _DILATIONS]
        norm = conventions.norm(eps=BN_EPS)
        unit = partial(PyramidUnit, branches=branches, cumulative=True, norm=norm)
        shrink = nn.AvgPool2d(3, stride=2, padding=1)
        self.encoder = Encoder(unit, p=p, q=q, shrink=shrink, norm=norm)
        self.decoder = Decoder(unit, num_classes=self.num_outputs, skip=skip, norm=norm)
