"""Rebuild tasks from run folders, checkpoints and published weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ... import conf
from ...absent import Results
from ...backbones.optimized import optimize
from ...conf.schema import RunConfig
from ...datasets.annotations.sample import Source
from ...datasets.labels import LabelMap
from ..config import build
from ..config.foreign import building
from ..config.settings import missing_keys
from ..config.trusted import trusted
from ..engine.distributed import Ranks
from ..engine.evaluation import evaluate
from ..engine.state import check_not_nan, load_checkpoint, load_state
from ..engine.task import Task
from ..quantizing.placement import described
from ..quantizing.training import as_saved
from ..system.console import log
from ..weights.files import checkpoint_path
from .folder import own_config
from .keys import plain

_INFERENCE_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def whole_config(run: "LoadedRun") -> dict[str, Any]:
    """The run's full configuration if its folder still has it; otherwise the checked part from its checkpoint."""
    return plain(run.config) | (own_config(run.folder / "config.yaml") or {})


def check_weights(weights: str | None) -> None:
    """Raise ValueError if an experiment requires weights and none are set."""
    if weights == "required":
        raise ValueError(
            "this experiment starts from a backbone's weights: set weights=RUN (a run folder), weights=torchvision "
            "(downloads ImageNet's) or weights=FILE weights_source=torchvision; docs/weights.md lists those that fit"
        )


