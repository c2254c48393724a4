"""What training in eight bits regains of what quantization loses.

    python tests/benchmarks/quantize_aware.py RUN OUTPUT [FACTOR]

The channels of the run's residual streams are rescaled by random powers, up to FACTOR (8) and down to its inverse. The
network computes the same as before in floating point, but eight bits with one range per tensor are too few for all of
its channels. Writes that network as the run OUTPUT/wide; train it with
`pocketvision train ... quantize=openvino weights=OUTPUT/wide`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pocketvision.backbones.blocks import BlockTrunk, InvertedResidual
from pocketvision.backbones.layers import ConvNormAct
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.runs.loaded import load_run
from torch import Tensor, nn


def streams(trunk: BlockTrunk) -> Iterator[tuple[list[ConvNormAct], list[ConvNormAct]]]:
    """Writers and readers of every residual stream between blocks that expand it."""
    blocks: list[InvertedResidual] = [block for block in trunk.blocks if isinstance(block, InvertedResidual)]
    writers: list[ConvNormAct] = []
    readers: list[ConvNormAct] = []
    for block in blocks:
        if not block.residual:
            if block.expand is not None and writers:
                yield writers, [*readers, block.expand]
            writers, readers = [], []
        if block.residual and block.expand is not None:
            readers.append(block.expand)
        writers.append(block.project)


@torch.no_grad()
def rescale(writers: list[ConvNormAct], readers: list[ConvNormAct], factors: Tensor) -> None:
    """Multiply a stream's channels, and divide the filters that read them."""
    for writer in writers:
        writer.norm.weight.mul_(factors)
        writer.norm.bias.mul_(factors)
    for reader in readers:
        reader.conv.weight.div_(factors.view(1, -1, 1, 1))


@torch.no_grad()
def widen(model: Any, factor: float) -> int:
    """Rescale the streams that nothing else reads; returns how many."""
    model.eval()
    image = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0)) * 255
    generator, number = torch.Generator().manual_seed(0), 0
    before = outputs(model, image)
    for writers, readers in streams(model.backbone):
        power = 2 * torch.rand(len(writers[0].norm.weight), generator=generator) - 1
        rescale(writers, readers, factor**power)
        if all(torch.allclose(a, b, atol=1e-3, rtol=1e-3) for a, b in zip(before, outputs(model, image), strict=True)):
            number += 1
        else:  # a head reads it, too
            rescale(writers, readers, factor**-power)
    return number


def outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    return [value for value in model(image).values() if isinstance(value, Tensor)]


if __name__ == "__main__":
    run, output = load_run(sys.argv[1]), Path(sys.argv[2], "wide")
    number = widen(run.task.model, float(sys.argv[3]) if len(sys.argv) > 3 else 8.0)
    content = load_checkpoint(run.path) | {"model": run.task.model.state_dict(), "ema": None}
    content.pop("format")
    save_checkpoint(output / "checkpoints" / "best.pt", content)
    print(f"{output}: {number} streams rescaled")
