"""A run's configuration as plain values, and the keys that identify the run."""

import json
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...retired import current
from ..config.settings import flat

# Keys that may differ between the first start of a run and a resume: they do not affect what is learned.
FREE_KEYS = (
    *("device", "threads", "workers", "timeout_minutes", "compile", "run_dir", "debug", "replay", "accept_changes"),
    *("cache", "cache_folder", "max_steps", "patience", "on_nonfinite", "on_bad_sample", "log_every", "save_every"),
    *("keep_last", "eval_every", "eval_batch_size"),
)


# Where the data is stored and how it is divided; its fingerprint shows whether it is still the same data.
PATH_KEYS = (
    *("root", "images", "val_images", "train_json", "val_json", "annotations", "folder", "masks", "lists", "holdout"),
)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration in plain JSON types."""
    value = OmegaConf.to_container(config, resolve=True, throw_on_missing=False, enum_to_str=True)
    assert isinstance(value, dict)
    return {str(key): item for key, item in value.items()}


def portable(config: DictConfig) -> Any:
    """The configuration with its references to other keys kept, so that `evaluate ... data.root=ELSEWHERE` affects all.

    Resolvers (`${oc.env:DATA}`) are resolved here, because another machine may give another value.
    """

    def settle(text: Any, value: Any) -> Any:
        if isinstance(text, dict):
            return {key: settle(item, value[key]) for key, item in text.items()}
        if isinstance(text, list):
            return [settle(*pair) for pair in zip(text, value, strict=True)]
        return value if isinstance(text, str) and re.search(r"\$\{[^}]*:", text) else text

    return settle(OmegaConf.to_container(config, enum_to_str=True), plain(config))


def is_free(key: str) -> bool:
    """Whether a dotted key does not affect what is learned."""
    parts = key.split(".")
    return parts[0] in FREE_KEYS or (parts[0] == "data" and parts[-1] in PATH_KEYS)


def is_compared(key: str) -> bool:
    """Whether two runs that differ in a dotted key have different settings: for `compare` and for pages."""
    return key != "name" and not is_free(key)


def flat_json(config: Any) -> dict[str, str]:
    """A configuration's values as JSON by dotted key, retired names replaced."""
    return {key: json.dumps(current(value), default=str) for key, value in flat(config).items()}
