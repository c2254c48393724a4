"""`weights_source=tf` from files: the official graphs' outputs, and what is told where they would be others."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.features import Backbone
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.detection.anchors import AnchorLayout
from pocketvision.detection.network import SSDLite
from pocketvision.detection.postprocess import Postprocess
from pocketvision.segmentation.network import LRASPP, RASPP
from pocketvision.segmentation.upsample import full_size_logits
from pocketvision.tools.weights.load import load_weights
from torch import nn

ASSETS = Path(__file__).parents[2] / "assets" / "tf"
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def v3(variant: str = "large", **options: Any) -> MobileNetV3:
    return MobileNetV3(variant, **({"padding": "same", "gate": "tf"} | options))


def detector(*, num_classes: int = 90, trunk: dict[str, Any] | None = None, **options: Any) -> SSDLite:
    backbone = v3(reduced="detection", **(trunk or {}))
    return SSDLite(backbone, num_classes=num_classes, **({"padding": "same"} | options))


def raspp(output_stride: int) -> RASPP:
    trunk = MobileNetV2(width=0.5, divisor=1, min_depth=1, last=None, output_stride=output_stride, padding="same")
    return RASPP(trunk, num_classes=19)


def segmenter(*, num_classes: int = 19, trunk: dict[str, Any] | None = None, **options: Any) -> LRASPP:
    backbone = v3(**({"reduced": "segmentation", "output_stride": 16} | (trunk or {})))
    return LRASPP(backbone, num_classes=num_classes, **({"gate": "qsigmoid"} | options))


def classifier(backbone: Backbone, **options: Any) -> Classifier:
    return Classifier(backbone, **({"num_classes": 1001} | HALF | options))


def mnasnet(variant: str) -> Classifier:
    return Classifier(MnasNet(variant, padding="same"), num_classes=1000)


def small_detector(trunk: Backbone, *taps: str) -> SSDLite:
    return SSDLite(trunk, num_classes=90, padding="same", taps=taps or ("c4_expansion", "c5"))


SAME_DETECTOR = {"padding": "same", "min_depth": 16}  # as every config of the detection API has it
SMALL_SEG = {"variant": "small", "output_stride": 32}
# Model and run of a golden file -> the network that computes it
CASES: dict[str, Callable[[], nn.Module]] = {
    "cls_v3_large/224": lambda: classifier(v3()),
    "cls_v3_small/224": lambda: classifier(v3("small")),
    "cls_v3_small_075/96": lambda: classifier(v3("small", width=0.75)),
    "cls_v3_small_mini/96": lambda: classifier(v3("small", minimalistic=True)),
    "cls_v2_100/224": lambda: classifier(MobileNetV2(padding="same")),
    "cls_v2_035/96": lambda: classifier(MobileNetV2(width=0.35, padding="same")),
    "cls_v1_025/96": lambda: classifier(MobileNetV1(width=0.25, padding="same")),
    "cls_mnas_a1/96": lambda: mnasnet("a1"),
    "cls_mnas_small/96": lambda: mnasnet("small"),
    "ssd_v3_large/320": detector,
    "ssd_v3_small/160": lambda: detector(trunk={"variant": "small", "min_depth": 16}),
    "ssd_v2_050/160": lambda: small_detector(MobileNetV2(width=0.5, last="scaled", **SAME_DETECTOR)),
    "ssd_v1_050/160": lambda: small_detector(MobileNetV1(width=0.5, **SAME_DETECTOR), "c4", "c5"),
    "dl_v3_large/t769_os16": segmenter,
    "dl_v3_small/t257_os16": lambda: segmenter(trunk={"variant": "small"}),
    "dl_v3_small/w193_os32": lambda: segmenter(trunk=SMALL_SEG, pool_crop=129, pool_steps=(1, 2)),
    "dl_v2_rasp_050/t129_os16": lambda: raspp(16),
    "dl_v2_rasp_050/f_os32": lambda: raspp(32),
}
DETECTIONS = ("ssd_v3_small/160", "ssd_v2_050/160", "ssd_v1_050/160")  # golden files with final results
MODELS = {case.partition("/")[0] for case in CASES}


@pytest.fixture(scope="module")
def variables(tf_rule: ModuleType) -> Callable[[str], dict[str, np.ndarray]]:
    return lambda model: tf_rule.weights(str(ASSETS), model)


def test_all_graphs_are_here() -> None:
    assert {path.name.split(".")[0] for path in ASSETS.glob("*.vars.json")} == MODELS


def picture_of(golden: Mapping[str, np.ndarray], tf_rule: ModuleType) -> torch.Tensor:
    picture = tf_rule.image_u8(str(golden["image_key"]), tuple(golden["image_shape"]))
    return torch.from_numpy(picture.reshape(1, *picture.shape[-3:])).permute(0, 3, 1, 2)


def pairs(found: dict[str, Any], golden: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ours and the graph's, as much as the file has of them."""
    if "class_logits" in found:
        step = int(golden["output_step"]) if "output_step" in golden else 1
        yield found["class_logits"][:, ::step].numpy(), golden["class_predictions_with_background"]
        yield found["box_deltas"][:, ::step, [1, 0, 3, 2]].numpy(), golden["box_encodings"]
    elif found["logits"].ndim == 4:
        step, (top, left, full_step) = int(golden["logits_stride"]), golden["upsampled_start_step"]
        full = full_size_logits(found, found["logits_size"], align_corners=True).permute(0, 2, 3, 1)
        yield found["logits"].permute(0, 2, 3, 1)[:, ::step, ::step].numpy(), golden["logits"]
        yield full[:, top::full_step, left::full_step].numpy(), golden["upsampled_sub"]
    else:
        yield found["logits"].numpy(), golden["logits"]


