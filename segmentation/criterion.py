"""Cross entropy over the pixels of full-size logits, with ignored pixels, class weights and hard-pixel mining."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..backbones.checks import check_number
from ..backbones.layers import at_least_float32
from ..words import counted
from .lovasz import lovasz_softmax
from .upsample import full_size_logits


class PixelCriterion(nn.Module):
    """Softmax cross entropy averaged over the pixels that are not `ignore_index` (logits upsampled, labels unchanged).

    - `class_weights` [K]: weighted mean as in torch, the sum of w[label] * loss over the sum of w[label].
    - `ohem_threshold` enables online hard-pixel mining (OHEM): only pixels count whose true class has at most this
      probability, but always the hardest `ohem_min_kept` per image (times the images of the batch; over the batch,
      not per image) if there are that many. 0.7 and 100,000 are common on Cityscapes crops.
    - `region_weight` adds `loss_region`, the Lovász-softmax loss of all pixels of this batch times this weight: like
      IoU it is not a mean over images, so it depends on how a step is split over processes and `accumulate`. At the
      resolution of the logits (1/8 of the sides in Lite R-ASPP) it costs almost nothing, and rare classes, which cross
      entropy learns last, count as much as common ones.
    - `recompute` processes one image at a time and repeats the upsampling in the backward pass. Full-size logits never
      exist for more than one image then: 19 x 769 x 769 x 16 would take 0.7 GB, three times over.

    Labels outside 0..K-1 other than `ignore_index` should be rejected by the data layer, which can name the file. Here
    they raise a ValueError on the CPU; elsewhere, where checking would cost a device sync, they make the loss NaN
    (instead of a device-side assertion that blames an unrelated line).
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ohem_threshold: float | None = None,
        ohem_min_kept: int = 100_000,
        align_corners: bool = True,
        recompute: bool = True,
        region_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if ohem_threshold is not None and not 0 < ohem_threshold <= 1:
            raise ValueError(
                f"ohem_threshold must be a probability in (0, 1], or null to disable mining; got {ohem_threshold}"
            )
        check_number("ohem_min_kept", ohem_min_kept, least=1, whole=True)
        check_number("label_smoothing", label_smoothing, most=1)
        check_number("region_weight", region_weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.ohem_threshold = ohem_threshold
        self.ohem_min_kept = ohem_min_kept
        self.align_corners = align_corners
        self.recompute = recompute
        self.region_weight = region_weight
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, outputs: dict[str, Any], targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """`{"loss_pixel"}`, float32 or wider; 0 with a gradient where every pixel is ignored."""
        sums, count = self.sums(outputs, targets)
        return {name: value / count.clamp(min=1) for name, value in sums.items()}

    def sums(self, outputs: dict[str, Any], targets: Sequence[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Un-normalized `{"loss_pixel"}` and its (weighted) number of pixels, scalars; no device sync.

        Each target's `mask` [H, W] uint8 or int64 has the size of the images. Mining only uses this batch.
        """
        num_classes = outputs["logits"].shape[1]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"{len(self.class_weights)} class_weights for {counted(num_classes, 'class')}: set one per class"
            )
        masks = torch.stack([target["mask"] for target in targets]).long()
        ignored = masks == self.ignore_index
        invalid = ~ignored & ((masks < 0) | (masks >= num_classes))
        if masks.device.type == "cpu":
            self._refuse(masks, invalid, num_classes)
        kept = ~(ignored | invalid)
        masks = masks.masked_fill(invalid, self.ignore_index)
        losses, difficulty = self._per_pixel(outputs, masks)
        if self.ohem_threshold is not None:
            kept = kept & self._hard(difficulty.masked_fill(~kept, -1.0))

        if self.class_weights is None:
            count = kept.sum().to(losses.dtype)
        else:
            count = (self.class_weights.to(losses)[masks.masked_fill(~kept, 0)] * kept).sum()
        total = losses.masked_fill(~kept, 0.0).sum()
        sums = {"loss_pixel": total * torch.where(invalid.any(), math.nan, 1.0)}
        if self.region_weight:
            sums["loss_region"] = self.region_weight * self._region_loss(outputs, masks) * count
        return sums, count

    def _region_loss(self, outputs: dict[str, Any], masks: Tensor) -> Tensor:
        """Lovász-softmax at the logits' own resolution, where it costs almost nothing."""
        logits = outputs["logits"]
        labels = self.labels_at(masks, logits.shape[-2:], outputs["logits_size"])
        valid = labels != self.ignore_index
        probabilities = at_least_float32(logits).softmax(dim=1).movedim(1, -1)
        return lovasz_softmax(probabilities.flatten(0, 2), labels.masked_fill(~valid, 0).flatten(), valid.flatten())

    def labels_at(self, masks: Tensor, size: Sequence[int], covered: Sequence[int]) -> Tensor:
        """The label [B, h, w] at the center of each logit; `covered` (h, w) is the logits' extent, with padding."""
        for axis, cells, length in ((1, size[0], covered[0]), (2, size[1], covered[1])):
            cell = torch.arange(cells, device=masks.device, dtype=torch.float64)
            if self.align_corners:
                place = cell * ((length - 1) / max(cells - 1, 1))
            else:
                place = (cell + 0.5) * (length / cells) - 0.5
            place = place.round().long()
            outside = place >= masks.shape[axis]
            masks = masks.index_select(axis, place.clamp(max=masks.shape[axis] - 1))
            shape = [1, -1, 1] if axis == 1 else [1, 1, -1]
            masks = masks.masked_fill(outside.reshape(shape), self.ignore_index)
        return masks

    def _refuse(self, masks: Tensor, invalid: Tensor, num_classes: int) -> None:
        """Raise a ValueError that names the labels at `invalid`, if there are any. It syncs: only for the CPU."""
        labels = masks[invalid]
        if len(labels):
            raise ValueError(
                f"mask labels {labels.unique().tolist()} are neither among the {num_classes} classes "
                f"nor the ignored {self.ignore_index}: check the class list of the data"
            )

    def _per_pixel(self, outputs: dict[str, Any], masks: Tensor) -> tuple[Tensor, Tensor]:
        """Loss [B, H, W] with weights and smoothing, and -log(probability of the true class), for mining."""
        logits, logits_size = outputs["logits"], outputs["logits_size"]
        if not self.recompute:
            return self._up_and_compare(logits, logits_size, masks)
        images = [
            checkpoint(self._up_and_compare, one, logits_size, mask, use_reentrant=False, preserve_rng_state=False)
            for one, mask in zip(logits.split(1), masks.split(1), strict=True)
        ]
        losses, difficulty = zip(*images, strict=True)
        return torch.cat(losses), torch.cat(difficulty)

    def _up_and_compare(self, logits: Tensor, logits_size: tuple[int, int], masks: Tensor) -> tuple[Tensor, Tensor]:
        size = (masks.shape[-2], masks.shape[-1])
        full = full_size_logits({"logits": logits, "logits_size": logits_size}, size, align_corners=self.align_corners)
        weight = None if self.class_weights is None else self.class_weights.to(full)
        options = {"ignore_index": self.ignore_index, "reduction": "none"}
        losses = F.cross_entropy(full, masks, weight=weight, label_smoothing=self.label_smoothing, **options)
        if self.ohem_threshold is None or (weight is None and self.label_smoothing == 0):
            return losses, losses.detach()
        return losses, F.cross_entropy(full.detach(), masks, **options)

    def _hard(self, difficulty: Tensor) -> Tensor:
        """Pixels [B, H, W] that mining keeps; `difficulty` is -1 at ignored pixels."""
        assert self.ohem_threshold is not None
        num_kept = min(self.ohem_min_kept * len(difficulty), difficulty.numel())
        hardest = difficulty.flatten().topk(num_kept, sorted=False).values
        return difficulty >= hardest.amin().clamp(max=-math.log(self.ohem_threshold))
