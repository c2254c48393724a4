"""The files of a run's folder: what identifies the run, its lock, its configuration and its results."""

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
from .keys import flat_json, is_free, plain, portable


def run_header(
    config: DictConfig, labels: LabelMap, kind: str, sources: Mapping[str, Source], epochs: int
) -> dict[str, Any]:
    """What every checkpoint of a run carries beside the state that moves."""
    versions = {
        name: importlib.metadata.version(name) for name in ("pocketvision", "torch", "torchvision", "albumentations")
    }
    return {
        "config": portable(config),
        "labels": labels.to_json(),
        "kind": kind,
        "data": {split: source.fingerprint() for split, source in sources.items()},
        "versions": versions,
        "epochs": epochs,  # of the whole schedule: the configuration may leave them to the data
    }


def has_checkpoint(folder: Path) -> bool:
    """Whether a start in this run folder would resume."""
    return any((folder / "checkpoints").glob("last*.pt"))


def check_same_run(folder: Path, config: DictConfig) -> None:
    """A folder that holds a checkpoint may only be continued, or a step replayed, with the configuration that made it.

    Raises:
        ValueError: keys differ; they are named. With `accept_changes` the log tells them instead.
    """
    path = folder / "config.yaml"
    if not (has_checkpoint(folder) or config.replay) or not path.exists():
        return
    old = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(old, dict)
    before, now = flat_json(old), flat_json(plain(config))
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and not is_free(key))
    if not keys:
        return
    changes = [f"{key} (was {before.get(key, 'not there')}, is {now.get(key, 'not there')})" for key in keys]
    if config.accept_changes:
        log.warning("accepted: %s", ", ".join(changes))
        return
    raise ValueError(
        f"{folder} holds a run made with another configuration; these keys differ: {', '.join(changes[:8])}"
        f"{' ...' if len(keys) > 8 else ''}. The same command resumes it; for a fresh start give another name=..., to "
        "go on nevertheless accept_changes=true"
    )


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Two processes must not train in one folder; the lock ends with the process, however it ends.

    Raises:
        ValueError: another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock not inherited by loader processes
        except BlockingIOError:
            raise ValueError(
                f"{folder} is being trained by another process: wait for it, or give another name="
            ) from None
        except OSError as error:  # a file system without locks
            log.warning("%s cannot be locked (%s): start no second process there", folder, error)
        try:
            yield
        finally:
            _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    """A start that failed leaves nothing behind."""
    if [path.name for path in folder.iterdir()] == [".lock"]:
        (folder / ".lock").unlink()
        folder.rmdir()


def save_config(folder: Path, config: DictConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def write_results(path: Path, results: Mapping[str, float]) -> None:
    """Results as one flat JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(results), indent=1) + "\n")
