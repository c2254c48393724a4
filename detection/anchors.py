"""Anchors of SSD: boxes of fixed shapes around every cell of every feature map, a pure function of sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .boxes import cxcywh_to_xyxy


@dataclass(frozen=True, kw_only=True)
class AnchorLayout:
    """The anchors of each of `num_maps` maps: one scale each, evenly from `min_scale` to `max_scale` of the input.

    Every map has one anchor per aspect ratio (width / height) at its scale and a square `extra` one between its scale
    and the next map's (SSD paper, section 2.2). The defaults are the reference's (TF Object Detection API,
    `create_ssd_anchors`).
    """

    num_maps: int = 6
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 0.3333)
    extra_position: int = 5  # of the extra anchor within a cell: only matters for imported weights
    reduce_first: bool = True  # the first map has three anchors only: a square of scale 0.1, ratios 2 and 1/2
    clamp: bool = False  # widths and heights to at most the input's
    follow_sides: bool = False  # widths relative to the input's width; otherwise everything to its shorter side

    def __post_init__(self) -> None:
        # A list, as YAML loads it, would make the layout unhashable.
        object.__setattr__(self, "aspect_ratios", tuple(self.aspect_ratios))
        if self.num_maps < 1 or not self.aspect_ratios:
            raise ValueError(f"an anchor layout needs at least one map and one aspect ratio, got {self}")
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(f"expected 0 < min_scale <= max_scale, got {self.min_scale} and {self.max_scale}")

    @classmethod
    def reference(cls, *, num_maps: int = 6) -> "AnchorLayout":
        """The paper's: 2034 anchors at 320."""
        return cls(num_maps=num_maps)

    @classmethod
    def torchvision(cls, *, num_maps: int = 6) -> "AnchorLayout":
        """torchvision's: six on every map, 3234 at 320."""
        return cls(
            num_maps=num_maps,
            aspect_ratios=(1.0, 2.0, 1 / 2, 3.0, 1 / 3),
            extra_position=1,
            reduce_first=False,
            clamp=True,
            follow_sides=True,
        )

    @property
    def num_anchors(self) -> tuple[int, ...]:
        """Anchors per cell, for each map."""
        return tuple(len(shapes) for shapes in self.shapes())

    def shapes(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """(width, height) of a cell's anchors for each map, relative to the input."""
        steps = max(self.num_maps - 1, 1)
        scales = [self.min_scale + (self.max_scale - self.min_scale) * k / steps for k in range(self.num_maps)]
        maps = [self._cell(scale, following) for scale, following in pairwise([*scales, 1.0])]
        if self.reduce_first:
            maps[0] = [(0.1, 0.1), _shape(self.min_scale, 2.0), _shape(self.min_scale, 0.5)]
        largest = 1.0 if self.clamp else math.inf
        return tuple(tuple((min(w, largest), min(h, largest)) for w, h in cell) for cell in maps)

    def _cell(self, scale: float, following: float) -> list[tuple[float, float]]:
        cell = [_shape(scale, ratio) for ratio in self.aspect_ratios]
        cell.insert(self.extra_position, _shape(math.sqrt(scale * following), 1.0))
        return cell


def _shape(scale: float, ratio: float) -> tuple[float, float]:
    return scale * math.sqrt(ratio), scale / math.sqrt(ratio)


def make_anchors(
    layout: AnchorLayout,
    feature_sizes: Sequence[tuple[int, int]],
    input_size: tuple[int, int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Anchors `[A, 4]` xyxy in pixels of the input, ordered by map, row, column, shape; they may extend outside.

    Computed in float64 and rounded once.
    """
    if len(feature_sizes) != layout.num_maps:
        raise ValueError(f"the anchor layout is made for {layout.num_maps} feature maps, got {len(feature_sizes)}")
    height, width = input_size
    unit = (width, height) if layout.follow_sides else (min(input_size),) * 2
    anchors = []
    for (rows, columns), cell in zip(feature_sizes, layout.shapes(), strict=True):
        y = (torch.arange(rows, dtype=torch.float64) + 0.5) * (height / rows)
        x = (torch.arange(columns, dtype=torch.float64) + 0.5) * (width / columns)
        centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # [rows, columns, 2]
        sizes = torch.tensor(cell, dtype=torch.float64) * torch.tensor(unit, dtype=torch.float64)
        shape = (rows, columns, len(cell), 2)
        anchors.append(cxcywh_to_xyxy(centers[:, :, None].expand(shape), sizes.expand(shape)).reshape(-1, 4))
    return torch.cat(anchors).to(dtype=dtype, device=device)
