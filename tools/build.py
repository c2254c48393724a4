"""From a configuration to objects: the one place that knows all four packages."""

import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch.utils.data import DataLoader

from ..conf import schema
from ..datasets.augmented import AugmentedDataset, FirstSamples
from ..datasets.labels import LabelMap, nameless_labels
from ..datasets.loading import Batch, EpochSampler, make_loader
from ..datasets.transforms import CROP_FRACTION, Transform
from .engine.distributed import Ranks
from .engine.optim import parameter_groups
from .engine.task import Task
from .weights import load_weights

__all__ = ["build_loader", "build_source", "build_task", "compose", "load_weights", "register_schemas"]

CONFIGS: dict[str, type] = {
    "train": schema.TrainConfig,
    "evaluate": schema.EvaluateConfig,
    "predict": schema.PredictConfig,
    "browse": schema.BrowseConfig,
    "info": schema.InfoConfig,
    "check_resume": schema.CheckResumeConfig,
    "make_shapes": schema.MakeShapesConfig,
}
OPEN_GROUPS = ("optimizer", "backbone", "model", "data", "augment")
# They take the classes they have to have: what is in their files may be only some of them.
GIVEN_LABELS = ("pocketvision.datasets.coco.CocoDetection", "pocketvision.datasets.image_folder.ImageFolder")


def register_schemas() -> None:
    """Make the dataclasses of conf/schema.py known to Hydra, as `schema/NAME`."""
    for name, config in CONFIGS.items():
        ConfigStore.instance().store(group="schema", name=name, node=config, package="_global_")


def compose(*overrides: str, config_name: str = "train") -> DictConfig:
    """The configuration a command would run with, e.g. `compose("experiment=ssdlite_coco", "data.num_classes=3")`."""
    register_schemas()
    with initialize_config_module("pocketvision.conf", version_base="1.3"):
        return hydra_compose(config_name, overrides=list(overrides))


def make(node: Any, **arguments: Any) -> Any:
    """`instantiate`, with plain lists and dicts.

    `arguments` go past Hydra: it would make an object of every `_target_` and answer every `${...}` in them, and the
    names of classes come out of checkpoints and data sets.

    Raises:
        ValueError: the target does not take such arguments.
    """
    if not arguments:
        return instantiate(node, _convert_="all")
    try:
        return instantiate(node, _partial_=True, _convert_="all")(**arguments)
    except TypeError as error:  # a key it does not have
        raise ValueError(f"{node._target_}: {error}") from error


# ---- task ------------------------------------------------------------------------------------------------


def build_task(config: DictConfig, *, labels: LabelMap | None = None) -> Task:
    """Model, criterion, postprocess and metric of a configuration; no data is read.

    Args:
        labels: the data's label map. Without it the one that `data.labels` declares is used, or nameless classes where
            `data.num_classes` says another number.

    Raises:
        ValueError: model and data are of different tasks, or nothing tells the number of classes.
    """
    kind = config.model.task
    if kind != config.data.task:
        raise ValueError(f"model is for {kind} but data for {config.data.task}: choose another model= or data=")
    labels = labels or declared_labels(config)
    backbone = make(config.backbone)
    names: dict[str, Any] = {"names": labels.names}
    if kind == "segmentation":
        names["categories"] = categories(labels)
    return Task(
        kind=kind,
        model=make(config.model.network, backbone=backbone, num_classes=labels.num_classes),
        criterion=make(config.model.criterion),
        postprocess=make(config.model.postprocess),
        metric=make(config.model.metric, **names),
        labels=labels,
    )


def declared_labels(config: DictConfig) -> LabelMap:
    """The label map that the configuration tells by itself."""
    num_classes = config.data.num_classes
    labels = make(config.data.labels) if config.data.get("labels") is not None else None
    if labels is not None and num_classes in (None, labels.num_classes):
        return labels
    if num_classes is None:
        raise ValueError("data.num_classes is null and only the data can tell it: give data.num_classes=N, or labels=")
    return nameless_labels(num_classes, first=1 if config.data.task == "detection" else 0)


def categories(labels: LabelMap) -> dict[str, list[int]] | None:
    """Category name -> slots, where the labels have categories."""
    groups: dict[str, list[int]] = {}
    for label in labels.labels:
        if label.category:
            groups.setdefault(label.category, []).append(label.slot)
    return groups or None


# ---- data ------------------------------------------------------------------------------------------------


