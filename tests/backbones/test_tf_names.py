"""Names of the TensorFlow code, written down here from its scopes, become ours."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import torch
from pocketvision.backbones.blocks import BlockTrunk
from pocketvision.backbones.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier
from pocketvision.backbones.layers import ConvNormAct, Normalize
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v1 import MobileNetV1
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.backbones.tf_names import as_slim, classifier_from_tf_slim, from_tf_slim
from pocketvision.backbones.tf_settings import normalize_settings, trunk_settings
from pocketvision.backbones.weights import load_strict
from torch import Tensor, nn

Variables = dict[str, np.ndarray]
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))


def kernel(conv: nn.Module) -> np.ndarray:
    """In TensorFlow's layout."""
    weight = conv.weight.detach()
    assert isinstance(weight, Tensor)
    depthwise = isinstance(conv, nn.Conv2d) and conv.groups > 1
    axes = (1, 0) if weight.ndim == 2 else (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    return weight.permute(axes).numpy()


def normed(scope: str, layer: ConvNormAct, *, leaf: str, norm: str) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{scope}/{leaf}", kernel(layer.conv)
    for theirs, ours in NORM.items():
        yield f"{norm}/{theirs}", layer.norm.state_dict()[ours].numpy()


def v1_variables(model: Classifier) -> Iterator[tuple[str, np.ndarray]]:
    trunk = model.backbone
    assert isinstance(trunk, BlockTrunk)
    layers = {"Conv2d_0": trunk.stem}
    for number, block in enumerate(trunk.blocks, start=1):
        layers[f"Conv2d_{number}_depthwise"], layers[f"Conv2d_{number}_pointwise"] = block.depthwise, block.project
    for name, layer in layers.items():
        leaf, scope = (
            "depthwise_weights" if name.endswith("wise") and "depth" in name else "weights",
            f"MobilenetV1/{name}",
        )
        yield from normed(scope, layer, leaf=leaf, norm=f"{scope}/BatchNorm")
    yield "MobilenetV1/Logits/Conv2d_1c_1x1/weights", kernel(model.logits)[None, None]
    yield "MobilenetV1/Logits/Conv2d_1c_1x1/biases", model.logits.bias.detach().numpy()


def mnas_variables(model: Classifier, *, throughout: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Keras numbers the layers of a kind within their scope, or (`throughout`) all of a process."""
    counts: dict[str, int] = {}

    def name(scope: str, kind: str) -> str:
        key = kind if throughout and "norm" not in kind else f"{scope}/{kind}"
        counts[key] = counts.get(key, -1) + 1
        return f"mnasnet-a1/{scope}/{kind}{f'_{counts[key]}' if counts[key] else ''}"

    trunk = model.backbone
    assert isinstance(trunk, BlockTrunk)
    assert trunk.last is not None
    for number, block in enumerate(trunk.blocks):
        scope = f"mnas_blocks_{number}"
        for layer in (block.expand, block.depthwise, "se", block.project):
            if layer == "se" and block.se is not None:
                for conv in (block.se.squeeze, block.se.excite):
                    inner = name(f"{scope}/se", "conv2d")
                    yield f"{inner}/kernel", kernel(conv)
                    yield f"{inner}/bias", conv.bias.detach().numpy()
            elif isinstance(layer, ConvNormAct):
                kind, leaf = (
                    ("depthwise_conv2d", "depthwise_kernel") if layer is block.depthwise else ("conv2d", "kernel")
                )
                yield from normed(name(scope, kind), layer, leaf=leaf, norm=name(scope, "batch_normalization"))
    for scope, layer in (("mnas_stem", trunk.stem), ("mnas_head", trunk.last)):
        yield from normed(name(scope, "conv2d"), layer, leaf="kernel", norm=name(scope, "batch_normalization"))
    yield "mnasnet-a1/mnas_head/dense/kernel", kernel(model.logits)
    yield "mnasnet-a1/mnas_head/dense/bias", model.logits.bias.detach().numpy()


def loads_back(model: Classifier, state: Mapping[str, Tensor]) -> bool:
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items() if "num_batches" not in name}
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert not load_strict(model, state).reinitialized
    return all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items() if name in expected)


NARROW = {"width": 0.35, "init": "torchvision_detection"}


def test_mobilenet_v1() -> None:
    model = Classifier(MobileNetV1(**NARROW), num_classes=5)
    randomise(model)
    assert loads_back(model, classifier_from_tf_slim(dict(v1_variables(model))))


@pytest.mark.parametrize("throughout", [False, True])
@pytest.mark.parametrize("variant", ["a1", "small"])
def test_mnasnet(variant: str, throughout: bool) -> None:
    model = Classifier(MnasNet(variant, **NARROW), num_classes=5)
    randomise(model)
    variables = dict(mnas_variables(model, throughout=throughout))
    assert loads_back(model, classifier_from_tf_slim(variables))
    assert load_strict(model.backbone, from_tf_slim(variables)).loaded
    message = r"mnas_stem/conv2d\w*/kernel: stem has 2 layers conv2d, but MnasNet has at most 1"
    with pytest.raises(ValueError, match=message):
        from_tf_slim(variables | {"mnasnet-a1/mnas_stem/conv2d_99999/kernel": np.zeros(1, np.float32)})


def test_scopes_of_a_detector(golden: Callable) -> None:
    """Heads of the official graphs are left out; a trunk that is missing or not alone is an error."""
    variables = golden("cls_v3_small", "224").variables
    expected = classifier_from_tf_slim(variables)
    detector = {f"FeatureExtractor/{name}": array for name, array in variables.items()}
    head = ("FeatureExtractor/MobilenetV3/layer_13_1_Conv2d_2_1x1_256/weights", "BoxPredictor_0/ClassPredictor/biases")
    trunk = from_tf_slim(detector | {name: np.zeros(1, np.float32) for name in head}, to="backbone.")
    assert trunk.keys() == {name for name in expected if name.startswith("backbone.")}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trunk.items())
    with pytest.raises(ValueError, match=r"one trunk.*found \['FeatureExtractor/MobilenetV3/', 'MobilenetV3/'\]"):
        from_tf_slim(detector | variables)
    with pytest.raises(ValueError, match="found none; the first variable is 'resnet/conv1/weights'"):
        from_tf_slim({"resnet/conv1/weights": np.zeros(1, np.float32)})
    with pytest.raises(
        ValueError, match="MobilenetV3/ has no batch norms: graphs optimized for inference have them folded"
    ):
        from_tf_slim({name: array for name, array in variables.items() if "BatchNorm" not in name})
    with pytest.raises(ValueError, match="found none; the first variable is None"):
        from_tf_slim({})


def test_unknown_variables_are_listed(golden: Callable) -> None:
    variables = golden("cls_v3_small", "224").variables
    strange = {f"MobilenetV3/Conv_{number}/act_quant/min": np.zeros((), np.float32) for number in range(3, 20)}
    for rename in (from_tf_slim, classifier_from_tf_slim):
        with pytest.raises(ValueError, match=r"17 variables do not belong to .*: MobilenetV3/Conv_3/act.*and 5 more"):
            rename(variables | strange)
    with pytest.raises(ValueError, match="MobilenetV3/Conv/kernel: expected one of weights"):
        from_tf_slim(variables | {"MobilenetV3/Conv/kernel": np.zeros(1, np.float32)})


def test_averages_are_preferred_and_slots_left_out() -> None:
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    found = as_slim({
        "MobilenetV2/Conv/weights:0": zero,
        "MobilenetV2/Conv/weights/ExponentialMovingAverage": one,
        "MobilenetV2/Conv/weights/RMSProp_1": zero,
        "MobilenetV2/Conv/BatchNorm/moving_mean/biased": zero,
        "MobilenetV2/Conv/BatchNorm/moving_mean": one,
        "MobilenetV2/Conv_1/biases/ExponentialMovingAverage": one,
        "global_step": zero,
        "training/beta1_power": zero,
    })  # fmt: skip
    names = ("MobilenetV2/Conv/weights", "MobilenetV2/Conv/BatchNorm/moving_mean", "MobilenetV2/Conv_1/biases")
    assert found == dict.fromkeys(names, one)


# ---- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trunk", "options", "keys"),
    [
        (MobileNetV3, {"padding": "same", "gate": "tf"}, []),
        (MobileNetV3, {"padding": "same", "gate": "tf", "variant": "small", "output_stride": 8}, []),
        (MobileNetV3, {"padding": "same", "minimalistic": True}, []),
        (MobileNetV2, {"padding": "same"}, []),
        (MnasNet, {"padding": "same"}, []),
        (MnasNet, {"padding": "same", "variant": "small", "first_residual": True}, ["first_residual=false"]),
        (MobileNetV1, {}, ["padding=same"]),
        (MobileNetV3, {"padding": "same"}, ["gate=tf"]),
        (MobileNetV3, {"padding": "same", "gate": "sigmoid"}, ["gate=tf"]),
        (MobileNetV3, {"padding": "same", "gate": "tf", "nonlinearity": "relu"}, ["nonlinearity=paper"]),
        (MobileNetV3, {"bn_eps": 1e-5}, ["padding=same", "gate=tf", "bn_eps=0.001"]),
        *(
            (MobileNetV3, {"padding": "same", "gate": "tf", "output_stride": stride, "atrous": rule}, expected)
            for stride in (8, 16, 32)
            for rule, expected in (
                ("reference", []),
                ("torchvision", ["atrous=reference"] if stride < 32 else []),
            )
        ),
    ],
)
def test_trunk_settings(trunk: Callable[..., BlockTrunk], options: dict[str, object], keys: list[str]) -> None:
    model, keys = trunk(**NARROW, **options), [f"backbone.{key}" for key in keys]
    assert trunk_settings(model) == keys
    assert trunk_settings(model, padded_to_corners=True) == [key for key in keys if "padding" not in key]


def test_normalize_settings() -> None:
    half, imagenet = Normalize(mean=(0.5,) * 3, std=(0.5,) * 3), Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    v1, mnasnet = MobileNetV1(**NARROW), MnasNet(**NARROW)
    assert normalize_settings(v1, imagenet) == [f"model.network.{key}=[0.5,0.5,0.5]" for key in ("mean", "std")]
    assert normalize_settings(v1, half) == normalize_settings(mnasnet, imagenet) == []
    assert "model.network.mean=[0.485,0.456,0.406]" in normalize_settings(mnasnet, half)
