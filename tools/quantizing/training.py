"""The network of a training in eight bits: from a trained network, or from the checkpoint of a run to resume."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ...conf.schema import Precision, TrainConfig
from ...datasets.annotations.sample import Source, evenly
from ...words import counted
from ..config.build import build_dataset
from ..engine.state import load_latest
from ..engine.task import Task
from ..system.console import log, progress
from .placement import QUANTIZERS, RUNTIME, check_installed, described, with_learned_quantizers, with_quantizers

_IMAGES = 100  # that show the first ranges; training learns them from there
_STEPS = 2000  # DeepLab's recipe for eight bits has two to five thousand


def check_quantize(settings: TrainConfig) -> None:
    """Raise ValueError for settings that training in eight bits does not support, or if a package is missing."""
    if settings.quantize is None:
        return
    if settings.quantize != RUNTIME:
        raise ValueError(f"quantize={settings.quantize}: expected {RUNTIME} or none")
    told = f"quantize={RUNTIME}"
    if not settings.weights:
        raise ValueError(f"{told} continues a trained run: set weights=runs/NAME")
    if settings.precision is not Precision.fp32:
        raise ValueError(f"{told} rounds to eight bits, more than {settings.precision.value} has: set precision=fp32")
    if settings.compile:
        raise ValueError(f"{told} cannot be compiled: drop compile=true")
    check_installed()


def quantized(task: Task, config: DictConfig, source: Source) -> Task:
    """The task with the network in eight bits, the first ranges from training images without augmentation."""
    dataset = build_dataset(config, source, training=False)
    chosen = evenly(len(source), _IMAGES)
    log.info("quantizing with %s of the training split", counted(len(chosen), "image"))
    batches = [dataset[i][0][None].float() for i in progress(chosen, total=len(chosen), title="calibration images")]
    return replace(task, model=with_learned_quantizers(task.model, batches))


def as_saved(task: Task, checkpoint: Mapping[str, Any], path: Path) -> Task:
    """The task with the quantizers that a checkpoint describes, for its weights; as it is if there are none.

    Raises:
        ValueError: the quantizers do not fit this network, or NNCF is missing.
    """
    if not checkpoint.get(QUANTIZERS):
        return task
    try:
        return replace(task, model=with_quantizers(task.model, checkpoint[QUANTIZERS]))
    except ValueError as error:
        raise ValueError(f"{path} is of a training with quantize={RUNTIME}, but {error}") from error


def resumed(task: Task, folder: Path) -> Task:
    """The task with the quantizers of a run's latest checkpoint."""
    found = load_latest(folder / "checkpoints" / "last.pt")
    return as_saved(task, found[1], found[0]) if found else task


def to_save(task: Task) -> dict[str, Any]:
    """What every checkpoint says of the quantizers; nothing without any."""
    places = described(task.model)
    return {QUANTIZERS: places} if places else {}


def epochs_for_steps(steps_per_epoch: int) -> int:
    """Epochs that give two thousand steps."""
    return max(1, round(_STEPS / steps_per_epoch))
