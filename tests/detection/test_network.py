from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pocketvision.backbones.features import Backbone
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.weights import load_strict
from pocketvision.detection.anchors import AnchorLayout, make_anchors
from pocketvision.detection.criterion import FocalCriterion
from pocketvision.detection.network import SSDLite
from pocketvision.detection.postprocess import Postprocess
from pocketvision.detection.weights import ssdlite_from_tf
from torch import Tensor


def small(**options: object) -> SSDLite:
    torch.manual_seed(0)
    return SSDLite(MobileNetV3("small", width=0.35), num_classes=3, **options)  # pyright: ignore


def images(size: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# Table 6 of the paper counts weights and biases; these count batch norm too.
@pytest.mark.parametrize(
    ("variant", "reduced", "layout", "expected"),
    [
        ("large", "detection", AnchorLayout.reference, 3_248_255),
        ("large", None, AnchorLayout.reference, 5_006_735),
        ("small", None, AnchorLayout.reference, 2_518_271),
        ("small", "detection", AnchorLayout.reference, 1_785_743),
        ("large", "detection", AnchorLayout.torchvision, 3_440_060),
    ],
)
def test_parameters(variant: str, reduced: str | None, layout: Callable[[], AnchorLayout], expected: int) -> None:
    with torch.device("meta"):
        model = SSDLite(MobileNetV3(variant, reduced=reduced), num_classes=90, anchors=layout())
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("size", [(320, 320), (200, 333), (64, 96), (33, 32), (1, 1)])
def test_any_size(size: tuple[int, int]) -> None:
    model = small().eval()
    with torch.no_grad():
        outputs = model(images(size))
        maps = [(feature.shape[2], feature.shape[3]) for feature in model.features(images(size))]
    assert maps == map_sizes(size)
    anchors = make_anchors(AnchorLayout.reference(), maps, size)
    assert torch.equal(outputs["anchors"], anchors)
    assert outputs["class_logits"].shape == (2, len(anchors), 4)
    assert outputs["box_deltas"].shape == (2, len(anchors), 4)


def test_width_reaches_the_extra_layers() -> None:
    def extra_channels(model: SSDLite) -> list[int]:
        return [extra[-1].conv.out_channels for extra in model.extras]

    assert extra_channels(small()) == [179, 89, 89, 44]
    assert extra_channels(small(width=1.0)) == [512, 256, 256, 128]
    assert extra_channels(small(width=0.05)) == [25, 16, 16, 16]
    assert small(width=0.05).extras[0][0].conv.out_channels == 16


def test_other_taps_and_maps() -> None:
    layout = AnchorLayout(num_maps=4, reduce_first=False)
    model = small(taps=("c3", "c4_expansion", "c5"), extra_channels=(64,), anchors=layout).eval()
    outputs = model(images((64, 64)))
    assert len(outputs["anchors"]) == 6 * (64 + 16 + 4 + 1) == outputs["class_logits"].shape[1]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown taps"):
        small(taps=("c4_expansion", "c6"))
    with pytest.raises(ValueError, match="made for 6 feature maps, but there are 3"):
        small(extra_channels=(64,), anchors=AnchorLayout())
    with pytest.raises(ValueError, match=r"at least 1 .*, got 0"):
        SSDLite(MobileNetV3("small", width=0.35), num_classes=0)
    with pytest.raises(TypeError, match="num_clases"):
        small(num_clases=3)


def test_first_scores_and_initialisation() -> None:
    torch.manual_seed(0)
    model = SSDLite(MobileNetV3("small", width=0.35), num_classes=90, class_bias=-4.6)
    weights = torch.cat([tower[1].weight.flatten() for tower in model.class_towers])
    assert weights.std().item() == pytest.approx(0.03 * 0.88, rel=0.02), "normal 0.03, cut at two deviations"
    assert all((tower[1].bias == -4.6).all() for tower in model.class_towers)
    assert all((tower[1].bias == 0).all() for tower in model.box_towers)


def test_anchors_are_kept_but_not_in_the_checkpoint() -> None:
    model = small().eval()
    with torch.inference_mode():
        model(images((64, 64)))
    first, second = model(images((64, 64)))["anchors"], model(images((64, 64)))["anchors"]
    assert first is second
    assert not first.is_inference(), "made anew outside inference mode: training may need its gradient's input"
    assert model(images((64, 96)))["anchors"].shape != first.shape
    assert model.double()(images((64, 64)))["anchors"].dtype == torch.float64
    assert not any("anchor" in name for name in model.state_dict())


def test_anchors_of_many_sizes_are_not_all_kept() -> None:
    model = shallow()
    for width in range(8, 400, 4):
        model._anchors_for(((2, 3),), (8, width), torch.device("cpu"))
    assert 0 < len(model._anchors) <= 64


def shallow() -> SSDLite:
    """Few layers: it is the anchors' cache that tracing has to get along with."""
    layout = AnchorLayout(num_maps=1, reduce_first=False)
    return SSDLite(MobileNetV1(width=0.25), num_classes=3, taps=("c2",), extra_channels=(), anchors=layout).eval()


def test_exported_anchors_do_not_stay() -> None:
    model = shallow()
    program = torch.export.export(model, (images((64, 64)),))
    outputs = program.module()(images((64, 64)))
    for name, value in model(images((64, 64))).items():
        torch.testing.assert_close(outputs[name], value)
        assert type(value) is Tensor


def test_compiles_whole() -> None:
    model = shallow()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for name, value in model(images((64, 64))).items():
        torch.testing.assert_close(compiled(images((64, 64)))[name], value)


@pytest.mark.parametrize(
    "trunk",
    [
        partial(MobileNetV3, "small"),
        MobileNetV1,
        partial(MobileNetV2, last="scaled"),
        MnasNet,
        partial(MnasNet, "small", reduced="detection"),
    ],
)
def test_gradients_reach_every_parameter(trunk: Callable[..., Backbone]) -> None:
    torch.manual_seed(0)
    model = SSDLite(trunk(width=0.5, init="torchvision"), num_classes=3)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for size in ((160, 160), (65, 96)):
        model.zero_grad()
        # One box for every map, so that each box tower has something to learn.
        outputs = model(images(size))
        per_map = [h * w * count for (h, w), count in zip(map_sizes(size), (3, 6, 6, 6, 6, 6), strict=True)]
        firsts = torch.tensor([0, *per_map[:-1]]).cumsum(0)
        some = {"boxes": outputs["anchors"][firsts] + 1, "labels": torch.ones(6, dtype=torch.int64)}
        crowd = {"crowd_boxes": torch.zeros(0, 4), "crowd_labels": torch.zeros(0, dtype=torch.int64)}
        torch.stack(list(FocalCriterion()(outputs, [some | crowd, none]).values())).sum().backward()
        missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert missing == []
        assert all(tower[1].weight.grad.any() for tower in (*model.class_towers, *model.box_towers))
    assert all(parameter.grad.any() for parameter in model.backbone.parameters())


def map_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(-(-size[0] // s), -(-size[1] // s)) for s in (16, 32, 64, 128, 256, 512)]


def test_bfloat16_autocast() -> None:
    model = small().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(images((96, 96)))
        assert outputs["class_logits"].dtype == torch.bfloat16
        losses = FocalCriterion()(outputs, [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}] * 2)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert outputs["anchors"].dtype == torch.float32
    losses["loss_class"].backward()


def relative_errors(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    error = np.abs(ours - theirs) / theirs.std()
    return float(np.sqrt((error**2).mean())), float(error.max())


@pytest.fixture(scope="module")
def tf_model(tf_assets: Path, tf_rule: ModuleType) -> SSDLite:
    return loaded(tf_rule.weights(str(tf_assets), "ssd_v3_large"), padding="same")


def loaded(variables: dict[str, np.ndarray], *, padding: str) -> SSDLite:
    fast = "torchvision_detection"
    backbone = MobileNetV3(reduced="detection", padding=padding, gate="tf", init=fast)  # pyright: ignore
    model = SSDLite(backbone, num_classes=90, padding=padding, init=fast).eval()  # pyright: ignore
    load_strict(model, ssdlite_from_tf(variables))
    return model


def test_is_the_tf_graph(tf_assets: Path, tf_rule: ModuleType, tf_model: SSDLite) -> None:
    golden = np.load(tf_assets / "ssd_v3_large__320.npz")
    assert tf_rule.weights_crc(tf_rule.weights(str(tf_assets), "ssd_v3_large")) == golden["weights_crc32"]
    picture = tf_rule.image_u8(str(golden["image_key"]), tuple(golden["image_shape"]))
    with torch.no_grad():
        outputs = tf_model(torch.from_numpy(picture).permute(0, 3, 1, 2))
    for ours, theirs in (
        (outputs["class_logits"], golden["class_predictions_with_background"]),
        (outputs["box_deltas"], golden["box_encodings"][..., [1, 0, 3, 2]]),
    ):
        rms, largest = relative_errors(ours.numpy(), theirs)
        assert rms < 1e-4
        assert largest < 2e-3
    meta = {"input_size": (320, 320), "original_size": (320, 320)}
    (found,) = Postprocess.reference()(outputs, [meta])
    assert len(found) == golden["num_detections"][0] == 100
    boxes = golden["detection_boxes"][0][:, [1, 0, 3, 2]]
    np.testing.assert_allclose(found.boxes.numpy() / 320, boxes, atol=1e-4)
    np.testing.assert_allclose(found.scores.numpy(), golden["detection_scores"][0], atol=1e-4)
    np.testing.assert_array_equal(found.labels.numpy() - 1, golden["detection_classes"][0])


def test_tf_parity_needs_tf_padding(tf_assets: Path, tf_rule: ModuleType) -> None:
    """The comparison can fail: symmetric padding is another function of the same weights."""
    golden = np.load(tf_assets / "ssd_v3_large__320.npz")
    model = loaded(tf_rule.weights(str(tf_assets), "ssd_v3_large"), padding="symmetric")
    picture = tf_rule.image_u8(str(golden["image_key"]), tuple(golden["image_shape"]))
    with torch.no_grad():
        logits = model(torch.from_numpy(picture).permute(0, 3, 1, 2))["class_logits"]
    assert relative_errors(logits.numpy(), golden["class_predictions_with_background"])[0] > 0.1


def test_tf_weights_are_loaded_strictly(tf_assets: Path, tf_rule: ModuleType, tf_model: SSDLite) -> None:
    variables = tf_rule.weights(str(tf_assets), "ssd_v3_large")
    slots = {"global_step": np.zeros(()), "BoxPredictor_0/ClassPredictor/biases/Momentum": np.zeros(3)}
    assert ssdlite_from_tf({**variables, **slots}).keys() == ssdlite_from_tf(variables).keys()
    del variables["BoxPredictor_3/ClassPredictor/biases"]
    with pytest.raises(ValueError, match=r"missing in the weights: class_towers\.3\.1\.bias"):
        load_strict(tf_model, ssdlite_from_tf(variables))


def test_tf_names_of_every_trunk() -> None:
    """The extra layers are named after the last tap: `Conv2d_13_pointwise` in V1, `layer_19` in V2, and so on."""
    depths = {2: (256, 512), 3: (128, 256), 4: (128, 256), 5: (64, 128)}
    for trunk, last in (
        ("MobilenetV1", "Conv2d_13_pointwise"),
        ("MobilenetV2", "layer_19"),
        ("MobilenetV3", "layer_13"),
    ):
        scope = f"FeatureExtractor/{trunk}/"
        layers = {f"{scope}{'Conv2d_0' if trunk == 'MobilenetV1' else 'Conv'}": "backbone.stem"}
        for index, (inner, outer) in depths.items():
            ours = f"extras.{index - 2}"
            layers[f"{scope}{last}_1_Conv2d_{index}_1x1_{inner}"] = f"{ours}.0"
            layers[f"{scope}{last}_2_Conv2d_{index}_3x3_s2_{outer}_depthwise"] = f"{ours}.1"
            layers[f"{scope}{last}_2_Conv2d_{index}_3x3_s2_{outer}"] = f"{ours}.2"
        mean = np.zeros(1, np.float32)
        renamed = ssdlite_from_tf({f"{layer}/BatchNorm/moving_mean": mean for layer in layers})
        assert list(renamed) == [f"{ours}.norm.running_mean" for ours in layers.values()]
