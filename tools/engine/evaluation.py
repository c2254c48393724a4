"""Evaluation: validation losses and the metric, merged over ranks, each image once."""

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from .distributed import Ranks
from .report import progress
from .task import Task


@torch.inference_mode()
def evaluate(task: Task, model: nn.Module, loader: Any, ranks: Ranks) -> dict[str, float]:
    """Results of `model` on the whole of `loader`'s data set: the metric's figures and the losses."""
    metric = copy.copy(task.metric)
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
    total = ranks.sum(count).clamp(min=1)
    parts = {key: (ranks.sum(value) / total).item() for key, value in losses.items()}
    return {**metric.compute(), "loss": sum(parts.values()), **parts, "images_per_second": images / seconds}
