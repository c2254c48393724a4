"""Run folders: what identifies a run, what stands in its checkpoints, and how to get a task back out of one."""

import contextlib
import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from .. import conf
from ..backbones.optimized import optimize
from ..datasets.labels import LabelMap
from ..datasets.sample import Source
from . import build
from .engine.report import log
from .engine.state import load_checkpoint, load_state
from .engine.task import Task
from .trusted import trusted
from .weight_files import checkpoint_path

# Keys that may differ between the first start of a run and a resume: they do not touch what is learnt.
FREE_KEYS = (
    *("device", "threads", "workers", "timeout_minutes", "compile", "run_dir", "debug", "replay", "accept_changes"),
    *("cache", "cache_folder", "max_steps", "patience", "on_nonfinite", "on_bad_sample", "log_every", "save_every"),
    *("keep_last", "eval_every", "eval_batch_size"),
)
# Where the data lies; whether it still is the same data is told by its fingerprint.
PATH_KEYS = ("root", "images", "val_images", "train_json", "val_json", "annotations", "folder", "masks", "lists")

_INFERENCE_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


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


def is_free(key: str) -> bool:
    """Whether a dotted key of a configuration tells nothing of what is learnt."""
    parts = key.split(".")
    return parts[0] in FREE_KEYS or (parts[0] == "data" and parts[-1] in PATH_KEYS)


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


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration's values by their dotted keys; an empty mapping is a value."""
    if isinstance(value, Mapping) and value:
        items = {}
        for key, item in value.items():
            items |= flat(item, f"{prefix}.{key}" if prefix else str(key))
        return items
    return {prefix: value}


def flat_json(config: Any) -> dict[str, str]:
    """The same, the values in json."""
    return {key: json.dumps(value, default=str) for key, value in flat(config).items()}


def whole_config(run: "LoadedRun") -> dict[str, Any]:
    """All that a run was trained with, where its folder still tells; else what its checkpoint was checked for."""
    path = run.folder / "config.yaml"
    config = OmegaConf.load(path) if path.is_file() else run.config
    assert isinstance(config, DictConfig)
    return plain(config)


def write_results(path: Path, results: Mapping[str, float]) -> None:
    """Results as one flat JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(results), indent=1) + "\n")


def check_weights(weights: str | None) -> None:
    """Raise ValueError if an experiment that starts from weights got none."""
    if weights == "required":
        raise ValueError(
            "this experiment starts from a backbone's weights: give weights=RUN (a run folder), weights=torchvision "
            "(downloads ImageNet's) or weights=FILE weights_source=torchvision; docs/weights.md tells which fit what"
        )


def task_of_weights(config: DictConfig, settings: Any, *, partial: bool = False) -> tuple[Task, str]:
    """A configuration's task with the weights of `weights=`, and what matched.

    Classes that the configuration leaves to the data are read from its validation split.

    Args:
        settings: has `weights`, `weights_source` and `weights_reduce`.
        partial: parts that the weights do not have may stay freshly initialised.

    Raises:
        ValueError: the weights do not fit, or not all of the network is in them.
    """
    check_weights(settings.weights)
    if not settings.weights:
        raise ValueError("give weights=FILE weights_source=SOURCE, weights=torchvision or weights=timm/NAME")
    told_by_data = build.data_tells_classes(config)
    missing = build.missing_keys(OmegaConf.to_container(config.data, resolve=False), "data") if told_by_data else []
    if missing:
        raise ValueError(f"the data tells the classes: give {', '.join(f'{key}=...' for key in missing)}")
    task = build.build_task(config, labels=build.build_source(config, "val").labels if told_by_data else None)
    report = build.load_weights(
        task.model, settings.weights, source=settings.weights_source, reduce=settings.weights_reduce,
        backbone=plain(config)["backbone"], new_predictors=partial,
    )  # fmt: skip
    if report.reinitialized and not partial:
        raise ValueError(
            f"weights={settings.weights} are not all of this network ({report}): choose the model and the "
            "number of classes they were made for"
        )
    return task, str(report)


@dataclass(frozen=True)
class LoadedRun:
    """A task with the weights of a run, ready to use."""

    task: Task
    config: DictConfig  # checked: backbone, model and data of the run
    folder: Path
    path: Path  # the checkpoint
    step: int

    def optimized(self, *, precision: str = "fp32", compile: bool = False) -> "LoadedRun":
        """The same with a faster copy of the network, see `backbones.optimized.optimize`.

        Raises:
            ValueError: `precision` is neither fp32 nor bf16.
        """
        if precision not in _INFERENCE_TYPES:
            raise ValueError(f"precision={precision}: networks run in {' or '.join(_INFERENCE_TYPES)}")
        model = optimize(self.task.model, dtype=_INFERENCE_TYPES[precision], compile=compile)
        return replace(self, task=replace(self.task, model=model))

    def as_asked(self, config: Any) -> "LoadedRun":
        """Optimized if a command's keys say so."""
        check_optimize(config.optimize, config.precision.value, config.compile)
        return self.optimized(precision=config.precision.value, compile=config.compile) if config.optimize else self


