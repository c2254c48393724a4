"""Others' weights by file and by name: whole networks, backbones, fewer channels, settings that names do not tell."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mnasnet import MnasNet
from pocketvision.backbones.mobilenet_v2 import MobileNetV2
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.detection.anchors import AnchorLayout
from pocketvision.detection.network import SSDLite
from pocketvision.segmentation.network import LRASPP, RASPP
from pocketvision.tools.engine.state import FORMAT
from pocketvision.tools.weights import downloads
from pocketvision.tools.weights.downloads import find_published, is_published
from pocketvision.tools.weights.load import load_weights
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

FAST = "torchvision_detection"
IMAGES = torch.randint(0, 256, (2, 3, 97, 97), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def ssdlite(anchors: AnchorLayout | None = None, **backbone: object) -> SSDLite:
    trunk = MobileNetV3("small", init=FAST, **backbone)  # pyright: ignore[reportArgumentType]
    return SSDLite(trunk, num_classes=3, anchors=anchors)


def lraspp(**backbone: object) -> LRASPP:
    trunk = MobileNetV3("small", init=FAST, **backbone)  # pyright: ignore[reportArgumentType]
    return LRASPP(trunk, num_classes=3)


def raspp(**backbone: object) -> RASPP:
    return RASPP(MobileNetV2(init=FAST, **backbone), num_classes=3)  # pyright: ignore[reportArgumentType]


def test_what_takes_seconds_to_import_waits_until_it_is_used() -> None:
    code = "import sys, pocketvision; pocketvision.load; import pocketvision.tools.info; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"torchvision", "albumentations", "tensorboard", "torch._dynamo"} & set(loaded)


# ---- fewer channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "rule"),
    [
        (ssdlite, {"reduced": "detection"}, "first"),
        (ssdlite, {"width": 0.6}, "importance"),
        (lraspp, {"reduced": "detection", "width": 0.6}, "importance"),
        (raspp, {"reduced": "segmentation"}, "importance"),
    ],
)
def test_heads_follow_the_channels_of_the_backbone(make, options: dict, rule: str, enliven) -> None:
    larger, smaller = enliven(make(), IMAGES), make(**options).double().eval()
    shapes = {name: tensor.shape for name, tensor in smaller.state_dict().items()}
    with torch.no_grad():  # all but the first channels are nothing
        for name, tensor in larger.state_dict().items():
            if name.endswith(("norm.weight", "norm.bias")):
                tensor[shapes[name][0] :] = 0
            elif name.endswith("se.excite.weight"):
                tensor[:, shapes[name][1] :] = 0
        report = load_weights(smaller, larger.state_dict(), reduce=rule)
        expected, found = larger(IMAGES), smaller(IMAGES)
    assert not report.reinitialized
    assert f"channels selected by {rule}: " in str(report)
    for key in expected.keys() & {"class_logits", "box_deltas", "logits"}:
        assert expected[key].std() > 0.1
        assert (found[key] - expected[key]).abs().max() < 1e-9 * expected[key].std()


def test_a_backbone_alone_is_reduced_too() -> None:
    state = {f"backbone.{name}": tensor for name, tensor in MobileNetV3("small", init=FAST).state_dict().items()}
    model = lraspp(reduced="segmentation")
    report = load_weights(model, state, reduce="importance")
    assert "backbone.last 576 -> 288" in str(report)
    assert {name.split(".")[0] for name in report.reinitialized} == {"aspp", "gate", "high_logits", "low_logits"}
    with pytest.raises(ValueError, match=r"shape of backbone.blocks.8.expand.conv.weight: \(288, 48, 1, 1\) in"):
        load_weights(model, state)
    with pytest.raises(ValueError, match="weights_reduce='last': choose one of 'importance', 'first'"):
        load_weights(model, state, reduce="last")


# ---- settings --------------------------------------------------------------------------------------------


def test_a_whole_network_that_computes_something_else_is_refused() -> None:
    state = mobilenet_v2().state_dict()
    model = Classifier(MobileNetV2(init=FAST))
    with pytest.raises(ValueError, match=r"weights fit, but .* set backbone.bn_eps=1e-05"):
        load_weights(model, state, source="torchvision")
    model = Classifier(MobileNetV2(bn_eps=1e-5, init=FAST), mean=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match=r"set model.network.mean=\[0.485,0.456,0.406\]"):
        load_weights(model, state, source="torchvision")
    load_weights(Classifier(MobileNetV2(bn_eps=1e-5, init=FAST)), state, source="torchvision")


@pytest.mark.parametrize(
    ("head", "backbone", "told"),
    [
        ({"pool": "reference"}, {}, "model.network.pool=global"),
        ({"align_corners": True}, {}, "model.network.align_corners=false"),
        ({"pad_input": True}, {}, "model.network.pad_input=false"),
        ({"gate": "qsigmoid"}, {}, "model.network.gate=sigmoid"),
        ({}, {"atrous": "reference"}, "backbone.atrous=torchvision"),
        ({}, {"padding": "same"}, "backbone.padding=symmetric"),
        ({"mean": (0.5, 0.5, 0.5)}, {}, "model.network.mean="),
    ],
)
def test_torchvisions_lraspp_in_another_setting(head: dict, backbone: dict, told: str) -> None:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    state = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    trunk = MobileNetV3(**{"output_stride": 16, "atrous": "torchvision", "init": FAST} | backbone)
    right = {
        "low": "block4", "pool": "global", "gate_bias": False, "align_corners": False, "pad_input": False,
        "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
    }  # fmt: skip
    with pytest.raises(ValueError, match=told.replace("[", "\\[")):
        load_weights(LRASPP(trunk, num_classes=21, **right | head), state, source="torchvision")


def test_for_a_backbone_alone_they_are_told(logged: pytest.LogCaptureFixture) -> None:
    report = load_weights(ssdlite(), mobilenet_v3_small().state_dict(), source="torchvision")
    assert all(not name.startswith("backbone.") for name in report.reinitialized)
    assert "to match them, set model.network.mean=[0.485,0.456,0.406]" in logged.text


def of_a_run(model: nn.Module, **network: object) -> dict[str, object]:
    """A checkpoint of ours, as far as starting from it goes."""
    backbone = {"bn_eps": 1e-3, "padding": "same"}
    config = {"backbone": backbone, "model": {"network": {"mean": [0.5] * 3, "std": [0.5] * 3, **network}}}
    return {"format": FORMAT, "config": config, "model": model.state_dict()}


def test_a_run_that_computed_something_else_is_refused_whole_and_told_of_its_backbone(
    logged: pytest.LogCaptureFixture,
) -> None:
    """Its pictures were normalised otherwise, and its convolutions padded: no name and no shape would tell."""
    same = {"bn_eps": 1e-3, "padding": "same"}
    detector = SSDLite(MobileNetV3("small", init=FAST), num_classes=3, mean=(0.485, 0.456, 0.406))
    with pytest.raises(ValueError, match=r"trained with; set model.network.mean=\[0.5,0.5,0.5\]"):
        load_weights(detector, of_a_run(detector), backbone=same)
    with pytest.raises(ValueError, match=r"set backbone.padding=same"):
        load_weights(ssdlite(), of_a_run(ssdlite()), backbone={"bn_eps": 1e-3, "padding": "symmetric"})
    load_weights(ssdlite(), of_a_run(ssdlite()), backbone=same)
    classifier = Classifier(MobileNetV3("small", init=FAST), num_classes=5)
    load_weights(ssdlite(), of_a_run(classifier), backbone=same)
    assert not logged.text
    load_weights(detector, of_a_run(classifier), backbone=same)
    assert "to match them, set model.network.mean=[0.5,0.5,0.5]" in logged.text


@pytest.mark.parametrize("mean", [None, "0.5", ["a"], {"a": 1}, [[1]]])
def test_a_run_whose_configuration_was_damaged_is_judged_by_its_weights(mean: object) -> None:
    model = ssdlite()
    assert not load_weights(model, of_a_run(model, mean=mean)).reinitialized


def test_what_is_reshaped_is_not_reported_as_left_out() -> None:
    """timm's classifiers have a 1x1 convolution where ours have a linear layer."""
    pinned = gzip.decompress((Path(__file__).parents[2] / "assets" / "names" / "timm.json.gz").read_bytes())
    state = {name: torch.ones(shape) for name, shape in json.loads(pinned)["mobilenetv3_small_050"]}
    model = Classifier(MobileNetV3("small", width=0.5, stem="unscaled", bn_eps=1e-5, init=FAST), init=FAST)
    assert not load_weights(model, state, source="timm").unexpected


