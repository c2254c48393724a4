"""The interface between the loop and a task."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ...absent import Results


class Criterion(Protocol):
    """Maps outputs and targets to losses. An optional `least_matches` is the minimum average count per image."""

    def __call__(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]: ...

    def sums(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Loss sums, and the count they are divided by: summed over ranks and accumulation steps first."""
        ...


class Metric(Protocol):
    """Accumulates predictions and ground truth; `state` and `merge` combine the parts of several processes."""

    primary: str  # the result that selects the best checkpoint; higher is better, and None selects the last

    def update(self, predictions: Any, targets: Any, metas: Any) -> None: ...
    def compute(self) -> Results: ...
    def reset(self) -> None: ...
    def state(self) -> Any: ...
    def merge(self, states: Any) -> None: ...


class Postprocess(Protocol):
    def __call__(self, outputs: dict[str, Any], metas: list[dict[str, Any]]) -> list[Any]: ...


@dataclass(frozen=True)
class Task:
    """A network with its loss, postprocessing and metric. They interact only through documented dicts."""

    kind: str  # detection, segmentation or classification
    model: nn.Module
    criterion: Criterion
    postprocess: Postprocess
    metric: Metric
    labels: Any  # datasets.labels.LabelMap: slot, name, source id
