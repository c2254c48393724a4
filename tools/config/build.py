"""From a configuration to objects: the only module that knows all four packages."""

import functools
import inspect
import math
import os
from collections.abc import Callable
from typing import Any

import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch.utils.data import DataLoader

from ...conf import schema
from ...datasets.annotations.class_names import known_names
from ...datasets.augmentation.policy import Transform
from ...datasets.augmentation.resize import CROP_FRACTION
from ...datasets.labels import LabelMap, instance_sizes, nameless_labels
from ...datasets.loading.augmented import AugmentedDataset, FirstSamples
from ...datasets.loading.batches import Batch, EpochSampler, make_loader
from ...words import counted
from ..engine.distributed import Ranks
from ..engine.optim import parameter_groups
from ..engine.task import Task
from ..weights.load import load_weights
from ..weights.sources import ConflictError
from .overrides import with_implied
from .values import normalize

__all__ = ["build_loader", "build_source", "build_task", "compose", "load_weights", "register_schemas"]

COMPOSITION_ERRORS = HydraException, OmegaConfBaseException  # of overrides that do not fit together
LEAVE_OUT = ". Remedy: fix or remove it, or skip such files with on_bad_sample=skip"
LEAVE_NOTHING_OUT = (
    ". Evaluation does not skip files, because its metrics would describe different data: fix or remove it"
)


@functools.cache
def register_schemas() -> None:
    """Register the dataclasses of conf/schema.py with Hydra, as `schema/NAME`."""
    for name, config in schema.CONFIGS.items():
        ConfigStore.instance().store(group="schema", name=name, node=config, package="_global_")


def compose(*overrides: str, config_name: str = "train") -> DictConfig:
    """The configuration that a command would use: `compose("experiment=ssdlite_coco", "data.num_classes=3")`.

    Raises:
        ValueError: a value is not what its key takes.
    """
    register_schemas()
    overrides = tuple(with_implied(overrides, config_name))
    instance = GlobalHydra.instance()
    outer, instance.hydra = instance.hydra, None  # a command that composes is itself running in one
    try:
        with initialize_config_module("pocketvision.conf", version_base="1.3"):
            config = hydra_compose(config_name, overrides=list(overrides))
    finally:
        instance.hydra = outer
    normalize(config)
    return config


def running() -> tuple[str, list[str]] | None:
    """The command that is running and its overrides; None if Python called it."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    return hydra.job.config_name or "train", list(hydra.overrides.task)


def make(node: Any, **arguments: Any) -> Any:
    """`instantiate` with plain lists and dicts.

    `arguments` bypass Hydra, which would instantiate every `_target_` and resolve every `${...}` in them: class names
    come from checkpoints and datasets.

    Raises:
        ValueError: the target does not accept these arguments.
    """
    if not arguments:
        return instantiate(node, _convert_="all")
    try:
        return instantiate(node, _partial_=True, _convert_="all")(**arguments)
    except TypeError as error:  # a key it does not have
        raise ValueError(f"{node._target_}: {error}") from error


# ---- task ------------------------------------------------------------------------------------------------


def build_task(config: DictConfig, *, labels: LabelMap | None = None) -> Task:
    """Model, criterion, postprocessing and metric of a configuration; reads no data.

    Args:
        labels: the data's label map. None: the one that `data.labels` declares, or unnamed classes if
            `data.num_classes` is a different number.

    Raises:
        ValueError: model and data are for different tasks, the model does not support the backbone, or the number of
            classes is unknown.
    """
    kind = config.model.task
    if kind != config.data.task:
        raise ValueError(f"model is for {kind}, but data is for {config.data.task}: choose another model= or data=")
    check_backbone(config.model, config.backbone)
    labels = labels or declared_labels(config.data)
    parts: dict[str, Any] = {"num_classes": labels.num_classes}
    if takes_backbone(config.model):
        parts["backbone"] = make(config.backbone)
    network = make(config.model.network, **parts)
    return Task(kind=kind, model=network, labels=labels, **task_parts(config.model, labels))


def task_parts(model: DictConfig, labels: LabelMap) -> dict[str, Any]:
    """A task's parts other than its network: criterion, postprocessing and metric."""
    names: dict[str, Any] = {"names": labels.names}
    if model.task == "segmentation":
        names |= {"categories": categories(labels), "instances": instance_sizes(labels)}
    parts = {
        "criterion": make(model.criterion),
        "postprocess": make(model.postprocess),
        "metric": make(model.metric, **names),
    }
    _check_activation(parts["criterion"], parts["postprocess"])
    return parts


