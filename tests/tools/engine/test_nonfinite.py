"""A step that is not finite changes nothing, is told with its images, and can be looked at again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import OnNonfinite, ScheduleConfig, ScheduleName, TrainConfig
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine.distributed import Ranks
from pocketvision.tools.engine.replay import _read  # a whole run would read gigabytes before it fails
from pocketvision.tools.engine.run import Run, make_run
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.engine.step import Step, step_if, train_step
from pocketvision.tools.engine.task import Task
from pocketvision.tools.engine.window import NonfiniteError, Window
from pocketvision.tools.train import train
from torch import Tensor, nn

CPU = torch.device("cpu")
OPTIMIZERS = {
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=False),
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, fused=False),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
}


class Batch:
    def __init__(self, images: Tensor) -> None:
        self.images, self.targets = images, None

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Batch":
        return self


class Criterion:
    def sums(self, outputs: Tensor, targets: None) -> tuple[dict[str, Tensor], Tensor]:
        return {"loss": (outputs**2).sum()}, torch.tensor(float(len(outputs)))


def make_toy(optimizer: str, on_nonfinite: OnNonfinite = OnNonfinite.skip) -> Run:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    task = Task("toy", model, Criterion(), None, None, None)  # type: ignore[arg-type]
    config = TrainConfig(
        name="toy", epochs=1, channels_last=False, on_nonfinite=on_nonfinite, ema_decay=0.5, clip_grad_norm=1.0,
        schedule=ScheduleConfig(name=ScheduleName.constant),
    )  # fmt: skip
    build = lambda model: OPTIMIZERS[optimizer](list(model.parameters()))  # noqa: E731
    ranks = Ranks(0, 1, CPU)
    return make_run(task, config, ranks, folder=Path(), header={}, make_optimizer=build, epochs=1, steps_per_epoch=9)


def good_images(seed: int) -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))


def state(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values() if value.is_floating_point()]


def step(run: Run, images: Tensor) -> Step:
    run.training_mode()
    return train_step(run, run.model, [Batch(images)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("first", [0, 1])  # the bad step is the very first, or one after a good one
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_step_is_as_if_it_had_not_been(optimizer: str, first: int, value: float) -> None:
    run, reference = make_toy(optimizer), make_toy(optimizer)
    for seed in range(first):
        step(run, good_images(seed)), step(reference, good_images(seed))
    before = state(run.model)
    bad = good_images(9)
    bad[2, 1] = value
    assert not step(run, bad).finite
    assert all(torch.equal(a, b) for a, b in zip(before, state(run.model), strict=True))
    assert all(t.isfinite().all() for t in state(run.best_weights))
    assert step(run, good_images(5)).finite
    step(reference, good_images(5))
    if optimizer != "AdamW":  # whose unfused step counter lives on the host, where nobody knows that the step was bad
        for ours, theirs in zip(run.model.parameters(), reference.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_the_mask_moves_what_is_good() -> None:
    for make in OPTIMIZERS.values():
        weight = nn.Parameter(torch.ones(3))
        optimizer = make([weight])
        weight.grad = torch.ones(3)
        step_if(optimizer, torch.tensor(True))
        assert (weight < 1).all()


def test_nothing_moves_between_a_bad_step_and_its_report() -> None:
    """So that the weights that made it are still there to replay it."""
    run = make_toy("fused AdamW", OnNonfinite.stop)
    step(run, good_images(0))
    before = [p.detach().clone() for p in run.model.parameters()]
    statistics = run.model[1].running_mean.clone()  # type: ignore[index]
    flags = [step(run, images).finite.item() for images in (torch.full((5, 3), float("nan")), good_images(1))]
    assert flags == [False, True]
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    assert torch.equal(statistics, run.model[1].running_mean)  # type: ignore[index]


def add(window: Window, loss: float, norm: float = 1.0, name: str = "a.jpg") -> None:
    finite = torch.tensor(loss == loss and norm == norm)
    window.add({"loss": torch.tensor(loss)}, torch.tensor(norm), finite, [[(0, 7, name)]], {"torch": torch.zeros(1)})


def test_a_window_tells_the_first_bad_step_and_its_images() -> None:
    window = Window(CPU)
    window.check(0)
    add(window, 1.0)
    window.check(5)
    add(window, float("nan"), name="bad.jpg")
    add(window, float("nan"), name="later.jpg")
    with pytest.raises(NonfiniteError) as error:
        window.check(7)
    assert error.value.step == 6
    assert error.value.samples == [[(0, 7, "bad.jpg")]]


def test_a_windows_means_leave_skipped_steps_out() -> None:
    window = Window(CPU)
    add(window, 1.0)
    add(window, float("nan"))
    add(window, 2.0, norm=3.0)
    row = window.read()
    assert (row["loss"], row["grad_norm"], row["skipped"], row["steps"]) == (1.5, 2.0, 1, 3)
    assert len(window) == 0


def test_a_window_goes_through_a_checkpoint() -> None:
    whole, saved, loaded = Window(CPU), Window(CPU), Window(CPU)
    loaded.load(Window(CPU).state())
    assert len(loaded) == 0
    for loss in (1.0, 5.0):
        add(whole, loss), add(saved, loss)
    loaded.load(saved.state())
    for window in (whole, loaded):
        add(window, 0.25)
    first, second = whole.read(), loaded.read()
    assert first["loss"] == second["loss"]
    assert (first["steps"], second["steps"]) == (3, 1)  # the rate is of this process's own


# ---- the whole way ----------------------------------------------------------------------------------------

SMALL = ("experiment=demo_segmentation", "data.input_size=[64,64]", "data.num_train=16", "data.num_val=4",
         "batch_size=4", "epochs=2", "workers=0", "eval_batch_size=4", "backbone.width=0.35", "log_every=3", "name=x",
         "schedule.warmup_epochs=0", "clip_grad_norm=null", "schedule=constant")  # fmt: skip
ABSURD = "optimizer.lr=1e30"  # the first step is good, the second is not


def test_a_run_stops_names_the_images_and_is_replayed(in_tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FloatingPointError, match=r"step 2 produced non-finite.*images: [0-9, ]+\..*mode=replay.*=skip"):
        train(compose(*SMALL, ABSURD))
    saved = load_checkpoint("runs/x/checkpoints/replay.pt")
    assert saved["progress"]["step"] == 1
    assert all(value.isfinite().all() for value in saved["model"].values())
    assert not Path("runs/x/checkpoints/last.pt").exists()  # nothing bad is saved

    with pytest.raises(ValueError, match=r"augment\.mosaic \(was 0\.0, is 1\)"):  # other pictures under the same names
        train(compose(*SMALL, ABSURD, "mode=replay", "augment.mosaic=1"))
    train(compose(*SMALL, ABSURD, "mode=replay"))
    assert any("step 2 as saved" in line for line in logged.messages)
    assert any("first non-finite output: " in line for line in logged.messages)
    assert Path("runs/x/replay-1.png").is_file()


def test_a_run_skips_and_counts(in_tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    train(compose(*SMALL, ABSURD, "on_nonfinite=skip"))
    assert any("2 non-finite steps skipped up to step 3" in line for line in logged.messages)
    model: dict[str, Any] = load_checkpoint("runs/x/checkpoints/last.pt")["model"]
    assert all(value.isfinite().all() for value in model.values())


@pytest.mark.parametrize("samples", [torch.zeros(1).expand(30_000, 30_000), [torch.zeros(2, 2)], [[7]], None])
def test_a_damaged_step_is_refused_at_once(samples: Any, in_tmp_path: Path) -> None:
    path = in_tmp_path / "replay.pt"
    save_checkpoint(path, {"samples": samples, "random": [], "grad_norm": 1.0, "losses": {}, "model": {}})
    with pytest.raises(ValueError, match=r"replay\.pt is not a step to recompute"):
        _read(path, images=4)


def test_there_is_nothing_to_replay(in_tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no non-finite step stopped this run"):
        train(compose(*SMALL, "mode=replay"))
