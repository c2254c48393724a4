"""The files in a run folder: the run's identity, lock, configuration and results."""

import contextlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...datasets.annotations.sample import Source
from ...datasets.labels import LabelMap
from ..system.console import log
from .config_file import read_config
from .keys import flat_json, is_free, plain, portable


def run_header(
    config: DictConfig, labels: LabelMap, kind: str, sources: Mapping[str, Source], epochs: int
) -> dict[str, Any]:
    """The constant part of every checkpoint of a run."""
    versions = {
        name: importlib.metadata.version(name) for name in ("pocketvision", "torch", "torchvision", "albumentations")
    }
    return {
        "config": portable(config),
        "labels": labels.to_json(),
        "kind": kind,
        "data": {split: source.fingerprint() for split, source in sources.items()},
        "versions": versions,
        "epochs": epochs,  # of the whole schedule: the configuration may leave the number to the data
    }


def has_checkpoint(folder: Path) -> bool:
    """Whether starting in this run folder would resume a run."""
    return any((folder / "checkpoints").glob("last*.pt"))


def check_same_run(folder: Path, config: DictConfig) -> None:
    """Resuming, or replaying a step, requires the configuration that the run was started with.

    Raises:
        ValueError: keys differ; they are named. With `accept_changes` they are logged instead.
    """
    path = folder / "config.yaml"
    if not (has_checkpoint(folder) or config.replay) or not path.exists():
        return
    before, now = flat_json(read_config(path)), flat_json(plain(config))
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and not is_free(key))
    if not keys:
        return
    changes = [f"{key} (was {before.get(key, 'not set')}, is {now.get(key, 'not set')})" for key in keys]
    if config.accept_changes:
        log.warning("accepted: %s", ", ".join(changes))
        return
    raise ValueError(
        f"{folder} contains a run with a different configuration; these keys differ: {', '.join(changes[:8])}"
        f"{' ...' if len(keys) > 8 else ''}. Run the original command to resume it, use another name=... to start "
        "over, or set accept_changes=true to continue anyway"
    )


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep two processes from training in one folder; the lock is released when the process ends, however it ends.

    Raises:
        ValueError: another process is training there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by loader processes
        except BlockingIOError:
            raise ValueError(f"another process is training in {folder}: wait for it, or use another name=") from None
        except OSError as error:  # a file system without locks
            log.warning("cannot lock %s (%s): do not start a second process in it", folder, error)
        try:
            yield
        finally:
            _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of a failed start."""
    if [path.name for path in folder.iterdir()] == [".lock"]:
        (folder / ".lock").unlink()
        folder.rmdir()


def save_config(folder: Path, config: DictConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def logged_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. A line that is being written, or that a crash truncated, is skipped."""
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
            rows.append({**row, "kind": str(row["kind"]), "step": int(row["step"])})
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return rows
