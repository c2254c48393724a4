"""A run's config.yaml, which may be damaged or somebody else's."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from ...datasets.annotations.guarded_yaml import Guarded

_MAX_BYTES, _MAX_DEPTH = 8 << 20, 32  # ours have a few kB, and up to a megabyte with thousands of class names


class _Loader(Guarded, get_yaml_loader()):  # type: ignore[misc]  reads numbers as OmegaConf does
    max_depth = _MAX_DEPTH
    references = "it contains references (*NAME), which no run's has"


def read_config(path: Path) -> dict[str, Any]:
    """The plain values of a config.yaml. Nothing in it is resolved: a run's has no interpolations.

    Raises:
        ValueError: it is not a run's configuration.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MB")
        config = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        if not isinstance(config, dict):
            raise ValueError("it has no keys")
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a run's configuration: {' '.join(str(error).split()):.300}") from error
    return {str(key): value for key, value in config.items()}
