"""Everything that changes during training, in one object."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...conf.schema import BatchNorm, Precision, TrainConfig
from .distributed import Ranks
from .groups import freeze, hold_norms
from .optim import Ema, schedule_factor
from .report import Report
from .state import Progress
from .task import Task
from .window import Window


@dataclass
class UnsavedBest:
    """The best evaluation's checkpoint, which could not be written yet."""

    value: float | None
    evaluation: int
    step: int
    content: memoryview | None  # of the file; None on ranks that write none


@dataclass
class Run:
    """A task and everything that trains it. Checkpoints save its state, and resuming restores it."""

    task: Task
    config: TrainConfig
    ranks: Ranks
    folder: Path
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    ema: Ema | None
    held_norms: list[nn.Module]  # batch norms that stay in eval mode
    header: dict[str, Any]  # configuration, label map, versions, data, epochs: travels in every checkpoint
    window: Window
    halted: Tensor  # bool: a step was not finite; the weights must not change until it is reported
    steps_per_epoch: int
    epochs: int
    progress: Progress = field(default_factory=Progress)
    report: Report = field(default_factory=lambda: Report(None))
    bad_samples: list[tuple[int, list[tuple[int, str]]]] = field(default_factory=list)  # of this rank, not reported yet
    unsaved_best: UnsavedBest | None = None  # until it is written, `progress` has the best one on the disk

    @property
    def model(self) -> nn.Module:
        return self.task.model

    @property
    def best_weights(self) -> nn.Module:
        """The network to evaluate: the moving average if there is one."""
        return self.ema.module if self.ema else self.task.model

    @property
    def best(self) -> tuple[float | None, int]:
        """The best evaluation's value and number."""
        unsaved = self.unsaved_best
        return (unsaved.value, unsaved.evaluation) if unsaved else (self.progress.best, self.progress.best_evaluation)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, without `lr_factors`."""
        return self.optimizer.defaults["lr"] * self.schedule.lr_lambdas[0](self.schedule.last_epoch)

    @property
    def out_of_steps(self) -> bool:
        return self.config.max_steps is not None and self.progress.step >= self.config.max_steps

    def training_mode(self) -> None:
        """Training mode for everything except frozen batch norms."""
        self.model.train()
        for norm in self.held_norms:
            norm.eval()


def make_run(task: Task, config: TrainConfig, ranks: Ranks, *, folder: Path, header: dict[str, Any],
             make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], epochs: int,
             steps_per_epoch: int) -> Run:  # fmt: skip
    """Move the task to its device and create optimizer, schedule, scaler and average."""
    if config.batch_norm is BatchNorm.sync:
        _synchronize_norms(task.model, ranks)
    freeze(task.model, config.freeze)
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    task.model.to(ranks.device, memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    if isinstance(task.criterion, nn.Module):
        task.criterion.to(ranks.device)
    optimizer = make_optimizer(task.model)
    start_momentum(optimizer)
    factor = schedule_factor(config.schedule, total_steps=epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch)
    return Run(
        task=task,
        config=config,
        ranks=ranks,
        folder=folder,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
        scaler=torch.amp.GradScaler(ranks.device.type, init_scale=1.0, enabled=config.precision is Precision.fp16),
        ema=Ema(task.model, config.ema_decay) if config.ema_decay else None,
        held_norms=hold_norms(task.model, all_norms=config.batch_norm is BatchNorm.frozen or bool(config.quantize)),
        header=header,
        window=Window(ranks.device),
        halted=torch.zeros((), dtype=torch.bool, device=ranks.device),
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
    )


def _synchronize_norms(model: nn.Module, ranks: Ranks) -> None:
    """Compute batch statistics over the images of all ranks.

    Raises:
        ValueError: the device is not CUDA, the only one that torch supports here.
    """
    if ranks.device.type != "cuda":
        raise ValueError(
            f"batch_norm=sync needs CUDA, but the device is {ranks.device}: use batch_norm=local or frozen"
        )
    if ranks.world > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Start SGD's momentum at zero if it has none yet; the first step then sets it to the gradient.

    torch's fused SGD leaves it uninitialized if the first step is skipped (measured with torch 2.14).
    """
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            if group["momentum"] and group["fused"] and not group["dampening"]:
                for parameter in group["params"]:
                    optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
