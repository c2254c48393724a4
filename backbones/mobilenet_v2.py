"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381), as its TF-slim reference computes it."""

from .blocks import BlockTrunk, last_channels, reduce_tail, scale_rows, stage_rows, strides_and_rates
from .conventions import TF_SLIM, PaddedConventions, flat_keywords

STEM_CHANNELS = 32
# Table 2: expansion factor, channels out, repetitions, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),  # C2
    (6, 32, 3, 2),  # C3
    (6, 64, 4, 2),
    (6, 96, 3, 1),  # C4
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@flat_keywords
class MobileNetV2(BlockTrunk):
    """The trunk: `stem`, `blocks` and, unless `last` is None, a convolution to 1280 channels before pooling.

    `width` multiplies all channels. Those of the last convolution stay 1280 below width 1 if `last` is "unscaled"
    (ImageNet); "scaled" multiplies them too (the reference's detector); the segmentation networks have no such layer,
    and `c5` is the last block. `reduced`, by either name, halves all channels after the first expansion at stride 32.
    The MobileNetV3 paper does not define this ("RF2" in its Table 7) for V2, and released no code: this comes
    closest to its counts. Channels are multiples of `divisor`; DeepLab's networks of widths other than 1 have
    `divisor=1, min_depth=1`. `output_stride` 16 or 8 keeps the map's size with atrous convolution.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        reduced: str | None = None,
        last: str | None = "unscaled",
        output_stride: int = 32,
        min_depth: int = 8,
        divisor: int = 8,
        conventions: PaddedConventions = TF_SLIM,
    ) -> None:
        super().__init__(width=width, reduced=reduced, output_stride=output_stride)
        if divisor < 1:
            raise ValueError(f"divisor must be at least 1, got {divisor}")
        stages = [(3, factor, out, False, repetitions, stride) for factor, out, repetitions, stride in STAGES]
        table = stage_rows(stages, stem=STEM_CHANNELS, act="relu6")
        if reduced is not None:
            table = reduce_tail(table, first_expansion=False)
        stem, rows = scale_rows(table, stem=STEM_CHANNELS, width=width, min_depth=min_depth, divisor=divisor)
        out = last_channels(last, width=width, reduced=reduced is not None, min_depth=min_depth)
        plan = strides_and_rates(table, output_stride=output_stride)
        self.build(table, rows, plan, conventions=conventions, stem=stem, last=out)