def check_optimize(optimize: bool, precision: str, compile: bool, *, file: Any = None) -> None:
    """Raise ValueError for what needs `optimize`, and for any of the three with an exported `file`: it is as it is."""
    if file and (optimize or precision != "fp32" or compile):
        raise ValueError(f"{file} runs as it was exported: leave optimize=, precision= and compile= out")
    if not optimize and (precision != "fp32" or compile):
        raise ValueError(f"precision={precision} compile={str(compile).lower()} need optimize=true")


def load_run(
    run: str | Path, *, which: str = "best", device: torch.device | str = "cpu", data: Mapping[str, Any] | None = None
) -> LoadedRun:
    """Rebuild a run's task from its checkpoint alone; the moving average of the weights is used where there is one.

    Args:
        data: keys of the data group to replace, such as `root`.
    """
    path = checkpoint_path(run, which)
    checkpoint = load_checkpoint(path)
    if lacking := [key for key in ("config", "labels", "model", "progress") if key not in checkpoint]:
        raise ValueError(f"{path} is no checkpoint of a run: it has no {lacking[0]!r}")
    config = trusted(checkpoint["config"], data=data)
    try:
        step = int(checkpoint["progress"]["step"])
        task = build.build_task(config, labels=LabelMap.from_json(checkpoint["labels"]))
    except (KeyError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        raise ValueError(f"{path} describes no network that can be built: {error!r:.300}") from error
    load_state(task.model, checkpoint.get("ema") or checkpoint["model"], path)
    task.model.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return LoadedRun(task=task, config=config, folder=folder, path=path, step=step)


def published_config(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a network as it was published.

    Raises:
        ValueError: there is none of this name in `conf/public/`.
    """
    names = sorted(path.stem for path in Path(conf.__file__).parent.glob("public/*.yaml"))
    if name not in names:
        raise ValueError(f"{name!r} is no published network that weights are loaded into; there are {', '.join(names)}")
    return build.compose(f"model={name}", *overrides, config_name="predict")


def load_published(config: DictConfig, *, device: torch.device | str = "cpu") -> LoadedRun:
    """The task of a configuration's model, with the weights that others published for it.

    Raises:
        ValueError: the configuration names no model with data, or the weights are not all of it.
    """
    if not config.get("model") or not config.get("data"):
        raise ValueError(
            f"weights={config.weights} needs a published network: model=ssdlite_torchvision, lraspp_torchvision, "
            "classifier, espnet, espnetv2 or c3net"
        )
    task, report = task_of_weights(config, config)
    log.info("weights=%s: %s", config.weights, report)
    task.model.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    return LoadedRun(task=task, config=config, folder=Path("."), path=Path(config.weights), step=0)
