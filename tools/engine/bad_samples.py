"""Unreadable training samples (`on_bad_sample=skip`): counted and named once; too many stop the run."""

from pathlib import Path
from typing import Any

from ..system.console import log
from .run import Run

_LARGEST_SHARE = 0.1  # of an epoch
_LINES = 20  # in the log, at a time


def tell_bad_samples(run: Run) -> None:
    """Count the samples skipped since the last call, over all ranks, and name the new ones.

    Called before every row and every checkpoint, so that a resumed run counts like an uninterrupted one.

    Raises:
        ValueError: more than a tenth of an epoch was skipped.
    """
    if run.config.on_bad_sample != "skip":
        return
    found = [bad for part in run.ranks.gather(run.bad_samples) for bad in part]
    run.bad_samples = []
    if not found:
        return
    state, epoch = run.progress, run.steps_per_epoch * run.config.batch_size
    # Count a sample's own file, not those of other tiles in its mosaic: the share of samples is the share of files.
    count = sum(index in dict(skipped) for index, skipped in found)
    state.bad_samples += count
    state.bad_in_window += count
    path = run.folder / "bad_samples.txt"
    if run.ranks.is_main:
        _name(path, {index: reason for _, skipped in found for index, reason in skipped})
    if state.bad_samples > _LARGEST_SHARE * epoch:
        raise ValueError(
            f"on_bad_sample=skip: {state.bad_samples} of the {epoch} samples of epoch {state.epoch + 1} "
            f"are unreadable, more than a tenth. They are listed in {path}. Remedy: fix or remove "
            "them (is a disk missing?)"
        )


def _name(path: Path, found: dict[int, str]) -> None:
    """Name each sample once per run; the file records which were named."""
    lines = {f"{index}\t{' '.join(reason.split())}": reason for index, reason in sorted(found.items())}
    try:
        told = set(path.read_text("utf-8").splitlines()) if path.exists() else set()
        new = {line: reason for line, reason in lines.items() if line not in told}
        with open(path, "a", encoding="utf-8", errors="replace") as file:
            file.writelines(line + "\n" for line in new)
    except OSError as error:
        log.error("could not write %s: %s", path, error)
        new = lines
    for reason in list(new.values())[:_LINES]:
        log.warning("skipped: %s", reason)
    if len(new) > _LINES:
        log.warning("skipped %d more, see %s", len(new) - _LINES, path)


def bad_samples_of(batch: Any) -> list[tuple[int, list[tuple[int, str]]]]:
    """For each replaced sample its index, and (index, reason) of every file that could not be read."""
    return [(meta["index"], meta["skipped"]) for meta in batch.metas if "skipped" in meta]
