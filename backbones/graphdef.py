"""Reads weights from a frozen TensorFlow graph without TensorFlow: the few protobuf fields that contain them.

The file is untrusted: lengths are compared with the available bytes before use, arrays are views of the
file, and nodes, fields and numbers are counted against limits. Every fault is a ValueError with its reason.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# The largest graph of these networks has about ten thousand nodes and ten million weights.
MAX_FIELDS = 4_000_000
MAX_RANK = 8
MAX_REPEATED = 2**20  # numbers in all arrays together that are not in the file because they repeat another one

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# TensorFlow's DataType -> numpy's, and the field of TensorProto that lists values one by one
DTYPES = {1: ("<f4", 5), 2: ("<f8", 6), 19: ("<f2", 13)}


@dataclass(frozen=True)
class Node:
    """A node of the graph; `tensor` is the encoded value of a Const."""

    name: str
    op: str
    tensor: memoryview | None = None


class Wire:
    """Reader of encoded messages that counts what it reads."""

    def __init__(self) -> None:
        self.fields = self.repeated = 0

    def message(self, data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        """Yield (field number, wire type, value): an int for a varint, else its bytes."""
        position = 0
        while position < len(data):
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            key, position = varint(data, position)
            number, kind = key >> 3, key & 7
            if number == 0:
                raise ValueError("a field has the number 0")
            if kind == VARINT:
                value, position = varint(data, position)
                yield number, kind, value
                continue
            if kind == BYTES:
                length, position = varint(data, position)
            elif kind in (FIXED32, FIXED64):
                length = 4 if kind == FIXED32 else 8
            else:
                raise ValueError(f"field {number} has the unknown wire type {kind}")
            if length > len(data) - position:
                raise ValueError(f"field {number} declares {length} bytes, but only {len(data) - position} are left")
            yield number, kind, data[position : position + length]
            position += length

    def nodes(self, graph: memoryview) -> Iterator[Node]:
        """Yield the nodes of a GraphDef."""
        for number, kind, value in self.message(graph):
            if number == 1:
                yield self._node(_bytes(value, kind, "a node"))

    def _node(self, data: memoryview) -> Node:
        name = op = ""
        tensor = None
        for number, kind, value in self.message(data):
            if number == 1:
                name = _text(value, kind)
            elif number == 2:
                op = _text(value, kind)
            elif number == 5:
                tensor = self._value(_bytes(value, kind, "an attribute")) or tensor
        return Node(name, op, tensor)

    def _value(self, attribute: memoryview) -> memoryview | None:
        """The encoded TensorProto, if the attribute is named `value`."""
        named, tensor = False, None
        for number, kind, value in self.message(attribute):
            if number == 1:
                named = _text(value, kind) == "value"
            elif number == 2:
                for inner, inner_kind, content in self.message(_bytes(value, kind, "an attribute's value")):
                    if inner == 8:
                        tensor = _bytes(content, inner_kind, "a tensor")
        return tensor if named else None

    def array(self, tensor: memoryview) -> np.ndarray | None:
        """The array of a TensorProto, or None if it is not floating-point."""
        dtype, shape, content, listed = 0, (), None, []
        for number, kind, value in self.message(tensor):
            if number == 1:
                dtype = value if isinstance(value, int) else 0
            elif number == 2:
                shape = self._shape(_bytes(value, kind, "a shape"))
            elif number == 4:
                content = _bytes(value, kind, "a tensor's content")
            elif number in (5, 6, 13):
                listed.append((number, value))
        if dtype not in DTYPES:
            return None
        name, field = DTYPES[dtype]
        if content is None:
            content = b"".join(_listed(value, name) for number, value in listed if number == field)
        return self._filled(content, np.dtype(name), shape)

    def _filled(self, content: memoryview | bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """The array; TensorFlow omits repetitions of the last value."""
        size, given = math.prod(shape), len(content) // dtype.itemsize
        missing = size - given
        self.repeated += max(missing, 0)
        if len(content) % dtype.itemsize or missing < 0 or (missing and not given) or self.repeated > MAX_REPEATED:
            raise ValueError(f"a tensor of the shape {list(shape)} and type {dtype.name} has {len(content)} bytes")
        array = np.frombuffer(content, dtype)
        if missing:
            array = np.concatenate([array, np.full(missing, array[-1])])
        return array.reshape(shape)

    def _shape(self, data: memoryview) -> tuple[int, ...]:
        shape = []
        for number, kind, value in self.message(data):
            if number == 3 and value:
                raise ValueError("a tensor's shape is unknown")
            if number == 2:
                sizes = [v for n, _, v in self.message(_bytes(value, kind, "a dimension")) if n == 1]
                shape.append(sizes[-1] if sizes else 0)
        if len(shape) > MAX_RANK or any(not isinstance(size, int) or size >= 2**32 for size in shape):
            raise ValueError(f"a tensor has the shape {shape[:MAX_RANK]}")
        return tuple(shape)


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it; at most ten bytes."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number is longer than ten bytes")


def _bytes(value: int | memoryview, kind: int, what: str) -> memoryview:
    if kind != BYTES or isinstance(value, int):
        raise ValueError(f"{what} has the wire type {kind}")
    return value


def _text(value: int | memoryview, kind: int) -> str:
    try:
        return str(_bytes(value, kind, "a text"), "utf-8")
    except UnicodeDecodeError:
        raise ValueError("a text is not UTF-8") from None


def _listed(value: int | memoryview, dtype: str) -> bytes:
    """Values given one by one, or packed; those of half precision are varints of their bits."""
    if dtype != "<f2":
        return bytes(value) if isinstance(value, memoryview) else b""
    if isinstance(value, int):
        return (value & 0xFFFF).to_bytes(2, "little")
    bits, position = bytearray(), 0
    while position < len(value):
        number, position = varint(value, position)
        bits += (number & 0xFFFF).to_bytes(2, "little")
    return bytes(bits)
