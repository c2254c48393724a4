"""Reduces a trunk's weights to a narrower trunk of the same kind, keeping each layer's most important channels.

A channel is selected once for all its occurrences: the layers that write it (all of them, along a residual stream), the
depthwise filters, gates and norms on its way, and the layers that read it. The selection is recorded for every point of
`Backbone.walk`, so that heads follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..words import counted
from .blocks import BlockTrunk, InvertedResidual
from .checks import check_choice
from .classifier import Classifier

RULES = ("importance", "first")


@dataclass
class Reduction:
    """A state dict being reduced to fewer channels.

    Args:
        state: of the larger network, under our names.
        rule: `importance` keeps the channels with the largest |scale| of batch norm, summed over the layers that write
            them; `first` keeps the first ones.

    Attributes:
        kept: point of `Backbone.walk` -> the channels that were kept, ascending.
        notes: what was reduced, for the report.
    """

    state: dict[str, Tensor]
    rule: str
    kept: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_choice("weights_reduce", self.rule, RULES)
        self.state = dict(self.state)

    def choose(self, scores: Tensor, count: int, *, name: str) -> Tensor:
        """Select `count` channels by their `scores` [C]; all if there are exactly that many.

        Raises:
            ValueError: there are too few.
        """
        if count > len(scores):
            raise ValueError(f"{name}: the network has {counted(count, 'channel')}, but the weights only {len(scores)}")
        if count < len(scores):
            self.notes.append(f"{name} {len(scores)} -> {count}")
        if self.rule == "first" or count == len(scores):
            return torch.arange(count)
        return scores.argsort(descending=True, stable=True)[:count].sort().values

    def scale(self, layer: str) -> Tensor:
        """|scale| of the norm of a `ConvNormAct`, [C]."""
        scale = self.tensor(f"{layer}.norm.weight")
        if scale.dim() != 1:
            raise ValueError(f"{layer}.norm.weight has the shape {list(scale.shape)}: expected one number per channel")
        return scale.double().abs()

    def tensor(self, name: str) -> Tensor:
        """Raises ValueError if there is no tensor of this name."""
        if name not in self.state:
            raise ValueError(
                f"missing in the weights: {name}; only a wider network of the same kind can be reduced to this one"
            )
        return self.state[name]

    def cut(self, layer: str, *, out: Tensor | None = None, inputs: Tensor | None = None) -> None:
        """Keep these channels of a convolution or linear layer; only `out` of a depthwise one."""
        if out is not None:
            self._take(f"{layer}.weight", out)
            if f"{layer}.bias" in self.state:
                self._take(f"{layer}.bias", out)
        if inputs is not None:
            self._take(f"{layer}.weight", inputs, axis=1)

    def cut_norm(self, layer: str, *, out: Tensor, inputs: Tensor | None = None) -> None:
        """The same for a `ConvNormAct`."""
        self.cut(f"{layer}.conv", out=out, inputs=inputs)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            self._take(f"{layer}.norm.{leaf}", out)

    def narrow(self, layer: str, channels: int, *, inputs: Tensor) -> Tensor:
        """Keep this many channels of a `ConvNormAct`, chosen by the scale of its norm, and return them."""
        out = self.choose(self.scale(layer), channels, name=layer)
        self.cut_norm(layer, out=out, inputs=inputs)
        return out

    def _take(self, name: str, channels: Tensor, *, axis: int = 0) -> None:
        """Keep these channels, ascending, of a tensor along an axis."""
        tensor = self.tensor(name)
        if tensor.dim() <= axis or tensor.shape[axis] <= int(channels[-1]):
            raise ValueError(f"{name} has the shape {list(tensor.shape)}, which does not fit the layers around it")
        self.state[name] = tensor.index_select(axis, channels)


def reduce_trunk(reduction: Reduction, trunk: BlockTrunk, *, prefix: str = "") -> None:
    """Reduce the tensors under `prefix` to the channels of `trunk`; fills `reduction.kept`.

    Raises:
        ValueError: the weights are narrower somewhere, or of another kind of trunk.
    """
    blocks = [block for block in trunk.blocks if isinstance(block, InvertedResidual)]
    streams = _choose_streams(reduction, trunk, blocks, prefix)
    reduction.cut_norm(f"{prefix}stem", out=streams[0])
    reduction.kept["stem"] = streams[0]
    for number, block in enumerate(blocks, start=1):
        _reduce_block(reduction, block, number, inputs=streams[number - 1], out=streams[number], prefix=prefix)
    if trunk.last is not None:
        reduction.kept["last"] = reduction.narrow(f"{prefix}last", trunk.last.conv.out_channels, inputs=streams[-1])


def _choose_streams(
    reduction: Reduction, trunk: BlockTrunk, blocks: Sequence[InvertedResidual], prefix: str
) -> list[Tensor]:
    """The channels kept after the stem and every block; along residual connections they are the same."""
    writers = [f"{prefix}stem", *(f"{prefix}blocks.{i}.project" for i in range(len(blocks)))]
    counts = [trunk.stem.conv.out_channels, *(block.project.conv.out_channels for block in blocks)]
    scores = [reduction.scale(writer) for writer in writers]
    streams: list[list[int]] = [[0]]
    for number, block in enumerate(blocks, start=1):
        # Halved channels can make a block residual that is not residual in the larger network: two streams meet there.
        if block.residual and len(scores[number]) == len(scores[number - 1]):
            streams[-1].append(number)
        else:
            streams.append([number])
        if block.residual and len(streams[-1]) == 1:
            reduction.notes.append(
                f"{prefix}blocks.{number - 1} has a residual connection here, but not in the weights"
            )
    chosen = []
    for stream in streams:
        total = torch.stack([scores[writer] for writer in stream]).sum(0)
        name = writers[stream[0]] + (f" and {len(stream) - 1} more" if len(stream) > 1 else "")
        chosen += [reduction.choose(total, counts[stream[0]], name=name)] * len(stream)
    return chosen


def _reduce_block(
    reduction: Reduction, block: InvertedResidual, number: int, *, inputs: Tensor, out: Tensor, prefix: str
) -> None:
    layer = f"{prefix}blocks.{number - 1}"
    inner = inputs
    if block.expand is not None:
        # Not the scale of the expansion: the depthwise layer's norm cancels it.
        scores = reduction.scale(f"{layer}.depthwise")
        inner = reduction.choose(scores, block.expand.conv.out_channels, name=f"{layer}.expand")
        reduction.cut_norm(f"{layer}.expand", out=inner, inputs=inputs)
    reduction.cut_norm(f"{layer}.depthwise", out=inner)
    if block.se is not None:
        _reduce_gate(reduction, f"{layer}.se", channels=inner, squeezed=block.se.squeeze.out_channels)
    reduction.cut_norm(f"{layer}.project", out=out, inputs=inner)
    points = {"expansion": inner, "depthwise": inner, "output": out}
    reduction.kept |= {f"block{number}.{step}": channels for step, channels in points.items()}


def _reduce_gate(reduction: Reduction, layer: str, *, channels: Tensor, squeezed: int) -> None:
    """Squeeze-and-excite has no norm: its inner channels are ranked by their weights to the kept channels."""
    reduction.cut(f"{layer}.squeeze", inputs=channels)
    reduction.cut(f"{layer}.excite", out=channels)
    into, from_ = reduction.tensor(f"{layer}.squeeze.weight"), reduction.tensor(f"{layer}.excite.weight")
    if from_.dim() < 2 or from_.shape[1] != len(into):
        raise ValueError(f"{layer}.excite.weight has the shape {list(from_.shape)} for {len(into)} squeezed channels")
    scores = into.double().flatten(1).norm(dim=1) * from_.double().transpose(0, 1).flatten(1).norm(dim=1)
    inner = reduction.choose(scores, squeezed, name=f"{layer}.squeeze")
    reduction.cut(f"{layer}.squeeze", out=inner)
    reduction.cut(f"{layer}.excite", inputs=inner)


def kept_of_tap(reduction: Reduction, trunk: BlockTrunk, tap: str) -> Tensor:
    """The kept channels of a tap, for the head layers that read it."""
    return reduction.kept[trunk.tap_points[tap]]


def reduce_classifier(reduction: Reduction, model: Classifier) -> None:
    """Reduce the weights of a whole classifier to the channels of `model`, whose trunk has blocks."""
    assert isinstance(model.backbone, BlockTrunk)
    reduce_trunk(reduction, model.backbone, prefix="backbone.")
    first = "logits" if model.hidden is None else "hidden"
    reduction.cut(first, inputs=kept_of_tap(reduction, model.backbone, "c5"))
