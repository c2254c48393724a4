"""The loop's arithmetic on a toy task: losses are normalised over ranks and accumulation steps together."""

import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import TrainConfig
from pocketvision.tools.engine import loop
from pocketvision.tools.engine.distributed import Ranks, pick_device, start_ranks, stop_ranks
from pocketvision.tools.engine.evaluation import evaluate
from pocketvision.tools.engine.resume import resume, save
from pocketvision.tools.engine.run import Run, make_run
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.engine.step import train_step
from pocketvision.tools.engine.task import Task
from torch import Tensor, nn


@dataclass
class Batch:
    images: Tensor
    targets: Tensor  # what the loss counts: 0 or 1 for each image

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Batch":
        return self


class Criterion:
    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        return {"loss": (outputs.squeeze(1) ** 2 * targets).sum()}, targets.sum()


def make_batches() -> list[Batch]:
    """Four images, of which three count: halves of the batch have different counts."""
    images = torch.arange(12, dtype=torch.float32).reshape(4, 3) / 10
    return [Batch(images, torch.tensor([1.0, 0.0, 1.0, 1.0]))]


def halves(batch: Batch) -> list[Batch]:
    return [Batch(batch.images[i::2], batch.targets[i::2]) for i in range(2)]


def make_toy(folder: Path, ranks: Ranks, **settings: Any) -> Run:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    task = Task("toy", model, Criterion(), None, None, None)  # type: ignore[arg-type]
    config = TrainConfig(name="toy", epochs=1, channels_last=False, **settings)
    sgd = lambda m: torch.optim.SGD(m.parameters(), lr=0.1)  # noqa: E731
    return make_run(task, config, ranks, folder=folder, header={}, make_optimizer=sgd, epochs=1, steps_per_epoch=10)


def trained(folder: Path, groups: list[list[Batch]], ranks: Ranks | None = None) -> Tensor:
    run = make_toy(folder, ranks or Ranks(0, 1, torch.device("cpu")))
    for group in groups:
        train_step(run, run.model, group)
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def test_accumulation_does_not_change_the_step(tmp_path: Path) -> None:
    whole = trained(tmp_path, [[batch] for batch in make_batches() * 3])
    split = trained(tmp_path, [halves(batch) for batch in make_batches() * 3])
    torch.testing.assert_close(whole, split, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(whole, trained(tmp_path, []))


def test_a_step_that_counts_next_to_nothing_is_divided_by_its_images(tmp_path: Path) -> None:
    """However it is split; the gradient of 2 counted images among 4 is divided by 2, or by `least_matches` times 4."""

    def norm(least: float, batches: list[Batch]) -> float:
        run = make_toy(tmp_path, Ranks(0, 1, torch.device("cpu")), batch_size=4)
        run.task.criterion.least_matches = least  # type: ignore[attr-defined]
        return train_step(run, run.model, batches).norm.item()

    images, counted = make_batches()[0].images, torch.tensor([1.0, 0.0, 1.0, 0.0])
    batch = Batch(images, counted)
    assert norm(0.0, [batch]) == pytest.approx(norm(0.5, [batch]))
    assert norm(1.0, [batch]) == pytest.approx(norm(0.0, [batch]) / 2)
    assert norm(1.0, halves(batch)) == pytest.approx(norm(1.0, [batch]))


def test_a_pass_that_batch_norm_cannot_learn_from_says_what_to_do(tmp_path: Path) -> None:
    run = make_toy(tmp_path, Ranks(0, 1, torch.device("cpu")), batch_size=1)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(make_batches()[0].images[0].numel()))
    with pytest.raises(ValueError, match=r"1 image per pass.*batch_size, reduce accumulate, or set batch_norm="):
        train_step(run, network, [Batch(make_batches()[0].images[:1], torch.ones(1))])


def evaluated(folder: Path, *figures: float | None, **settings: Any) -> Run:
    """A run, resumed if there is one in `folder`, after evaluations with these metrics, one step apart."""
    run = make_toy(folder, Ranks(0, 1, torch.device("cpu")), **settings)
    run.task = replace(run.task, metric=SimpleNamespace(primary="AP"))  # type: ignore[arg-type]
    resume(run)
    with pytest.MonkeyPatch.context() as patch:
        for figure in figures:
            run.progress.step += 1
            patch.setattr(loop, "evaluate", lambda *_, figure=figure: {"AP": figure})
            loop._evaluate(run, None)
        save(run)
    return run


