"""C3Net (Park et al., "Concentrated-Comprehensive Convolutions"; released as clovaai/c3_sinet).

"CCC2" of the MobileNetV3 paper's Table 8 (mIoU 62.0) is the first version of that work, arXiv 1812.04920v1, whose code
and weights were never published. This is the published, retrained network.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ..backbones.conventions import flat_keywords
from ..backbones.layers import conv2d
from .espnet import BN_EPS, RELEASED, Decoder, Encoder, PyramidUnit
from .standalone import MakeNorm, StandaloneConventions, StandaloneNetwork


class C3Branch(nn.Module):
    """A dilated 3x3 depthwise convolution that covers every pixel: those between its taps are gathered beforehand.

    They are gathered by a column and a row of 2 * dilation - 1 taps, depthwise; a 1x1 convolution mixes the channels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int, norm: MakeNorm) -> None:
        super().__init__()
        taps, reach = 2 * dilation - 1, dilation - 1
        self.column = nn.Conv2d(in_channels, in_channels, (taps, 1), padding=(reach, 0), groups=in_channels, bias=False)
        self.column_norm = norm(in_channels)
        self.act = nn.PReLU(in_channels)
        self.row = nn.Conv2d(in_channels, in_channels, (1, taps), padding=(0, reach), groups=in_channels, bias=False)
        self.row_norm = norm(in_channels)
        self.dilated = conv2d(in_channels, in_channels, 3, groups=in_channels, dilation=dilation)
        self.project = conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H, W]."""
        gathered = self.row_norm(self.row(self.act(self.column_norm(self.column(x)))))
        return self.project(self.dilated(gathered))


@flat_keywords
class C3Net(StandaloneNetwork):
    """ESPNet's frame around C3 units; the defaults, with 20 classes, are the released C3Net ("setting 2").

    The released code computes the 1x1 reduction of every stride-1 unit twice and discards one result, so its
    multiply-adds are 11 % more than these.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        void: bool = False,
        p: int = 2,
        q: int = 8,
        dilations: Sequence[int] = (2, 3, 7, 13),
        conventions: StandaloneConventions = RELEASED,
    ) -> None:
        super().__init__(num_classes=num_classes, void=void, stride=8, conventions=conventions)
        if not dilations or min(dilations) < 2:
            raise ValueError(
                f"dilations must be 2 or more (below 2 there is nothing between the taps), got {dilations}"
            )
        norm = conventions.norm(eps=BN_EPS)
        inner_norm = conventions.norm(eps=1e-5)  # the reference keeps torch's default there
        branches = [partial(C3Branch, dilation=dilation, norm=inner_norm) for dilation in dilations]
        unit = partial(PyramidUnit, branches=branches, cumulative=False, norm=norm)
        self.encoder = Encoder(unit, p=p, q=q, shrink=nn.AvgPool2d(2), norm=norm)
        self.decoder = Decoder(unit, num_classes=self.num_outputs, skip="joined", norm=norm)
