"""Saving and resuming a run, bit-identical."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...absent import from_file
from ...files import remove_leftovers
from ...words import counted, verb
from ..system.console import log
from .run import Run, UnsavedBest, start_momentum
from .state import (
    Progress,
    checkpoint_bytes,
    load_latest,
    load_state,
    random_state,
    seed_everything,
    set_random_state,
    write_checkpoint,
)  # fmt: skip


def save(run: Run) -> None:
    """Write last.pt: the main rank writes, every rank contributes its random state.

    A full disk does not stop the run: earlier checkpoints stay, and the next save tries again, also to write best.pt.
    """
    _retry_best(run)
    content = _content(run)
    run.ranks.any(content is not None and not _write(run, "last.pt", content, run.progress.step))  # all ranks wait


def save_best(run: Run, value: float | None) -> None:
    """Write best.pt after the evaluation that gave `value`; if the disk is full, the next saves try again."""
    state = run.progress
    before = state.best, state.best_evaluation
    state.best, state.best_evaluation = value, state.evaluations
    run.unsaved_best = UnsavedBest(value, state.evaluations, state.step, _content(run))
    state.best, state.best_evaluation = before
    _retry_best(run)


def _retry_best(run: Run) -> None:
    best = run.unsaved_best
    if best is None:
        return
    failed = best.content is not None and not _write(run, "best.pt", best.content, best.step)
    if not run.ranks.any(failed):
        run.progress.best, run.progress.best_evaluation = best.value, best.evaluation
        run.unsaved_best = None


def check_best_is_saved(run: Run) -> None:
    """Raise OSError if the run ends without its best checkpoint."""
    _retry_best(run)
    if run.unsaved_best:
        raise OSError(
            f"the best checkpoint, of step {run.unsaved_best.step}, could not be written to "
            f"{run.folder / 'checkpoints' / 'best.pt'}, which is older or missing: evaluate with checkpoint=last"
        )


def _content(run: Run) -> memoryview | None:
    """The file that the main rank writes."""
    random_states = run.ranks.gather(random_state())
    return checkpoint_bytes(_state(run, random_states)) if run.ranks.is_main and not run.config.debug else None


def _write(run: Run, name: str, content: memoryview, step: int) -> bool:
    path = run.folder / "checkpoints" / name
    try:
        run.report.flush()
        write_checkpoint(path, content, keep=run.config.keep_last if name == "last.pt" else 1)
    except OSError as error:
        if run.progress.finished and name == "last.pt":
            raise
        reason = error.strerror or error
        log.error("could not save step %d: %s: %s. Earlier checkpoints are intact; the next save tries again",
                  step, path, reason)  # fmt: skip
        return False
    return True


def _state(run: Run, random_states: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **run.header,
        "model": run.model.state_dict(),
        "ema": run.ema.module.state_dict() if run.ema else None,
        "optimizer": run.optimizer.state_dict(),
        "optimizer_names": _parameter_names(run),
        "schedule": run.schedule.state_dict(),
        "scaler": run.scaler.state_dict(),
        "progress": asdict(run.progress),
        "window": run.window.state(),
        "random": random_states,
    }


def resume(run: Run) -> None:
    """Continue from the latest readable checkpoint in the run folder, if there is one.

    1. weights and their average, 2. optimizer, schedule and scaler, 3. position, 4. random state of each rank.

    Raises:
        ValueError: none is readable, it is from an earlier version, or the run was started with different data or a
            different number of processes (unless `accept_changes`).
    """
    if run.config.debug:
        return
    folder = run.folder / "checkpoints"
    if run.ranks.is_main:
        remove_leftovers(folder)
    found = load_latest(folder / "last.pt")
    if found is None:
        return
    path, checkpoint = found
    try:
        _restore(run, path, checkpoint)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        # Parts of other types.
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ValueError(
            f"{path} cannot be restored ({told:.200}): corrupt, or not of this run? Start over with another name="
        ) from error
    if run.ranks.is_main:
        log.info("resuming %s at step %d (epoch %d)", run.folder, run.progress.step, run.progress.epoch + 1)


def _restore(run: Run, path: Path, checkpoint: dict[str, Any]) -> None:
    changes = [*_changed_data(run, checkpoint), *_changed_ranks(run, checkpoint)]
    if "optimizer_names" not in checkpoint:
        raise ValueError(
            f"{path} is from an earlier version, whose optimizer state has no names: start with another name= and "
            f"weights={path}"
        )
    if changes and not run.config.accept_changes:
        raise ValueError(f"{path}: " + "; ".join(changes) + ". Use another name=, or continue with accept_changes=true")
    for change in changes:
        log.warning("accepted: %s", change)
    load_state(run.model, checkpoint["model"], path)
    if run.ema:
        load_state(run.ema.module, checkpoint["ema"] or checkpoint["model"], path)
    _restore_optimizer(run, checkpoint)
    run.scaler.load_state_dict(checkpoint["scaler"])
    run.progress = Progress(**from_file(checkpoint["progress"]))
    wrong = [f.name for f in fields(Progress) if not isinstance(getattr(run.progress, f.name), f.type | int)]  # pyright: ignore
    if wrong:
        raise TypeError(f"progress.{wrong[0]}")
    if "window" in checkpoint:
        run.window.load(checkpoint["window"])
    _restore_random_state(run, checkpoint["random"])


def _parameter_names(run: Run) -> list[str]:
    """The names of the optimizer's parameters, in the order that numbers its state."""
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    return [names[parameter] for group in run.optimizer.param_groups for parameter in group["params"]]


