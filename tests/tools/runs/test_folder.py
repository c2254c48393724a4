"""A run's config.yaml: written whole, and not needed where it is damaged."""

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.runs.config_file import read_config
from pocketvision.tools.runs.folder import check_same_run, save_config
from pocketvision.tools.runs.keys import plain, portable
from pocketvision.tools.runs.loaded import load_run
from pocketvision.tools.weights.load import load_weights


@functools.cache
def config_of(*overrides: str) -> DictConfig:
    return compose("experiment=demo_detection", *overrides)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_config(tmp_path, config_of())
    save_checkpoint(tmp_path / "checkpoints/last.pt", {"config": portable(config_of()), "progress": {"step": 1}})
    return tmp_path


def bomb() -> str:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]
    return "\n".join(lines)


def test_it_is_read_as_written(folder: Path) -> None:
    assert read_config(folder / "config.yaml") == plain(config_of())
    check_same_run(folder, config_of())
    with pytest.raises(ValueError, match=r"these keys differ: optimizer\.lr \(was "):
        check_same_run(folder, config_of("optimizer.lr=0.5"))


@pytest.mark.parametrize(
    "text",
    ["", "\0" * 2900, 100, 1000, 2000, "model: [", "[" * 3000, "a: !!python/object:os.system {}", "a: 1\na: 2", "7",
     bomb(), "\xff", "a: ${", None],
)  # fmt: skip
def test_a_damaged_one_is_replaced_by_the_checkpoints(text: Any, folder: Path, logged: Any) -> None:
    path = folder / "config.yaml"
    content = path.read_bytes()[:text] if isinstance(text, int) else (text or "").encode("latin-1")
    path.write_bytes(content)
    if text is None:
        path.unlink()
    with pytest.raises(ValueError, match=r"these keys differ: optimizer\.lr \(was [0-9.]+, is 0\.5\)\. Run the"):
        check_same_run(folder, config_of("optimizer.lr=0.5"))
    logged.clear()
    check_same_run(folder, config_of())
    assert ("config.yaml" in logged.text) == (text is not None)
    save_config(folder, config_of())
    assert read_config(path) == plain(config_of())


def test_it_is_written_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "config.yaml"
    before = path.stat().st_ino, path.read_text()
    save_config(folder, config_of())
    assert (path.stat().st_ino, path.read_text()) == before  # not written again

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save_config(folder, config_of("optimizer.lr=0.5"))
    assert path.read_text() == before[1]
    assert sorted(each.name for each in folder.iterdir()) == ["checkpoints", "config.yaml"]


def test_weights_that_are_nan_are_refused_by_name(copied_run: Callable[[str], Path]) -> None:
    path = copied_run("classification") / "checkpoints" / "best.pt"
    checkpoint = load_checkpoint(path)
    for key in ("model", "ema"):
        first = next(iter(checkpoint[key].values()))
        first[0] = math.nan
    save_checkpoint(path, checkpoint)
    told = r"best\.pt: 1 of \d+ tensors of weights hold NaN, such as backbone\..*another checkpoint"
    with pytest.raises(ValueError, match=told):
        load_run(path.parent.parent)
    model = load_run(path.parent.parent, which="last").task.model
    with pytest.raises(ValueError, match=told):
        load_weights(model, path)


def test_a_damaged_best_checkpoint_is_named_with_the_remedy(copied_run: Callable[[str], Path]) -> None:
    path = copied_run("classification") / "checkpoints" / "best.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"best\.pt is not a readable checkpoint: the checksum .*checkpoint=last"):
        load_run(path.parent.parent)
    assert load_run(path.parent.parent, which="last").path.name == "last.pt"
