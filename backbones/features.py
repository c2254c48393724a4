"""The interface between backbones and heads: named feature maps with their channels and strides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureSpec:
    """Channels and effective stride of a feature map: a side of `n` pixels becomes `ceil(n / stride)`."""

    channels: int
    stride: int


class Backbone(nn.Module):
    """Base of all trunks. A subclass sets the three attributes and yields its intermediate outputs from `walk`.

    Tap names are the same for every backbone: `stem`; `block1` to `blockN`, the outputs of the rows of the paper's
    table; `c2`, `c3`, `c4`, the last block at the nominal stride 4, 8, 16; `c5`, the layer before pooling; and the two
    inner maps heads attach to: `c4_expansion`, the first expansion of the nominal stride-32 stage, and `c3_depthwise`,
    the depthwise output before squeeze-and-excite of the block `c3`.
    """

    feature_specs: dict[str, FeatureSpec]  # every tap, by name
    tap_points: dict[str, str]  # tap -> its point of `walk` (several taps may share one)
    width: float  # the channel multiplier, which heads can follow
    hidden_channels: int = 0  # of a classifier's layer between pooling and classes; 0: none
    hidden_act: str = "relu"  # the activation after it

    def walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield `(point, output)` in the order of computation; nothing after the last requested tap is computed."""
        raise NotImplementedError

    def forward(self, images: Tensor, taps: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Map normalized float images [B, 3, H, W] to exactly `taps` (default: all), each [B, channels, h, w]."""
        names = tuple(self.feature_specs) if taps is None else tuple(taps)
        self.check_taps(names)
        points = {self.tap_points[name] for name in names}
        outputs: dict[str, Tensor] = {}
        walk = self.walk(images)
        while len(outputs) < len(points):
            point, output = next(walk)
            if point in points:
                outputs[point] = output
        return {name: outputs[self.tap_points[name]] for name in names}

    def check_taps(self, names: Sequence[str]) -> None:
        """Raise ValueError unless every name is a tap of this backbone; heads call this in their constructors."""
        unknown = [name for name in names if name not in self.feature_specs]
        if unknown:
            raise ValueError(f"unknown taps {unknown} of {type(self).__name__}; choose from {list(self.feature_specs)}")
