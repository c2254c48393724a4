"""What the loop needs to know of a task."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class Criterion(Protocol):
    """Maps outputs and targets to losses. A `least_matches` is how much an image counts for at least, on average."""

    def __call__(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]: ...

    def sums(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Loss sums, and the count they are divided by: summed over ranks and accumulation steps first."""
        ...


class Metric(Protocol):
    """Accumulates predictions against truth; `state` and `merge` join the parts of several processes."""

    primary: str  # the figure that tells which checkpoint is best; higher is better

    def update(self, predictions: Any, targets: Any, metas: Any) -> None: ...
    def compute(self) -> dict[str, float]: ...
    def reset(self) -> None: ...
    def state(self) -> Any: ...
    def merge(self, states: Any) -> None: ...


class Postprocess(Protocol):
    def __call__(self, outputs: dict[str, Any], metas: list[dict[str, Any]]) -> list[Any]: ...


@dataclass(frozen=True)
class Task:
    """A network, its loss, its decoding and its metric. They meet only in documented dicts."""

    kind: str  # detection, segmentation or classification
    model: nn.Module
    criterion: Criterion
    postprocess: Postprocess
    metric: Metric
    labels: Any  # datasets.labels.LabelMap: slot, name, source id
