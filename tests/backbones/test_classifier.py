"""The ImageNet classifier against the official TensorFlow graphs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.tf_names import classifier_from_tf_slim
from pocketvision.backbones.weights import load_strict
from torch import nn

HALF = (0.5, 0.5, 0.5)  # TF-slim's 2 / 255 * x - 1
FAST = "torchvision_detection"  # of the initializations
MODELS = ("v3_large", "v3_small", "v2_100")
MISTAKES = ({"padding": "symmetric"}, {"gate": "exact"}, {"bn_eps": 1e-5})


def reference(model: str, variables: dict[str, np.ndarray], **options: object) -> Classifier:
    options = {"padding": "same", "init": FAST} | options
    if model == "v2_100":
        backbone = MobileNetV2(**options)  # pyright: ignore[reportArgumentType]
    else:
        options = {"variant": model.removeprefix("v3_"), "gate": "tf"} | options
        backbone = MobileNetV3(**options)  # pyright: ignore[reportArgumentType]
    classifier = Classifier(backbone, num_classes=1001, mean=HALF, std=HALF, init=FAST).eval()
    report = load_strict(classifier, classifier_from_tf_slim(variables))
    assert not report.reinitialized
    return classifier


def errors(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Root mean square and largest difference, in standard deviations of `theirs`."""
    difference = ours.astype(np.float64) - theirs
    return float(np.sqrt((difference**2).mean()) / theirs.std()), float(np.abs(difference).max() / theirs.std())


@pytest.mark.parametrize("model", MODELS)
def test_logits_of_the_official_graph(model: str, golden: Callable) -> None:
    run = golden(f"cls_{model}", "224")
    assert run.outputs["logits"].std() > 0.1
    with torch.no_grad():
        rms, largest = errors(reference(model, run.variables)(run.image)["logits"].numpy(), run.outputs["logits"])
        assert rms < 1e-4
        assert largest < 2e-3
        # The options that only TensorFlow's weights need are seen by this test.
        for mistake in MISTAKES:
            if model == "v2_100" and "gate" in mistake:
                continue
            logits = reference(model, run.variables, **mistake)(run.image)["logits"].numpy()
            assert errors(logits, run.outputs["logits"])[0] > 3e-4, mistake


@pytest.mark.parametrize("name", MODELS)
def test_every_step_of_the_official_graph(name: str, golden: Callable) -> None:
    """The points of `walk` are the graph's endpoints, those before the squeeze-and-excite included."""
    run = golden(f"cls_{name}", "224")
    model = reference(name, run.variables)
    with torch.no_grad():
        outputs = dict(model.backbone.walk(model.normalize(run.image)))
    probes = dict(zip(run.outputs["probe_names"], run.outputs["probe_vals"], strict=True))
    act, scope = ("Relu6", "MobilenetV2") if name == "v2_100" else ("hard_swish/mul_1", "MobilenetV3")
    compared = 0
    for point, output in outputs.items():
        probe = probes.get(f"{scope}/{endpoint(point, act)}")
        if probe is None:  # block 1 has no expansion
            continue
        flat = output.permute(0, 2, 3, 1).flatten().numpy()
        index = np.arange(16) * flat.size // 16 + flat.size // 32
        assert np.abs(flat[index] - probe).max() < 2e-3 * flat.std(), point
        compared += 1
    assert compared == 3 * len(model.backbone.blocks) + 1


def endpoint(point: str, act: str) -> str:
    """TF-slim's name of a point of our walk."""
    if point in ("stem", "last"):
        return f"{'Conv' if point == 'stem' else 'Conv_1'}/{act}"
    block, step = point.removeprefix("block").split(".")
    scope = "expanded_conv" if block == "1" else f"expanded_conv_{int(block) - 1}"
    return f"{scope}/{step}" if step == "output" else f"{scope}/{step}_output"


def test_empty_batch_and_dropout() -> None:
    model = Classifier(MobileNetV3("small", width=0.35), num_classes=7)
    assert model.eval()(torch.zeros(0, 3, 32, 32, dtype=torch.uint8))["logits"].shape == (0, 7)
    assert model.dropout.p == 0.2
    assert isinstance(Classifier(MobileNetV3("small", width=0.35, minimalistic=True)).act, nn.ReLU)


@pytest.mark.parametrize("trunk", [MobileNetV1, MobileNetV2, MnasNet])
def test_the_other_trunks_have_no_hidden_layer(trunk: type) -> None:
    model = Classifier(trunk(width=0.35), num_classes=7).eval()
    own = [name for name in model.state_dict() if not name.startswith("backbone.")]
    assert own == ["logits.weight", "logits.bias"]
    assert model(torch.zeros(2, 3, 33, 50, dtype=torch.uint8))["logits"].shape == (2, 7)
    wider = Classifier(trunk(width=0.35), num_classes=7, hidden=40)
    assert wider.logits.in_features == 40
    assert isinstance(wider.act, nn.ReLU)
    with pytest.raises(ValueError, match="got -1 and 7"):
        Classifier(trunk(width=0.35), num_classes=7, hidden=-1)
