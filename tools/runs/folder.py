"""The files in a run folder: the run's identity, lock, configuration and results."""

import contextlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...absent import from_file
from ...conf.schema import MISSING, TrainConfig
from ...datasets.annotations.sample import Source
from ...datasets.labels import LabelMap
from ...files import remove_leftovers, whole_file
from ..engine.report import parse_row
from ..engine.state import load_latest
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
    if not (has_checkpoint(folder) or config.replay):
        return
    before = own_config(path)
    changes = _changes(before, config)
    if (before is None or changes) and (saved := _saved_config(folder)):
        if changes and not _changes(saved, config):
            log.warning("%s does not agree with the checkpoint: using the configuration in the checkpoint", path)
        changes = _changes(saved, config)
    if not changes:
        return
    if config.accept_changes:
        log.warning("accepted: %s", ", ".join(changes))
        return
    raise ValueError(
        f"{folder} contains a run with a different configuration; these keys differ: {', '.join(changes[:8])}"
        f"{' ...' if len(changes) > 8 else ''}. Run the original command to resume it, use another name=... to start "
        "over, or set accept_changes=true to continue anyway"
    )


def _changes(old: Mapping[str, Any] | None, config: DictConfig) -> list[str]:
    """The keys that affect what is learned and differ, each with both values. `old` may have unresolved references."""
    if old is None:
        return []
    before = _defaults() | flat_json(old)  # an earlier version may not have had a key
    now, unresolved = flat_json(plain(config)), flat_json(portable(config))
    return [
        f"{key} (was {before.get(key, 'not set')}, is {now.get(key, 'not set')})"
        for key in sorted(before.keys() | now.keys())
        if not is_free(key) and before.get(key) not in (now.get(key), unresolved.get(key))
    ]


def _defaults() -> dict[str, str]:
    defaults = OmegaConf.to_container(OmegaConf.structured(TrainConfig), enum_to_str=True)
    return flat_json({key: value for key, value in defaults.items() if value != MISSING})  # pyright: ignore


def _saved_config(folder: Path) -> dict[str, Any] | None:
    """The configuration in the run's latest checkpoint."""
    found = load_latest(folder / "checkpoints" / "last.pt")
    config = found[1].get("config") if found else None
    return config if isinstance(config, dict) else None


def own_config(path: Path) -> dict[str, Any] | None:
    """The content of a run's config.yaml; None if there is none, or, with a warning, if it is damaged."""
    if not path.exists():
        return None
    try:
        return read_config(path)
    except (ValueError, OSError) as error:
        log.warning("%s. The configuration in the checkpoint is used instead", error)
        return None


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
    """Write config.yaml, unless it says the same already."""
    remove_leftovers(folder, of="config")
    path, text = folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    if not path.is_file() or path.read_bytes() != text.encode():
        with whole_file(path, durable=True) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def logged_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; absent metrics are None. A line not yet whole, or truncated, is skipped."""
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = parse_row(line)
            kind, step = str(row["kind"]), int(row["step"])
            rows.append({**(from_file(row) if kind == "val" else row), "kind": kind, "step": step})
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return rows