# ---- by name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "published"),
    [("torchvision", True), ("torchvision/IMAGENET1K_V1", True), ("timm/mobilenetv3_large_100", True),
     ("timm/tf_mobilenetv3_small_100.in1k", True), ("timm", False), ("torchvision.pth", False), ("runs/x", False),
     ("timm/../x", False)],
)  # fmt: skip
def test_names_and_files_are_told_apart(name: str, published: bool) -> None:
    assert is_published(name) == published


TORCHVISION_SSDLITE = {"anchors": AnchorLayout.torchvision()}


@pytest.mark.parametrize(
    ("model", "name", "file"),
    [
        (Classifier(MobileNetV3(init=FAST)), "torchvision", "mobilenet_v3_large-5c1a4163.pth"),
        (Classifier(MobileNetV3(init=FAST)), "torchvision/IMAGENET1K_V1", "mobilenet_v3_large-8738ca79.pth"),
        (MobileNetV3("small", init=FAST), "torchvision", "mobilenet_v3_small-047dcff4.pth"),
        (raspp(), "torchvision", "mobilenet_v2-7ebf99e0.pth"),
        (ssdlite(), "torchvision", "mobilenet_v3_small-047dcff4.pth"),
        (
            SSDLite(MobileNetV3(init=FAST, reduced="detection"), num_classes=90, **TORCHVISION_SSDLITE),
            "torchvision",
            "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        ),
        (
            LRASPP(MobileNetV3(init=FAST), num_classes=21, low="block4"),
            "torchvision",
            "lraspp_mobilenet_v3_large-d234d4ea.pth",
        ),
        (LRASPP(MobileNetV3(init=FAST), num_classes=21), "torchvision", "mobilenet_v3_large-5c1a4163.pth"),
        (raspp(), "timm/mobilenetv2_100", "mobilenetv2_100.ra_in1k.safetensors"),
        (raspp(), "timm/mobilenetv2_100.other", "mobilenetv2_100.other.safetensors"),
    ],
)
def test_the_name_picks_the_file_that_fits_the_model(model: nn.Module, name: str, file: str) -> None:
    assert find_published(model, name).file == file


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (MnasNet(init=FAST), "torchvision", "torchvision has published no weights for this network.*MnasNet is B1"),
        (MobileNetV3("small", width=0.5, init=FAST), "torchvision", "published no weights"),
        (MobileNetV3("small", minimalistic=True, init=FAST), "torchvision", "published no weights"),
        (MobileNetV3("small", init=FAST), "torchvision/COCO_V1", "for this network, choose one of IMAGENET1K_V1$"),
        (raspp(), "timm/resnet50", "unknown network; these timm weights are supported: mobilenetv1_100"),
        (raspp(), "timm/mobilenetv2_110d", "timm's mobilenetv2_110d is deeper than MobileNetV2"),
        (raspp(), "timm/mobilenetv2_035", "has published no weights for it"),
    ],
)
def test_names_without_weights(model: nn.Module, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_weights(model, name)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """URL -> the file that is there; downloads go into an empty cache."""
    served: dict[str, Path] = {}

    def fetch(url: str, target: str, hash_prefix: str | None) -> None:
        if url not in served:
            raise OSError("Name or service not known")
        content = served.pop(url).read_bytes()  # once
        if hash_prefix and not hashlib.sha256(content).hexdigest().startswith(hash_prefix):
            raise RuntimeError("invalid hash value")
        Path(target).write_bytes(content)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    return served


def save(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def test_a_download_is_kept(network: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = MobileNetV3(init=FAST), mobilenet_v3_large(num_classes=2)
    file = save(source.state_dict(), tmp_path / "x.pth")
    told = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    published = downloads.Published("torchvision", f"https://here/net-{told}.pth", f"net-{told}.pth")
    monkeypatch.setattr("pocketvision.tools.weights.load.find_published", lambda model, weights: published)
    network[published.url] = file
    for _ in range(2):  # served once only
        assert not load_weights(model, "torchvision").reinitialized
        assert torch.equal(model.stem.conv.weight, source.state_dict()["features.0.0.weight"])
    kept = tmp_path / "hub" / "checkpoints" / f"net-{told}.pth"
    kept.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=rf"the file name says that its SHA-256 starts with {told}, but it is"):
        load_weights(model, "torchvision")
    with pytest.raises(ValueError, match="weights=torchvision with weights_source=timm: drop weights_source"):
        load_weights(model, "torchvision", source="timm")


def test_without_a_network_the_message_says_what_to_put_where(network: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load_weights(MobileNetV3(init=FAST), "torchvision")
    for part in (
        "https://download.pytorch.org/models/mobilenet_v3_large-5c1a4163.pth could not be downloaded (Name or service",
        f"put it into {tmp_path / 'hub' / 'checkpoints'} as mobilenet_v3_large-5c1a4163.pth",
        "weights=FOLDER/mobilenet_v3_large-5c1a4163.pth weights_source=torchvision",
    ):
        assert part in str(error.value)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


def test_a_download_with_another_hash(network: dict[str, Path], tmp_path: Path) -> None:
    url = "https://download.pytorch.org/models/mobilenet_v3_large-5c1a4163.pth"
    network[url] = save({}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="invalid hash value"):
        load_weights(MobileNetV3(init=FAST), "torchvision")
