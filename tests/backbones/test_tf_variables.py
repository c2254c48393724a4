"""Frozen graphs, .npz and checkpoints: what sound files hold, and that any other only raises ValueError."""

import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from pocketvision.backbones import graphdef, tf_variables
from pocketvision.backbones.tf_variables import read_variables

VARIABLES = {
    "MobilenetV3/Conv/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4),
    "MobilenetV3/Conv/BatchNorm/gamma": np.array([0.5, -1.5], np.float16),
    "MobilenetV3/Conv/BatchNorm/beta": np.array([1e-3], np.float64),
    "strange": np.zeros((0, 3), np.float32),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype and found[name].shape == array.shape and np.array_equal(found[name], array)
        for name, array in expected.items()
    )


# ---- frozen graphs ---------------------------------------------------------------------------------------


def test_variables_of_a_frozen_graph(tmp_path: Path, graph_writer: Any) -> None:
    """Constants of the graph itself are none; what is read like a variable is one, whatever its name."""
    path = written(tmp_path / "graph.pb", graph_writer.frozen(VARIABLES))
    assert equal(read_variables(path), VARIABLES)


def test_weights_without_identities(tmp_path: Path, graph_writer: Any) -> None:
    """Optimised graphs have no `/read`: what is named like a weight is one."""
    one = graph_writer.array(np.ones(3, np.float32))
    names = ("a/biases", "a/weights/ExponentialMovingAverage", "scale")
    content = b"".join(graph_writer.node(name, "Const", one) for name in names)
    assert sorted(read_variables(written(tmp_path / "g", content))) == sorted(names[:2])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"shape": (0,)}, np.zeros(0, np.float32)),
        ({"shape": (), "float_val": [3]}, np.array(3, np.float32)),
        ({"shape": (2,), "float_val": [1, 2]}, np.array([1, 2], np.float32)),
        ({"shape": (2, 2), "float_val": [7]}, np.full((2, 2), 7, np.float32)),
        ({"shape": (4,), "float_val": [1, 2]}, np.array([1, 2, 2, 2], np.float32)),
        ({"shape": (3,), "tensor_content": struct.pack("<f", 7)}, np.full(3, 7, np.float32)),
        ({"shape": (2,), "dtype": 19, "tensor_content": struct.pack("<2e", 0.5, -2)}, np.array([0.5, -2], np.float16)),
        ({"shape": (2,), "dtype": 19, "half_val": [0x3800, 0xC000]}, np.array([0.5, -2], np.float16)),
        ({"shape": (1,), "dtype": 2, "tensor_content": struct.pack("<d", 0.1)}, np.array([0.1])),
    ],
)
def test_tensors(tmp_path: Path, graph_writer: Any, arguments: dict[str, Any], expected: np.ndarray) -> None:
    content = graph_writer.node("a/weights", "Const", graph_writer.tensor(**arguments))
    assert equal(read_variables(written(tmp_path / "g", content)), {"a/weights": expected})


def test_a_graph_cut_anywhere_is_an_error_or_a_shorter_graph(tmp_path: Path, graph_writer: Any) -> None:
    content = graph_writer.frozen({"a/weights": np.ones((2, 2), np.float32), "a/biases": np.ones(2, np.float16)})
    path, sound = tmp_path / "g", 0
    for length in range(len(content)):
        try:
            found = read_variables(written(path, content[:length]))
        except ValueError:
            continue
        sound += 1
        assert found.keys() <= {"a/weights", "a/biases"}
    assert sound == 5  # behind the first constant and each node that follows it


def test_any_byte_may_be_wrong(tmp_path: Path, graph_writer: Any) -> None:
    content = graph_writer.frozen({"a/weights": np.ones((2, 2), np.float32)})
    path = tmp_path / "g"
    for position in range(len(content)):
        for value in (0, 0x7F, 0xFF, content[position] ^ 1):
            damaged = content[:position] + bytes([value]) + content[position + 1 :]
            try:
                read_variables(written(path, damaged))
            except ValueError:
                continue


