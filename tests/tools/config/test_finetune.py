"""Fine-tuning from a backbone's weights: its length, what it asks for, which rates it has."""

from pathlib import Path

import pytest
import torch
from pocketvision.conf.schema import TrainConfig
from pocketvision.tools.config.build import build_task, compose, optimizer_factory
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.optim import epochs_for
from pocketvision.tools.engine.state import load_checkpoint, save_checkpoint
from pocketvision.tools.import_weights import import_weights
from pocketvision.tools.runs.folder import save_config
from pocketvision.tools.train import train

TINY = (
    "data=shapes_detection", "data.num_train=8", "data.num_val=2", "data.input_size=[64,64]", "batch_size=4",
    "backbone=mobilenet_v2", "backbone.width=0.35", "workers=0", "threads=1", "device=cpu",
)  # fmt: skip


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [(0, 240), (1, 240), (20, 240), (75, 160), (299, 40), (300, 40), (301, 40), (1200, 20), (118_287, 20)],
)
def test_epochs_follow_the_number_of_photographs(num_images: int, expected: int) -> None:
    assert epochs_for(num_images) == expected


@pytest.mark.parametrize("name", ["finetune_detection", "finetune_segmentation"])
def test_it_asks_for_weights_before_it_looks_for_data(name: str) -> None:
    config = compose(f"experiment={name}", "data.num_classes=3", "name=nowhere")
    with pytest.raises(ValueError, match="starts from a backbone's weights: set weights=RUN"):
        train(config)


def test_import_weights_asks_for_them_too(tmp_path: Path) -> None:
    options = ("experiment=finetune_detection", *TINY)
    with pytest.raises(ValueError, match="starts from a backbone's weights"):
        import_weights(compose(*options, f"output={tmp_path}/x", config_name="import_weights"))
    assert not (tmp_path / "x").exists()


def test_a_resume_without_them_is_told_what_it_had(tmp_path: Path) -> None:
    save_config(tmp_path / "x", compose("experiment=finetune_detection", *TINY, "weights=a.pt"))
    save_checkpoint(tmp_path / "x/checkpoints/last.pt", {})
    with pytest.raises(ValueError, match=r"weights.*a\.pt"):
        train(compose("experiment=finetune_detection", *TINY, f"run_dir={tmp_path}/x"))


@pytest.mark.parametrize("name", ["finetune_detection", "finetune_segmentation"])
def test_the_backbone_has_a_rate_of_its_own_and_imagenets_preprocessing(name: str) -> None:
    config = compose(f"experiment={name}", "data.num_classes=3")
    settings, task = settings_of(config, TrainConfig), build_task(config)
    rates = sorted({group["lr"] for group in optimizer_factory(settings)(task.model).param_groups})
    assert rates == pytest.approx([settings.lr_factors["backbone"] * config.optimizer.lr, config.optimizer.lr])
    assert settings.epochs is None
    assert list(config.model.network.mean) == [0.485, 0.456, 0.406]


def test_a_run_from_a_flat_list_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From weights to the last evaluation, its length by the number of photographs, cut off after two steps."""
    monkeypatch.chdir(tmp_path)
    trunk = build_task(compose("experiment=small_detection", *TINY, "data.num_classes=3", "backbone.reduced=null"))
    weights = {name: value for name, value in trunk.model.state_dict().items() if name.startswith("backbone.")}
    torch.save(weights, "backbone.pt")
    config = compose("experiment=finetune_detection", *TINY, "name=fine", "weights=backbone.pt", "max_steps=2")
    config.optimizer.lr = 1e-9  # what the weights are after two steps is what they were
    results = train(config)
    assert 0 <= results["AP"] <= 1
    log = (tmp_path / "runs" / "fine" / "metrics.jsonl").read_text()
    assert '"step": 2' in log
    trained = load_checkpoint("runs/fine/checkpoints/last.pt")["model"]
    moving = {name for name in weights if "running" in name or "num_batches" in name}
    for name in weights.keys() - moving:
        torch.testing.assert_close(trained[name], weights[name], rtol=0, atol=1e-6)


def test_the_length_counts_photographs_not_whole_batches(tmp_path: Path) -> None:
    config = compose("experiment=small_detection", *TINY, "data.num_train=60", "batch_size=32", "epochs=null",
                     "max_steps=1", f"run_dir={tmp_path}/x")  # fmt: skip
    train(config)
    assert load_checkpoint(tmp_path / "x/checkpoints/last.pt")["epochs"] == epochs_for(60) == 200
