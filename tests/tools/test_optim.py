"""Schedules, parameter groups and the moving average."""

import math

import pytest
import torch
from pocketvision.conf.schema import DecayRule, ScheduleConfig, ScheduleName
from pocketvision.tools.engine.optim import Ema, parameter_groups, schedule_factor
from torch import nn


def factors(schedule: ScheduleConfig, steps: list[int], *, total: int = 100, epoch: int = 10) -> list[float]:
    factor = schedule_factor(schedule, total_steps=total, steps_per_epoch=epoch)
    return [factor(step) for step in steps]


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (ScheduleConfig(name=ScheduleName.constant), [0, 50, 100], [1, 1, 1]),
        (ScheduleConfig(name=ScheduleName.cosine), [0, 50, 100], [1, 0.5, 0]),
        (ScheduleConfig(name=ScheduleName.cosine, final_factor=0.1), [0, 100], [1, 0.1]),
        (ScheduleConfig(name=ScheduleName.poly, power=0.9), [0, 50, 100], [1, 0.5**0.9, 0]),
        (ScheduleConfig(name=ScheduleName.step, milestones=[0.5, 0.8]), [49, 50, 80], [1, 0.1, 0.01]),
        # the reference's detector: base 0.4 from 0.13333 over the warm-up, then cosine over what is left
        (
            ScheduleConfig(name=ScheduleName.cosine, warmup_epochs=2, warmup_factor=0.33333),
            [0, 10, 20, 60, 100],
            [0.33333, (1 + 0.33333) / 2, 1, 0.5, 0],
        ),
    ],
)
def test_schedules(schedule: ScheduleConfig, steps: list[int], expected: list[float]) -> None:
    assert factors(schedule, steps) == pytest.approx(expected, abs=1e-9)


def test_a_schedule_agrees_with_torchs_cosine() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    ours = schedule_factor(ScheduleConfig(name=ScheduleName.cosine), total_steps=30, steps_per_epoch=3)
    for step in range(30):
        assert math.isclose(ours(step), theirs.get_last_lr()[0], abs_tol=1e-12)
        optimizer.step()
        theirs.step()


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)


@pytest.mark.parametrize(
    ("rule", "decayed"),
    [
        (DecayRule.weights, {"conv.weight", "depthwise.weight"}),
        (DecayRule.no_depthwise, {"conv.weight"}),
        (DecayRule.all, {"conv.weight", "conv.bias", "depthwise.weight", "norm.weight", "norm.bias"}),
    ],
)
def test_decay_rules(rule: DecayRule, decayed: set[str]) -> None:
    model = Layers()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, rule)
    found = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert found == decayed
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_ema_follows_with_warm_up_and_copies_counters() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    ema = Ema(model, 0.999)
    model[0].weight.data.fill_(1.0)
    model[1].num_batches_tracked.fill_(7)
    expected = ema.module[0].weight.item()
    for step in range(3):
        ema.update(step)
        decay = min(0.999, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
    assert ema.module[0].weight.item() == pytest.approx(expected, rel=1e-6)
    assert ema.module[1].num_batches_tracked.item() == 7
    assert not any(p.requires_grad for p in ema.module.parameters())
