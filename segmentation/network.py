"""Segmentation networks of the MobileNetV3 paper: Lite R-ASPP (section 6.4, Figure 10) and the R-ASPP it replaces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.checks import check_choice
from ..backbones.conventions import Conventions, flat_keywords
from ..backbones.features import Backbone
from ..backbones.init import initialize
from ..backbones.layers import Normalize, conv2d, gate_activation
from .pooling import GlobalPool, WindowPool
from .upsample import pad_to_multiple

_GATES = {"sigmoid": "sigmoid", "qsigmoid": "tf"}


@dataclass(frozen=True, kw_only=True)
class SegmentationConventions(Conventions):
    """Conventions of the head and the input images; `init=None` keeps torch's defaults, as torchvision does.

    `pad_input`: the normalized image is zero-padded at the bottom and right until its sides are multiples of the output
    stride plus one, as the reference evaluates (1024x2048 becomes 1025x2049). Only then do the corner pixels of all
    maps coincide, as resizing with `align_corners` assumes.
    """

    bn_eps: float = 1e-5
    bn_momentum: float = 3e-4
    align_corners: bool = True
    pad_input: bool = True
    mean: Sequence[float] = (0.5, 0.5, 0.5)  # images from -1 to 1
    std: Sequence[float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class LRASPPConventions(SegmentationConventions):
    """`gate`: "sigmoid" (paper) or "qsigmoid" (relu6(x + 3) * 0.16667, the released models)."""

    gate: str = "sigmoid"

    def __post_init__(self) -> None:
        check_choice("gate", self.gate, _GATES)


_REFERENCE, _GATED_REFERENCE = SegmentationConventions(), LRASPPConventions()


class SegmentationNetwork(nn.Module):
    """Base of the heads: normalize, pad, backbone, and the dict that criterion and postprocess read."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        taps: Sequence[str],
        num_classes: int,
        conventions: SegmentationConventions,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= 255:
            raise ValueError(
                f"num_classes must be in 1..255 (all classes; the value 255 marks ignored pixels), got {num_classes}"
            )
        backbone.check_taps(taps)
        self.backbone = backbone
        self.taps = tuple(taps)
        self.align_corners = conventions.align_corners
        self.pad_input = conventions.pad_input
        self.output_stride = max(backbone.feature_specs[tap].stride for tap in taps)
        self.normalize = Normalize(mean=conventions.mean, std=conventions.std)

    def forward(self, images: Tensor) -> dict[str, Any]:
        """RGB [B, 3, H, W] in 0..255 (uint8 or float) -> `logits` [B, K, h, w], and `logits_size`.

        That size is the input's (h, w) with its padding.
        """
        images = self.normalize(images)
        if self.pad_input:
            images = pad_to_multiple(images, self.output_stride, plus=1)
        logits = self.head(self.backbone(images, self.taps))
        return {"logits": logits, "logits_size": (images.shape[-2], images.shape[-1])}

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Logits [B, K, h, w] from the features of `taps`."""
        raise NotImplementedError

    def resize(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear resize of [B, C, h, w]; 1x1 maps are broadcast later, which gives the same values."""
        known = all(isinstance(side, int) for side in (*features.shape[-2:], *size))  # not symbolic sizes of an export
        if known and tuple(features.shape[-2:]) in ((1, 1), tuple(size)):
            return features
        return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=self.align_corners)

    def initialize_head(self, scheme: str | None) -> None:
        """Initialize all modules except the backbone; None keeps torch's defaults, as torchvision does."""
        for name, module in self.named_children():
            if scheme is not None and name != "backbone":
                initialize(module, scheme)


@flat_keywords
class LRASPP(SegmentationNetwork):
    """Lite R-ASPP: gated features resized to the skip's 1/8 and classified together with it.

    The defaults are the paper's head, its batch norm the TF code's. torchvision's variant is `low="block4",
    pool="global", gate_bias=False, align_corners=False, pad_input=False, bn_momentum=0.1, init=None` with ImageNet's
    mean and std, over MobileNetV3-Large with `output_stride=16, atrous="torchvision"`.

    - `pool`: "reference" averages over windows that cover the map of a `pool_crop` training crop, in `pool_steps`
      (default: the paper's for the output stride), see `WindowPool`; "global" over the whole map.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        low: str = "c3_depthwise",
        high: str = "c5",
        filters: int = 128,
        pool: str = "reference",
        pool_crop: int = 769,
        pool_steps: tuple[int, int] | None = None,
        gate_bias: bool = True,
        conventions: LRASPPConventions = _GATED_REFERENCE,
    ) -> None:
        super().__init__(backbone, taps=(low, high), num_classes=num_classes, conventions=conventions)
        check_choice("pool", pool, ("reference", "global"))
        low_channels, high_channels = (backbone.feature_specs[tap].channels for tap in (low, high))
        high_stride = backbone.feature_specs[high].stride
        self.aspp = conventions.conv()(high_channels, filters)
        self.pool = GlobalPool() if pool == "global" else WindowPool(high_stride, crop=pool_crop, steps=pool_steps)
        self.gate = conv2d(high_channels, filters, 1, bias=gate_bias)
        self.gate_act = gate_activation(_GATES[conventions.gate])
        self.high_logits = conv2d(filters, num_classes, 1, bias=True)
        self.low_logits = conv2d(low_channels, num_classes, 1, bias=True)
        self.initialize_head(conventions.init)

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Logits [B, K, h, w] at the skip's size."""
        low, high = (features[tap] for tap in self.taps)
        gate = self.gate_act(self.gate(self.pool(high)))
        gated = self.aspp(high) * self.resize(gate, high.shape[-2:])
        # Resize, then classify, as the paper counts. The other order is the same function and 0.5 % faster.
        return self.high_logits(self.resize(gated, low.shape[-2:])) + self.low_logits(low)


@flat_keywords
class RASPP(SegmentationNetwork):
    """R-ASPP (Table 7, rows 1, 2, 5, 6): a 1x1 branch and a global one, joined; logits at the output stride.

    Batch norm follows the global pooling, so training needs at least two images per batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        high: str = "c5",
        filters: int = 256,
        dropout: float = 0.1,
        conventions: SegmentationConventions = _REFERENCE,
    ) -> None:
        super().__init__(backbone, taps=(high,), num_classes=num_classes, conventions=conventions)
        channels = backbone.feature_specs[high].channels
        conv = conventions.conv()
        self.aspp = conv(channels, filters)
        self.pool = GlobalPool()
        self.image_level = conv(channels, filters)
        self.project = conv(2 * filters, filters)
        self.dropout = nn.Dropout(dropout)
        self.logits = conv2d(filters, num_classes, 1, bias=True)
        self.initialize_head(conventions.init)

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Logits [B, K, h, w] at the output stride."""
        high = features[self.taps[0]]
        local = self.aspp(high)
        whole = self.image_level(self.pool(high)).expand_as(local)
        return self.logits(self.dropout(self.project(torch.cat((local, whole), dim=1))))