@pytest.mark.parametrize("case", CASES)
def test_files_reproduce_the_official_outputs(
    case: str, tmp_path: Path, variables: Callable, tf_rule: ModuleType, graph_writer: Any
) -> None:
    weights, golden = variables(case.partition("/")[0]), np.load(ASSETS / f"{case.replace('/', '__')}.npz")
    assert tf_rule.weights_crc(weights) == golden["weights_crc32"], "the generator of the weights has changed"
    np.savez(tmp_path / "w.npz", **weights)
    (tmp_path / "w.pb").write_bytes(graph_writer.frozen(weights))
    model, other = CASES[case]().eval(), CASES[case]()
    for network, file in ((model, "w.pb"), (other, "w.npz")):
        report = load_weights(network, tmp_path / file, source="tf")
        assert not report.reinitialized
        assert not report.unexpected
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))

    with torch.no_grad():
        found = model(picture_of(golden, tf_rule))
    for output, expected in pairs(found, golden):
        difference = np.abs(output - expected)
        assert expected.std() > 0.1
        assert np.sqrt((difference**2).mean()) < 1e-4 * expected.std()
        assert difference.max() < 2e-3 * expected.std()
    if case in DETECTIONS:
        compare_detections(found, golden)


def compare_detections(found: dict[str, Any], golden: Mapping[str, np.ndarray]) -> None:
    assert len(found["anchors"]) == golden["num_anchors"]
    anchors = found["anchors"][:: int(golden["output_step"]), [1, 0, 3, 2]].numpy()
    np.testing.assert_allclose(anchors / 160, golden["anchors"], atol=1e-6)
    detections = Postprocess()(found, [{"input_size": (160, 160), "original_size": (160, 160)}])[0]
    assert len(detections) == golden["num_detections"][0] == 100
    # Neighbours in the order may change places where their scores are the same but for rounding.
    theirs, boxes = golden["detection_boxes"][0], detections.boxes[:, [1, 0, 3, 2]].numpy() / 160
    same = np.abs(boxes[:, None] - theirs).max(2) < 1e-3
    same &= detections.labels.numpy()[:, None] - 1 == golden["detection_classes"][0]
    same &= np.abs(detections.scores.numpy()[:, None] - golden["detection_scores"][0]) < 1e-3
    np.testing.assert_array_equal(same.sum(0), 1)
    assert len(set(detections.labels.tolist())) > 10


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
            "++model.network.anchors.max_scale=0.95 ++model.network.anchors.follow_sides=false",
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


def test_choices_of_the_released_networks_are_told(variables: Callable, logged: pytest.LogCaptureFixture) -> None:
    load_weights(segmenter(), variables("dl_v3_large"), source="tf")
    assert not logged.records
    load_weights(segmenter(gate="sigmoid", pool="global"), variables("dl_v3_large"), source="tf")
    assert "model.network.gate=qsigmoid model.network.pool=reference; this network differs" in logged.text


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
    model: Callable[[], nn.Module], told: str | None, variables: Callable, logged: pytest.LogCaptureFixture
) -> None:
    network, weights = model(), variables("cls_v3_small")
    report = load_weights(network, weights, source="tf")
    assert (told in logged.text) if told else not logged.records
    trunk = {name for name in network.state_dict() if name.startswith("backbone.") and "num_batches" not in name}
    assert set(report.loaded) == trunk
    assert all(not name.startswith("backbone.") for name in report.reinitialized)
    assert "stay randomly initialized" in str(report)
    stem = network.get_parameter("backbone.stem.conv.weight")
    np.testing.assert_array_equal(stem.detach().permute(2, 3, 1, 0), weights["MobilenetV3/Conv/weights"])


def test_a_trunk_without_its_last_convolution(variables: Callable) -> None:
    network = LRASPP(MobileNetV2(last=None, padding="same"), num_classes=3)
    report = load_weights(network, variables("cls_v2_100"), source="tf")
    assert "5 are not part of this network (backbone.last.conv, backbone.last.norm)" in str(report)


def test_other_classes_start_afresh_and_say_so(variables: Callable, logged: pytest.LogCaptureFixture) -> None:
    network = detector(num_classes=80)
    with pytest.raises(ValueError, match="weights_new_predictors=true"):
        load_weights(network, variables("ssd_v3_large"), source="tf")
    report = load_weights(network, variables("ssd_v3_large"), source="tf", new_predictors=True)
    assert "91 class slots, the network 81" in logged.text
    assert "data.slots=coco91 data.num_classes=90" in logged.text
    assert sorted(report.reinitialized) == sorted(
        f"class_towers.{i}.1.{leaf}" for i in range(6) for leaf in ("weight", "bias")
    )


def test_what_does_not_fit_is_listed(variables: Callable) -> None:
    weights = variables("ssd_v3_large")
    with pytest.raises(ValueError, match=r"shape of backbone\.stem\.conv\.weight"):
        load_weights(detector(trunk={"width": 0.5}), weights, source="tf")
    with pytest.raises(ValueError, match="1 variables do not belong to an SSDLite: BoxPredictor_0/Extra/weights"):
        load_weights(detector(), weights | {"BoxPredictor_0/Extra/weights": np.zeros(1, np.float32)}, source="tf")
    with pytest.raises(ValueError, match="no TensorFlow weights for Conv2d"):
        load_weights(nn.Conv2d(1, 1, 1), weights, source="tf")
