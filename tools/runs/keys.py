"""A run's configuration as plain values, and which of its keys identify the run."""

import json
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...retired import current

# Keys that may differ between the first start of a run and a resume: they do not touch what is learnt.
FREE_KEYS = (
    *("device", "threads", "workers", "timeout_minutes", "compile", "run_dir", "debug", "replay", "accept_changes"),
    *("cache", "cache_folder", "max_steps", "patience", "on_nonfinite", "on_bad_sample", "log_every", "save_every"),
    *("keep_last", "eval_every", "eval_batch_size"),
)


# Where the data lies; whether it still is the same data is told by its fingerprint.
PATH_KEYS = ("root", "images", "val_images", "train_json", "val_json", "annotations", "folder", "masks", "lists")


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


def is_free(key: str) -> bool:
    """Whether a dotted key of a configuration tells nothing of what is learnt."""
    parts = key.split(".")
    return parts[0] in FREE_KEYS or (parts[0] == "data" and parts[-1] in PATH_KEYS)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration's values by their dotted keys; an empty mapping is a value."""
    if isinstance(value, Mapping) and value:
        items = {}
        for key, item in value.items():
            items |= flat(item, f"{prefix}.{key}" if prefix else str(key))
        return items
    return {prefix: value}


def flat_json(config: Any) -> dict[str, str]:
    """The same, the values in json, and what they name by its present name."""
    return {key: json.dumps(current(value), default=str) for key, value in flat(config).items()}
