"""What the tests of the trunks share: the official TensorFlow outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

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
