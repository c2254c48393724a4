"""Training files that cannot be read: named, or replaced in a way that no restart, worker or rank changes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.datasets.annotations.sample import Sample
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.datasets.loading.batches import EpochSampler, make_loader
from pocketvision.tools.config.build import build_dataset, build_source, compose
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.prepare import write_shapes
from pocketvision.tools.train import main, train

OPTIONS = ("experiment=small_detection", "data=coco", "data.input_size=[64,64]", "backbone=mobilenet_v3_small",
           "backbone.width=0.35", "batch_size=4", "eval_batch_size=4", "threads=1", "device=cpu", "epochs=2",
           "log_every=2", "save_every=3")  # fmt: skip
pytestmark = pytest.mark.usefixtures("in_tmp_path")


class Numbers:
    """A source of images that hold their number; `bad` ones cannot be read."""

    labels, notes = None, ()

    def __init__(self, count: int, bad: set[int], error: Exception | None = None) -> None:
        self.count, self.bad, self.error = count, bad, error

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise self.error or ValueError(f"{index}.jpg does not decode")
        return Sample(np.full((4, 4, 3), index, np.uint8), index, path=f"{index}.jpg")


def numbers(count: int, bad: set[int], error: Exception | None = None, **options: Any) -> AugmentedDataset:
    source: Any = Numbers(count, bad, error)
    return AugmentedDataset(source, transform=Transform([], input_size=None, resize="none"), **options)


def drawn(dataset: AugmentedDataset, *, workers: int = 0, world: int = 1) -> list[list[int]]:
    """The images that each epoch gives, in the order of their steps."""
    epochs = []
    for epoch in range(3):
        shares = []
        for rank in range(world):
            sampler = EpochSampler(len(dataset), batch_size=4 // world, last="drop", rank=rank, world=world)
            sampler.set_epoch(epoch)
            loader = make_loader(dataset, batch_size=4 // world, sampler=sampler, workers=workers)
            shares.append([int(image[0, 0, 0]) for batch in loader for image in batch.images])
        epochs.append([number for step in zip(*shares, strict=True) for number in step])
    return epochs


def test_replacements_depend_on_seed_epoch_and_index_alone() -> None:
    dataset = numbers(40, {3, 17, 18, 19}, skip_bad=True)
    alone = drawn(dataset)
    assert alone == drawn(dataset, workers=2) == drawn(dataset, world=2)
    assert not {3, 17, 18, 19} & {number for epoch in alone for number in epoch}
    replaced = [dataset[epoch, 3][0][0, 0, 0].item() for epoch in range(8)]
    assert len(set(replaced)) > 3  # not the same neighbour every time
    assert replaced != [numbers(40, {3}, skip_bad=True, seed=1)[epoch, 3][0][0, 0, 0].item() for epoch in range(8)]
    good = numbers(40, set())
    for index in range(40):
        if index not in dataset.source.bad:  # type: ignore[attr-defined]
            assert torch.equal(good[0, index][0], dataset[0, index][0])
            assert "skipped" not in dataset[0, index][2]


def test_what_stands_in_says_so() -> None:
    dataset = numbers(4, {0, 1, 2}, skip_bad=True)
    _, _, meta = dataset[5, 1]
    assert (meta["epoch"], meta["index"], meta["path"]) == (5, 1, "3.jpg")
    assert meta["skipped"][0] == (1, "1.jpg does not decode")
    assert {index for index, _ in meta["skipped"]} <= {0, 1, 2}


def test_a_source_of_bad_files_ends_soon() -> None:
    with pytest.raises(ValueError, match=r"21 randomly drawn samples.*The first one: 2\.jpg does not decode"):
        numbers(5, set(range(5)), skip_bad=True)[0, 2]


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (None, ValueError, "0.jpg does not decode, so mend it"),
        (FileNotFoundError("image not found: 0.jpg"), FileNotFoundError, "image not found: 0.jpg, so mend it"),
        (PermissionError(13, "Permission denied", "0.jpg"), PermissionError, "0.jpg: Permission denied, so mend it"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), ValueError, "no text, so mend it"),
    ],
)
def test_without_skipping_the_error_has_a_remedy(error: Exception | None, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=re.escape(told)):
        numbers(1, {0}, error, remedy=", so mend it")[0, 0]


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError(), KeyError("x")])
def test_what_no_file_is_to_blame_for_is_not_skipped(error: Exception) -> None:
    with pytest.raises(type(error)):
        numbers(9, {0}, error, skip_bad=True)[0, 0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 scenes of which three do not decode, 4 good ones to evaluate on."""
    root = tmp_path_factory.mktemp("made")
    write_shapes(compose(f"output={root}", "num_train=32", "num_val=4", config_name="prepare"))
    for picture in sorted((root / "train2017").iterdir())[5:8]:
        picture.write_bytes(picture.read_bytes()[:150])
    return root


