"""MnasNet (Tan et al., CVPR 2019, arXiv 1807.11626), as its TensorFlow reference (tensorflow/tpu) computes it."""

from .blocks import BlockTrunk, Row, last_channels, reduce_tail, scale_rows, stage_rows, strides_and_rates
from .checks import check_choice
from .conventions import TF_SLIM, PaddedConventions, flat_keywords
from .layers import SqueezeExcite, make_divisible

SE, __ = True, False

# fmt: off
# Figure 7: kernel, expansion factor, channels out, squeeze-and-excite, repetitions, stride of the first
A1 = (
    (3, 1,  16, __, 1, 1),
    (3, 6,  24, __, 2, 2),  # C2
    (5, 3,  40, SE, 3, 2),  # C3
    (3, 6,  80, __, 4, 2),
    (3, 6, 112, SE, 2, 1),  # C4
    (5, 6, 160, SE, 3, 2),
    (3, 6, 320, __, 1, 1),
)
# `mnasnet_small` of the reference's code
SMALL = (
    (3, 1,   8, __, 1, 1),
    (3, 3,  16, __, 1, 2),  # C2
    (3, 6,  16, __, 2, 2),  # C3
    (5, 6,  32, SE, 4, 2),
    (3, 6,  32, SE, 3, 1),  # C4
    (5, 6,  88, SE, 3, 2),
    (3, 6, 144, __, 1, 1),
)
# fmt: on
VARIANTS = {"a1": (A1, 32), "small": (SMALL, 8)}  # stages, channels of the stem


@flat_keywords
class MnasNet(BlockTrunk):
    """The trunk: `stem`, `blocks` and, unless `last` is None, a convolution to 1280 channels before pooling.

    Squeeze-and-excite has a quarter of the block's input channels (not of the expansion, as in MobileNetV3),
    and a sigmoid gate; the MobileNetV3 paper's Table 6 counts it rounded to multiples of 8: `squeeze_divisor=8`.
    `width` multiplies all channels. Those of the last convolution stay 1280 below width 1 if `last` is "unscaled"
    (ImageNet); "scaled" multiplies them too; without it `c5` is the last block. `reduced` is MobileNetV3's.
    `output_stride` 16 or 8 keeps the map's size with atrous convolution. `first_residual` adds the input of
    the first block too if it has as many channels, as timm's `mnasnet_small` does.
    """

    def __init__(
        self,
        variant: str = "a1",
        *,
        width: float = 1.0,
        reduced: str | None = None,
        last: str | None = "unscaled",
        squeeze_divisor: int = 1,
        first_residual: bool = False,
        output_stride: int = 32,
        min_depth: int = 8,
        conventions: PaddedConventions = TF_SLIM,
    ) -> None:
        super().__init__(width=width, reduced=reduced, output_stride=output_stride)
        check_choice("variant", variant, VARIANTS)
        if squeeze_divisor < 1:
            raise ValueError(f"squeeze_divisor must be at least 1, got {squeeze_divisor}")
        stages, stem = VARIANTS[variant]
        table = stage_rows(stages, stem=stem, act="relu")
        if reduced is not None:
            table = reduce_tail(table, first_expansion=reduced == "segmentation")
        stem, rows = scale_rows(table, stem=stem, width=width, min_depth=min_depth)
        plan = strides_and_rates(table, output_stride=output_stride)

        def se(in_channels: int, row: Row) -> SqueezeExcite:
            squeeze = make_divisible(in_channels / 4, squeeze_divisor, min_depth=squeeze_divisor)
            return SqueezeExcite(row.expansion, squeeze=squeeze, gate="sigmoid")

        self.build(
            table,
            rows,
            plan,
            conventions=conventions,
            stem=stem,
            last=last_channels(last, width=width, reduced=reduced is not None, min_depth=min_depth),
            se=se,
            # The first is not residual: so in A1, and Small's is declared for 16 channels, but its stem has 8.
            residual=[first_residual, *(stride == 1 for stride, _ in plan[1:])],
        )
