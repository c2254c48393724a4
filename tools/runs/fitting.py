"""Weights that do not fit a training's settings: all overrides that make them fit, found by trying them."""

import itertools
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from ...backbones.tf_names import from_tf_slim
from ...backbones.tf_variables import read_variables
from ...backbones.weights import LoadReport, override
from ...conf.keys import CONF, choices_of
from ...datasets.labels import LabelMap
from ...words import counted
from ..config.build import COMPOSITION_ERRORS, build_task, compose, make, running, takes_backbone
from ..engine.task import Task
from ..system.console import log
from ..weights.downloads import is_published
from ..weights.files import read_content, state_of
from ..weights.load import config_in, load_weights
from ..weights.sources import SOURCES, ConflictError
from .keys import plain

_NEW = "weights_new_predictors=true"
_ROUNDS = 6  # conflicts that show only after others are resolved
_FOREIGN = ("torchvision", "timm", "espnet", "espnetv2", "c3net", "tf")
_NARROWER = "weights_reduce=importance"
# What a run may set differently from the run that its weights are from: how it starts, regularizes and adapts.
_NAMING = ("_target_", "variant")  # what tells the files of conf/backbone apart
_FREE = ("init", "bn_momentum", "dropout", "class_bias")


def task_with_weights(config: DictConfig, labels: LabelMap) -> Task:
    """A training's task with the weights that it starts from.

    Raises:
        ValueError: weights and settings do not agree; on a command line with the command that works, if there is one.
    """
    try:
        task = build_task(config, labels=labels)
        report = _load(config, task)
    except ValueError as error:
        unreachable = is_published(config.weights) and not isinstance(error, ConflictError)  # or it has no such weights
        if not unreachable and (told := _remedy(labels)):
            raise ValueError(told) from error
        raise
    if config.quantize and report.reinitialized:
        raise ValueError(
            f"weights={config.weights} do not cover this network ({report}): train it in floating point first, and "
            "then with quantize="
        )
    log.info("weights=%s: %s", config.weights, report)
    return task


def _remedy(labels: LabelMap) -> str:
    """All that the running command has to change for its weights; "" if nothing was found."""
    if (command := running()) is None:
        return ""
    name, given = command
    found = overrides_that_fit(given, labels)
    if not found:
        return ""
    weights = next((text for text in given if _key(text) == "weights"), "the file of weights")
    count = labels.num_classes
    anew = f" (then the predictors of your {counted(count, 'class')} start anew)" if _NEW in found else ""
    works = shlex.join(["pocketvision", name, *changed(given, found)])
    return f"{weights} needs other settings: add {shlex.join(found)}{anew}. This command works: {works}"


def overrides_that_fit(given: Sequence[str], labels: LabelMap) -> list[str]:
    """What to add to a training's overrides so that its weights load; empty if nothing was found."""
    for structure in _structures(given):
        found = list(structure)
        for _ in range(_ROUNDS):
            try:
                _try(changed(given, found), labels)
            except ConflictError as conflict:
                if not {*conflict.keys} - {*found}:
                    break
                found = changed(found, conflict.keys)
            except (ValueError, OSError, *COMPOSITION_ERRORS):
                break
            else:
                return sorted(found, key=lambda text: text == _NEW)
    return []


def changed(overrides: Sequence[str], added: Sequence[str]) -> list[str]:
    """The overrides with those added, without earlier ones of the same keys, and of a backbone that is replaced."""
    keys = {_key(text) for text in added}
    gone = "backbone." if "backbone" in keys else "\0"
    return [*(text for text in overrides if _key(text) not in keys and not _key(text).startswith(gone)), *added]


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+")


def _load(config: DictConfig, task: Task) -> LoadReport:
    return load_weights(
        task.model, config.weights, source=config.weights_source, reduce=config.weights_reduce,
        backbone=plain(config)["backbone"], new_predictors=config.weights_new_predictors,
    )  # fmt: skip


def _try(overrides: Sequence[str], labels: LabelMap) -> None:
    """Load the weights into a network without memory; raises what training would, and logs nothing."""
    config = compose(*overrides)
    with torch.device("meta"):
        task = build_task(config, labels=labels)
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nothing is copied into it
            _load(config, task)
    finally:
        log.disabled = before


