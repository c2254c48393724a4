"""Run folders: what identifies a run, what stands in its checkpoints, and how to get a task back out of one."""

import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ..datasets.labels import LabelMap
from . import build
from .engine.state import load_checkpoint
from .engine.task import Task

# Keys that may differ between the first start of a run and a resume: they do not touch the numbers.
FREE_KEYS = frozenset(
    {
        "device",
        "threads",
        "workers",
        "log_every",
        "save_every",
        "eval_every",
        "eval_batch_size",
        "max_steps",
        "run_dir",
        "compile",
    }
)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration in plain JSON types."""
    value = OmegaConf.to_container(config, resolve=True, throw_on_missing=False, enum_to_str=True)
    assert isinstance(value, dict)
    return {str(key): item for key, item in value.items()}


def portable(config: DictConfig) -> Any:
    """The configuration with its references to other keys, so that `evaluate ... data.root=ELSEWHERE` reaches them all.

    What asks a resolver (`${oc.env:DATA}`) is answered here: another machine may answer otherwise.
    """

    def settle(text: Any, value: Any) -> Any:
        if isinstance(text, dict):
            return {key: settle(item, value[key]) for key, item in text.items()}
        if isinstance(text, list):
            return [settle(*pair) for pair in zip(text, value, strict=True)]
        return value if isinstance(text, str) and re.search(r"\$\{[^}]*:", text) else text

    return settle(OmegaConf.to_container(config, enum_to_str=True), plain(config))


def run_header(config: DictConfig, labels: LabelMap, kind: str) -> dict[str, Any]:
    """What every checkpoint of a run carries beside the state that moves."""
    versions = {
        name: importlib.metadata.version(name) for name in ("pocketvision", "torch", "torchvision", "albumentations")
    }
    return {
        "config": portable(config),
        "labels": labels.to_json(),
        "kind": kind,
        "versions": versions,
    }


def check_same_run(folder: Path, config: DictConfig) -> None:
    """A folder that holds a checkpoint may only be continued with the configuration it was made with.

    Raises:
        ValueError: keys differ; they are named.
    """
    path = folder / "config.yaml"
    if not (folder / "checkpoints" / "last.pt").exists() or not path.exists():
        return
    old = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(old, dict)
    changed = {key for key, _ in _flat(old).items() ^ _flat(plain(config)).items()}
    keys = sorted(key for key in changed if key.split(".")[0] not in FREE_KEYS)
    if keys:
        raise ValueError(
            f"{folder} holds a run made with another configuration; these keys differ: {', '.join(keys[:8])}"
            f"{' ...' if len(keys) > 8 else ''}. The same command resumes it; for a fresh start give another name=..."
        )


def save_config(folder: Path, config: DictConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        items = {}
        for key, item in value.items():
            items |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
        return items
    return {prefix: json.dumps(value, default=str)}


def write_results(path: Path, results: Mapping[str, float]) -> None:
    """Results as one flat JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(results), indent=1) + "\n")


@dataclass(frozen=True)
class LoadedRun:
    """A task with the weights of a run, ready to use."""

    task: Task
    config: DictConfig  # checked: backbone, model and data of the run
    folder: Path
    path: Path  # the checkpoint
    step: int


def checkpoint_path(run: str | Path, which: str = "best") -> Path:
    """The checkpoint of a run folder (`best`, or `last` where there is no best), or the file itself.

    Raises:
        FileNotFoundError: neither.
    """
    if which not in ("best", "last"):
        raise ValueError(f"checkpoint={which}: expected best or last")
    run = Path(run)
    if run.is_file():
        return run
    for name in dict.fromkeys([which, "last"]):
        path = run / "checkpoints" / f"{name}.pt"
        if path.is_file():
            return path
    what = "has no checkpoints/best.pt or last.pt (not trained yet?)" if run.is_dir() else "does not exist"
    raise FileNotFoundError(f"{run} {what}: give run=FOLDER of a training run, or a checkpoint file")


def load_run(
    run: str | Path, *, which: str = "best", device: torch.device | str = "cpu", data: Mapping[str, Any] | None = None
) -> LoadedRun:
    """Rebuild a run's task from its checkpoint alone; the moving average of the weights is used where there is one.

    Args:
        data: keys of the data group to replace, such as `root`.
    """
    path = checkpoint_path(run, which)
    checkpoint = load_checkpoint(path)
    config = build.trusted(checkpoint["config"], data=data)
    task = build.build_task(config, labels=LabelMap.from_json(checkpoint["labels"]))
    task.model.load_state_dict(checkpoint["ema"] or checkpoint["model"])
    task.model.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return LoadedRun(task=task, config=config, folder=folder, path=path, step=checkpoint["progress"]["step"])
