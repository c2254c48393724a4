"""A configuration inside a checkpoint cannot run code."""

from typing import Any

import pytest
from omegaconf import OmegaConf
from pocketvision.tools.build import ALLOWED_TARGETS, compose, trusted
from pocketvision.tools.runs import portable


def stored(**changes: Any) -> dict[str, Any]:
    config = OmegaConf.to_container(compose("experiment=demo_detection"), enum_to_str=True)
    assert isinstance(config, dict)
    return {str(k): v for k, v in config.items()} | changes


def test_our_own_configurations_are_trusted() -> None:
    for name in ("demo_detection", "demo_segmentation", "ssdlite_coco", "lraspp_cityscapes", "small_segmentation"):
        paths = ("data.root=x",) if "demo" not in name else ()
        classes = ("data.classes=[a,b]",) if name == "small_segmentation" else ()
        config = OmegaConf.to_container(compose(f"experiment={name}", *paths, *classes), enum_to_str=True)
        assert trusted(config).backbone.variant in ("large", "small")  # type: ignore[arg-type]


def test_what_a_resolver_answered_travels_in_place_of_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENES", "32")
    config = compose("experiment=demo_detection", "data.num_val='${oc.decode:${oc.env:SCENES}}'")
    header = portable(config)
    assert header["data"]["num_val"] == 32
    assert header["data"]["val"]["length"] == "${data.num_val}"
    assert trusted(header, data={"num_val": 7}).data.val.length == 7


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "builtins.eval",
        "pocketvision.tools.build.torch.load",
        "pocketvision.datasets.coco.Path",
        "pocketvision.tools.runs.load_checkpoint",
        "pocketvision.detection.network.torch.load",
        "pocketvision.detection.network.SSDLite.__init__.__globals__",
        "pocketvision.tools.engine.state.os.replace",
        "",
        7,
    ],
)
def test_foreign_targets_are_refused_wherever_they_stand(target: Any) -> None:
    for place in ("backbone", "model", "data"):
        config = stored()
        config[place]["extra"] = [{"deep": {"_target_": target}}]
        with pytest.raises(ValueError, match="refused"):
            trusted(config)


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "${oc.create:{_target_:os.system}}", "x${oc.decode:'1'}", "${${a}:b}"]
)
def test_resolvers_are_refused(text: str) -> None:
    config = stored()
    config["data"]["preset"] = text
    with pytest.raises(ValueError, match="refused"):
        trusted(config)


def test_a_reference_cannot_smuggle_a_target_in() -> None:
    config = stored(optimizer={"_target_": "os.system"})
    config["data"]["labels"] = "${optimizer}"
    with pytest.raises(ValueError, match="refused"):
        trusted(config)


def test_data_keys_are_replaced_or_unknown() -> None:
    assert trusted(stored(), data={"num_val": 3}).data.val.length == 3
    with pytest.raises(ValueError, match=r"data\.rot is no key"):
        trusted(stored(), data={"rot": "x"})


def test_allowed_targets_exist() -> None:
    import importlib

    for target in ALLOWED_TARGETS:
        module, _, name = target.rpartition(".")
        assert getattr(importlib.import_module(module), name).__qualname__ == name
