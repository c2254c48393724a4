"""Training: one function that reads from top to bottom, and the small ones it calls."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...conf.schema import Precision, TrainConfig
from .distributed import Ranks
from .evaluation import evaluate
from .optim import Ema, schedule_factor, total_norm
from .report import Report, Waiting, Window, log, progress, table
from .state import Progress, load_checkpoint, random_state, save_checkpoint, set_random_state
from .task import Task


@dataclass
class Run:
    """Everything that moves during training."""

    task: Task
    config: TrainConfig
    ranks: Ranks
    folder: Path
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    ema: Ema | None
    header: dict[str, Any]  # resolved config, label map, versions: travels in every checkpoint
    progress: Progress = field(default_factory=Progress)

    @property
    def model(self) -> nn.Module:
        return self.task.model

    @property
    def best_weights(self) -> nn.Module:
        """The network that is evaluated: the moving average where there is one."""
        return self.ema.module if self.ema else self.task.model


def make_run(task: Task, config: TrainConfig, ranks: Ranks, *, folder: Path, header: dict[str, Any],
             make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], steps_per_epoch: int) -> Run:  # fmt: skip
    """Move the task to its device and make what moves with it."""
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    task.model.to(ranks.device, memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    if isinstance(task.criterion, nn.Module):
        task.criterion.to(ranks.device)
    optimizer = make_optimizer(task.model)
    factor = schedule_factor(
        config.schedule, total_steps=config.epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch
    )
    return Run(
        task=task,
        config=config,
        ranks=ranks,
        folder=folder,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
        scaler=torch.amp.GradScaler(ranks.device.type, init_scale=1.0, enabled=config.precision is Precision.fp16),
        ema=Ema(task.model, config.ema_decay) if config.ema_decay else None,
        header=header,
    )


def fit(run: Run, train_loader: Any, val_loader: Any) -> dict[str, float]:
    """Train to the end of the schedule and return the last evaluation's results.

    `train_loader.sampler.set_epoch(epoch, start=samples)` places the loader in an epoch.
    """
    resume(run)
    config, state, results = run.config, run.progress, {}
    if state.finished or _out_of_steps(run):
        log.info("%s is finished (step %d); a fresh start needs a new name", run.folder, state.step)
        return results
    report = Report(run.folder if run.ranks.is_main else None, step=state.step)
    network = _parallel(run)
    while not state.finished:
        train_epoch(run, network, train_loader, report)
        state.finished = state.epoch >= config.epochs
        stop = state.finished or _out_of_steps(run)
        if stop or (state.batches_done == 0 and state.epoch % config.eval_every == 0):
            results = _evaluate(run, val_loader, report)
        save(run, "last.pt")
        if stop:
            break
    report.close()
    run.ranks.barrier()
    return results


def train_epoch(run: Run, network: nn.Module, loader: Any, report: Report) -> None:
    """The rest of the epoch in progress, from the batch it stands at."""
    config, state, ranks = run.config, run.progress, run.ranks
    done = state.batches_done * config.accumulate
    loader.sampler.set_epoch(state.epoch, start=done * loader.batch_size)
    steps = (done + len(loader)) // config.accumulate
    waiting = Waiting(loader)
    window = Window(ranks.device)
    run.model.train()
    title = f"epoch {state.epoch + 1}/{config.epochs}"
    with progress(_micro_batches(waiting, config.accumulate), total=steps, title=title, quiet=not ranks.is_main,
                  initial=state.batches_done) as bar:  # fmt: skip
        for batches in bar:
            lr = float(run.schedule.get_last_lr()[0])
            window.add(*train_step(run, network, batches))
            state.step, state.batches_done = state.step + 1, state.batches_done + 1
            if state.step % config.log_every == 0 or state.batches_done == steps:
                row = window.read(
                    step=state.step, epoch=state.epoch, batch_size=config.batch_size, waiting=waiting.seconds, lr=lr
                )
                report.row("train", state.step, row)
                bar.set_postfix(loss=f"{row['loss']:.3f}", img_s=f"{row['images_per_second']:.0f}")
                waiting.seconds = 0.0
                if state.batches_done == steps and ranks.is_main:
                    bar.clear()
                    log.info("%s  step %d  %s", title, state.step, "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
            if config.save_every and state.step % config.save_every == 0:
                save(run, "last.pt")
            if _out_of_steps(run):
                break
    if state.batches_done == steps:
        state.epoch, state.batches_done = state.epoch + 1, 0


def train_step(run: Run, network: nn.Module, batches: Sequence[Any]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """One optimizer step over `accumulate` micro-batches; returns loss sums, their count and the gradient's norm.

    Losses are summed first and divided by the count over all micro-batches and ranks: how a batch is split does not
    matter. What is returned stays on the device.
    """
    config, ranks = run.config, run.ranks
    totals: dict[str, Tensor] = {}
    count = torch.zeros((), device=ranks.device)
    for i, batch in enumerate(batches):
        batch = batch.to(ranks.device)
        last = i + 1 == len(batches)
        with contextlib.nullcontext() if last or ranks.world == 1 else network.no_sync():  # pyright: ignore[reportCallIssue]
            with autocast(ranks.device, config.precision):
                outputs = network(batch.images)
            sums, n = run.task.criterion.sums(outputs, batch.targets)
            run.scaler.scale(torch.stack(list(sums.values())).sum()).backward()
        totals = {key: totals.get(key, 0) + value.detach() for key, value in sums.items()}
        count = count + n
    norm = _apply_gradients(run, ranks.sum(count.clone()).clamp(min=1))
    return totals, count, norm


def _apply_gradients(run: Run, count: Tensor) -> Tensor:
    """Divide the summed gradients by the common count, clip, step; returns the norm before clipping."""
    run.scaler.unscale_(run.optimizer)
    parameters = [p for p in run.model.parameters() if p.grad is not None]
    factor = run.ranks.world / count  # DDP averaged over ranks what should be summed
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.mul_(factor)
    norm = total_norm(parameters)
    if run.config.clip_grad_norm:
        nn.utils.clip_grads_with_norm_(parameters, run.config.clip_grad_norm, norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.schedule.step()
    if run.ema:
        run.ema.update(run.progress.step)
    return norm


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    if precision is Precision.fp32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision is Precision.bf16 else torch.float16)


def _micro_batches(loader: Any, accumulate: int) -> Iterator[list[Any]]:
    """Groups of `accumulate` batches, one group an optimizer step; an incomplete last group is left out."""
    iterator = iter(loader)
    while len(group := list(itertools.islice(iterator, accumulate))) == accumulate:
        yield group


def _parallel(run: Run) -> nn.Module:
    network: nn.Module = run.model
    if run.config.compile:
        network = torch.compile(network)  # pyright: ignore[reportAssignmentType]
    if run.ranks.world > 1:
        # Each rank keeps BN statistics of its own images; they are averaged before anything is evaluated or saved.
        network = DistributedDataParallel(network, broadcast_buffers=False)
    return network


def _out_of_steps(run: Run) -> bool:
    return run.config.max_steps is not None and run.progress.step >= run.config.max_steps


def _evaluate(run: Run, loader: Any, report: Report) -> dict[str, float]:
    """Evaluate, log, and keep the checkpoint if it is the best so far."""
    _agree_on_buffers(run)
    results = evaluate(run.task, run.best_weights, loader, run.ranks)
    report.row("val", run.progress.step, results)
    value = results[run.task.metric.primary]
    if run.ranks.is_main:
        log.info("evaluation after epoch %d, step %d:\n%s", run.progress.epoch, run.progress.step,
                 table({k: v for k, v in results.items() if "/" not in k}))  # fmt: skip
    if run.progress.best is None or value > run.progress.best:
        run.progress.best = value
        save(run, "best.pt")
    return results


def _agree_on_buffers(run: Run) -> None:
    """Before anything is evaluated or saved: a rank must not evaluate with BN statistics of its own."""
    run.ranks.average_buffers(run.model)
    if run.ema:
        run.ranks.average_buffers(run.ema.module)


def save(run: Run, name: str) -> None:
    """Write a checkpoint: the main rank writes, every rank contributes its random state."""
    _agree_on_buffers(run)
    random_states = run.ranks.gather(random_state())
    if not run.ranks.is_main:
        return
    save_checkpoint(run.folder / "checkpoints" / name, {
        **run.header,
        "model": run.model.state_dict(),
        "ema": run.ema.module.state_dict() if run.ema else None,
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state_dict(),
        "scaler": run.scaler.state_dict(),
        "progress": asdict(run.progress),
        "random": random_states,
    })  # fmt: skip


def resume(run: Run) -> None:
    """Continue from `checkpoints/last.pt` where there is one.

    1. weights and their average, 2. optimizer, schedule and scaler, 3. position, 4. random state of each rank.

    Raises:
        ValueError: the run was made with another number of ranks.
    """
    path = run.folder / "checkpoints" / "last.pt"
    if not path.exists():
        return
    checkpoint = load_checkpoint(path)
    if len(checkpoint["random"]) != run.ranks.world:
        raise ValueError(
            f"{run.folder} was made with {len(checkpoint['random'])} processes, this start has {run.ranks.world}: "
            "use as many, or a new name"
        )
    run.model.load_state_dict(checkpoint["model"])
    if run.ema:
        run.ema.module.load_state_dict(checkpoint["ema"])
    run.optimizer.load_state_dict(checkpoint["optimizer"])
    run.schedule.load_state_dict(checkpoint["schedule"])
    run.scaler.load_state_dict(checkpoint["scaler"])
    run.progress = Progress(**checkpoint["progress"])
    set_random_state(checkpoint["random"][run.ranks.rank])
    if run.ranks.is_main:
        log.info("resuming %s at step %d (epoch %d)", run.folder, run.progress.step, run.progress.epoch + 1)
