"""Training samples whose files cannot be read (`on_bad_sample=skip`): counted, named once, and too many end the run."""

from pathlib import Path
from typing import Any

from ..system.console import log
from .run import Run

_LARGEST_SHARE = 0.1  # of an epoch
_LINES = 20  # in the log, at a time


def bad_samples_path(folder: Path) -> Path:
    return folder / "bad_samples.txt"


def tell_bad_samples(run: Run) -> None:
    """Count what was left out since the last call, of all ranks, and name what is new.

    Called before every row and every checkpoint, so that a resumed run counts as one that was not stopped.

    Raises:
        ValueError: more than a tenth of an epoch was left out.
    """
    if run.config.on_bad_sample != "skip":
        return
    found = [bad for part in run.ranks.gather(run.bad_samples) for bad in part]
    run.bad_samples = []
    if not found:
        return
    state, epoch = run.progress, run.steps_per_epoch * run.config.batch_size
    # A sample's own file, not those of other tiles in its mosaic: a share of the samples is a share of the files then.
    count = sum(index in dict(skipped) for index, skipped in found)
    state.bad_samples += count
    state.bad_in_window += count
    path = bad_samples_path(run.folder)
    if run.ranks.is_main:
        _name(path, {index: reason for _, skipped in found for index, reason in skipped})
    if state.bad_samples > _LARGEST_SHARE * epoch:
        raise ValueError(
            f"on_bad_sample=skip: {state.bad_samples} of the {epoch} samples of epoch {state.epoch + 1} "
            f"cannot be read, more than a tenth: that is another data set. They are in {path}. Remedy: mend or remove "
            "them (is a disk missing?)"
        )


def _name(path: Path, found: dict[int, str]) -> None:
    """Each sample once in a run: the file remembers which were told."""
    lines = {f"{index}\t{' '.join(reason.split())}": reason for index, reason in sorted(found.items())}
    try:
        told = set(path.read_text("utf-8").splitlines()) if path.exists() else set()
        new = {line: reason for line, reason in lines.items() if line not in told}
        with open(path, "a", encoding="utf-8", errors="replace") as file:
            file.writelines(line + "\n" for line in new)
    except OSError as error:
        log.error("%s could not be written: %s", path, error)
        new = lines
    for reason in list(new.values())[:_LINES]:
        log.warning("left out: %s", reason)
    if len(new) > _LINES:
        log.warning("left out: %d more, see %s", len(new) - _LINES, path)


def bad_samples_of(batch: Any) -> list[tuple[int, list[tuple[int, str]]]]:
    """Of each sample that others stand in for, its index, and (index, reason) of all that could not be read."""
    return [(meta["index"], meta["skipped"]) for meta in batch.metas if "skipped" in meta]
