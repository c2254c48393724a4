"""The training loop: one function that reads from top to bottom, and the small ones it calls."""

import itertools
import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ...absent import Results
from ...conf.schema import OnNonfinite
from ...words import counted
from ..system.console import log, progress, table
from .bad_samples import bad_samples_of, tell_bad_samples
from .evaluation import evaluate
from .optim import improves, out_of_patience
from .replay import stop_for_replay
from .report import Report, Waiting, peak_memory
from .resume import check_best_is_saved, resume, save, save_best
from .run import Run
from .signals import Stopped, StopSignals
from .state import generator_state
from .step import train_step
from .window import NonfiniteError


def fit(run: Run, train_loader: Any, val_loader: Any) -> Results:
    """Train to the end of the schedule and return the last evaluation's results.

    `train_loader.sampler.set_epoch(epoch, start=samples)` places the loader in an epoch.

    Raises:
        Stopped: SIGTERM or Ctrl-C; the run is saved.
        FloatingPointError: a loss or gradient was not finite; its inputs are saved for mode=replay.
    """
    resume(run)
    state = run.progress
    if _is_over(run) and not _evaluation_is_due(run):
        log.info("%s is finished (step %d); use another name= to start over", run.folder, state.step)
        return {}
    run.report = Report(run.folder if run.ranks.is_main else None, step=state.step, evaluated=state.evaluated)
    network: Any = torch.compile(run.model) if run.config.compile else run.model
    try:
        # Inside StopSignals: torchrun sends SIGTERM to the remaining ranks, which must not cut the message short.
        with StopSignals() as signals, run.ranks.peer_failures_told():
            results = _train_and_evaluate(run, network, train_loader, val_loader, signals)
    except Stopped as stopped:
        log.warning("stopped by %s at step %d; saved to %s. Run the same command again to resume", stopped.name,
                    state.step, run.folder / "checkpoints" / "last.pt")  # fmt: skip
        raise
    finally:
        run.report.close()
    run.ranks.barrier()
    return results


def _train_and_evaluate(
    run: Run, network: nn.Module, train_loader: Any, val_loader: Any, signals: StopSignals
) -> Results:
    results: Results = {}
    while True:
        if _evaluation_is_due(run):
            with signals.at_once():  # everything except the evaluation itself is saved
                results = _evaluate(run, val_loader)
            save(run)
        if _is_over(run):
            check_best_is_saved(run)
            return results
        train_epoch(run, network, train_loader, signals)
        _checked_save(run)
        if run.ranks.any(signals.received is not None):
            raise Stopped(signals.received or signal.SIGTERM)