def _check_activation(criterion: Any, postprocess: Any) -> None:
    """Raise ValueError if a detector's loss and its postprocessing use different score activations."""
    learnt, read = (getattr(part, "activation", None) for part in (criterion, postprocess))
    if learnt != read:
        fitting = "hard_negative" if read == "softmax" else "aligned or focal"
        raise ConflictError(
            f"model.postprocess.activation={read}, but model.criterion ({type(criterion).__name__}) trains "
            f"{learnt} scores: set model.postprocess.activation={learnt}, or model/criterion={fitting}",
            [f"model.postprocess.activation={learnt}"],
        )


def takes_backbone(model: DictConfig) -> bool:
    """Whether the model is a head for an exchangeable backbone rather than a complete network."""
    return "backbone" in inspect.signature(get_class(model.network._target_)).parameters


def check_backbone(model: DictConfig, backbone: DictConfig) -> None:
    """Raise ValueError if the model needs a backbone and has none, or the other way around."""
    chosen = backbone.get("_target_")
    if takes_backbone(model) == (chosen is not None):
        return
    network = model.network._target_.rpartition(".")[2]
    if chosen is None:
        raise ValueError(
            f"backbone=none is not supported by this model ({network} needs a backbone): choose backbone=NAME"
        )
    raise ValueError(
        f"backbone ({chosen.rpartition('.')[2]}) is not supported by this model ({network}, which has its own "
        "backbone): set backbone=none, or choose another model="
    )


def data_tells_classes(data: DictConfig) -> bool:
    """Whether the classes are read from the data's files."""
    return data.num_classes is None and data.get("labels") is None


def declared_labels(data: DictConfig) -> LabelMap:
    """The label map that the configuration defines without reading data."""
    num_classes = data.num_classes
    labels = make(data.labels) if data.get("labels") is not None else None
    if labels is not None and num_classes in (None, labels.num_classes):
        return labels
    if num_classes is None:
        raise ValueError(
            "data.num_classes is null and cannot be determined without the data: set data.num_classes=N, or labels="
        )
    return nameless_labels(num_classes, first=1 if data.task == "detection" else 0)


def categories(labels: LabelMap) -> dict[str, list[int]] | None:
    """Category name -> slots, or None if the labels have no categories."""
    groups: dict[str, list[int]] = {}
    for label in labels.labels:
        if label.category:
            groups.setdefault(label.category, []).append(label.slot)
    return groups or None


# ---- data ------------------------------------------------------------------------------------------------


def build_source(config: DictConfig, split: str, *, labels: LabelMap | None = None) -> Any:
    """The dataset of `data.train` or `data.val`, before any augmentation.

    Args:
        labels: the required classes: those of the training split, or of a checkpoint.

    Raises:
        ValueError: the dataset has different classes, or not `data.num_classes` of them.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split={split}: expected train or val")
    node = split_node(config.data, split)
    # A validation split may have fewer classes than the training split, whose slots it keeps.
    source = make(node, labels=labels) if labels and _takes_labels(node._target_) else make(node)
    if config.data.num_classes not in (None, source.labels.num_classes):
        raise ValueError(
            f"data.num_classes={config.data.num_classes}, but data.{split} has "
            f"{counted(source.labels.num_classes, 'class')} ({', '.join(list(source.labels.names.values())[:5])}, ...)"
            ": correct it or set data.num_classes=null"
        )
    if labels and source.labels.names != labels.names:
        raise ValueError(
            f"data.{split} has classes ({known_names(source.labels)}) that differ from the model's "
            f"({known_names(labels)}): use data with the same class list in the same order"
        )
    limit = config.get("overfit")
    return FirstSamples(source, limit, spread=config.data.task == "classification") if limit else source


def split_node(data: DictConfig, split: str) -> DictConfig:
    """The configuration of a split's source.

    Raises:
        ValueError: it is null.
    """
    if data[split] is None:
        raise ValueError(f"data.{split}=null: expected where the images are. Remedy: leave data.{split} out")
    return data[split]


def _takes_labels(target: str) -> bool:
    """Whether a source accepts the list of classes: its files may contain only some of them."""
    return "labels" in inspect.signature(get_object(target)).parameters


def build_dataset(config: DictConfig, source: Any, *, training: bool) -> AugmentedDataset:
    """Augmented and resized samples for training; for evaluation only resized, with the original ground truth."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would check the package index for updates
    policy = [make(step) for step in config.augment.train] if training else []
    size = config.data.input_size if training else config.data.eval_size
    resize = config.data.resize
    if policy and resize == "center_crop":
        resize = "stretch"  # the policy's crop takes its place
    if resize == "none":
        if config.data.eval_size is not None:
            raise ValueError(
                f"data.eval_size={list(config.data.eval_size)} has no effect with data.resize=none, which evaluates "
                "whole images unscaled: set data.eval_size=null, or data.resize=stretch (or letterbox)"
            )
        size = None  # the policy's crop determines the size
    size = None if size is None else tuple(size)
    transform = Transform(
        policy, input_size=size, resize=resize, crop_fraction=crop_fraction(config.data), exact=not training,
        reduced=training and config.get("reduced_decode", False),
    )  # fmt: skip
    return AugmentedDataset(
        source,
        transform=transform,
        seed=config.get("seed", 0),
        ground_truth=not training,
        skip_bad=training and config.get("on_bad_sample") == "skip",
        mosaic=mosaic_share(config.augment, config.data) if training else 0.0,
        remedy=LEAVE_OUT if training else LEAVE_NOTHING_OUT,
    )


