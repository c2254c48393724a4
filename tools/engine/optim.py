"""Parameter groups, learning rate schedules, the moving average of weights, and early stopping."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...conf.schema import DecayRule, ScheduleConfig, ScheduleName
from .groups import rate_factors


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    rule: DecayRule,
    *,
    lr: float,
    factors: Mapping[str, float] = {},
) -> list[dict[str, Any]]:
    """Groups with and without weight decay for each learning rate factor; disjoint, covering all trainable parameters.

    The order depends only on the factors' values: 1 first (the reported learning rate is that of the first group), then
    from high to low; with decay before without.

    Args:
        lr: the base learning rate; each group gets `lr` times its factor.
        factors: prefix of parameter names (see `groups.part`) -> factor, 1 by default; the longest prefix wins.

    Raises:
        ValueError: `groups.rate_factors` rejects the factors.
    """
    own_factor = rate_factors(model, factors)
    depthwise = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    }

    def decays(parameter: nn.Parameter) -> bool:
        if rule is DecayRule.all:
            return True
        is_weight = parameter.ndim > 1
        return is_weight and not (rule is DecayRule.no_depthwise and id(parameter) in depthwise)

    trainable = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for factor in sorted({1.0, *factors.values()}, key=lambda factor: (factor != 1, -factor)):
        members = [p for p in trainable if own_factor.get(p, 1.0) == factor]
        groups += [
            {"params": [p for p in members if decays(p)], "weight_decay": weight_decay, "lr": lr * factor},
            {"params": [p for p in members if not decays(p)], "weight_decay": 0.0, "lr": lr * factor},
        ]
    return [group for group in groups if group["params"]]


def schedule_factor(schedule: ScheduleConfig, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Learning rate factor as a pure function of the step, so that a resume cannot drift.

    Warm-up is linear; the rest of the schedule starts after it, as TF's `cosine_decay_with_warmup`.
    """
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    rest = max(1, total_steps - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return schedule.warmup_factor + (1 - schedule.warmup_factor) * step / warmup
        done = min(1.0, (step - warmup) / rest)
        match schedule.name:
            case ScheduleName.constant:
                return 1.0
            case ScheduleName.step:
                return schedule.gamma ** sum(done >= milestone for milestone in schedule.milestones)
            case ScheduleName.exponential:
                period = schedule.every_epochs * steps_per_epoch
                return schedule.gamma ** math.floor((step - warmup) / period + 1e-9)
            case ScheduleName.cosine:
                shape = 0.5 * (1 + math.cos(math.pi * done))
            case ScheduleName.poly:
                shape = (1 - done) ** schedule.power
        return schedule.final_factor + (1 - schedule.final_factor) * shape

    return factor


class Ema:
    """Exponential moving average of parameters and float buffers; the decay warms up as min(decay, (1 + n) / (10 + n)).

    Not `torch.optim.swa_utils.AveragedModel`: that one compares a counter on the device at every step, a sync.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        source, target = model.state_dict(), self.module.state_dict()
        pairs = [(target[key], source[key]) for key in source]
        self._floats = [(ours, theirs) for ours, theirs in pairs if theirs.is_floating_point()]
        self._counters = [(ours, theirs) for ours, theirs in pairs if not theirs.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move toward the model's current weights after optimizer step `step` (0-based)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for target, source in self._floats:
            target.lerp_(source, weight)
        for target, source in self._counters:
            target.copy_(source)


def improves(value: float | None, best: float | None) -> bool:
    """Whether an evaluation beats the best one before it; while there is none, every one does, so best.pt follows."""
    return best is None or (value is not None and value > best)


def out_of_patience(best_at: int, now: int, patience: int | None) -> bool:
    """Whether evaluation `now` is at least `patience` evaluations after `best_at`, the last one that improved.

    Evaluations count from 1, and `best_at` is 0 before the first improvement; patience None means never.
    """
    return patience is not None and now - best_at >= patience


_EPOCHS_AT_300, _FEWEST, _MOST = 40, 20, 240


def epochs_for(num_images: int) -> int:
    """Epochs for a number of training images: 40 for 300, 160 for 75, 20 for 1,200; from 20 to 240.

    Below 300 images the number of steps stays that of 300, because fewer photographs do not need fewer steps. Above,
    epochs follow the inverse square root, so that four times the photographs take twice the steps.
    """
    share = 300 / max(1, num_images)
    return min(_MOST, max(_FEWEST, round(_EPOCHS_AT_300 * (share if share > 1 else math.sqrt(share)))))
