"""Training in eight bits: it resumes exactly, its runs are used like any other, and what it cannot do is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.conf.schema import TrainConfig
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.predict import predict
from pocketvision.tools.quantizing import training
from pocketvision.tools.runs.loaded import load_run
from pocketvision.tools.system import packages
from pocketvision.tools.train import train

pytest.importorskip("nncf", reason="needs pip install 'pocketvision[int8]'")


def last(run: Path) -> dict[str, Any]:
    return load_checkpoint(run / "checkpoints" / "last.pt")


def test_a_resumed_run_is_bit_identical(quantized_run: Path, quantized_keys: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    train(compose(*quantized_keys, f"run_dir={folder}", "max_steps=2"))
    assert last(folder)["progress"]["step"] == 2
    train(compose(*quantized_keys, f"run_dir={folder}"))
    whole, resumed = last(quantized_run), last(folder)
    assert whole["progress"]["step"] > 2
    assert whole["quantizers"] == resumed["quantizers"]
    for part in ("model", "ema"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in whole[part].items())


def test_ranges_are_trained(quantized_run: Path) -> None:
    first = load_run(quantized_run)
    scales = [value for name, value in last(quantized_run)["ema"].items() if name.endswith("log_scale")]
    assert len(scales) == len(last(quantized_run)["quantizers"])
    assert all(value.isfinite().all() for value in scales)
    assert first.quantized


def test_a_run_is_evaluated_and_predicts_like_any_other(
    quantized_run: Path, color_photos: Path, tmp_path: Path
) -> None:
    found = evaluate(compose(f"run={quantized_run}", "checkpoint=last", "workers=0", config_name="evaluate"))
    rows = [json.loads(line) for line in (quantized_run / "metrics.jsonl").read_text().splitlines()]
    assert found["top1"] == pytest.approx([row for row in rows if row["kind"] == "val"][-1]["top1"])
    assert found["loss"] == pytest.approx([row for row in rows if row["kind"] == "val"][-1]["loss"], abs=1e-5)
    photo = next((color_photos / "val" / "red").iterdir())
    assert (
        predict(compose(f"run={quantized_run}", f"inputs=[{photo}]", f"output={tmp_path}", config_name="predict")) == 0
    )


REFUSED = {
    "no weights": (("weights=null",), "continues a trained run: set weights=runs/NAME"),
    "another precision": (("precision=bf16",), "more than bf16 has: set precision=fp32"),
    "compiled": (("compile=true",), "cannot be compiled: drop compile=true"),
    "its own weights": (("weights=QUANTIZED",), "they were trained in eight bits"),
}


@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_it_cannot_do_is_refused_in_one_line(
    keys: tuple[str, ...], message: str, quantized_run: Path, quantized_keys: tuple[str, ...], tmp_path: Path
) -> None:
    keys = tuple(key.replace("QUANTIZED", str(quantized_run)) for key in keys)
    with pytest.raises(ValueError, match=message) as told:
        train(compose(*quantized_keys, *keys, f"run_dir={tmp_path / 'run'}"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_cover_the_network_are_refused(
    quantized_keys: tuple[str, ...], trained_run: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(trained_run("classification") / "checkpoints" / "last.pt")
    for part in ("model", "ema"):
        checkpoint[part] = {name: value for name, value in checkpoint[part].items() if "logits" not in name}
    checkpoint.pop("format")
    save_checkpoint(tmp_path / "x.pt", checkpoint)
    with pytest.raises(ValueError, match="logits"):
        train(compose(*quantized_keys, f"weights={tmp_path / 'x.pt'}", f"run_dir={tmp_path / 'run'}"))


def test_another_runtime_is_refused() -> None:
    with pytest.raises(ValueError, match="quantize=litert: expected openvino or none"):
        training.check_quantize(TrainConfig(quantize="litert", weights="x"))


@pytest.mark.parametrize(
    "use",
    [lambda run: training.check_quantize(TrainConfig(quantize="openvino", weights=str(run))), load_run],
    ids=["training", "loading"],
)
def test_a_missing_package_is_named(
    use: Callable[[Path], Any], quantized_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs nncf: pip install 'pocketvision\[int8\]'"):
        use(quantized_run)


@pytest.mark.parametrize("optimize", [("optimize=true",), ("optimize=true", "precision=bf16")])
def test_it_cannot_be_optimized(optimize: tuple[str, ...], quantized_run: Path) -> None:
    with pytest.raises(ValueError, match=r"was trained in eight bits \(quantize=\): drop optimize=true, or export it"):
        evaluate(compose(f"run={quantized_run}", *optimize, "workers=0", config_name="evaluate"))


def test_a_damaged_description_names_the_file(quantized_run: Path, tmp_path: Path) -> None:
    checkpoint = last(quantized_run)
    checkpoint["quantizers"] = {"x": {}}
    checkpoint.pop("format")
    save_checkpoint(tmp_path / "x.pt", checkpoint)
    with pytest.raises(ValueError, match=r"x\.pt is of a training with quantize=openvino, but .* is damaged"):
        load_run(tmp_path / "x.pt")


@pytest.mark.parametrize(("steps", "epochs"), [(1, 2000), (18, 111), (1999, 1), (9000, 1)])
def test_two_thousand_steps(steps: int, epochs: int) -> None:
    assert training.epochs_for_steps(steps) == epochs