def run(root: Path, *overrides: str, name: str = "x", skip: bool = True) -> dict[str, float]:
    policy = ["on_bad_sample=skip"] if skip else []
    return train(compose(*OPTIONS, f"data.root={root}", f"name={name}", *policy, *overrides))


def rows(name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in Path("runs", name, "metrics.jsonl").read_text().splitlines()]
    measured = ("images_per_second", "waiting_share", "peak_memory_gb")
    return [{key: value for key, value in row.items() if key not in measured} for row in found]


def test_mosaics_are_what_training_learns_from_and_nothing_else(made: Path) -> None:
    config = compose(*OPTIONS, f"data.root={made}", "augment.mosaic=1", "on_bad_sample=skip")
    datasets = {
        split: build_dataset(config, build_source(config, split), training=split == "train")
        for split in ("train", "val")
    }
    assert all(datasets["train"][i][2]["path"].count(" + ") == 3 for i in range(4))
    assert all(datasets["val"][i][2]["path"].count(" + ") == 0 for i in range(4))


@pytest.mark.parametrize(("mosaic", "stops"), [(0, (5, 11)), (1, (11,))])
def test_a_stopped_run_goes_on_bit_by_bit_and_counts_alike(
    mosaic: int, stops: tuple[int, ...], made: Path, logged: pytest.LogCaptureFixture
) -> None:
    """Joined with others, a sample reads four files, but counts as bad for its own alone."""
    joined = f"augment.mosaic={mosaic}"
    run(made, "workers=0", joined, name="whole")
    assert sum("skipped: " in line and "cannot be decoded" in line for line in logged.messages) == 3
    for stop in stops:
        run(made, "workers=2", f"max_steps={stop}", joined, name="parts")
    run(made, "workers=1", joined, name="parts")
    whole, parts = (load_checkpoint(Path("runs", name, "checkpoints/last.pt"))["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    train_rows = [[row for row in rows(name) if row["kind"] == "train"] for name in ("whole", "parts")]
    assert train_rows[0] == train_rows[1]
    counts = [row["bad_samples"] for row in train_rows[0]]
    assert sum(counts[:4]) == sum(counts[4:]) == 3  # in either epoch
    names = [Path("runs", name, "bad_samples.txt").read_text() for name in ("whole", "parts")]
    assert [len(text.splitlines()) for text in names] == [3, 3]  # once in a run, not in every epoch or start
    assert sorted(names[0].splitlines()) == sorted(names[1].splitlines())


def test_more_than_a_tenth_is_too_much(made: Path) -> None:
    with pytest.raises(
        ValueError, match=r"on_bad_sample=skip: \d of the 20 samples of epoch 1 are unreadable.*bad_samples\.txt"
    ):
        run(made, "workers=0", "overfit=20", "name=few")


def test_the_default_names_the_file(made: Path) -> None:
    with pytest.raises(ValueError, match=r"\.jpg cannot be decoded: .* fix or remove it, or .* on_bad_sample=skip"):
        run(made, "workers=0", skip=False)
    with pytest.raises(ValueError, match="on_bad_sample=drop: expected raise or skip"):
        run(made, "on_bad_sample=drop", skip=False)


def test_the_command_says_it_in_a_line(made: Path, logged: pytest.LogCaptureFixture, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main([*OPTIONS, f"data.root={made}", "workers=1", "name=y"])
    assert end.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"train: error: \S+\.jpg cannot be decoded: .*on_bad_sample=skip$", line)


def test_evaluation_skips_nothing(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "made"
    write_shapes(compose(f"output={root}", "num_train=8", "num_val=4", config_name="prepare"))
    picture = min((root / "val2017").iterdir())
    whole = picture.read_bytes()
    picture.write_bytes(whole[:99])
    message = rf"{picture.name} cannot be decoded: .*Evaluation does not skip files"
    with pytest.raises(ValueError, match=message):
        run(root, "workers=0", "epochs=1")
    picture.write_bytes(whole)
    run(root, "workers=0", "epochs=1")
    picture.write_bytes(whole[:99])
    with pytest.raises(ValueError, match=message):
        evaluate(compose("run=runs/x", "workers=0", config_name="evaluate"))
