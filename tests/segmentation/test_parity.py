"""The same function as torchvision's LR-ASPP and as the official TensorFlow graphs, from the same weights."""

import functools
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.weights import load_strict
from pocketvision.segmentation.network import LRASPP
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.segmentation.upsample import full_size_logits
from pocketvision.segmentation.weights import lraspp_from_deeplab, lraspp_from_torchvision
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

ASSETS = Path(__file__).parents[1] / "assets" / "tf"
FAST = "torchvision_detection"  # of the initializations

# ---------------------------------------------------------------- torchvision

TORCHVISION_HEAD = {
    "low": "block4",
    "pool": "global",
    "gate_bias": False,
    "align_corners": False,
    "pad_input": False,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "bn_momentum": 0.1,
    "init": None,
}


@pytest.fixture(scope="module")
def theirs(enliven):
    images = torch.randn(4, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    return enliven(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), images)


def ours_like(theirs, *, atrous="torchvision", bn_eps=1e-3, **head):
    backbone = MobileNetV3("large", output_stride=16, atrous=atrous, bn_eps=bn_eps, init=FAST)
    model = LRASPP(backbone, num_classes=21, **(TORCHVISION_HEAD | head)).double().eval()
    load_strict(model, lraspp_from_torchvision(theirs.state_dict()))
    return model


def errors(ours, theirs, size):
    """Largest difference over the standard deviation, and that deviation, on pictures of `size`."""
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(size)))
    mean, std = (torch.tensor(TORCHVISION_HEAD[key], dtype=torch.float64).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = theirs((images.double() / 255 - mean) / std)["out"]
        outputs = ours(images)
    logits = full_size_logits(outputs, size, align_corners=ours.align_corners)
    metas = [{"image_id": i, "original_size": size, "input_size": size} for i in range(2)]
    labels = torch.stack(LabelMaps(align_corners=ours.align_corners)(outputs, metas))
    agreement = (labels == expected.argmax(1)).double().mean().item()
    return ((logits - expected).abs().max() / expected.std()).item(), expected.std().item(), agreement


def test_equals_torchvision(theirs):
    model = ours_like(theirs)
    for size in ((97, 161), (64, 200), (75, 50), (33, 31)):
        error, spread, agreement = errors(model, theirs, size)
        assert spread > 0.1
        assert error < 1e-8
        assert agreement == 1


@pytest.mark.parametrize(
    "change",
    [{"atrous": "reference"}, {"bn_eps": 1e-5}, {"align_corners": True}, {"pad_input": True}, {"gate": "qsigmoid"}],
    ids=str,
)
def test_another_architecture_is_noticed(change, theirs):
    assert errors(ours_like(theirs, **change), theirs, (64, 100))[0] > 1e-5


def test_a_perturbed_layer_is_noticed(theirs):
    model = ours_like(theirs)
    for name in ("backbone.stem.conv", "backbone.blocks.4.se.excite", "backbone.last.norm", "gate"):
        weight = model.get_submodule(name).weight.data
        before = weight.clone()
        weight *= 1.001
        assert errors(model, theirs, (64, 100))[0] > 1e-5, name
        weight.copy_(before)


# ---------------------------------------------------------------- TensorFlow


@pytest.fixture(scope="module")
def tf_variables(tf_rule):
    return tf_rule.weights(str(ASSETS), "dl_v3_large")


@pytest.fixture
def tf_errors(tf_rule, tf_variables):
    return functools.partial(errors_from_tensorflow, tf_rule, tf_variables)


def errors_from_tensorflow(rule, variables, run, output_stride, *, gate="tf", **head):
    """(rms, largest) error over the standard deviation for low and full-size logits, and the share of equal labels."""
    golden = np.load(ASSETS / f"dl_v3_large__{run}.npz")
    assert rule.weights_crc(variables) == golden["weights_crc32"]
    picture = rule.image_u8(str(golden["image_key"]), tuple(golden["image_shape"]))
    backbone = MobileNetV3("large", reduced="segmentation", output_stride=output_stride, gate=gate, init=FAST)
    model = LRASPP(backbone, num_classes=19, **({"gate": "qsigmoid", "init": FAST} | head)).eval()
    load_strict(model, lraspp_from_deeplab(variables))
    model.double()  # in float32 a pixel with two equal classes (4e-6 apart) may fall to either
    with torch.no_grad():
        outputs = model(torch.from_numpy(picture).permute(0, 3, 1, 2).contiguous())
    full = full_size_logits(outputs, picture.shape[1:3], align_corners=True)

    step = int(golden["logits_stride"])
    top, left, full_step = golden["upsampled_start_step"]
    assert tuple(outputs["logits"].permute(0, 2, 3, 1).shape) == tuple(golden["logits_shape"])
    pairs = [
        (outputs["logits"][..., ::step, ::step], golden["logits"]),
        (full[..., top::full_step, left::full_step], golden["upsampled_sub"]),
    ]
    result = []
    for ours, theirs in pairs:
        difference = np.abs(ours.permute(0, 2, 3, 1).numpy() - theirs)
        result.append((np.sqrt((difference**2).mean()) / theirs.std(), difference.max() / theirs.std()))
    labels = pairs[1][0].argmax(1).numpy()
    return result, (labels == golden["labels_sub"]).mean()


@pytest.mark.parametrize(("run", "output_stride"), [("t769_os16", 16), ("f_os32", 32)])
def test_equals_tensorflow_on_the_training_crop_and_a_whole_frame(run, output_stride, tf_errors):
    result, agreement = tf_errors(run, output_stride)
    assert all(rms < 1e-4 and largest < 2e-3 for rms, largest in result)
    assert agreement == 1


@pytest.mark.parametrize(
    "change", [{"gate": "exact"}, {"bn_eps": 1e-3}, {"align_corners": False}, {"high": "c5", "pool_crop": 385}], ids=str
)
def test_tensorflow_notices_another_network(tf_errors, change):
    result, _ = tf_errors("t769_os16", 16, **change)
    assert all(rms > 2e-4 for rms, _ in result)


# ---------------------------------------------------------------- renaming


def test_unknown_names_raise(tf_variables, theirs):
    state = theirs.state_dict()
    with pytest.raises(ValueError, match=r"aux_classifier\.0\.weight is not a tensor of torchvision's LR-ASPP"):
        lraspp_from_torchvision(state | {"aux_classifier.0.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"1 variables do not belong to DeepLab's LR-ASPP.*: logits/semantic/weights"):
        lraspp_from_deeplab(tf_variables | {"logits/semantic/weights": np.zeros((1, 1, 2, 2), np.float32)})


def test_torchvision_preset_in_the_docstring_is_the_tested_one():
    for key in ("low", "pool", "gate_bias", "align_corners", "pad_input", "bn_momentum", "init"):
        value = TORCHVISION_HEAD[key]
        text = f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}"
        assert text in " ".join(inspect.getdoc(LRASPP).split())
