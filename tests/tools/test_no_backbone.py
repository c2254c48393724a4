"""Models that are a network of their own: chosen by their file alone, and loud where a backbone contradicts."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pocketvision.conf.schema import TrainConfig
from pocketvision.tools.config.build import build_task, compose, optimizer_factory
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.config.trusted import trusted
from pocketvision.tools.info import info
from pocketvision.tools.train import train

MODELS = ["espnet", "espnetv2", "c3net"]
models = pytest.mark.parametrize("model", MODELS)


@models
@pytest.mark.parametrize(
    ("choice", "num_classes"),
    [(["data=cityscapes"], 19), (["experiment=small_segmentation", "data.num_classes=7"], 7)],  # which lends its recipe
    ids=["data", "experiment"],
)
def test_the_model_alone_suffices(model: str, choice: list[str], num_classes: int) -> None:
    network = build_task(compose(*choice, f"model={model}")).model
    assert not hasattr(network, "backbone")
    assert network.num_classes == num_classes


@models
def test_a_backbone_contradicts(model: str, tmp_path: Path) -> None:
    """Before the data, which is not there, is looked for."""
    choice = ("backbone=mobilenet_v3_small", f"model={model}")
    config = compose(*choice, "data=cityscapes", "data.root=/nowhere", "name=x", f"run_dir={tmp_path}/x")
    for act in (build_task, train):
        with pytest.raises(ValueError, match=r"backbone \(MobileNetV3\) is not supported by .*: set backbone=none"):
            act(config)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("choice", ["experiment=lraspp_cityscapes", "experiment=ssdlite_coco"])
def test_a_head_needs_a_backbone(choice: str, tmp_path: Path) -> None:
    config = compose(choice, "backbone=none", "data.root=/nowhere", f"run_dir={tmp_path}/x")
    for act in (build_task, train):
        with pytest.raises(ValueError, match=r"backbone=none is not supported by this model .*: choose backbone=NAME"):
            act(config)


@models
def test_a_checkpoints_configuration_is_trusted(model: str) -> None:
    stored = OmegaConf.to_container(
        compose("data=cityscapes", "data.root=x", "name=x", f"model={model}"), enum_to_str=True
    )
    config = trusted(stored)  # type: ignore[arg-type]
    assert build_task(config).labels.num_classes == 19
    stored["backbone"] = None  # type: ignore[index, call-overload]
    with pytest.raises(ValueError, match="no group 'backbone'"):
        trusted(stored)  # type: ignore[arg-type]


def test_parts_learn_at_rates_of_their_own() -> None:
    config = compose("experiment=paper/table8/espnetv2", "freeze=[encoder.stem]")
    network = build_task(config).model
    groups = optimizer_factory(settings_of(config, TrainConfig))(network).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.005, 0.05])


def test_info_counts_without_a_backbone(logged: pytest.LogCaptureFixture) -> None:
    info(compose("experiment=paper/table8/espnetv2", "data.num_classes=20", config_name="info"))
    assert "788,762" in logged.text
    assert "2,697,742,960" in logged.text
    assert "backbone features" not in logged.text
