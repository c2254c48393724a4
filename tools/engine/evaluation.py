"""Evaluation: validation losses and the metric, merged over ranks, each image once."""

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from ...absent import Results, known
from ..system.console import progress
from .distributed import Ranks
from .task import Metric, Task


@torch.inference_mode()
def evaluate(task: Task, model: nn.Module, loader: Any, ranks: Ranks, *, metric: Metric | None = None) -> Results:
    """Results of `model` on the whole dataset of `loader`: the metric's results and the losses.

    A metric that the data does not determine is None; so is a loss with nothing to compare with.

    Args:
        metric: used instead of a copy of the task's, for callers that query it afterwards; it will contain all images.
    """
    metric = copy.copy(task.metric) if metric is None else metric
    metric.reset()
    model.eval()
    losses: dict[str, Tensor] = {}
    count = torch.zeros((), dtype=torch.float64, device=ranks.device)
    start, images = time.perf_counter(), 0
    for batch in progress(loader, total=len(loader), title="evaluating", quiet=not ranks.is_main):
        batch = batch.to(ranks.device)
        outputs = model(batch.images)
        sums, n = task.criterion.sums(outputs, batch.targets)
        losses = {key: losses.get(key, 0) + value.double() for key, value in sums.items()}
        count += n
        metric.update(task.postprocess(outputs, batch.metas), batch.targets, batch.metas)
        images += len(batch.metas)
    seconds = time.perf_counter() - start
    metric.merge(ranks.gather(metric.state()))
    # By name and not tensor by tensor: a rank may have had no image and thus no losses.
    found = ranks.gather(({key: value.item() for key, value in losses.items()}, count.item(), images))
    total = sum(n for _, n, _ in found)
    names = {key: None for sums, _, _ in found for key in sums}
    parts = {key: sum(sums.get(key, 0.0) for sums, _, _ in found) / max(1.0, total) for key in names}
    absent = dict.fromkeys(key for key, value in parts.items() if not total and not value)
    measured = {key: known(value) for key, value in metric.compute().items()}
    loss = None if absent.keys() == parts.keys() else sum(parts.values())
    rate = sum(n for _, _, n in found) / seconds
    return {**measured, "loss": loss, **parts, **absent, "images_per_second": rate}