def train_epoch(run: Run, network: nn.Module, loader: Any, signals: StopSignals) -> None:
    """Train the rest of the current epoch, or until a signal or `max_steps` ends it."""
    config, state = run.config, run.progress
    done = state.batches_done * config.accumulate
    loader.sampler.set_epoch(state.epoch, start=done * loader.batch_size)
    steps = (done + len(loader)) // config.accumulate
    waiting = Waiting(loader)
    run.training_mode()
    title = f"epoch {state.epoch + 1}/{run.epochs}"
    with progress(_micro_batches(waiting, config.accumulate), total=steps, title=title, quiet=not run.ranks.is_main,
                  initial=state.batches_done) as bar:  # fmt: skip
        for batches in bar:
            lr, random = run.learning_rate, generator_state()
            step = train_step(run, network, batches)
            run.window.add(step.losses, step.norm, step.finite, [_names(batch) for batch in batches], random)
            run.bad_samples += [bad for batch in batches for bad in bad_samples_of(batch)]
            state.step, state.batches_done = state.step + 1, state.batches_done + 1
            end_of_epoch = state.batches_done == steps
            if state.step % config.log_every == 0 or end_of_epoch:
                row = _log_row(run, waiting, lr)
                bar.set_postfix(loss=f"{row['loss']:.3f}", img_s=f"{row['images_per_second']:.0f}")
                if end_of_epoch and run.ranks.is_main:
                    bar.clear()
                    log.info("%s  step %d  %s", title, state.step, "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
            if run.ranks.any(signals.received is not None) or run.out_of_steps:
                break
            if config.save_every and state.step % config.save_every == 0 and not end_of_epoch:
                _checked_save(run)
    if state.batches_done == steps:
        state.epoch, state.batches_done, state.bad_samples = state.epoch + 1, 0, 0
        state.finished = state.epoch >= run.epochs


def _log_row(run: Run, waiting: Waiting, lr: float) -> dict[str, float]:
    """One row for the steps since the last row; the only place where the loop waits for the device."""
    _check_finite(run)
    tell_bad_samples(run)
    row = run.window.read()
    seconds, steps = row.pop("seconds"), row.pop("steps")
    row |= {
        "lr": lr,
        "images_per_second": steps * run.config.batch_size / seconds,
        "waiting_share": waiting.seconds / seconds,  # near 1: the loader is the bottleneck, near 0: the network
        "peak_memory_gb": peak_memory(run.ranks.device),
        "epoch": run.progress.epoch + 1,
    }
    if run.config.on_bad_sample == "skip":
        row["bad_samples"], run.progress.bad_in_window = run.progress.bad_in_window, 0
    waiting.seconds = 0.0
    run.report.row("train", run.progress.step, row)
    if row.get("skipped"):
        log.warning("%d non-finite steps skipped up to step %d", row["skipped"], run.progress.step)
    return row


def _checked_save(run: Run) -> None:
    """Report bad steps and samples before saving, so that no checkpoint hides them."""
    _check_finite(run)
    tell_bad_samples(run)
    save(run)


def _check_finite(run: Run) -> None:
    """Wait for the device and stop the run if a step in the window was not finite."""
    if run.config.on_nonfinite is OnNonfinite.skip:
        return
    try:
        run.window.check(run.progress.step)
    except NonfiniteError as bad:
        raise FloatingPointError(stop_for_replay(run, bad)) from None


def _names(batch: Any) -> list[tuple[int, int, str]]:
    return [(meta["epoch"], meta["index"], str(meta["path"] or meta["image_id"])) for meta in batch.metas]


def _micro_batches(loader: Any, accumulate: int) -> Iterator[list[Any]]:
    """Groups of `accumulate` batches, one group per optimizer step; an incomplete last group is dropped."""
    iterator = iter(loader)
    while len(group := list(itertools.islice(iterator, accumulate))) == accumulate:
        yield group


def _is_over(run: Run) -> bool:
    return run.progress.finished or run.out_of_steps


def _evaluation_is_due(run: Run) -> bool:
    """At the end of every `eval_every`-th epoch and at the end of training, unless already done."""
    state = run.progress
    end_of_epoch = state.batches_done == 0 and state.epoch > 0
    due = _is_over(run) or (end_of_epoch and state.epoch % run.config.eval_every == 0)
    return due and state.evaluated != state.step


def _evaluate(run: Run, loader: Any) -> Results:
    """Evaluate and log; save the best checkpoint; end the run if it has not improved for `patience` evaluations."""
    results = evaluate(run.task, run.best_weights, loader, run.ranks)
    state = run.progress
    primary = run.task.metric.primary
    value = results[primary]
    state.evaluated, state.evaluations = state.step, state.evaluations + (value is not None)
    if follows := improves(value, run.best[0]):
        save_best(run, value)
    if run.ranks.is_main:
        log.info("evaluation after epoch %d, step %d:\n%s", state.epoch, state.step,
                 table({k: v for k, v in results.items() if "/" not in k}))  # fmt: skip
    if value is None:
        log.warning("%s is absent: the validation split has nothing to compare with. best.pt %s (step %d)", primary,
                    "follows last.pt" if follows else "stays as it is", state.step)  # fmt: skip
    run.report.row("val", state.step, results)
    if not state.finished and out_of_patience(run.best[1], state.evaluations, run.config.patience):
        state.finished = True
        log.info("stopping early: %s has not improved in %s (patience=%d)", primary,
                 counted(state.evaluations - run.best[1], "evaluation"), run.config.patience)  # fmt: skip
    return results
