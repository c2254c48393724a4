"""The steps since the last log row, kept on the device until they are read."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Samples = list[list[tuple[int, int, str]]]  # of each micro-batch: epoch, index, name of each image


@dataclass
class NonfiniteError(Exception):
    """A step whose loss or gradient was not finite; the weights are still those that caused it."""

    step: int  # counts from 1
    losses: dict[str, float]
    grad_norm: float
    samples: Samples
    random: dict[str, Any]  # the generators' state before the step


class Window:
    """Losses and gradient norms of some steps. Adding does not wait for the device; reading does."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clear()

    def clear(self) -> None:
        self.losses: list[dict[str, Tensor]] = []
        self.norms: list[Tensor] = []
        self.finite: list[Tensor] = []
        self.origins: list[tuple[Samples, dict[str, Any]]] = []  # not for steps before a resume
        self.start = time.perf_counter()

    def __len__(self) -> int:
        return len(self.norms)

    def add(
        self, losses: dict[str, Tensor], norm: Tensor, finite: Tensor, samples: Samples, random: dict[str, Any]
    ) -> None:
        self.losses.append(losses)
        self.norms.append(norm)
        self.finite.append(finite)
        self.origins.append((samples, random))

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, so that a resumed run's next row averages over the same steps."""
        names = self.losses[0] if self.losses else ()
        return {
            "losses": {name: torch.stack([losses[name] for losses in self.losses]).cpu() for name in names},
            "norms": torch.stack(self.norms).cpu() if self.norms else torch.zeros(0),
            "finite": torch.stack(self.finite).cpu() if self.finite else torch.zeros(0, dtype=torch.bool),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.norms, self.finite = ([*state[key].to(self.device)] for key in ("norms", "finite"))
        columns = {name: values.to(self.device) for name, values in state["losses"].items()}
        self.losses = [{name: values[i] for name, values in columns.items()} for i in range(len(self))]
        self.origins, self.start = [], time.perf_counter()

    def check(self, step: int) -> None:
        """Wait for the device and check every step up to `step`, the last one added.

        Raises:
            NonfiniteError: a step was not finite; names the first.
        """
        good = torch.stack(self.finite).tolist() if self.finite else []
        if all(good):
            return
        bad = good.index(False)
        samples, random = self.origins[bad - len(self)]
        losses = {name: value.item() for name, value in self.losses[bad].items()}
        raise NonfiniteError(step - len(self) + bad + 1, losses, self.norms[bad].item(), samples, random)

    def read(self) -> dict[str, float]:
        """Means over the finite steps, the number of the others, `steps` and `seconds` since the start; then clears."""
        good = torch.stack(self.finite)
        kept = good.sum()

        def mean(values: list[Tensor]) -> float:
            return (torch.where(good, torch.stack(values), 0).sum() / kept).item()

        losses = {name: mean([losses[name] for losses in self.losses]) for name in self.losses[0]}
        row = {"loss": sum(losses.values()), **losses, "grad_norm": mean(self.norms)}
        if skipped := len(self) - int(kept.item()):
            row["skipped"] = skipped
        row |= {"seconds": time.perf_counter() - self.start, "steps": len(self.origins)}
        self.clear()
        return row
