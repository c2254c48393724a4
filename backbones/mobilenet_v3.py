"""MobileNetV3 (Howard et al., ICCV 2019, arXiv 1905.02244), as its TF-slim reference computes it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from .features import Backbone, FeatureSpec
from .init import initialize
from .layers import ConvNormAct, SqueezeExcite, make_divisible


class Row(NamedTuple):
    """A bottleneck block: one row of the paper's Table 1 or 2."""

    kernel: int
    expansion: int
    out: int
    se: bool
    act: str
    stride: int


STEM_CHANNELS = 16
SE, __ = True, False
RE, HS = "relu", "hswish"

# fmt: off
# Table 1
LARGE = (
    Row(3,  16,  16, __, RE, 1),
    Row(3,  64,  24, __, RE, 2),
    Row(3,  72,  24, __, RE, 1),  # C2
    Row(5,  72,  40, SE, RE, 2),
    Row(5, 120,  40, SE, RE, 1),
    Row(5, 120,  40, SE, RE, 1),  # C3
    Row(3, 240,  80, __, HS, 2),
    Row(3, 200,  80, __, HS, 1),
    Row(3, 184,  80, __, HS, 1),
    Row(3, 184,  80, __, HS, 1),
    Row(3, 480, 112, SE, HS, 1),
    Row(3, 672, 112, SE, HS, 1),  # C4
    Row(5, 672, 160, SE, HS, 2),
    Row(5, 960, 160, SE, HS, 1),
    Row(5, 960, 160, SE, HS, 1),
)
# Table 2. Its tick for SE at the last convolution is refuted by the paper's own parameter counts.
SMALL = (
    Row(3,  16,  16, SE, RE, 2),  # C2
    Row(3,  72,  24, __, RE, 2),
    Row(3,  88,  24, __, RE, 1),  # C3
    Row(5,  96,  40, SE, HS, 2),
    Row(5, 240,  40, SE, HS, 1),
    Row(5, 240,  40, SE, HS, 1),
    Row(5, 120,  48, SE, HS, 1),
    Row(5, 144,  48, SE, HS, 1),  # C4
    Row(5, 288,  96, SE, HS, 2),
    Row(5, 576,  96, SE, HS, 1),
    Row(5, 576,  96, SE, HS, 1),
)
# fmt: on
VARIANTS = {"large": (LARGE, 960), "small": (SMALL, 576)}  # rows, channels of the last convolution