def hostile(writer: Any) -> dict[str, tuple[bytes, str]]:
    """Name -> (content, what the error says)."""

    def const(*shape: int, name: str = "a/weights", **values: Any) -> bytes:
        return writer.node(name, "Const", writer.tensor(shape, **values))

    one = struct.pack("<f", 1)
    nested = b"x"
    for _ in range(2000):
        nested = BytesValue(value=nested).SerializeToString()
    return {
        "empty": (b"", "none of its 0 nodes"),
        "text": (b"not a graph at all, but text", "."),
        "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "."),
        "huge length": (b"\x0a" + b"\x80" * 8 + b"\x40x", "declares 4611686018427387904 bytes, but only 1 are left"),
        "endless number": (b"\x0a" + b"\xff" * 20, "longer than ten bytes"),
        "field 0": (b"\x02\x00", "number 0"),
        "group": (b"\x0b\x0c", "wire type 3"),
        "node is a number": (b"\x08\x01", "a node has the wire type 0"),
        "nested": (nested, "."),
        "name": (b"\x0a\x04\x0a\x02\xff\xfe", "not UTF-8"),
        "no constant": (writer.node("x", "Placeholder"), "none of its 1 nodes"),
        "no value": (writer.node("a/weights", "Const"), "not floating-point"),
        "huge shape": (const(2**31, 2**31, float_val=[1]), r"\[2147483648, 2147483648\]"),
        "large shape": (const(2**21, float_val=[1]), r"\[2097152\] and type float32 has 4 bytes"),
        "many shapes": (
            b"".join(const(2**19, float_val=[1], name=f"{i}/weights") for i in range(3)),
            r"\[524288\] and type float32 has 4 bytes",
        ),
        "negative": (const(-1, float_val=[1]), "has the shape"),
        "rank": (const(*(1,) * 99, float_val=[1]), "has the shape"),
        "too many": (const(1, tensor_content=one * 2), "has 8 bytes"),
        "half a number": (const(2, tensor_content=one + b"\0"), "has 5 bytes"),
        "nothing": (const(2), "has 0 bytes"),
        "integers": (const(1, dtype=3, tensor_content=one), "a/weights is not floating-point"),
        "quantized": (const(4, dtype=12, tensor_content=one), "a quantized graph"),
        "twice": (const(1, tensor_content=one) * 2, "two nodes are named 'a/weights'"),
    }


def test_hostile_graphs(tmp_path: Path, graph_writer: Any) -> None:
    for name, (content, message) in hostile(graph_writer).items():
        path = written(tmp_path / "graph.pb", content)
        tracemalloc.start()
        with pytest.raises(ValueError, match=message) as error:
            read_variables(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "graph.pb is not a valid frozen TensorFlow graph" in str(error.value), name
        assert peak < 16e6, name


def test_fields_and_bytes_are_counted(tmp_path: Path, graph_writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "g", graph_writer.frozen(VARIABLES))
    monkeypatch.setattr(graphdef, "MAX_FIELDS", 10)
    with pytest.raises(ValueError, match="more than 10 fields"):
        read_variables(path)
    monkeypatch.setattr(tf_variables, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="bytes: expected at most 100"):
        read_variables(path)


# ---- .npz ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Any) -> None:
    turned = {"turned": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))}
    save(tmp_path / "w.npz", **VARIABLES, **turned, global_step=np.int64(7))
    assert equal(read_variables(tmp_path / "w.npz"), VARIABLES | turned)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "contains no variables"),
        ({"a.txt": b"text"}, "'a.txt' is not an array"),
        ({"a.npy": b"\x93NUM"}, "."),
        ({"a.npy": b"\x93NUMPY\x09\x00"}, "version"),
        ({"a.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n")}, "pickle"),
        ({"a.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n")}, "its 0 bytes"),
        ({"a.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n")}, "its 0 bytes"),
        ({"a.npy": npy("__import__('os').abort()")}, "."),
        ({"a.npy": npy("-" * 9000 + "1")}, "MemoryError"),  # the parser's stack
        ({"a.npy": npy("(" * 300)}, "EOF in multi-line statement"),
        (
            {"a/weights.npy": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (0,), }\n")},
            "expected floating point",
        ),
    ],
)
def test_bad_npz(tmp_path: Path, entries: dict[str, bytes], message: str) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.npy", b"") if not entries else None
        for name, content in entries.items():
            archive.writestr(name, content)
    if not entries:
        np.savez(path, global_step=np.int64(1))
    with pytest.raises(ValueError, match=message) as error:
        read_variables(path)
    assert "w.npz" in str(error.value)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("a pickle was loaded",)

    np.savez(tmp_path / "w.npz", weights=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        read_variables(tmp_path / "w.npz")


def test_a_npz_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", weights=np.arange(50, dtype=np.float32))
    content = (tmp_path / "w.npz").read_bytes()
    for length in range(len(content)):
        with pytest.raises(ValueError, match="cut"):
            read_variables(written(tmp_path / "cut", content[:length]))


def test_a_npz_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "w.npz", weights=np.zeros(10**6, np.float32))
    monkeypatch.setattr(tf_variables, "MAX_BYTES", 10**5)
    with pytest.raises(ValueError, match=r"it would unpack to 4,000,\d+ bytes"):
        read_variables(tmp_path / "w.npz")


# ---- checkpoints, and what is none -----------------------------------------------------------------------


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model.ckpt: no such file, and no checkpoint .*model.ckpt.index"):
        read_variables(tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="is a folder: specify the frozen graph"):
        read_variables(tmp_path)


@pytest.mark.parametrize("given", ["model.ckpt-400", "model.ckpt-400.index", "model.ckpt-400.data-00000-of-00001"])
def test_a_checkpoint_needs_tensorflow(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in (".index", ".data-00000-of-00001"):
        written(tmp_path / f"model.ckpt-400{ending}", b"")
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(ValueError, match=r"model\.ckpt-400 is a checkpoint.*pocketvision\[tf\].*frozen graph.*npz"):
        read_variables(tmp_path / given)
