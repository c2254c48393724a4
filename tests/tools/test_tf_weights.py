"""`weights_source=tf` from files: the official graphs' outputs, and what is told where they would be others."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.detection.anchors import AnchorLayout
from pocketvision.detection.network import SSDLite
from pocketvision.segmentation.network import LRASPP, RASPP
from pocketvision.tools.weights import load_weights
from torch import nn

ASSETS = Path(__file__).parents[1] / "assets" / "tf"
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def v3(variant: str = "large", **options: Any) -> MobileNetV3:
    return MobileNetV3(variant, **({"padding": "same", "gate": "tf"} | options))


def detector(*, num_classes: int = 90, trunk: dict[str, Any] | None = None, **options: Any) -> SSDLite:
    backbone = v3(reduced="detection", **(trunk or {}))
    return SSDLite(backbone, num_classes=num_classes, **({"padding": "same"} | options))


def segmenter(*, num_classes: int = 19, trunk: dict[str, Any] | None = None, **options: Any) -> LRASPP:
    backbone = v3(reduced="segmentation", output_stride=16, **(trunk or {}))
    return LRASPP(backbone, num_classes=num_classes, **({"gate": "qsigmoid"} | options))


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    run: str
    outputs: dict[str, str]  # ours (None: the network's only one) -> the graph's


CASES = {
    "cls_v3_large": Case(lambda: Classifier(v3(), num_classes=1001, **HALF), "224", {"logits": "logits"}),
    "cls_v3_small": Case(lambda: Classifier(v3("small"), num_classes=1001, **HALF), "224", {"logits": "logits"}),
    "cls_v2_100": Case(
        lambda: Classifier(MobileNetV2(padding="same"), num_classes=1001, **HALF), "224", {"logits": "logits"}
    ),
    "ssd_v3_large": Case(
        detector, "320", {"class_logits": "class_predictions_with_background", "box_deltas": "box_encodings"}
    ),
    "dl_v3_large": Case(segmenter, "t769_os16", {"logits": "logits"}),
}


@pytest.fixture(scope="module")
def variables(tf_rule: ModuleType) -> Callable[[str], dict[str, np.ndarray]]:
    return lambda model: tf_rule.weights(str(ASSETS), model)


def test_all_graphs_are_here() -> None:
    assert {path.name.split(".")[0] for path in ASSETS.glob("*.vars.json")} == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_files_reproduce_the_official_outputs(
    name: str, tmp_path: Path, variables: Callable, tf_rule: ModuleType, graph_writer: Any
) -> None:
    case, golden = CASES[name], np.load(ASSETS / f"{name}__{CASES[name].run}.npz")
    np.savez(tmp_path / "w.npz", **variables(name))
    (tmp_path / "w.pb").write_bytes(graph_writer.frozen(variables(name)))
    model, other = case.make().eval(), case.make()
    for network, file in ((model, "w.pb"), (other, "w.npz")):
        report = load_weights(network, tmp_path / file, source="tf")
        assert not report.reinitialized
        assert not report.unexpected
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))

    picture = tf_rule.image_u8(str(golden["image_key"]), tuple(golden["image_shape"]))
    with torch.no_grad():
        found = model(torch.from_numpy(picture.reshape(1, *picture.shape[-3:])).permute(0, 3, 1, 2))
    for ours, theirs in case.outputs.items():
        output, expected = found[ours], golden[theirs]
        if ours == "box_deltas":
            expected = expected[..., [1, 0, 3, 2]]
        elif output.ndim == 4:
            step = int(golden["logits_stride"])
            output = output.permute(0, 2, 3, 1)[:, ::step, ::step]
        difference = np.abs(output.numpy() - expected)
        assert expected.std() > 0.1
        assert np.sqrt((difference**2).mean()) < 1e-4 * expected.std()
        assert difference.max() < 2e-3 * expected.std()


# ---- settings that would give other numbers --------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "model", "keys"),
    [
        ("cls_v3_small", lambda: v3("small", padding="symmetric"), "backbone.padding=same"),
        ("cls_v3_small", lambda: v3("small", gate="exact"), "backbone.gate=tf"),
        (
            "cls_v3_small",
            lambda: Classifier(v3("small"), num_classes=1001),
            "model.network.mean=[0.5,0.5,0.5] model.network.std=[0.5,0.5,0.5]",
        ),
        ("ssd_v3_large", lambda: detector(trunk={"padding": "symmetric"}), "backbone.padding=same"),
        ("ssd_v3_large", lambda: detector(trunk={"gate": "exact"}), "backbone.gate=tf"),
        ("ssd_v3_large", lambda: detector(padding="symmetric"), "model.network.padding=same"),
        ("ssd_v3_large", lambda: detector(bn_eps=1e-5), "model.network.bn_eps=0.001"),
        (
            "ssd_v3_large",
            lambda: detector(anchors=AnchorLayout(max_scale=0.9, follow_sides=True)),
            "model.network.anchors.max_scale=0.95 model.network.anchors.follow_sides=False",
        ),
        ("dl_v3_large", lambda: segmenter(trunk={"gate": "exact"}), "backbone.gate=tf"),
        ("dl_v3_large", lambda: segmenter(align_corners=False), "model.network.align_corners=true"),
        ("dl_v3_large", lambda: segmenter(bn_eps=1e-3), "model.network.bn_eps=1e-05"),
        (
            "dl_v3_large",
            lambda: segmenter(trunk={"padding": "symmetric", "atrous": "torchvision"}, pad_input=False),
            "backbone.padding=same backbone.atrous=reference",
        ),
    ],
)
def test_settings_that_compute_something_else_are_refused(
    weights: str, model: Callable[[], nn.Module], keys: str, variables: Callable
) -> None:
    network = model()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_weights(network, variables(weights), source="tf")
    assert str(error.value).endswith(f"; set {keys}")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_symmetric_padding_is_the_same_on_padded_images(variables: Callable) -> None:
    load_weights(segmenter(trunk={"padding": "symmetric"}), variables("dl_v3_large"), source="tf")


def test_choices_of_the_released_networks_are_told(variables: Callable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pocketvision"):
        load_weights(segmenter(), variables("dl_v3_large"), source="tf")
        assert not caplog.records
        load_weights(segmenter(gate="sigmoid", pool="global"), variables("dl_v3_large"), source="tf")
    assert "model.network.gate=qsigmoid model.network.pool=reference; here" in caplog.text


# ---- parts of a network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: SSDLite(v3("small"), num_classes=3, padding="same"), None),
        (lambda: RASPP(v3("small"), num_classes=3), None),
        (lambda: LRASPP(v3("small", gate="exact"), num_classes=3), "backbone.gate=tf"),
        (lambda: SSDLite(v3("small", padding="symmetric"), num_classes=3), "backbone.padding=same"),
    ],
)
def test_a_classifier_starts_another_network(
    model: Callable[[], nn.Module], told: str | None, variables: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    network, weights = model(), variables("cls_v3_small")
    with caplog.at_level(logging.WARNING, "pocketvision"):
        report = load_weights(network, weights, source="tf")
    assert (told in caplog.text) if told else not caplog.records
    trunk = {name for name in network.state_dict() if name.startswith("backbone.") and "num_batches" not in name}
    assert set(report.loaded) == trunk
    assert all(not name.startswith("backbone.") for name in report.reinitialized)
    assert "stay freshly initialised" in str(report)
    stem = network.get_parameter("backbone.stem.conv.weight")
    np.testing.assert_array_equal(stem.detach().permute(2, 3, 1, 0), weights["MobilenetV3/Conv/weights"])


def test_a_trunk_without_its_last_convolution(variables: Callable) -> None:
    network = LRASPP(MobileNetV2(last=None, padding="same"), num_classes=3)
    report = load_weights(network, variables("cls_v2_100"), source="tf")
    assert "5 have no place here (backbone.last.conv, backbone.last.norm)" in str(report)


def test_other_classes_start_afresh_and_say_so(variables: Callable, caplog: pytest.LogCaptureFixture) -> None:
    network = detector(num_classes=80)
    with caplog.at_level(logging.WARNING, "pocketvision"):
        with pytest.raises(ValueError, match="weights_new_predictors=true"):
            load_weights(network, variables("ssd_v3_large"), source="tf")
        report = load_weights(network, variables("ssd_v3_large"), source="tf", new_predictors=True)
    assert "91 class slots, the network 81" in caplog.text
    assert "data.slots=coco91 data.num_classes=90" in caplog.text
    assert sorted(report.reinitialized) == sorted(
        f"class_towers.{i}.1.{leaf}" for i in range(6) for leaf in ("weight", "bias")
    )


def test_what_does_not_fit_is_listed(variables: Callable) -> None:
    weights = variables("ssd_v3_large")
    with pytest.raises(ValueError, match=r"shape of backbone\.stem\.conv\.weight"):
        load_weights(detector(trunk={"width": 0.5}), weights, source="tf")
    with pytest.raises(ValueError, match="1 variables are not of an SSDLite: BoxPredictor_0/Extra/weights"):
        load_weights(detector(), weights | {"BoxPredictor_0/Extra/weights": np.zeros(1, np.float32)}, source="tf")
    with pytest.raises(ValueError, match="no TensorFlow weights for Conv2d"):
        load_weights(nn.Conv2d(1, 1, 1), weights, source="tf")


def test_r_aspp(variables: Callable) -> None:
    """No output of its graph is at hand: its scopes are DeepLab's (research/deeplab/model.py)."""
    network = RASPP(v3(reduced="segmentation", output_stride=16), num_classes=19)
    weights = {name: array for name, array in variables("dl_v3_large").items() if name.startswith("MobilenetV3/")}
    generator = np.random.default_rng(0)
    inputs = {"aspp0": 480, "image_pooling": 480, "concat_projection": 512}
    for scope, channels in inputs.items():
        weights[f"{scope}/weights"] = generator.normal(size=(1, 1, channels, 256)).astype(np.float32)
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
            weights[f"{scope}/BatchNorm/{leaf}"] = generator.random(256, np.float32)
    weights["logits/semantic/weights"] = generator.normal(size=(1, 1, 256, 19)).astype(np.float32)
    weights["logits/semantic/biases"] = np.zeros(19, np.float32)
    assert not load_weights(network, weights, source="tf").reinitialized
    np.testing.assert_array_equal(
        network.image_level.conv.weight.detach()[:, :, 0, 0].T, weights["image_pooling/weights"][0, 0]
    )
