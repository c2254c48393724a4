"""Run folders: what identifies a run, what stands in its checkpoints, and how to get a task back out of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ... import conf
from ...backbones.optimized import optimize
from ...datasets.labels import LabelMap
from ..config import build
from ..config.trusted import trusted
from ..engine.state import load_checkpoint, load_state
from ..engine.task import Task
from ..system.console import log
from ..weights.files import checkpoint_path
from .keys import plain

_INFERENCE_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def whole_config(run: "LoadedRun") -> dict[str, Any]:
    """All that a run was trained with, where its folder still tells; else what its checkpoint was checked for."""
    path = run.folder / "config.yaml"
    config = OmegaConf.load(path) if path.is_file() else run.config
    assert isinstance(config, DictConfig)
    return plain(config)


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
