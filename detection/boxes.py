"""Boxes `[..., 4]` as (x1, y1, x2, y2) pixels: conversions, overlaps and SSD's box coding."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# The "variances" of SSD, as in both references: centers times 10, logarithmic sizes times 5.
CENTER_SCALE = 10.0
SIZE_SCALE = 5.0
# torchvision's bound on dw and dh (divided by SIZE_SCALE): a box has at most 62.5 times the side of its anchor.
GROWTH_LIMIT = math.log(1000 / 16)


def xyxy_to_cxcywh(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and sizes, each `[..., 2]` (x before y)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def cxcywh_to_xyxy(centers: Tensor, sizes: Tensor) -> Tensor:
    """The boxes with these centers and sizes, each `[..., 2]`."""
    return torch.cat((centers - sizes / 2, centers + sizes / 2), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Corners to COCO's (x, y, width, height)."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """Areas `[...]`."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas `[..., N, M]` shared by each of `boxes [..., N, 4]` and each of `others [..., M, 4]`."""
    a, b = boxes[..., :, None, :], others[..., None, :, :]
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    return width.clamp_(min=0).mul_(height.clamp_(min=0))


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union `[..., N, M]`; 0 (not NaN) between two boxes without area."""
    shared = intersection(boxes, others)
    union = area(boxes)[..., :, None] + area(others)[..., None, :] - shared
    return torch.where(shared > 0, shared / union, 0)


def ioa(boxes: Tensor, others: Tensor) -> Tensor:
    """The fraction `[..., N, M]` of each of `boxes` inside each of `others`; 0 for a box without area."""
    shared = intersection(boxes, others)
    return torch.where(shared > 0, shared / area(boxes)[..., :, None], 0)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalized IoU `[...]`, -1 to 1, of each of `boxes [..., 4]` and its counterpart in `others [..., 4]`.

    What torchvision's `generalized_box_iou_loss` subtracts from 1, bit for bit, but without its boolean indexing, which
    is a device sync.
    """
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    width, height = (high - low).relu().unbind(dim=-1)  # not `.prod(dim=-1)`: its backward pass checks for zeros
    shared = width * height
    union = area(boxes) + area(others) - shared
    low, high = torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])
    around = area(torch.cat((low, high), dim=-1))
    tiny = 1e-7  # two boxes without area at the same place: 0, not NaN
    return shared / (union + tiny) - (around - union) / (around + tiny)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Deltas `[..., 4]` (dx, dy, dw, dh) from `anchors` to `boxes`; finite for boxes without area, too."""
    centers, sizes = xyxy_to_cxcywh(boxes)
    anchor_centers, anchor_sizes = xyxy_to_cxcywh(anchors)
    sizes = sizes.clamp(min=1e-6)
    shifts = (centers - anchor_centers) / anchor_sizes
    return torch.cat((CENTER_SCALE * shifts, SIZE_SCALE * torch.log(sizes / anchor_sizes)), dim=-1)


def decode(deltas: Tensor, anchors: Tensor, *, max_log_size: float | None = None) -> Tensor:
    """Boxes `[..., 4]` from `anchors` and `deltas`; `max_log_size` bounds dw, dh (torchvision: GROWTH_LIMIT)."""
    anchor_centers, anchor_sizes = xyxy_to_cxcywh(anchors)
    centers = deltas[..., :2] / CENTER_SCALE * anchor_sizes + anchor_centers
    log_sizes = deltas[..., 2:] / SIZE_SCALE
    if max_log_size is not None:
        log_sizes = log_sizes.clamp(max=max_log_size)
    return cxcywh_to_xyxy(centers, log_sizes.exp() * anchor_sizes)


def clip_to_images(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes clipped to the image; `limits` is its (w, h, w, h), broadcast against `boxes [..., 4]`."""
    return torch.minimum(boxes.clamp(min=0), limits)


def original_limits(metas: Sequence[Mapping[str, Any]], *, like: Tensor) -> Tensor:
    """Each image's original (w, h, w, h), `[B, 4]`, with the type and device of `like`."""
    limits = [[meta["original_size"][1], meta["original_size"][0]] * 2 for meta in metas]
    return torch.tensor(limits, dtype=torch.float64).reshape(-1, 4).to(like)


def to_original(boxes: Tensor, metas: Sequence[Mapping[str, Any]]) -> Tensor:
    """Boxes `[B, ..., 4]` from pixels of the network's input to pixels of the original images, without clipping."""
    offsets, scales = [], []
    for meta in metas:
        (height, width), (original_height, original_width) = meta["input_size"], meta["original_size"]
        left, top, right, bottom = meta.get("pad", (0, 0, 0, 0))
        offsets.append([left, top] * 2)
        scales.append([original_width / (width - left - right), original_height / (height - top - bottom)] * 2)
    shape = (len(metas), *(1,) * (boxes.ndim - 2), 4)
    offset = torch.tensor(offsets, dtype=torch.float64).reshape(shape).to(boxes)
    scale = torch.tensor(scales, dtype=torch.float64).reshape(shape).to(boxes)
    return (boxes - offset) * scale
