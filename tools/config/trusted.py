"""Configurations from checkpoints, which are untrusted, and the allowlist of targets that they may name."""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ... import conf
from .references import check_size, replaced
from .values import normalize

GROUPS = ("backbone", "model", "data")
_KEYS = (*GROUPS, "seed", "overfit")  # that are used
# Named by checkpoints but by no file in conf/.
UNNAMED = ("pocketvision.datasets.labels.nameless_labels",)


def _targets_of_conf() -> Iterator[str]:
    """Every target that conf/ names in the groups that checkpoints contain."""
    for group in (*GROUPS, "public"):
        for path in sorted((Path(conf.__file__).parent / group).rglob("*.yaml")):
            yield from re.findall(r"^\s*_target_: *(pocketvision\.[\w.]+) *$", path.read_text("utf-8"), re.MULTILINE)


# A configuration inside a checkpoint is untrusted. A target is checked by its identity, its own module and qualified
# name: checking a prefix of the dotted path could be bypassed (`pocketvision.x.torch.load`).
ALLOWED_TARGETS = frozenset([*UNNAMED, *_targets_of_conf()])
PLAIN_REFERENCE = re.compile(r"\$\{[\w.]+\}", re.ASCII)
MAX_DEPTH = 32  # ours are five levels deep
MAX_NODES, MAX_CHARACTERS = 100_000, 5_000_000  # keys and values, references replaced; ours have a few hundred


def trusted(config: Mapping[str, Any], *, data: Mapping[str, Any] | None = None) -> DictConfig:
    """Backbone, model and data of a checkpoint's configuration, resolved, with every target checked.

    Args:
        data: the user's overrides for the data group, such as `root`.

    Raises:
        ValueError: a target is not on the allowlist, an interpolation calls a resolver, a group is missing, references
            do not resolve, or `data` has an unknown key.
    """
    lacking = [key for key in GROUPS if not isinstance(config, Mapping) or not isinstance(config.get(key), Mapping)]
    if lacking:
        raise ValueError(f"the checkpoint's configuration has no group {lacking[0]!r}")
    config = dict(config)
    for text in _texts(config):
        _refuse(call for call in re.findall(r"\\?\$\{[^}]*\}?", text) if not PLAIN_REFERENCE.fullmatch(call))
    check_size(config, nodes=MAX_NODES, characters=MAX_CHARACTERS)
    unknown = sorted(set(data or {}) - set(config["data"]))
    if unknown:
        raise ValueError(
            f"data.{unknown[0]} is not a key of this run's data group; its keys are: "
            f"{', '.join(map(str, config['data']))}"
        )
    part = {"seed": 0, "overfit": None, **_resolve(config, data or {})}
    # The result becomes a configuration again. An interpolation that only exists now, pieced together (`${a}{oc.env:B}`
    # where a is a dollar sign) or escaped, would be evaluated after all checks.
    _refuse(text for text in _texts(part) if "${" in text)
    for target in _targets(part):
        identity = _identity(target)
        if identity not in ALLOWED_TARGETS:
            raise ValueError(
                f"the checkpoint's configuration asks for {target!r} ({identity}), which is not on the allowlist"
            )
    # The training machine's metric backend may be missing here and is perhaps not needed.
    if isinstance(metric := part["model"].get("metric"), dict):
        metric.pop("backend", None)
    try:
        found = OmegaConf.create(part)
    except (OmegaConfBaseException, RecursionError) as error:  # values that no configuration has
        raise ValueError(f"the checkpoint's configuration cannot be resolved: {error}") from error
    normalize(found)
    return found


def _resolve(config: dict[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that are used, with `data` merged into the data group, as plain values without references."""
    if not any("${" in text for text in _texts(data)):
        return replaced({**config, "data": _merged(config["data"], data)}, _KEYS)
    try:  # the user's own references may call resolvers
        whole = OmegaConf.create(config)
        whole.data = OmegaConf.merge(whole.data, data)
        resolved: Any = OmegaConf.to_container(whole, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"the checkpoint's configuration cannot be resolved: {error}") from error
    return {key: resolved[key] for key in _KEYS if key in resolved}


def _merged(base: Mapping[Any, Any], other: Mapping[Any, Any]) -> dict[Any, Any]:
    """`base` with the values of `other`, group by group."""
    found = dict(base)
    for key, value in other.items():
        mine = found.get(key)
        found[key] = _merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return found


def _texts(whole: Any) -> Iterable[str]:
    """Every string among keys and values.

    Depth and number are limited: pickled data may contain itself, or one part many times.
    """
    nodes, waiting = 0, [(whole, 0)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"the checkpoint's configuration is more than {MAX_DEPTH} levels deep")
        if nodes > MAX_NODES:
            raise ValueError(f"the checkpoint's configuration has more than {MAX_NODES:,} keys and values")
        if isinstance(node, str):
            yield node
        elif isinstance(node, Mapping | list | tuple):
            parts = (part for pair in node.items() for part in pair) if isinstance(node, Mapping) else node
            waiting += [(part, depth + 1) for part in islice(parts, MAX_NODES)]


def _refuse(texts: Iterable[str]) -> None:
    for text in texts:
        raise ValueError(
            f"the checkpoint's configuration contains {text[:200]!r}, which is not a plain value or reference"
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
    """Module and qualified name of the object behind a dotted name; imports only modules of this package."""
    parts = str(target).split(".")
    if parts[0] != "pocketvision" or any(part.startswith("_") for part in parts):
        return "not part of pocketvision"
    module_name, _, name = str(target).rpartition(".")
    if module_name not in {allowed.rpartition(".")[0] for allowed in ALLOWED_TARGETS} | {
        ".".join(allowed.split(".")[:-2]) for allowed in ALLOWED_TARGETS
    }:
        return "not a module with targets"
    found = getattr(importlib.import_module(module_name), name, None)
    return f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}"
