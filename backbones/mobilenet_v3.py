"""MobileNetV3 (Howard et al., ICCV 2019, arXiv 1905.02244), as its TF-slim reference computes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from .blocks import BlockTrunk, Row, reduce_tail, scale_rows, strides_and_rates
from .checks import check_choice
from .conventions import PaddedConventions, flat_keywords
from .layers import SqueezeExcite, make_divisible

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
# Table 2. Its check mark for SE at the last convolution contradicts the paper's own parameter counts.
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
NONLINEARITIES = ("paper", "relu", "hswish16", "hswish112")
VARIANTS = {"large": (LARGE, 960), "small": (SMALL, 576)}  # rows, channels of the last convolution


def hidden_channels(variant: str, *, width: float) -> int:
    """Channels of the layer after pooling that reproduce the paper's parameter counts (Tables 3 and 9).

    Below width 1 it stays unscaled in both variants; above, Large's stays too and Small's grows.
    """
    return 1280 if variant == "large" else make_divisible(1024 * max(width, 1.0))


def with_nonlinearity(rows: Sequence[Row], nonlinearity: str) -> tuple[Row, ...]:
    """The activations of Table 5, which compares four V3-Large.

    `paper` is Table 1, `relu` has no h-swish at all. For "h-swish@N" the caption says that N is "the number of channels
    in the first layer that has h-swish enabled". We read: 16 is the stem, so everything has h-swish; 112 is block 11,
    the first with 112 output channels, so that block and all after it have h-swish, and the stem, with 16, does not.
    """
    if nonlinearity == "relu":
        return tuple(row._replace(act=RE) for row in rows)
    if nonlinearity == "hswish16":
        return tuple(row._replace(act=HS) for row in rows)
    if nonlinearity == "hswish112":
        first = [row.out for row in rows].index(112)
        return tuple(row._replace(act=HS if number >= first else RE) for number, row in enumerate(rows))
    return tuple(rows)


@dataclass(frozen=True, kw_only=True)
class V3Conventions(PaddedConventions):
    """`gate="tf"` is what weights trained in TensorFlow need.

    Rules of the `reference` or of `torchvision`: `scaling`, how the width multiplies (`scale_rows`); `atrous`, how
    strides become rates. torchvision's also decides by the table's stride whether a block is residual, the
    reference's by the effective one.
    """

    gate: str = "exact"
    atrous: str = "reference"
    scaling: str = "reference"

    def __post_init__(self) -> None:
        check_choice("atrous", self.atrous, ("reference", "torchvision"))
        check_choice("scaling", self.scaling, ("reference", "torchvision"))


_TF_SLIM = V3Conventions()


@flat_keywords
class MobileNetV3(BlockTrunk):
    """The trunk: `stem`, `blocks` and the `last` convolution before pooling; the taps are described in `Backbone`.

    `width` multiplies all channels. `reduced` halves them between C4 and C5: `detection` all but the first expansion,
    `segmentation` that one too. `output_stride` 16 or 8 keeps the map's size with atrous convolution.
    `stem="unscaled"` (16 channels at any width) is used by one of timm's networks. `nonlinearity`: see
    `with_nonlinearity`; a classifier's hidden layer follows the `last` convolution's.
    """

    def __init__(
        self,
        variant: str = "large",
        *,
        width: float = 1.0,
        minimalistic: bool = False,
        nonlinearity: str = "paper",
        reduced: str | None = None,
        output_stride: int = 32,
        stem: str = "scaled",
        min_depth: int = 8,
        conventions: V3Conventions = _TF_SLIM,
    ) -> None:
        super().__init__(width=width, reduced=reduced, output_stride=output_stride)
        check_choice("variant", variant, VARIANTS)
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        check_choice("stem", stem, ("scaled", "unscaled"))
        if nonlinearity != "paper" and (variant != "large" or minimalistic):
            raise ValueError(
                f"nonlinearity={nonlinearity!r} is only supported by V3-Large, not by {variant}, {minimalistic=}"
            )

        table, last_channels = VARIANTS[variant]
        table = with_nonlinearity(table, nonlinearity)
        if minimalistic:  # TF-slim's variant for simple hardware: no large kernels, gates or h-swish
            table = tuple(row._replace(kernel=3, se=False, act=RE) for row in table)
        if reduced is not None:
            table, last_channels = reduce_tail(table, first_expansion=reduced == "segmentation"), last_channels // 2
        channels, rows = scale_rows(
            table,
            stem=STEM_CHANNELS,
            stem_out=STEM_CHANNELS if stem == "unscaled" else None,
            width=width,
            min_depth=min_depth,
            scaling=conventions.scaling,
        )
        # torchvision's last convolution follows the rounded block before it.
        scaled_last = 6 * rows[-1].out if conventions.scaling == "torchvision" else last_channels * width
        self.build(
            table,
            rows,
            strides_and_rates(table, output_stride=output_stride, atrous=conventions.atrous),
            conventions=conventions,
            stem=channels,
            stem_act=HS if nonlinearity in ("paper", "hswish16") and not minimalistic else RE,
            last=make_divisible(scaled_last, min_depth=min_depth),
            se=lambda _, row: SqueezeExcite(row.expansion, gate=conventions.gate),
            residual=[row.stride == 1 for row in table] if conventions.atrous == "torchvision" else None,
        )
        self.nonlinearity = nonlinearity
        self.hidden_channels, self.hidden_act = hidden_channels(variant, width=width), table[-1].act
