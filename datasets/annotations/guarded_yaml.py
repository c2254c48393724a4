"""What every YAML file of somebody else's is read with: no references, and no deep nesting."""

from typing import ClassVar

import yaml


class Guarded(yaml.SafeLoader):
    """Rejects what expands without limit, or takes quadratic time, before it is parsed; goes before another loader."""

    max_depth: ClassVar[int]
    references = "references (*NAME) are not supported"  # the message
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(self.references)
        if self._depth >= self.max_depth and self.check_event(yaml.CollectionStartEvent):
            raise ValueError(f"it is more than {self.max_depth} levels deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node
