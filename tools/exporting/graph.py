"""ONNX graphs, written node by node around the exported network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

OPSET = 20
IR_VERSION = 10  # supported by runtimes since 2024

Value = str | float | int | Sequence[int] | np.ndarray


def onnx_type(dtype: str) -> int:
    """ONNX's number of a numpy dtype."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Graph:
    """A graph under construction. Values are names; numbers and arrays passed instead become constants."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Add a node and return its only output, or its first one."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Value, outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return its outputs."""
        from onnx import helper

        name = f"{self.prefix}/{kind}_{len(self.nodes)}"
        results = [f"{name}:{i}" for i in range(outputs)]
        operands = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, operands, results, name=name, **attributes))
        return results

    def rename(self, value: str, name: str) -> None:
        """Give a value the name of an output of the whole graph."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{self.prefix}/{name}"))

    def cast(self, value: str, dtype: str) -> str:
        return self.op("Cast", value, to=onnx_type(dtype))

    def constant(self, value: Any) -> str:
        """The name of a constant: floats are float32, integers int64."""
        from onnx import numpy_helper

        array = np.asarray(value)
        if not isinstance(value, np.ndarray):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"{self.prefix}/constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def slice(self, value: str, start: Value, end: Value, *, axis: int) -> str:
        """`value[start:end]` along an axis."""
        start, end = (item if isinstance(item, str | np.ndarray) else np.array([item]) for item in (start, end))
        return self.op("Slice", value, start, end, np.array([axis]))

    def size(self, value: str, axis: int) -> str:
        """The length of an axis, int64 [1]."""
        return self.op("Shape", value, start=axis, end=axis + 1)
