"""Resuming from a checkpoint whose parts are not what they should be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import TrainConfig
from pocketvision.tools.engine.distributed import Ranks
from pocketvision.tools.engine.resume import resume, save
from pocketvision.tools.engine.run import Run, make_run
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.engine.task import Task
from torch import nn


def toy(folder: Path) -> Run:
    task = Task("toy", nn.Linear(3, 1), None, None, None, None)  # type: ignore[arg-type]
    config = TrainConfig(name="toy", epochs=1, channels_last=False)
    sgd = lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)  # noqa: E731
    return make_run(task, config, Ranks(0, 1, torch.device("cpu")), folder=folder, header={"data": {"train": "a"}},
                    make_optimizer=sgd, epochs=1, steps_per_epoch=10)  # fmt: skip


PARTS = (
    *("model", "ema", "optimizer", "optimizer_names", "schedule", "scaler", "progress", "window", "random", "data"),
    *("progress.step", "progress.best", "optimizer.state", "random.0", "window.losses"),
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("other", [7, "x", [[1]], {"x": {}}, {}], ids=repr)
def test_parts_of_other_types_are_one_error_or_do_not_matter(part: str, other: Any, tmp_path: Path) -> None:
    run = toy(tmp_path)
    save(run)
    path = tmp_path / "checkpoints/last.pt"
    checkpoint = load_checkpoint(path)
    *parents, name = part.split(".")
    inside: Any = checkpoint
    for parent in parents:
        inside = inside[parent]
    inside[int(name) if name.isdigit() else name] = other
    save_checkpoint(path, checkpoint)
    told = ""
    try:
        resume(toy(tmp_path))
    except ValueError as error:
        told = str(error)
    assert not told or (str(path) in told and "\n" not in told)
