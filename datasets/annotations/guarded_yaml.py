"""What every YAML file of somebody else's is read with: no references, no deep nesting, and not too much of it."""

from typing import Any, ClassVar

import yaml

try:
    from yaml.cyaml import CParser  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # PyYAML without libyaml, which reads ten times as fast
    CParser = None


class Guarded(yaml.SafeLoader):
    """Rejects what expands without limit, or takes quadratic time, before it is parsed; goes before another loader."""

    max_depth: ClassVar[int]
    max_nodes: ClassVar[int] = 200_000
    references = "references (*NAME) are not supported"  # the message
    _depth, _nodes = 0, 0

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        if CParser is not None:
            events: Any = CParser(stream)
            for name in ("check_event", "peek_event", "get_event"):
                setattr(self, name, getattr(events, name))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(self.references)
        if self._depth >= self.max_depth and self.check_event(yaml.SequenceStartEvent, yaml.MappingStartEvent):
            raise ValueError(f"it is more than {self.max_depth} levels deep")
        self._nodes += 1
        if self._nodes > self.max_nodes:
            raise ValueError(f"it has more than {self.max_nodes:,} keys and values")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node