def mosaic_share(augment: DictConfig, data: DictConfig) -> float:
    """The share of training samples that are mosaics of four; policies without mosaics have no such key.

    Raises:
        ValueError: not a number from 0 to 1, or the task or the resizing does not support mosaics.
    """
    share, task, resize = augment.get("mosaic", 0.0), data.task, data.resize
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"augment.mosaic={share}: expected a number from 0 to 1, the share of the samples")
    if share and (task == "classification" or resize == "shorter"):
        raise ValueError(
            f"augment.mosaic={share} needs boxes or masks and pictures of one size, which data.task={task} with "
            f"data.resize={resize} does not provide: set augment.mosaic=0"
        )
    return share


def crop_fraction(data: DictConfig) -> float:
    """The share of each side that resize=center_crop keeps; data groups without crops have no such key."""
    return data.get("crop_fraction", CROP_FRACTION)


def build_loader(
    dataset: AugmentedDataset, *, batch_size: int, ranks: Ranks, workers: int, training: bool, seed: int = 0
) -> DataLoader[Batch]:
    """Batches of this rank: for training shuffled by (seed, epoch), full batches only; otherwise all, in order."""
    if not training and (dataset.transform.input_size is None or dataset.transform.resize == "shorter"):
        batch_size = 1  # whole images differ in size, and padding would affect pooled features
    sampler = EpochSampler(
        len(dataset),
        seed=seed,
        shuffle=training,
        batch_size=batch_size,
        last="drop" if training else "keep",
        rank=ranks.rank,
        world=ranks.world,
    )
    pin_memory = ranks.device.type == "cuda"
    return make_loader(dataset, batch_size=batch_size, sampler=sampler, workers=workers, pin_memory=pin_memory)


# ---- training --------------------------------------------------------------------------------------------


def micro_batch(settings: schema.TrainConfig, ranks: Ranks) -> int:
    """Images per pass of one rank.

    Raises:
        ValueError: batch_size is not divisible by ranks x accumulation steps.
    """
    parts = ranks.world * settings.accumulate
    if settings.batch_size % parts:
        raise ValueError(
            f"batch_size={settings.batch_size} (over all ranks and accumulation steps in total) is not divisible by "
            f"{counted(ranks.world, 'rank')} x accumulate={settings.accumulate}"
        )
    return settings.batch_size // parts


def optimizer_factory(settings: schema.TrainConfig) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """A function from a model to the optimizer of the `optimizer` group, its learning rate scaled with the batch size.

    Linearly ([Goyal et al.](https://arxiv.org/abs/1706.02677)), except for Adam and AdamW: with the square root,
    because they divide by the gradient's magnitude ([Malladi et al.](https://arxiv.org/abs/2205.10287)).
    """

    def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
        factory = make(settings.optimizer)
        scale = settings.batch_size / settings.lr_batch_size if settings.lr_batch_size else 1.0
        if issubclass(factory.func, torch.optim.Adam | torch.optim.AdamW):
            scale = math.sqrt(scale)
        decay = settings.optimizer.get("weight_decay", 0.0)
        if not isinstance(settings.optimizer.lr, int | float):
            raise ValueError(f"optimizer.lr={settings.optimizer.lr}: expected a number")
        lr = settings.optimizer.lr * scale
        groups = parameter_groups(model, decay, settings.decay_rule, lr=lr, factors=settings.lr_factors)
        if not groups:
            raise ValueError(f"freeze={settings.freeze} freezes the whole network: freeze fewer parts")
        try:
            return factory(groups, lr=lr)
        except TypeError as error:  # a key it does not have
            raise ValueError(f"optimizer: {error}") from error

    return make_optimizer
