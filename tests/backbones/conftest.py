"""What the tests of the trunks share: lively weights, and the official TensorFlow outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

ASSETS = Path(__file__).parents[1] / "assets" / "tf"


@dataclass(frozen=True)
class Golden:
    """A run of an official graph: its variables, its picture [1, 3, H, W] and what came out."""

    variables: dict[str, np.ndarray]
    image: Tensor
    outputs: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def golden(tf_rule: ModuleType) -> Callable[[str, str], Golden]:
    """Return a function that makes the weights and the picture of a run from their names."""

    def load(model: str, run: str) -> Golden:
        outputs = dict(np.load(ASSETS / f"{model}__{run}.npz"))
        variables = tf_rule.weights(str(ASSETS), model)
        assert tf_rule.weights_crc(variables) == outputs["weights_crc32"], "the generator of the weights has changed"
        picture = tf_rule.image_u8(str(outputs["image_key"]), tuple(outputs["image_shape"]))
        return Golden(variables, torch.from_numpy(picture).permute(2, 0, 1)[None], outputs)

    return load


@pytest.fixture(scope="session")
def enliven() -> Callable[[nn.Module, Tensor], nn.Module]:
    """Return a function that gives a model weights with which every layer matters to the output.

    Freshly built networks put out nearly nothing in evaluation mode, and a parity test on them passes for any network.
    """

    def lively(model: nn.Module, images: Tensor) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
                    if layer.bias is not None:
                        layer.bias.normal_(0, 0.3, generator=generator)
            for norm in norms:
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.3, generator=generator)
                norm.momentum = 1.0  # the running statistics become this batch's ...
            model.train()(images)
            for norm in norms:  # ... and then differ from it
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean += torch.randn(norm.num_features, generator=generator) * norm.running_var.sqrt() * 0.2
                norm.running_var *= torch.rand(norm.num_features, generator=generator) + 0.5
        return model.double().eval()

    return lively
