"""Fixtures every test folder shares."""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn

# Tests run side by side (pytest -n): threads of one would only wait for those of another.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real photographs; tests that need it are skipped where POCKETVISION_DATA does not name one."""
    root = os.environ.get("POCKETVISION_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real photographs: set POCKETVISION_DATA to the folder that holds coco_mini, bccd, camvid")
    return Path(root)


@pytest.fixture(scope="session")
def tf_rule() -> ModuleType:
    """The rule by which names become weights and pictures (tests/assets/tf/rule.py)."""
    spec = importlib.util.spec_from_file_location("tf_rule", Path(__file__).parent / "assets" / "tf" / "rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class GraphWriter:
    """Encodes GraphDefs with TensorBoard's copy of TensorFlow's messages; encoded ones joined are one graph."""

    @staticmethod
    def tensor(shape: Sequence[int], *, dtype: int = 1, **values: Any) -> TensorProto:
        """`values` are `tensor_content`, `float_val` or `half_val`."""
        sizes = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
        return TensorProto(dtype=dtype, tensor_shape=sizes, **values)

    def array(self, array: np.ndarray) -> TensorProto:
        dtype = {"f4": 1, "f8": 2, "f2": 19}[array.dtype.str[1:]]
        return self.tensor(array.shape, dtype=dtype, tensor_content=array.tobytes())

    @staticmethod
    def node(name: str, op: str, tensor: TensorProto | None = None) -> bytes:
        """A node with a device, and a `dtype` beside its value."""
        attributes = {"dtype": AttrValue(type=1)}
        if tensor is not None:
            attributes["value"] = AttrValue(tensor=tensor)
        node = NodeDef(name=name, op=op, device="/cpu:0", attr=attributes)
        return GraphDef(node=[node]).SerializeToString(deterministic=True)

    def frozen(self, variables: Mapping[str, np.ndarray]) -> bytes:
        """What `convert_variables_to_constants` writes, with a constant of the graph and an input among them."""
        graph = self.node("image_tensor", "Placeholder")
        for name, array in variables.items():
            graph += self.node(name, "Const", self.array(array)) + self.node(f"{name}/read", "Identity")
        scale = self.array(np.array(2 / 255, np.float32))
        versions = GraphDef(versions=VersionDef(producer=27)).SerializeToString()
        return graph + self.node("Preprocessor/mul/x", "Const", scale) + versions


@pytest.fixture(scope="session")
def graph_writer() -> GraphWriter:
    return GraphWriter()


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
