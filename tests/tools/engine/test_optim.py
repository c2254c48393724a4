"""Schedules, parameter groups, steps of the optimizers, the moving average, and when to stop."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import DecayRule, ScheduleConfig, ScheduleName
from pocketvision.tools.engine.optim import Ema, improves, out_of_patience, parameter_groups, schedule_factor
from torch import nn

WARM = {"warmup_epochs": 2}


@pytest.mark.parametrize(
    ("name", "keys", "steps", "expected"),
    [
        ("constant", {}, [0, 50, 100], [1, 1, 1]),
        ("cosine", {}, [0, 50, 100], [1, 0.5, 0]),
        ("cosine", {"final_factor": 0.1}, [0, 100], [1, 0.1]),
        ("poly", {"power": 0.9}, [0, 50, 100], [1, 0.5**0.9, 0]),
        ("poly", {"power": 2, "final_factor": 0.2}, [0, 50, 100], [1, 0.4, 0.2]),
        ("poly", WARM | {"power": 2, "warmup_factor": 0.5}, [0, 10, 20, 40, 60, 100], [0.5, 0.75, 1, 0.5625, 0.25, 0]),
        ("step", {"milestones": [0.5, 0.8]}, [49, 50, 80], [1, 0.1, 0.01]),
        # the reference's detector: base 0.4 from 0.13333 over the warm-up, then cosine over what is left
        ("cosine", WARM | {"warmup_factor": 0.33333}, [0, 10, 20, 60, 100], [0.33333, (1 + 0.33333) / 2, 1, 0.5, 0]),
        ("cosine", WARM | {"warmup_factor": 0, "final_factor": 0.2}, [5, 20, 40, 100],
         [0.25, 1, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 0.2]),
        # milestones are fractions of what is left after the warm-up: 60 and 80 of 20 ... 100
        ("step", WARM | {"milestones": [0.5, 0.75], "gamma": 0.5}, [0, 10, 20, 59, 60, 79, 80, 100],
         [0.001, 0.5005, 1, 1, 0.5, 0.5, 0.25, 0.25]),
        ("cosine", {"warmup_epochs": 0.5, "warmup_factor": 0}, [0, 1, 5], [0, 0.2, 1]),
        # steps down every 3 epochs of 10 steps, counted from the end of the warm-up
        ("exponential", {"gamma": 0.5, "every_epochs": 3}, [0, 29, 30, 59, 60, 100], [1, 1, 0.5, 0.5, 0.25, 0.125]),
        ("exponential", {"gamma": 0.5, "every_epochs": 2.4, "warmup_epochs": 1}, [10, 33, 34, 57, 58],
         [1, 1, 0.5, 0.5, 0.25]),
        # a warm-up longer than the run is cut off by its end
        ("cosine", {"warmup_epochs": 20, "warmup_factor": 0}, [0, 50, 100], [0, 0.25, 0.5]),
    ],
)  # fmt: skip
def test_schedules(name: str, keys: dict[str, Any], steps: list[int], expected: list[float]) -> None:
    factor = schedule_factor(ScheduleConfig(ScheduleName(name), **keys), total_steps=100, steps_per_epoch=10)
    assert [factor(step) for step in steps] == pytest.approx(expected, abs=1e-9)


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
    groups = parameter_groups(model, 0.1, rule, lr=1.0)
    found = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert found == decayed
    assert sum(len(group["params"]) for group in groups) == len(names)


@pytest.mark.parametrize(
    ("optimizer", "arguments"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.RMSprop, {"alpha": 0.75, "eps": 0.5, "momentum": 0.9}),
        (torch.optim.AdamW, {"betas": (0.9, 0.75), "eps": 0.5}),
    ],
)
def test_each_group_moves_at_its_own_rate_and_decay(
    optimizer: Callable[..., torch.optim.Optimizer], arguments: dict[str, Any]
) -> None:
    """As four optimizers for one parameter each would move them."""
    model = nn.ModuleDict({"body": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    twin = copy.deepcopy(model)
    groups = parameter_groups(model, 0.1, DecayRule.weights, lr=0.1, factors={"body": 0.1})
    moving = [optimizer(groups, lr=7.0, weight_decay=7.0, **arguments)]
    for name, parameter in twin.named_parameters():
        lr, decay = 0.01 if "body" in name else 0.1, 0.1 if "weight" in name else 0.0
        moving.append(optimizer([parameter], lr=lr, weight_decay=decay, **arguments))
    for gradient in (0.5, -0.25):  # the second step shows the momentum
        for parameter in (*model.parameters(), *twin.parameters()):
            parameter.grad = torch.full_like(parameter, gradient)
        for each in moving:
            each.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("decay", "values", "expected"),
    [
        (0.999, [], 0.0),
        (0.999, [1.0], 0.9),  # 1/10 of the start
        (0.999, [1.0, 1.0], 1 - 0.1 * 2 / 11),
        (0.999, [1.0, 1.0, 5.0], (1 - 0.2 / 11) / 4 + 5 * 3 / 4),
        (0.15, [1.0, 1.0, 5.0], (1 - 0.1 * 0.15) * 0.15 + 5 * 0.85),  # 2/11 and 3/12 are already over the decay
    ],
)
def test_ema_by_hand(decay: float, values: list[float], expected: float) -> None:
    model = nn.BatchNorm1d(1)  # a parameter and a statistic follow alike
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.running_mean)
    ema = Ema(model, decay)
    for step, value in enumerate(values):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        model.num_batches_tracked += 1
        ema.update(step)
    assert ema.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert ema.module.running_mean.item() == pytest.approx(expected, rel=1e-6)
    assert ema.module.num_batches_tracked.item() == len(values)  # a counter is copied
    assert not any(p.requires_grad for p in ema.module.parameters())


@pytest.mark.parametrize(
    ("value", "best", "expected"),
    [
        (0.0, None, True),
        (0.5, 0.4, True),
        (0.5, 0.5, False),
        (0.4, 0.5, False),
        (None, None, True),  # best.pt follows the last checkpoint
        (None, 0.5, False),
    ],
)
def test_what_improves(value: float | None, best: float | None, expected: bool) -> None:
    assert improves(value, best) is expected


@pytest.mark.parametrize(
    ("figures", "patience", "stop"),
    [
        ([], 1, None),
        ([0.5, 0.4, 0.3, 0.2], None, None),
        ([0.5, 0.4], 1, 2),
        ([0.1, 0.2, 0.3], 1, None),
        ([0.5, 0.4, 0.6, 0.5, 0.6, 0.7], 2, 5),  # the same again is no improvement
        ([0.5, None, None, None], 2, None),  # an absent one is no evaluation
        ([0.5, None, 0.4, None, 0.4], 2, 5),
        ([None, None, None, 0.1], 2, None),
    ],
)
def test_patience_ends_at_so_many_evaluations_without_a_better_one(
    figures: Sequence[float | None], patience: int | None, stop: int | None
) -> None:
    best, best_at, now, stopped = None, 0, 0, None
    for number, figure in enumerate(figures, start=1):
        now += figure is not None
        if improves(figure, best):
            best, best_at = figure, now
        if out_of_patience(best_at, now, patience):
            stopped = number
            break
    assert stopped == stop