@pytest.mark.parametrize(
    ("figures", "best", "finished"),
    [
        ([None, None, None], 3, False),
        ([None, 0.2, None, 0.1], 2, False),
        ([0.2, None, None, None], 1, False),
        ([0.2, None, 0.1, 0.1], 1, True),
    ],
)
def test_without_a_metric_best_follows_last(
    figures: list[float | None], best: int, finished: bool, tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    run = evaluated(tmp_path, *figures, patience=2)
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["progress"]["step"] == best
    assert run.progress.finished is finished
    follows = "AP is absent: the validation split has nothing to compare with. best.pt follows last.pt (step 1)"
    assert (follows in logged.text) == (figures[0] is None)
    assert ("best.pt stays as it is (step 2)" in logged.text) == (figures[0] is not None)


@pytest.mark.parametrize("before", [None, -1.0, math.nan])  # an earlier version saved -1
def test_without_a_metric_best_follows_last_after_a_resume(before: float | None, tmp_path: Path) -> None:
    run = evaluated(tmp_path, None)
    run.progress.best = before
    save(run)
    evaluated(tmp_path, None)
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["progress"]["step"] == 2
    evaluated(tmp_path, 0.0)
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["progress"]["best"] == 0.0


@pytest.mark.parametrize(("counted", "loss"), [(0.0, None), (1.0, 0.25)])
def test_a_loss_of_nothing_is_absent(counted: float, loss: float | None) -> None:
    metric: Any = SimpleNamespace(
        compute=lambda: {"AP": math.nan, "AP50": 0.5}, state=dict,
        **dict.fromkeys(("reset", "update", "merge"), lambda *_: None),
    )  # fmt: skip
    task = Task("toy", nn.Identity(), Criterion(), lambda *_: [], metric, None)  # type: ignore[arg-type]
    batch = Batch(torch.full((2, 1), 0.5), torch.full((2,), counted))
    batch.metas = [{}, {}]  # type: ignore[attr-defined]
    found = evaluate(task, task.model, [batch], Ranks(0, 1, torch.device("cpu")), metric=metric)
    assert (found["loss"], found["AP"], found["AP50"]) == (loss, None, 0.5)


@pytest.mark.slow
@pytest.mark.by_hand  # tests/tools/engine/test_ranks.py compares whole runs
def test_two_ranks_take_the_same_step_as_one(tmp_path: Path) -> None:
    # standalone: a free port, for two runs of the tests may meet on one machine
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    ended = subprocess.run([*torchrun, __file__, str(tmp_path)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    whole = trained(tmp_path, [[batch] for batch in make_batches() * 3])
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rank", "count", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 1, 2, "cuda:1"),
        ("cuda:1", 0, 2, "cuda:1"),
        ("cuda", 0, 0, ValueError("device=cuda: torch finds no CUDA device")),
        ("cuda", 2, 2, ValueError("device=cuda:2: torch finds 2 CUDA devices")),  # more processes than devices
        ("cuda:7", 0, 2, ValueError("device=cuda:7: torch finds 2 CUDA devices")),
        ("gpu", 0, 2, ValueError("device=gpu is not a device")),
    ],
)
def test_devices(name: str, rank: int, count: int, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if isinstance(expected, str):
        assert str(pick_device(name, rank)) == expected
        return
    with pytest.raises(ValueError, match=str(expected)):
        pick_device(name, rank)


if __name__ == "__main__":  # one rank of test_two_ranks_take_the_same_step_as_one
    ranks = start_ranks("cpu")
    folder = Path(sys.argv[1])
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(ranks.rank)  # type: ignore[union-attr]
    ranks.average(list(norm.buffers())[:2])
    assert norm.running_mean.tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    found = trained(folder, [[halves(batch)[ranks.rank]] for batch in make_batches() * 3], ranks)
    torch.save(found, folder / f"{ranks.rank}.pt")
    stop_ranks()
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]  # none where there is no /proc
    assert not [name for name in names if "gloo" in name], f"threads that outlive the process group: {names}"
