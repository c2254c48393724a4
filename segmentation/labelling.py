"""Best class of every pixel directly from low-resolution logits, without full-size logits."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Class scores processed at a time: they fit a core's cache, or are enough to keep an accelerator busy.
_CPU_SCORES, _DEVICE_SCORES = 500_000, 50_000_000


@dataclass(frozen=True)
class Cells:
    """One axis of a resize: output lines in runs that read the same few input lines, `T` runs of up to `t` lines.

    `first` [T] is a run's first input line, `kind` [T] which of the `weights` [U, t, p] its lines use for the
    `p` lines from there (for integer factors almost all are of one kind), `lines` [N] the position of output line n
    among the T * t.
    """

    first: Tensor
    kind: Tensor
    weights: Tensor
    lines: Tensor


@lru_cache(maxsize=64)
def axis_cells(
    logits: int,
    padded: int,
    size: int,
    before: int,
    after: int,
    original: int,
    align_corners: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Cells:
    """One axis from `logits` lines to `original` lines, both resizes and both crops in one.

    Up to `padded` (the network's input), cropped to `size` (the data layer's), its padding `before` and `after`
    removed, then to the image's own `original` lines, half-pixel.
    """
    matrix = resize_matrix(logits, padded, align_corners=align_corners)[before : size - after]
    matrix = resize_matrix(len(matrix), original, align_corners=False) @ matrix
    used = matrix != 0
    first = used.int().argmax(dim=1)
    last = logits - 1 - used.flip(1).int().argmax(dim=1)
    span = int((last - first).max()) + 1
    first = first.clamp(max=logits - span)
    _, run, counts = first.unique_consecutive(return_inverse=True, return_counts=True)
    longest = int(counts[1:-1].max()) if len(counts) > 2 else int(counts.max())
    # The border's runs are longer by half a cell: they are split, so that not all cells have to be as long.
    place = torch.arange(original) - (counts.cumsum(0) - counts)[run]
    _, run = torch.stack((first, place // longest)).unique_consecutive(return_inverse=True, dim=1)
    place %= longest
    weights = torch.zeros(int(run[-1]) + 1, longest, span, dtype=torch.float64)
    weights[run, place] = matrix.gather(1, first[:, None] + torch.arange(span))
    first = torch.zeros(len(weights), dtype=first.dtype).scatter_(0, run, first)
    weights, kind = weights.to(dtype).unique(dim=0, return_inverse=True)
    return Cells(*(part.to(device) for part in (first, kind, weights, run * longest + place)))


def resize_matrix(inputs: int, outputs: int, *, align_corners: bool) -> Tensor:
    """[outputs, inputs] float64: a bilinear resize along one axis; rows are not negative and sum to 1."""
    unit = torch.eye(inputs, dtype=torch.float64)[None]
    if inputs == outputs:
        return unit[0]
    return F.interpolate(unit, size=outputs, mode="linear", align_corners=align_corners)[0].T


def label_map(logits: Tensor, rows: Cells, columns: Cells) -> Tensor:
    """Arg max over K of `logits` [K, h, w], resized: uint8 [H, W].

    A bilinear score lies between those of the corners. If all corners of a cell have the same best class, so do all
    pixels in it, and nothing is computed; the other cells are resized in chunks.
    """
    num_classes, height, width = logits.shape
    span_y, span_x = rows.weights.shape[2], columns.weights.shape[2]
    tall, wide = rows.weights.shape[1], columns.weights.shape[1]
    y = rows.first[:, None] + torch.arange(span_y, device=logits.device)
    x = columns.first[:, None] + torch.arange(span_x, device=logits.device)
    corners = (y[:, None, :, None] * width + x[None, :, None, :]).flatten(2)  # [Ty, Tx, p * q]
    best = logits.max(dim=0).indices.flatten().to(torch.uint8)[corners]
    lowest = best.amin(dim=2)
    labels = lowest[:, :, None, None].repeat(1, 1, tall, wide)
    cell_y, cell_x = (lowest != best.amax(dim=2)).nonzero(as_tuple=True)
    if len(cell_y):
        weights, kind = _cell_weights(rows, columns, cell_y, cell_x)
        corners, scores = corners[cell_y, cell_x], logits.permute(1, 2, 0).reshape(height * width, num_classes)
        room = _CPU_SCORES if logits.device.type == "cpu" else _DEVICE_SCORES
        step = max(1, room // (tall * wide * num_classes))
        pieces = [  # [M, t * s, K] -> [M, t * s]
            (weights[kinds] @ scores[which]).max(dim=2).indices.to(torch.uint8)
            for kinds, which in zip(kind.split(step), corners.split(step), strict=True)
        ]
        labels[cell_y, cell_x] = torch.cat(pieces).view(-1, tall, wide)
    labels = labels.transpose(1, 2).reshape(len(rows.first) * tall, len(columns.first) * wide)
    return labels[rows.lines][:, columns.lines]


def _cell_weights(rows: Cells, columns: Cells, cell_y: Tensor, cell_x: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct weights [U, t * s, p * q] of the cells [M], and each cell's index into them, [M]."""
    many = len(columns.weights)
    pairs, kind = (rows.kind[cell_y] * many + columns.kind[cell_x]).unique(return_inverse=True)
    weights_y, weights_x = rows.weights[torch.div(pairs, many, rounding_mode="floor")], columns.weights[pairs % many]
    weights = weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]  # [U, t, s, p, q]
    return weights.flatten(3).flatten(1, 2), kind