def task_of_weights(config: DictConfig, *, partial: bool = False) -> tuple[Task, str]:
    """A configuration's task with the weights of `weights=`, and a report of what matched.

    Classes that the configuration leaves to the data are read from the validation split.

    Args:
        partial: tensors missing from the weights may stay randomly initialized.

    Raises:
        ValueError: the weights do not fit, or do not cover the network.
    """
    check_weights(config.weights)
    if not config.weights:
        raise ValueError("set weights=FILE weights_source=SOURCE, weights=torchvision or weights=timm/NAME")
    told_by_data = build.data_tells_classes(config.data)
    if told_by_data and (missing := missing_keys(config.data, "data")):
        raise ValueError(f"the classes come from the data: set {', '.join(f'{key}=...' for key in missing)}")
    task = build.build_task(config, labels=build.build_source(config, "val").labels if told_by_data else None)
    report = build.load_weights(
        task.model, config.weights, source=config.weights_source, reduce=config.weights_reduce,
        backbone=plain(config)["backbone"], new_predictors=partial,
    )  # fmt: skip
    if report.reinitialized and not partial:
        raise ValueError(
            f"weights={config.weights} do not cover this network ({report}): choose the model and number of "
            "classes that they were trained for"
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

    @property
    def quantized(self) -> bool:
        """Whether the network was trained in eight bits (`train quantize=`)."""
        return bool(described(self.task.model))

    def optimized(self, *, precision: str = "fp32", compile: bool = False) -> "LoadedRun":
        """The same task with a faster copy of the network, see `backbones.optimized.optimize`.

        Raises:
            ValueError: `precision` is neither fp32 nor bf16, or the network was trained in eight bits.
        """
        if self.quantized:
            raise ValueError(f"{self.folder} was trained in eight bits (quantize=): drop optimize=true, or export it")
        if precision not in _INFERENCE_TYPES:
            raise ValueError(f"precision={precision}: expected {' or '.join(_INFERENCE_TYPES)}")
        model = optimize(self.task.model, dtype=_INFERENCE_TYPES[precision], compile=compile)
        return replace(self, task=replace(self.task, model=model))

    def as_asked(self, settings: RunConfig) -> "LoadedRun":
        """Optimized if a command's keys say so."""
        precision = settings.precision.value
        check_optimize(settings.optimize, precision, settings.compile)
        return self.optimized(precision=precision, compile=settings.compile) if settings.optimize else self


def evaluate_run(run: LoadedRun, source: Source, *, batch_size: int, workers: int) -> Results:
    """A run's results on a whole dataset: the metric's, and the losses."""
    ranks = Ranks(0, 1, next(run.task.model.parameters()).device)
    dataset = build.build_dataset(run.config, source, training=False)
    loader = build.build_loader(dataset, batch_size=batch_size, ranks=ranks, workers=workers, training=False)
    return evaluate(run.task, run.task.model, loader, ranks)


def check_optimize(optimize: bool, precision: str, compile: bool, *, file: Any = None) -> None:
    """Raise ValueError for keys that need `optimize`, and for any of the three with an exported `file`."""
    if file and (optimize or precision != "fp32" or compile):
        raise ValueError(f"{file} cannot be changed after export: drop optimize=, precision= and compile=")
    if not optimize and (precision != "fp32" or compile):
        raise ValueError(f"precision={precision} compile={str(compile).lower()} need optimize=true")


def load_run(
    run: str | Path, *, which: str = "best", device: torch.device | str = "cpu", data: Mapping[str, Any] | None = None
) -> LoadedRun:
    """Rebuild a run's task from its checkpoint alone, with the moving average of the weights if there is one.

    Args:
        data: overrides for the data group, such as `root`.
    """
    path = checkpoint_path(run, which)
    try:
        checkpoint = load_checkpoint(path)
    except ValueError as error:
        if path.name == "best.pt" and path.with_name("last.pt").is_file():
            raise ValueError(f"{error}; checkpoint=last takes the last one") from error
        raise
    if lacking := [key for key in ("config", "labels", "model", "progress") if key not in checkpoint]:
        raise ValueError(f"{path} is not a checkpoint of a run: it has no {lacking[0]!r}")
    with building(f"{path} describes a network that cannot be built", with_own=bool(data)):
        config = trusted(checkpoint["config"], data=data)
        step = int(checkpoint["progress"]["step"])
        task = build.build_task(config, labels=LabelMap.from_json(checkpoint["labels"]))
    task = as_saved(task, checkpoint, path)
    average = checkpoint.get("ema")
    load_state(task.model, checkpoint["model"] if average is None else average, path)
    check_not_nan(task.model.state_dict(), path)
    task.model.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return LoadedRun(task=task, config=config, folder=folder, path=path, step=step)


def published_config(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a published network.

    Raises:
        ValueError: `conf/public/` has none with this name.
    """
    names = sorted(path.stem for path in Path(conf.__file__).parent.glob("public/*.yaml"))
    if name not in names:
        raise ValueError(f"{name!r} is not a published network; choose one of {', '.join(names)}")
    return build.compose(f"model={name}", *overrides, config_name="predict")


def load_published(config: DictConfig, *, device: torch.device | str = "cpu") -> LoadedRun:
    """The task of a configuration's model with its published weights.

    Raises:
        ValueError: the configuration has no model with data, or the weights do not cover the model.
    """
    if not config.get("model") or not config.get("data"):
        raise ValueError(
            f"weights={config.weights} needs a published network: set model=ssdlite_torchvision, lraspp_torchvision, "
            "classifier, espnet, espnetv2 or c3net"
        )
    task, report = task_of_weights(config)
    log.info("weights=%s: %s", config.weights, report)
    task.model.to(device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    return LoadedRun(task=task, config=config, folder=Path("."), path=Path(config.weights), step=0)


def run_or_published(config: DictConfig, *, device: torch.device | str = "cpu", otherwise: str) -> LoadedRun:
    """The run of `run=`, or the published network of `model=` and `weights=`.

    Args:
        otherwise: what else the command accepts, for its message.

    Raises:
        ValueError: both are set, or none.
    """
    if config.run and (config.weights or config.model):
        raise ValueError("run= already has a model and weights: drop model= and weights=, or drop run=")
    if not config.run and config.checkpoint != "best":
        raise ValueError(f"checkpoint={config.checkpoint} chooses one of a run's checkpoints: set run= or drop it")
    if config.run:
        return load_run(config.run, which=config.checkpoint, device=device)
    if not config.weights:
        raise ValueError(f"set run=FOLDER (a training run), {otherwise}model=ssdlite_torchvision weights=torchvision")
    return load_published(config, device=device)