def build_source(config: DictConfig, split: str, *, labels: LabelMap | None = None) -> Any:
    """The data set of `data.train` or `data.val`, before any augmentation.

    Args:
        labels: the classes it has to have: those of the training split, or of a checkpoint.

    Raises:
        ValueError: it has other classes, or not `data.num_classes` of them.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split={split}: a data group has the splits train and val")
    node = config.data[split]
    # A validation split may have fewer classes than the training one: slots come from there, not from counting anew.
    source = make(node, labels=labels) if labels and node._target_ in GIVEN_LABELS else make(node)
    if config.data.num_classes not in (None, source.labels.num_classes):
        raise ValueError(
            f"data.num_classes={config.data.num_classes}, but data.{split} has {source.labels.num_classes} classes "
            f"({', '.join(list(source.labels.names.values())[:5])}, ...): correct it or set data.num_classes=null"
        )
    if labels and source.labels.names != labels.names:
        raise ValueError(
            f"data.{split} has other classes ({_some(source.labels)}) than the model ({_some(labels)}): "
            "use data with the same class list in the same order"
        )
    limit = config.get("overfit")
    return FirstSamples(source, limit, spread=config.data.task == "classification") if limit else source


def _some(labels: LabelMap) -> str:
    names = list(labels.names.values())
    return ", ".join(names[:6]) + (f", ... {len(names)} in all" if len(names) > 6 else "")


def build_dataset(config: DictConfig, source: Any, *, training: bool) -> AugmentedDataset:
    """Augmented and resized samples for training; for evaluation only resized, with the truth at its original size."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the package index for news
    policy = [make(step) for step in config.augment.train] if training else []
    size = config.data.input_size if training else config.data.eval_size
    resize = config.data.resize
    if policy and resize == "center_crop":
        resize = "stretch"  # the policy's crop takes its place
    if resize == "none":
        if config.data.eval_size is not None:
            raise ValueError(
                f"data.eval_size={list(config.data.eval_size)} with data.resize=none: whole images are evaluated as "
                "they are; set data.eval_size=null, or data.resize=stretch (or letterbox)"
            )
        size = None  # a crop of the policy makes the size
    size = None if size is None else tuple(size)
    transform = Transform(
        policy, input_size=size, resize=resize, crop_fraction=crop_fraction(config), exact=not training
    )
    return AugmentedDataset(source, transform=transform, seed=config.get("seed", 0), ground_truth=not training)


def crop_fraction(config: DictConfig) -> float:
    """The share that resize=center_crop looks at; data groups that are never cut have no such key."""
    return config.data.get("crop_fraction", CROP_FRACTION)


def build_loader(
    dataset: AugmentedDataset, *, batch_size: int, ranks: Ranks, workers: int, training: bool, seed: int = 0
) -> DataLoader[Batch]:
    """Batches of this rank: in training shuffled by (seed, epoch) and full, otherwise in order and complete."""
    if not training and dataset.transform.input_size is None:
        batch_size = 1  # whole images differ in size, and what pads one to another would reach its pooled features
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


def train_settings(config: DictConfig) -> schema.TrainConfig:
    """The closed keys as a typed object. The open groups are left out: they may still lack a path."""
    names = [field.name for field in fields(schema.TrainConfig) if field.name not in OPEN_GROUPS]
    values: dict[str, Any] = {name: config[name] for name in names}
    values |= {name: OmegaConf.to_object(value) for name, value in values.items() if OmegaConf.is_config(value)}
    settings = schema.TrainConfig(**values)
    schema.check(settings)
    return settings


def micro_batch(settings: schema.TrainConfig, ranks: Ranks) -> int:
    """Images of one pass of one rank.

    Raises:
        ValueError: batch_size does not divide by ranks and accumulation steps.
    """
    parts = ranks.world * settings.accumulate
    if settings.batch_size % parts:
        raise ValueError(
            f"batch_size={settings.batch_size} (of all ranks and accumulation steps together) does not divide by "
            f"{ranks.world} ranks x accumulate={settings.accumulate}"
        )
    return settings.batch_size // parts


def optimizer_factory(config: DictConfig, settings: schema.TrainConfig) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """A function from a model to the optimizer of the `optimizer` group, its rate scaled linearly with the batch."""

    def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
        scale = settings.batch_size / settings.lr_batch_size if settings.lr_batch_size else 1.0
        decay = config.optimizer.get("weight_decay", 0.0)
        if not isinstance(config.optimizer.lr, int | float):
            raise ValueError(f"optimizer.lr={config.optimizer.lr}: expected a number")
        lr = config.optimizer.lr * scale
        groups = parameter_groups(model, decay, settings.decay_rule, lr=lr, factors=settings.lr_factors)
        if not groups:
            raise ValueError(f"freeze={settings.freeze} leaves nothing that learns")
        try:
            return make(config.optimizer)(groups, lr=lr)
        except TypeError as error:  # a key it does not have
            raise ValueError(f"optimizer: {error}") from error

    return make_optimizer


# ---- configurations out of a checkpoint ------------------------------------------------------------------

