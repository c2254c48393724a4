"""SSDLite (MobileNetV2, section 6.2; MobileNetV3, section 6.3): a detector on any backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..backbones.conventions import PaddedConventions, flat_keywords
from ..backbones.features import Backbone
from ..backbones.init import initialize
from ..backbones.layers import Normalize, conv2d
from .anchors import AnchorLayout, make_anchors


@dataclass(frozen=True, kw_only=True)
class DetectorConventions(PaddedConventions):
    """Conventions of all layers after the backbone, and the images' `mean` and `std`."""

    bn_momentum: float = 0.03
    init: str | None = "tf_detection"
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)


_TF_DETECTION = DetectorConventions()
_MAX_CACHED = 64  # sizes of inputs whose anchors are kept


@flat_keywords
class SSDLite(nn.Module):
    """Class scores and box deltas for every anchor of the backbone's `taps` and of the extra maps after the last tap.

    `num_classes` counts foreground: there are K = `num_classes` + 1 slots and slot 0 is the background. `width`
    (None: the backbone's) multiplies `extra_channels`, down to `min_depth`. Each map has its own two towers. Every
    class bias starts at `class_bias`: log(p / (1 - p)) makes p the initial sigmoid score; the reference's config
    sets -4.6, but its code ignores that.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        taps: Sequence[str] = ("c4_expansion", "c5"),
        extra_channels: Sequence[int] = (512, 256, 256, 128),
        anchors: AnchorLayout | None = None,
        width: float | None = None,
        min_depth: int = 16,
        class_bias: float = 0.0,
        conventions: DetectorConventions = _TF_DETECTION,
    ) -> None:
        super().__init__()
        backbone.check_taps(taps)
        num_maps = len(taps) + len(extra_channels)
        self.anchor_layout = AnchorLayout.reference(num_maps=num_maps) if anchors is None else anchors
        if not taps or self.anchor_layout.num_maps != num_maps:
            raise ValueError(
                f"the anchor layout is made for {self.anchor_layout.num_maps} feature maps, but there are {num_maps}: "
                f"the taps {tuple(taps)} and extra maps of {tuple(extra_channels)} channels; set num_maps to match"
            )
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1 (foreground classes only), got {num_classes}")
        self.num_slots = num_classes + 1
        self.taps = tuple(taps)
        self.normalize = Normalize(mean=conventions.mean, std=conventions.std)
        self.backbone = backbone
        conv = partial(conventions.conv(), act="relu6")

        channels = [backbone.feature_specs[tap].channels for tap in taps]
        multiplier = backbone.width if width is None else width
        self.extras = nn.ModuleList()
        for depth in extra_channels:
            inner, outer = (max(int(d * multiplier), min_depth) for d in (depth / 2, depth))
            self.extras.append(
                nn.Sequential(
                    conv(channels[-1], inner), conv(inner, inner, 3, stride=2, groups=inner), conv(inner, outer)
                )
            )
            channels.append(outer)
        self.class_towers = nn.ModuleList()
        self.box_towers = nn.ModuleList()
        for inputs, count in zip(channels, self.anchor_layout.num_anchors, strict=True):
            for towers, outputs in ((self.class_towers, count * self.num_slots), (self.box_towers, count * 4)):
                tower = nn.Sequential(conv(inputs, inputs, 3, groups=inputs), conv2d(inputs, outputs, 1, bias=True))
                towers.append(tower)
        self._anchors: dict[tuple[object, ...], Tensor] = {}
        self._initialize(conventions.init, class_bias)

    def _initialize(self, init: str | None, class_bias: float) -> None:
        for part in (self.extras, self.class_towers, self.box_towers):
            initialize(part, init)
        for tower in self.class_towers:
            nn.init.constant_(tower.get_parameter("1.bias"), class_bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs for `images` RGB [B, 3, H, W] in 0..255 (uint8 or float), of any size.

        `class_logits` [B, A, K], `box_deltas` [B, A, 4] (dx, dy, dw, dh), `anchors` [A, 4] xyxy pixels of this input.
        """
        maps = self.features(images)
        sizes = tuple((feature.shape[2], feature.shape[3]) for feature in maps)
        return {
            "class_logits": self._predict(self.class_towers, maps, self.num_slots),
            "box_deltas": self._predict(self.box_towers, maps, 4),
            "anchors": self._anchors_for(sizes, (images.shape[2], images.shape[3]), images.device),
        }

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps that the towers read, from the finest to the coarsest, each [B, C, h, w]."""
        taps = self.backbone(self.normalize(images), self.taps)
        maps = [taps[name] for name in self.taps]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return maps

    @staticmethod
    def _predict(towers: nn.ModuleList, maps: Sequence[Tensor], length: int) -> Tensor:
        """`[B, A, length]` in the anchors' order: map, row, column, shape."""
        predictions = [tower(feature).permute(0, 2, 3, 1) for tower, feature in zip(towers, maps, strict=True)]
        return torch.cat([p.reshape(p.shape[0], -1, length) for p in predictions], dim=1)

    def _anchors_for(self, sizes: tuple[tuple[int, int], ...], image: tuple[int, int], device: torch.device) -> Tensor:
        dtype = torch.promote_types(self.normalize.scale.dtype, torch.float32)
        make = partial(make_anchors, self.anchor_layout, sizes, image, dtype=dtype, device=device)
        if torch.compiler.is_compiling():  # or exporting: anchors become part of the graph
            return make()
        # A tensor made in inference mode must not be reused in training.
        key = (sizes, image, dtype, device, torch.is_inference_mode_enabled())
        anchors = self._anchors.get(key)
        if anchors is None:
            anchors = make()
            if type(anchors) is Tensor:  # not a tracer's placeholder
                if len(self._anchors) >= _MAX_CACHED:  # photographs of any size
                    self._anchors.clear()
                self._anchors[key] = anchors
        return anchors