def _restore_optimizer(run: Run, checkpoint: dict[str, Any]) -> None:
    """Restore optimizer state and schedule position; learning rates, groups and other settings come from this start."""
    groups, saved = run.optimizer.state_dict()["param_groups"], checkpoint["optimizer"]
    if groups[0].keys() == saved["param_groups"][0].keys():
        run.optimizer.load_state_dict({"state": _state_by_name(run, checkpoint), "param_groups": groups})
        start_momentum(run.optimizer)
    else:
        log.warning("accepted: different optimizer; its state starts from zero")
    schedule = run.schedule
    schedule.load_state_dict({**checkpoint["schedule"], "base_lrs": schedule.base_lrs})
    for group, lr, factor in zip(run.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = lr * factor(schedule.last_epoch)


def _state_by_name(run: Run, checkpoint: dict[str, Any]) -> dict[int, Any]:
    """The saved state with this start's numbering, which `freeze`, `lr_factors` and `decay_rule` can change."""
    names, saved = _parameter_names(run), checkpoint["optimizer"]["state"]
    known = {name: saved[i] for i, name in enumerate(checkpoint["optimizer_names"]) if i in saved}
    missing = [name for name in names if name not in known]
    if missing and known:
        log.warning("accepted: the optimizer's state of %d parameters starts from zero: %s%s",
                    len(missing), ", ".join(missing[:3]), ", ..." if len(missing) > 3 else "")  # fmt: skip
    return {i: known[name] for i, name in enumerate(names) if name in known}


def _changed_data(run: Run, checkpoint: dict[str, Any]) -> list[str]:
    old, new = checkpoint.get("data", {}), run.header.get("data", {})
    return [
        f"data.{split} has different images or annotations than when this run was started"
        for split in new
        if old.get(split, new[split]) != new[split]
    ]


def _changed_ranks(run: Run, checkpoint: dict[str, Any]) -> list[str]:
    old, new = len(checkpoint["random"]), run.ranks.world
    if old == new:
        return []
    return [
        f"this run was started with {counted(old, 'process')}, now there {verb(new, 'is', 'are')} {new} (steps see the "
        "same images, but rounding and dropout differ)"
    ]


def _restore_random_state(run: Run, states: list[dict[str, Any]]) -> None:
    if len(states) == run.ranks.world:
        set_random_state(states[run.ranks.rank])
    else:  # a new state, different for each rank and step
        seed_everything(run.config.seed + 1_000_003 * run.progress.step + run.ranks.rank)
