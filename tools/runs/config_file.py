"""A run's config.yaml, which may be damaged or somebody else's."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

_MAX_BYTES, _MAX_DEPTH = 8 << 20, 32  # ours have a few kB, and up to a megabyte with thousands of class names


class _Loader(get_yaml_loader()):  # type: ignore[misc]  reads numbers as OmegaConf does
    """Rejects references, which expand without limit, and deep nesting, before they are parsed."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it contains references (*NAME), which no run's has")
        if self._depth >= _MAX_DEPTH and self.check_event(yaml.CollectionStartEvent):
            raise ValueError(f"it is more than {_MAX_DEPTH} levels deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


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
