"""Optimizes a network for inference: folded batch norms, half precision, compilation."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import Normalize


def optimize(model: nn.Module, *, dtype: torch.dtype = torch.float32, compile: bool = False) -> nn.Module:
    """A copy of `model` for inference that computes the same; `model` is unchanged.

    Batch norms are folded into the convolutions before them and filters laid out as channels_last: the same outputs up
    to rounding. With bfloat16 as `dtype` everything but the normalization of the images is computed in that. `compile`
    adds torch.compile with constant weights: the first call at a new input size takes seconds, and it needs a C++
    compiler.

    Raises:
        ValueError: convolutions do not support `dtype` everywhere.
    """
    if dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise ValueError(f"dtype must be float32, bfloat16 or float64, got {dtype}")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norms(model)
    for module in model.modules():
        if isinstance(module, nn.Hardswish):
            module.inplace = True  # without autograd its input is no longer needed
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    normalizers = [module for module in model.modules() if isinstance(module, Normalize)]
    before = [module.scale.dtype for module in normalizers]
    model.to(dtype)
    for module, own in zip(normalizers, before, strict=True):
        module.to(torch.promote_types(own, torch.float32))
        module.out_dtype = dtype
    if compile:
        return torch.compile(model, options={"freezing": True})  # pyright: ignore[reportReturnType]
    return model


def fold_batch_norms(model: nn.Module) -> int:
    """Fold every `norm` into the `conv` of the same module, and `X_norm` into `X`, in place; returns how many.

    Raises:
        ValueError: the model is training.
    """
    if model.training:
        raise ValueError("batch norms are folded for inference only: call model.eval() first")
    folded = 0
    for module in model.modules():
        for name, conv in list(module.named_children()):
            behind = "norm" if name == "conv" else f"{name}_norm"
            norm = getattr(module, behind, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, behind, nn.Identity())
                folded += 1
    return folded