def reduce_tail(rows: Sequence[Row], *, first_expansion: bool) -> tuple[Row, ...]:
    """Halve the channels of the last three blocks (section 6.3); the first of their expansions is C4 itself."""
    first, second, third = rows[-3:]
    return (
        *rows[:-3],
        first._replace(out=first.out // 2, expansion=first.expansion // (2 if first_expansion else 1)),
        second._replace(out=second.out // 2, expansion=second.expansion // 2),
        third._replace(out=third.out // 2, expansion=third.expansion // 2),
    )


def minimalistic_row(row: Row) -> Row:
    """TF-slim's variant for simple hardware: 3x3 kernels, no squeeze-and-excite, no h-swish."""
    return row._replace(kernel=3, se=False, act=RE)


def strides_and_rates(rows: Sequence[Row], *, output_stride: int, atrous: str) -> list[tuple[int, int]]:
    """Effective stride and atrous rate of every block when strides beyond `output_stride` become rates.

    `reference`: the block that loses its stride keeps the rate so far, only later blocks get the doubled one.
    `torchvision`: that block is dilated too.
    """
    current, rate, plan = 2, 1, []  # the stem has stride 2
    for row in rows:
        if current < output_stride:
            current *= row.stride
            plan.append((row.stride, 1))
        else:
            after = rate * row.stride
            plan.append((1, after if atrous == "torchvision" else rate))
            rate = after
    return plan


def scale_rows(rows: Sequence[Row], *, width: float, min_depth: int, scaling: str) -> tuple[Row, ...]:
    """Apply the width multiplier.

    `reference`: expansions are a factor of the (rounded) channels that come in, as in TF-slim. `torchvision`: the
    table's expansion is scaled like any other channel count. They agree at widths 1 and 2, not between.
    """
    scaled, table_in = [], STEM_CHANNELS
    channels = make_divisible(STEM_CHANNELS * width, min_depth=min_depth)
    for row in rows:
        expansion = row.expansion * width if scaling == "torchvision" else channels * (row.expansion / table_in)
        table_in, channels = row.out, make_divisible(row.out * width, min_depth=min_depth)
        scaled.append(row._replace(expansion=make_divisible(expansion), out=channels))
    return tuple(scaled)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, gate, project (Figure 4). `row` has scaled channels and the effective stride."""

    def __init__(
        self,
        in_channels: int,
        row: Row,
        *,
        dilation: int,
        residual: bool,
        gate: str,
        conv: Callable[..., ConvNormAct],
    ) -> None:
        super().__init__()
        self.residual = residual
        self.expand = conv(in_channels, row.expansion, act=row.act) if row.expansion != in_channels else None
        self.depthwise = conv(
            row.expansion,
            row.expansion,
            row.kernel,
            stride=row.stride,
            dilation=dilation,
            groups=row.expansion,
            act=row.act,
        )
        self.se = SqueezeExcite(row.expansion, gate=gate) if row.se else None
        self.project = conv(row.expansion, row.out, act="none")

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the outputs of the steps as they are computed, so that a caller can take one and stop."""
        expanded = x if self.expand is None else self.expand(x)
        yield "expansion", expanded
        filtered = self.depthwise(expanded)
        yield "depthwise", filtered
        out = self.project(filtered if self.se is None else self.se(filtered))
        yield "output", x + out if self.residual else out


class MobileNetV3(Backbone):
    """The trunk: `stem`, `blocks` and the `last` convolution before pooling; the taps are described in `Backbone`.

    `width` multiplies all channels, by the rule `scaling`. `reduced` halves them between C4 and C5: `detection` all but
    the first expansion, `segmentation` that one too. `output_stride` 16 or 8 keeps the map's size with atrous
    convolution, by the rule of the `reference` or of `torchvision`; the latter also decides by the table's stride
    whether a block is residual, the reference by the effective one. `padding="same"` and `gate="tf"` are what weights
    trained in TensorFlow need.
    """

    def __init__(
        self,
        variant: str = "large",
        *,
        width: float = 1.0,
        minimalistic: bool = False,
        reduced: str | None = None,
        output_stride: int = 32,
        atrous: str = "reference",
        scaling: str = "reference",
        padding: str = "symmetric",
        gate: str = "exact",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.003,
        min_depth: int = 8,
        init: str = "tf_slim",
    ) -> None:
        super().__init__()
        check_choice("variant", variant, tuple(VARIANTS))
        check_choice("reduced", reduced, (None, "detection", "segmentation"))
        check_choice("output_stride", output_stride, (8, 16, 32))
        check_choice("atrous", atrous, ("reference", "torchvision"))
        check_choice("scaling", scaling, ("reference", "torchvision"))
        if width <= 0:
            raise ValueError(f"width must be positive, got {width}")
        self.width, self.variant, self.minimalistic = width, variant, minimalistic

        table, last_channels = VARIANTS[variant]
        if minimalistic:
            table = tuple(minimalistic_row(row) for row in table)
        if reduced is not None:
            table, last_channels = reduce_tail(table, first_expansion=reduced == "segmentation"), last_channels // 2
        rows = scale_rows(table, width=width, min_depth=min_depth, scaling=scaling)
        plan = strides_and_rates(table, output_stride=output_stride, atrous=atrous)

        conv = partial(ConvNormAct, padding=padding, bn_eps=bn_eps, bn_momentum=bn_momentum)
        act = RE if minimalistic else HS
        channels = make_divisible(STEM_CHANNELS * width, min_depth=min_depth)
        self.stem = conv(3, channels, 3, stride=2, act=act)
        self.blocks = nn.ModuleList()
        for row, (stride, rate) in zip(rows, plan, strict=True):
            unstrided = (row.stride if atrous == "torchvision" else stride) == 1
            residual = unstrided and row.out == channels
            row = row._replace(stride=stride)
            self.blocks.append(InvertedResidual(channels, row, dilation=rate, residual=residual, gate=gate, conv=conv))
            channels = row.out
        # torchvision's last convolution follows the rounded block before it.
        scaled_last = 6 * channels if scaling == "torchvision" else last_channels * width
        self.last = conv(channels, make_divisible(scaled_last, min_depth=min_depth), act=act)
        self._publish_taps(table)
        initialize(self, init)

    def _publish_taps(self, table: Sequence[Row]) -> None:
        """Fill `tap_points` and `feature_specs`; the nominal strides of `table` say where the stages end."""
        stride = nominal_stride = 2
        specs = {"stem": FeatureSpec(self.stem.conv.out_channels, stride)}
        stage_ends = {}  # nominal stride -> number of the last block at it
        for number, (row, block) in enumerate(zip(table, self.blocks, strict=True), start=1):
            assert isinstance(block, InvertedResidual)
            inner = block.depthwise.conv
            specs[f"block{number}.expansion"] = FeatureSpec(inner.in_channels, stride)
            stride *= inner.stride[0]
            specs[f"block{number}.depthwise"] = FeatureSpec(inner.out_channels, stride)
            specs[f"block{number}.output"] = FeatureSpec(block.project.conv.out_channels, stride)
            nominal_stride *= row.stride
            stage_ends[nominal_stride] = number
        specs["last"] = FeatureSpec(self.last.conv.out_channels, stride)

        self.tap_points = {
            "stem": "stem",
            **{f"block{number}": f"block{number}.output" for number in range(1, len(table) + 1)},
            "c2": f"block{stage_ends[4]}.output",
            "c3": f"block{stage_ends[8]}.output",
            "c3_depthwise": f"block{stage_ends[8]}.depthwise",
            "c4": f"block{stage_ends[16]}.output",
            "c4_expansion": f"block{stage_ends[16] + 1}.expansion",
            "c5": "last",
        }
        self.feature_specs = {tap: specs[point] for tap, point in self.tap_points.items()}

    def walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of the stem, of every step of every block, and of the last convolution."""
        x = self.stem(images)
        yield "stem", x
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, InvertedResidual)
            for step, output in block.walk(x):
                yield f"block{number}.{step}", output
            x = output
        yield "last", self.last(x)


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