def _structures(given: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Choices of network that may have the weights' names and shapes, those with the fewest changes first."""
    config = compose(*given)
    yield ()
    try:
        theirs = config_in(read_content(Path(config.weights)))
    except (ValueError, OSError):
        theirs = {}  # TensorFlow's, or published ones
    kind = {"detection": "ssdlite", "segmentation": "lraspp"}.get(config.model.task, "none")
    models = [(), *((f"model={name}",) for name in choices_of("model") if name.startswith(kind))]
    if theirs:
        yield (_NARROWER,)
        for model in models:
            same = (*model, *_same_settings(changed(given, model), theirs))
            yield same
            yield *same, _NARROWER
        return
    source, trunk = _source_and_trunk(config)
    named = () if source == config.weights_source else (f"weights_source={source}",)
    for backbone in ((), (_NARROWER,), *_backbones_of(config, trunk)):
        for model in models:
            yield *named, *model, *backbone


def _source_and_trunk(config: DictConfig) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The source whose names the weights have, and the shapes of their backbone under our names."""
    given = str(config.weights_source)
    with torch.device("meta"):
        parts = {"backbone": make(config.backbone)} if takes_backbone(config.model) else {}
        network = make(config.model.network, num_classes=2, **parts)
    for source in _FOREIGN if given == "pocketvision" else (given,):
        try:
            if source == "tf":
                state = from_tf_slim(read_variables(config.weights), to="backbone.")
            else:
                state = SOURCES[source](network, state_of(read_content(Path(config.weights))))
        except (ValueError, OSError):
            continue
        return source, {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("backbone.")}
    return given, {}


def _backbones_of(config: DictConfig, trunk: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, ...]]:
    """Our backbones whose tensors all are in a trunk of these shapes, in the same shape."""
    for name, reduced in itertools.product(choices_of("backbone"), ("null", "detection", "segmentation")):
        group = _group_of(name)
        if "_target_" not in group or not trunk:
            continue
        with torch.device("meta"):
            own = make(OmegaConf.create({**group, "reduced": None if reduced == "null" else reduced})).state_dict()
        shapes = {f"backbone.{key}": tuple(tensor.shape) for key, tensor in own.items() if "num_batches" not in key}
        if shapes.items() <= trunk.items():
            same = all(config.backbone.get(key) == group.get(key) for key in _NAMING)
            chosen = () if same else (f"backbone={name}",)
            yield *chosen, f"backbone.reduced={reduced}", "backbone.width=1.0"


def _group_of(backbone: str) -> dict[str, Any]:
    """The keys of a file in conf/backbone, with those of the file that it extends."""
    group = yaml.safe_load((CONF / "backbone" / f"{backbone}.yaml").read_text())
    for name in group.pop("defaults", ()):
        group = group if name == "_self_" else _group_of(name) | group
    return group


def _same_settings(given: Sequence[str], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes backbone and network those of the weights' run."""
    chosen: tuple[str, ...] = ()
    ours, backbone = plain(compose(*given)), theirs.get("backbone")
    if isinstance(backbone, Mapping) and any(backbone.get(key) != ours["backbone"].get(key) for key in _NAMING):
        groups = {name: _group_of(name) for name in choices_of("backbone")}
        names = [n for n, group in groups.items() if all(group.get(key) == backbone.get(key) for key in _NAMING)]
        chosen = tuple(f"backbone={name}" for name in names[:1])
        ours = plain(compose(*changed(given, chosen)))
    found = [*chosen, *_differing("backbone", ours["backbone"], backbone)]
    model = theirs.get("model")
    network = model.get("network") if isinstance(model, Mapping) else None
    if isinstance(network, Mapping) and network.get("_target_") == ours["model"]["network"]["_target_"]:
        found += _differing("model.network", ours["model"]["network"], network)
    return tuple(found)


def _differing(path: str, ours: Mapping[str, Any], theirs: Any) -> Iterator[str]:
    for key, value in theirs.items() if isinstance(theirs, Mapping) else ():
        refers = isinstance(value, str) and "${" in value  # to another key, which is compared itself
        if key not in ours or key in _FREE or value == ours[key] or refers:
            continue
        if isinstance(value, Mapping) and isinstance(ours[key], Mapping):
            yield from _differing(f"{path}.{key}", ours[key], value)
        elif key != "_target_" and isinstance(value, str | int | float | list | None):
            yield override(f"{path}.{key}", value)
