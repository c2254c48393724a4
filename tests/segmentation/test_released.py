"""The same function as the released ESPNet, ESPNetv2 and C3Net from the same weights, and an importer that is strict.

Names, shapes and outputs of the released code are in ../assets/released/golden.npz; rule.py beside it is the rule by
which a name becomes a weight, and tells how the outputs were made.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pocketvision.segmentation.c3net import C3Net
from pocketvision.segmentation.espnet import ESPNet
from pocketvision.segmentation.espnetv2 import ESPNetv2
from pocketvision.segmentation.network import LRASPP
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.segmentation.upsample import full_size_logits
from pocketvision.tools.weights.load import load_weights

ASSETS = Path(__file__).parents[1] / "assets" / "released"
SIZE = (96, 160)
NETWORKS = {
    "espnet": lambda **options: ESPNet(**({"num_classes": 20, "q": 3} | options)),
    "espnetv2": lambda **options: ESPNetv2(**({"num_classes": 20, "width": 0.5} | options)),
    "c3net": lambda **options: C3Net(**({"num_classes": 20, "q": 2} | options)),
}
UNUSED = {"espnetv2": 3}  # tensors the released forward never reads
cases = pytest.mark.parametrize("case", NETWORKS)


@pytest.fixture(scope="module")
def golden():
    return np.load(ASSETS / "golden.npz")


@pytest.fixture(scope="module")
def states(golden):
    """The released networks' state dicts."""
    spec = importlib.util.spec_from_file_location("released_rule", ASSETS / "rule.py")
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    specs = {case: json.loads(str(golden[f"{case}_names"])) for case in NETWORKS}
    return {
        case: {name: torch.from_numpy(value) for name, value in rule.weights(specs[case]).items()} for case in NETWORKS
    }


def error(model, golden, case, tf_rule):
    """Largest difference over the standard deviation of the released logits."""
    picture = torch.from_numpy(tf_rule.image_u8("released", (*SIZE, 3))).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = full_size_logits(model.double().eval()(picture), SIZE, align_corners=True)[0, :, 5::16, 3::16]
    expected = torch.from_numpy(golden[f"{case}_logits"]).double()
    assert expected.std() > 0.1
    assert expected.std((1, 2)).mean() > 0.1
    return ((logits - expected).abs().max() / expected.std()).item()


@cases
def test_equals_the_released_code(case, golden, states, tf_rule):
    model = NETWORKS[case]()
    report = load_weights(model, states[case], source=case)
    assert len(report.loaded) + UNUSED.get(case, 0) == len(states[case])
    assert report.reinitialized == ()
    assert error(model, golden, case, tf_rule) < 1e-6  # the outputs are stored as float32


def perturb(layer):
    return lambda model: model.get_submodule(layer).weight.data.mul_(1.01)


def exchange_epsilons(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5 if module.eps == 1e-3 else 1e-3


@pytest.mark.parametrize(
    ("case", "options", "change", "least"),
    [
        ("espnet", {"channel_order": "rgb"}, None, 1e-3),
        ("espnet", {"std": (0.176, 0.181, 0.178)}, None, 1e-3),  # 255 times the input
        ("espnetv2", {"channel_order": "bgr"}, None, 1e-3),
        ("c3net", {"channel_order": "rgb"}, None, 1e-3),
        ("espnet", {}, exchange_epsilons, 1e-4),
        ("c3net", {}, exchange_epsilons, 1e-4),
        ("espnet", {}, perturb("encoder.stage3.2.branches.4"), 1e-5),
        ("espnet", {}, perturb("decoder.norm2.act"), 1e-5),
        ("espnetv2", {}, perturb("encoder.down4.image.0.norm"), 1e-5),
        ("espnetv2", {}, perturb("decoder.pools.0.scales.4"), 1e-5),
        ("espnetv2", {}, perturb("decoder.skips.0.gate"), 1e-5),
        ("c3net", {}, perturb("encoder.stage3.0.branches.3.row"), 1e-5),
        ("c3net", {}, perturb("decoder.merge.branches.0.act"), 1e-5),
    ],
)
def test_another_network_is_noticed(case, options, change, least, golden, states, tf_rule):
    model = NETWORKS[case](**options)
    load_weights(model, states[case], source=case)
    if change is not None:
        change(model)
    assert error(model, golden, case, tf_rule) > least


@cases
def test_every_key_is_accounted_for(case, states):
    state, model = states[case], NETWORKS[case]()
    needed = [name for name in state if not name.endswith(("num_batches_tracked", "eesp.module_act.weight"))]
    for name in needed[:: len(needed) // 5]:
        with pytest.raises(ValueError, match="missing in the weights"):
            load_weights(model, {key: value for key, value in state.items() if key != name}, source=case)
    for name in ("fc.weight", f"{needed[5]}_2", "encoder.level5.0.act.weight", "module." + needed[0]):
        with pytest.raises(ValueError, match=r"is not a tensor of the released|not in the model"):
            load_weights(model, state | {name: torch.zeros(1)}, source=case)


@cases
def test_another_number_of_classes_is_refused(case, states):
    with pytest.raises(
        ValueError, match=r"data\.num_classes=20 \(or model\.network\.void=true and data\.num_classes=19\)"
    ):
        load_weights(NETWORKS[case](num_classes=19), states[case], source=case)


@cases
def test_void_is_an_output_and_no_class(case, golden, states, tf_rule):
    model = NETWORKS[case](num_classes=19, void=True)
    load_weights(model, states[case], source=case)
    picture = torch.from_numpy(tf_rule.image_u8("released", (*SIZE, 3))).permute(2, 0, 1)[None]
    with torch.no_grad():
        outputs = model.eval()(picture)
    outputs["logits"][:, 19, :10] += 1000
    meta = {"input_size": SIZE, "original_size": SIZE}
    (classes,), (shown,) = LabelMaps()(outputs, [meta]), LabelMaps(void=True)(outputs, [meta])
    assert (classes == 19).any()
    assert torch.equal(shown == 255, classes == 19)
    assert torch.equal(shown[shown != 255], classes[classes != 19])


@cases
def test_the_encoder_alone_when_asked(case, states):
    model = NETWORKS[case](num_classes=5)
    report = load_weights(model, states[case], source=case, new_predictors=True)
    assert all(name.startswith("decoder.") for name in report.reinitialized)
    assert any(name.startswith("encoder.") for name in report.loaded)


def test_another_network_is_refused(states, tf_rule):
    from pocketvision.backbones.mobilenet_v3 import MobileNetV3

    for model in (NETWORKS["espnetv2"](), LRASPP(MobileNetV3("small"), num_classes=20)):
        with pytest.raises(ValueError, match=f"weights_source=espnet: .* model=espnet, not for {type(model).__name__}"):
            load_weights(model, states["espnet"], source="espnet")
    with pytest.raises(ValueError, match="missing in the weights"):  # q=3 into q=8
        load_weights(NETWORKS["espnet"](q=8), states["espnet"], source="espnet")


@cases
def test_our_own_weights_with_other_classes_keep_the_encoder(case):
    source, model = NETWORKS[case](), NETWORKS[case](num_classes=11)
    with pytest.raises(ValueError, match=r"another number of classes .*weights_new_predictors=true"):
        load_weights(model, source.state_dict())
    report = load_weights(model, source.state_dict(), new_predictors=True)
    assert all(name.startswith("decoder.") for name in report.reinitialized)
    assert "decoder.logits.weight" in report.reinitialized
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, source.encoder.state_dict()[name])