# A configuration inside a checkpoint is untrusted. A target is allowed by what it *is*, its own module and qualified
# name: a prefix of the dotted path can be walked around (`pocketvision.x.torch.load`).
ALLOWED_TARGETS = frozenset(
    f"pocketvision.{name}"
    for name in (
        "backbones.classifier.Classifier",
        "backbones.criterion.LabelCriterion",
        "backbones.metric.TopAccuracy",
        "backbones.postprocess.Rankings",
        "backbones.mobilenet_v1.MobileNetV1",
        "backbones.mobilenet_v2.MobileNetV2",
        "backbones.mobilenet_v3.MobileNetV3",
        "backbones.mnasnet.MnasNet",
        "detection.anchors.AnchorLayout",
        "detection.network.SSDLite",
        "detection.criterion.FocalCriterion",
        "detection.criterion.HardNegativeCriterion",
        "detection.postprocess.Postprocess",
        "detection.metric.CocoMetric",
        "segmentation.network.LRASPP",
        "segmentation.network.RASPP",
        "segmentation.criterion.PixelCriterion",
        "segmentation.postprocess.LabelMaps",
        "segmentation.metric.MeanIoU",
        "datasets.coco.CocoDetection",
        "datasets.cityscapes.Cityscapes",
        "datasets.image_folder.ImageFolder",
        "datasets.mask_folder.MaskFolder",
        "datasets.shapes.ShapesDetection",
        "datasets.shapes.ShapesSegmentation",
        "datasets.labels.coco_labels",
        "datasets.labels.cityscapes_labels",
        "datasets.labels.nameless_labels",
    )
)
GROUPS = ("backbone", "model", "data")
PLAIN_REFERENCE = re.compile(r"\$\{[\w.]+\}", re.ASCII)
MAX_DEPTH = 32  # ours are five levels deep


def trusted(config: Mapping[str, Any], *, data: Mapping[str, Any] | None = None) -> DictConfig:
    """Backbone, model and data of a checkpoint's configuration, resolved and every target in them checked.

    Args:
        data: keys of the data group to replace, from the user, such as `root`.

    Raises:
        ValueError: a target is not one of ours, an interpolation calls a resolver, a group is missing, references do
            not resolve, or `data` has an unknown key.
    """
    lacking = [key for key in GROUPS if not isinstance(config, Mapping) or not isinstance(config.get(key), Mapping)]
    if lacking:
        raise ValueError(f"the checkpoint's configuration has no group {lacking[0]!r}: refused")
    config = dict(config)
    for text in _texts(config):
        _refuse(call for call in re.findall(r"\$\{[^}]*\}?", text) if not PLAIN_REFERENCE.fullmatch(call))
    unknown = sorted(set(data or {}) - set(config["data"]))
    if unknown:
        raise ValueError(
            f"data.{unknown[0]} is no key of this run's data group; it has: {', '.join(map(str, config['data']))}"
        )
    resolved = _resolve(config, data or {})
    part = {key: resolved[key] for key in GROUPS}
    part |= {"seed": resolved.get("seed", 0), "overfit": resolved.get("overfit")}
    # The result is a configuration again. An interpolation that came about only now, pieced together (`${a}{oc.env:B}`
    # where a is a dollar sign) or escaped, would be evaluated after all checks.
    _refuse(text for text in _texts(part) if "${" in text)
    for target in _targets(part):
        identity = _identity(target)
        if identity not in ALLOWED_TARGETS:
            raise ValueError(
                f"the checkpoint's configuration asks for {target!r} ({identity}), which it may not: refused"
            )
    return OmegaConf.create(part)


def _resolve(config: dict[str, Any], data: Mapping[str, Any]) -> dict[Any, Any]:
    """Plain values, `data` merged into the data group. References in circles are a ValueError like other faults."""
    try:
        whole = OmegaConf.create(config)
        whole.data = OmegaConf.merge(whole.data, data)
        resolved = OmegaConf.to_container(whole, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"the checkpoint's configuration does not resolve: {error}") from error
    assert isinstance(resolved, dict)
    return resolved


def _texts(node: Any, depth: int = 0) -> Iterable[str]:
    """Every text among keys and values. The depth has a limit, because what was pickled may contain itself."""
    if depth > MAX_DEPTH:
        raise ValueError(f"the checkpoint's configuration is more than {MAX_DEPTH} levels deep: refused")
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for pair in node.items():
            yield from _texts(pair, depth)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _texts(item, depth + 1)


def _refuse(texts: Iterable[str]) -> None:
    for text in texts:
        raise ValueError(
            f"the checkpoint's configuration holds {text[:200]!r}, not a plain value or reference: refused"
        )


def _targets(node: Any) -> Iterable[Any]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


def _identity(target: Any) -> str:
    """Module and qualified name of the object behind a dotted name; only modules of ours are imported to find out."""
    parts = str(target).split(".")
    if parts[0] != "pocketvision" or any(part.startswith("_") for part in parts):
        return "not of pocketvision"
    module_name, _, name = str(target).rpartition(".")
    if module_name not in {allowed.rpartition(".")[0] for allowed in ALLOWED_TARGETS} | {
        ".".join(allowed.split(".")[:-2]) for allowed in ALLOWED_TARGETS
    }:
        return "not a module with targets"
    found = getattr(importlib.import_module(module_name), name, None)
    return f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
