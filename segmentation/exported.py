"""A segmenter with its upsampling as one module of tensors, for torch.export."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .postprocess import LabelMaps, void_ignored


class ExportedSegmenter(nn.Module):
    """Images to label maps in one graph, as `LabelMaps` makes them."""

    def __init__(self, network: nn.Module, post: LabelMaps) -> None:
        super().__init__()
        self.network = network
        self.post = post

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Slots uint8 [B, H, W] of `images` [B, 3, h, w]; `size` (H, W) is the photograph's if it was resized."""
        outputs = self.network(images)
        height, width = images.shape[-2:]
        logits, padded = outputs["logits"].float(), outputs["logits_size"]
        # Sizes may be symbolic: any comparison would become a condition on the photograph, so there is none.
        logits = F.interpolate(logits, padded, mode="bilinear", align_corners=self.post.align_corners)
        logits = logits[..., :height, :width]
        if size is not None:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        labels = logits.max(1).indices.to(torch.uint8)
        return void_ignored(labels, logits.shape[1]) if self.post.void else labels
