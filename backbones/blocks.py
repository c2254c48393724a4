"""Shared parts of the trunks: rows of a paper's table become blocks, and the blocks' outputs become taps."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from .checks import check_choice
from .conventions import PaddedConventions
from .features import Backbone, FeatureSpec
from .init import initialize
from .layers import ConvNormAct, SqueezeExcite, make_divisible


class Row(NamedTuple):
    """A block: one row of a paper's table."""

    kernel: int
    expansion: int
    out: int
    se: bool
    act: str
    stride: int


# Kernel, expansion factor, channels out, squeeze-and-excite, repetitions, stride of the first
Stage = tuple[int, int, int, bool, int, int]


def stage_rows(stages: Sequence[Stage], *, stem: int, act: str) -> tuple[Row, ...]:
    """One row per block, from a table with one line for several blocks."""
    rows, channels = [], stem
    for kernel, factor, out, se, repetitions, first_stride in stages:
        for stride in (first_stride, *(1,) * (repetitions - 1)):
            rows.append(Row(kernel, factor * channels, out, se=se, act=act, stride=stride))
            channels = out
    return tuple(rows)


def reduce_tail(rows: Sequence[Row], *, first_expansion: bool) -> tuple[Row, ...]:
    """Halve the channels of the blocks at stride 32 (MobileNetV3, section 6.3).

    The first of their expansions is C4 itself, in the detector; `first_expansion` halves it too.
    """
    first = max(number for number, row in enumerate(rows) if row.stride == 2)
    reduced = []
    for number, row in enumerate(rows[first:]):
        divisor = 2 if number > 0 or first_expansion else 1
        reduced.append(row._replace(out=row.out // 2, expansion=row.expansion // divisor))
    return (*rows[:first], *reduced)


def strides_and_rates(rows: Sequence[Row], *, output_stride: int, atrous: str = "reference") -> list[tuple[int, int]]:
    """Effective stride and atrous rate of every block if strides beyond `output_stride` become rates.

    `reference`: the block that loses its stride keeps the current rate; only later blocks get the doubled one.
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


def scale_rows(
    rows: Sequence[Row],
    *,
    stem: int,
    stem_out: int | None = None,
    width: float,
    min_depth: int,
    divisor: int = 8,
    scaling: str = "reference",
) -> tuple[int, tuple[Row, ...]]:
    """Apply the width multiplier to the table's number of input channels `stem` (unless `stem_out` is set), and rows.

    Input and output channels are rounded to multiples of `divisor`, expansions to multiples of 8.

    `reference`: expansions are a multiple of the (rounded) input channels, as in TF-slim. `torchvision`: the
    table's expansion is scaled like any other channel count. They agree at widths 1 and 2, but not in between.
    """
    scaled, table_in = [], stem
    stem_out = channels = stem_out or make_divisible(stem * width, divisor, min_depth=min_depth)
    for row in rows:
        expansion = row.expansion * width if scaling == "torchvision" else channels * (row.expansion / table_in)
        expansion = channels if expansion == channels else make_divisible(expansion)
        table_in, channels = row.out, make_divisible(row.out * width, divisor, min_depth=min_depth)
        scaled.append(row._replace(expansion=expansion, out=channels))
    return stem_out, tuple(scaled)


def last_channels(last: str | None, *, width: float, reduced: bool, min_depth: int) -> int:
    """Channels of the 1280-channel convolution at the end of MobileNetV2 and MnasNet; 0: none."""
    check_choice("last", last, (None, "unscaled", "scaled"))
    if last is None:
        return 0
    channels = 640 if reduced else 1280
    return make_divisible(channels * (max(width, 1.0) if last == "unscaled" else width), min_depth=min_depth)


class InvertedResidual(nn.Module):
    """Expansion, depthwise filter, gate, projection (MobileNetV3, Figure 4).

    `row` has scaled channels and the effective stride. Where it does not expand and `project_act` is not "none", this
    is MobileNetV1's depthwise separable convolution.
    """

    def __init__(
        self,
        in_channels: int,
        row: Row,
        *,
        dilation: int,
        residual: bool,
        conv: Callable[..., ConvNormAct],
        se: SqueezeExcite | None = None,
        project_act: str = "none",
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
        self.se = se
        self.project = conv(row.expansion, row.out, act=project_act)

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the output of each step when it is computed, so that a caller can stop early."""
        expanded = x if self.expand is None else self.expand(x)
        yield "expansion", expanded
        filtered = self.depthwise(expanded)
        yield "depthwise", filtered
        out = self.project(filtered if self.se is None else self.se(filtered))
        yield "output", x + out if self.residual else out


class BlockTrunk(Backbone):
    """A trunk of a `stem`, `blocks` and, in most of them, a `last` convolution before pooling."""

    stem: ConvNormAct
    blocks: nn.ModuleList
    last: ConvNormAct | None

    def __init__(self, *, width: float, reduced: str | None, output_stride: int) -> None:
        super().__init__()
        check_choice("reduced", reduced, (None, "detection", "segmentation"))
        check_choice("output_stride", output_stride, (8, 16, 32))
        if width <= 0:
            raise ValueError(f"width must be positive, got {width}")
        self.width = width

    def build(
        self,
        table: Sequence[Row],
        rows: Sequence[Row],
        plan: Sequence[tuple[int, int]],
        *,
        conventions: PaddedConventions,
        stem: int,
        last: int,
        stem_act: str | None = None,
        project_act: str = "none",
        se: Callable[[int, Row], SqueezeExcite] | None = None,
        residual: Sequence[bool] | None = None,
    ) -> None:
        """Create and initialize all layers, and publish the taps.

        `rows` are those of `table` with scaled channels; `plan` has their effective strides and the rates. `stem` and
        `last` are the channels of these layers (`last` 0: none). `se` makes a squeeze-and-excite from a block's input
        channels and its row. A block that keeps the number of channels is residual if `residual` says so, by default
        if its effective stride is 1.
        """
        conv = conventions.conv()
        residual = [stride == 1 for stride, _ in plan] if residual is None else residual
        self.stem = conv(3, stem, 3, stride=2, act=stem_act or table[0].act)
        self.blocks = nn.ModuleList()
        channels = stem
        for row, (stride, rate), adds in zip(rows, plan, residual, strict=True):
            block = InvertedResidual(
                channels,
                row._replace(stride=stride),
                dilation=rate,
                residual=adds and row.out == channels,
                conv=conv,
                se=se(channels, row) if se is not None and row.se else None,
                project_act=project_act,
            )
            self.blocks.append(block)
            channels = row.out
        self.last = conv(channels, last, act=table[-1].act) if last else None
        self.publish_taps(table)
        initialize(self, conventions.init)

    def publish_taps(self, table: Sequence[Row]) -> None:
        """Fill `tap_points` and `feature_specs`; the nominal strides of `table` determine where stages end."""
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
        if self.last is not None:
            specs["last"] = FeatureSpec(self.last.conv.out_channels, stride)

        self.tap_points = {
            "stem": "stem",
            **{f"block{number}": f"block{number}.output" for number in range(1, len(table) + 1)},
            "c2": f"block{stage_ends[4]}.output",
            "c3": f"block{stage_ends[8]}.output",
            "c3_depthwise": f"block{stage_ends[8]}.depthwise",
            "c4": f"block{stage_ends[16]}.output",
            "c4_expansion": f"block{stage_ends[16] + 1}.expansion",
            "c5": f"block{len(table)}.output" if self.last is None else "last",
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
        if self.last is not None:
            yield "last", self.last(x)
