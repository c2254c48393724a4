"""Random weights that produce a realistic load: activations neither vanish nor explode."""

import torch
from torch import Tensor, nn

_CONVS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@torch.no_grad()
def enliven(model: nn.Module, images: Tensor, *, seed: int = 0) -> None:
    """Draw random weights, and take the batch statistics of `images` [B, 3, H, W], B at least 2, in 0..255.

    Initial weights are not a realistic workload: torchvision's SSDLite outputs logits of 1e-14, so there are no
    candidates and no detections.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, _CONVS):
            weight = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(weight * (2 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
    for norm in norms:
        norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator) * 0.1)
    before, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch alone
    model.train()(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    model.train(training)
