"""Fixtures every test folder shares."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

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
    """Encodes GraphDefs as TensorFlow does: protobuf's wire format, written from its specification."""

    @staticmethod
    def varint(number: int) -> bytes:
        out = bytearray()
        while number >= 0x80:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        return bytes([*out, number])

    def field(self, number: int, value: int | bytes) -> bytes:
        """A varint, or bytes with their length."""
        if isinstance(value, int):
            return self.varint(number << 3) + self.varint(value)
        return self.varint(number << 3 | 2) + self.varint(len(value)) + value

    def tensor(self, shape: Sequence[int], *, dtype: int = 1, **parts: bytes) -> bytes:
        """A TensorProto; `parts` are `content`, `floats` and `halves`, encoded."""
        dims = b"".join(self.field(2, self.field(1, size)) for size in shape)
        numbers = {"content": 4, "floats": 5, "halves": 13}
        return (
            self.field(1, dtype)
            + self.field(2, dims)
            + b"".join(self.field(numbers[part], value) for part, value in parts.items())
        )

    def array(self, array: np.ndarray) -> bytes:
        dtype = {"f4": 1, "f8": 2, "f2": 19}[array.dtype.str[1:]]
        return self.tensor(array.shape, dtype=dtype, content=array.tobytes())

    def node(self, name: str, op: str, tensor: bytes | None = None) -> bytes:
        """A node with a device, and a `dtype` beside its value."""
        body = self.field(1, name.encode()) + self.field(2, op.encode()) + self.field(4, b"/cpu:0")
        attributes = {"dtype": self.field(6, 1)}
        if tensor is not None:
            attributes["value"] = self.field(8, tensor)
        for key, value in attributes.items():
            body += self.field(5, self.field(1, key.encode()) + self.field(2, value))
        return self.field(1, body)

    def frozen(self, variables: Mapping[str, np.ndarray]) -> bytes:
        """What `convert_variables_to_constants` writes, with a constant of the graph and an input among them."""
        graph = self.node("image_tensor", "Placeholder")
        for name, array in variables.items():
            graph += self.node(name, "Const", self.array(array)) + self.node(f"{name}/read", "Identity")
        scale = self.array(np.array(2 / 255, np.float32))
        return graph + self.node("Preprocessor/mul/x", "Const", scale) + self.field(4, self.field(1, 27))


@pytest.fixture(scope="session")
def graph_writer() -> GraphWriter:
    return GraphWriter()
