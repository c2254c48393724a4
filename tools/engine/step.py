"""One optimizer step: forward, criterion, backward, and an update that is masked for non-finite steps."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ...conf.schema import OnNonfinite, Precision
from .run import Run


@dataclass(frozen=True)
class Step:
    """The results of a step over all ranks. Everything stays on the device, without a sync."""

    losses: dict[str, Tensor]  # means
    norm: Tensor  # of the gradient, before clipping
    finite: Tensor  # bool: losses and gradient were finite; otherwise the step changed nothing


def train_step(run: Run, network: nn.Module, batches: Sequence[Any]) -> Step:
    """One optimizer step over `accumulate` micro-batches.

    Losses are summed first and divided by the count over all micro-batches and ranks, so that splitting a batch makes
    no difference, except for criteria that use the whole batch (`region_weight`, mining) and batch norm.
    """
    config, ranks = run.config, run.ranks
    totals: dict[str, Tensor] = {}
    count = torch.zeros((), device=ranks.device)
    statistics = moving_statistics(run.model)
    restore_statistics_unless = remember(statistics)
    for batch in batches:
        batch = batch.to(ranks.device, non_blocking=True)
        with autocast(ranks.device, config.precision):
            outputs = _forward(network, batch.images)
        sums, n = run.task.criterion.sums(outputs, batch.targets)
        run.scaler.scale(torch.stack(list(sums.values())).sum()).backward()
        totals = {key: totals.get(key, 0) + value.detach() for key, value in sums.items()}
        count = count + n
    summed = torch.stack([value.float() for value in (count, *totals.values())])
    ranks.sum([summed, *_gradients(run.model)])
    least = getattr(run.task.criterion, "least_matches", 0.0) * config.batch_size
    count = summed[0].clamp(min=max(1.0, least))
    means = summed[1:] / count
    norm, finite, moved = _apply_gradients(run, count, means)
    restore_statistics_unless(moved)
    ranks.average(statistics)
    if run.ema:
        run.ema.update(run.progress.step)
    return Step(dict(zip(totals, means, strict=True)), norm, finite)


def _forward(network: nn.Module, images: Tensor) -> Any:
    try:
        return network(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batch norm has only one value per channel to compute statistics from: {len(images)} image per pass, "
            "1x1 feature maps. Increase batch_size, reduce accumulate, or set batch_norm=frozen"
        ) from error


def _apply_gradients(run: Run, count: Tensor, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Divide the summed gradients by the common count, clip, step.

    After a non-finite step, later steps do not change the weights either until it is reported: the weights are then
    still those that caused it (`on_nonfinite=skip` continues instead).

    Returns:
        The norm before clipping, whether losses and gradient were finite, whether the weights changed.
    """
    run.scaler.unscale_(run.optimizer)
    gradients = _gradients(run.model)
    torch._foreach_mul_(gradients, 1 / count)  # pyright: ignore
    norm = nn.utils.get_total_norm(gradients)
    if run.config.clip_grad_norm:
        nn.utils.clip_grads_with_norm_(run.model.parameters(), run.config.clip_grad_norm, norm)
    good_loss, good_norm = losses.isfinite().all(), norm.isfinite()
    # fp16 finds its loss scale by infinite gradients: such a step is skipped, but it is not an error.
    finite = good_loss if run.scaler.is_enabled() else good_loss & good_norm
    if run.config.on_nonfinite is OnNonfinite.stop:
        run.halted |= ~finite
    moved = good_loss & good_norm & ~run.halted
    step_if(run.optimizer, moved)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.schedule.step()
    return norm, finite, moved


def _gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def step_if(optimizer: torch.optim.Optimizer, good: Tensor) -> None:
    """`optimizer.step()` if `good` (bool, on the device) is true, without a device sync.

    torch's fused optimizers accept such a flag, as GradScaler sets it. For others, parameters and state are restored.
    """
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = (~good).float()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        del optimizer.found_inf  # pyright: ignore[reportAttributeAccessIssue]
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    state = _state(optimizer, good.device)
    restore_unless = remember([*parameters, *state])
    optimizer.step()
    restore_unless(good)
    known = {id(tensor) for tensor in state}
    for tensor in _state(optimizer, good.device):
        if id(tensor) not in known:  # made by this step: it starts from zero
            tensor.copy_(torch.where(good, tensor, 0))


def _state(optimizer: torch.optim.Optimizer, device: torch.device) -> list[Tensor]:
    """The state's tensors, except the step counters that torch keeps on the host, where the flag is unknown."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return [value for value in values if isinstance(value, Tensor) and value.device == device]


def moving_statistics(model: nn.Module) -> list[Tensor]:
    """The running means and variances that a forward pass in training mode updates."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.training]
    return [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]


def remember(tensors: Sequence[Tensor]) -> Callable[[Tensor], None]:
    """A function that restores the tensors' current values when called with false (bool, on the device)."""
    before = [tensor.detach().clone() for tensor in tensors]

    @torch.no_grad()
    def restore_unless(good: Tensor) -> None:
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(torch.where(good, tensor, old))

    return restore_unless


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    if precision is Precision.fp32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision is Precision.bf16 else torch.float16)
