"""MobileNetV1 (Howard et al., 2017, arXiv 1704.04861), as its TF-slim reference computes it."""

from .blocks import BlockTrunk, Row, reduce_tail, strides_and_rates
from .conventions import TF_SLIM, PaddedConventions, flat_keywords

STEM_CHANNELS = 32
# Table 1: channels out and stride of the depthwise separable convolutions (TF-slim's Conv2d_1 to Conv2d_13)
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),  # C2
    (256, 2),
    (256, 1),  # C3
    (512, 2),
    *(((512, 1),) * 5),  # C4
    (1024, 2),
    (1024, 1),  # C5
)


def block_rows() -> tuple[Row, ...]:
    """One row per block; "expansion" is the number of input channels."""
    channels = (STEM_CHANNELS, *(out for out, _ in BLOCKS))
    return tuple(
        Row(3, inputs, out, se=False, act="relu6", stride=stride)
        for inputs, (out, stride) in zip(channels, BLOCKS, strict=False)
    )


@flat_keywords
class MobileNetV1(BlockTrunk):
    """The trunk; it has no expansions, so the tap `c4_expansion` is `c4`, and `c5` is the last block.

    `width` multiplies all channels. `reduced`, by either name, halves those of the last two blocks. `output_stride` 16
    or 8 keeps the map's size with atrous convolution.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        reduced: str | None = None,
        output_stride: int = 32,
        min_depth: int = 8,
        conventions: PaddedConventions = TF_SLIM,
    ) -> None:
        super().__init__(width=width, reduced=reduced, output_stride=output_stride)
        table = block_rows()
        if reduced is not None:
            table = reduce_tail(table, first_expansion=False)

        def scale(channels: int) -> int:
            """Unlike the later networks: rounded down, and not to a multiple of 8."""
            return max(int(channels * width), min_depth)

        self.build(
            table,
            [row._replace(expansion=scale(row.expansion), out=scale(row.out)) for row in table],
            strides_and_rates(table, output_stride=output_stride),
            conventions=conventions,
            stem=scale(STEM_CHANNELS),
            last=0,
            project_act="relu6",
            residual=[False] * len(table),
        )
