"""Variables of a TensorFlow model by name: from a frozen graph, a `.npz`, or a checkpoint."""

from pathlib import Path

import numpy as np

from .graphdef import Wire
from .npz import read_npz
from .tf_names import EMA, KERAS_LEAVES, LEAVES

MAX_BYTES = 2**28  # of a file, and of an unpacked .npz; the networks here have at most 30 MB
TRAINED = frozenset((*LEAVES, *KERAS_LEAVES))  # the endings of trained variables' names


def read_variables(path: str | Path) -> dict[str, np.ndarray]:
    """All floating-point variables under their TensorFlow names; `tf_names` selects those that a network needs.

    Args:
        path: a frozen graph (`.pb`), an `.npz` with one array per variable, or a checkpoint's prefix (or one of
            its files), which requires TensorFlow.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the file is corrupt, too large, of another kind, or has no variables.
    """
    path = Path(path)
    prefix = _checkpoint_prefix(path)
    if prefix is not None:
        variables = _read_checkpoint(prefix)
    elif path.is_file():
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes: expected at most {MAX_BYTES:,}")
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        variables = _read(path, zipped=zipped)
    elif path.exists():
        raise ValueError(f"{path} is a folder: specify the frozen graph (.pb), .npz or checkpoint prefix in it")
    else:
        raise FileNotFoundError(f"{path}: no such file, and no checkpoint {path}.index")
    if not variables:
        raise ValueError(f"{path} contains no variables of a TensorFlow model")
    return variables


def _read(path: Path, *, zipped: bool) -> dict[str, np.ndarray]:
    """Turns every fault of the file into a ValueError."""
    try:
        return _read_npz(path) if zipped else _read_frozen_graph(path)
    except Exception as error:  # of zipfile and numpy: a hostile header can raise MemoryError or tokenize.TokenError
        kind = ".npz" if zipped else "frozen TensorFlow graph"
        raise ValueError(f"{path} is not a valid {kind}: {str(error) or type(error).__name__}") from None


# ---- frozen graph ----------------------------------------------------------------------------------------


def _read_frozen_graph(path: Path) -> dict[str, np.ndarray]:
    """Constants that were variables: those read through `NAME/read`, or named like a weight."""
    wire = Wire()
    nodes = list(wire.nodes(memoryview(path.read_bytes())))
    names = {node.name for node in nodes}
    variables: dict[str, np.ndarray] = {}
    for node in nodes:
        weight = node.name.removesuffix(f"/{EMA}").rpartition("/")[2] in TRAINED
        if node.op != "Const" or not (weight or f"{node.name}/read" in names):
            continue
        if node.name in variables:
            raise ValueError(f"two nodes are named {node.name!r}")
        array = None if node.tensor is None else wire.array(node.tensor)
        if array is not None:
            variables[node.name] = array
        elif weight:
            raise ValueError(f"{node.name} is not floating-point (float16, float32, float64): a quantized graph?")
    if not variables:
        raise ValueError(f"none of its {len(nodes)} nodes is a constant that was a variable")
    return variables


# ---- .npz ------------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The floating-point arrays; counters are left out."""
    variables: dict[str, np.ndarray] = {}
    for name, array in read_npz(path, max_bytes=MAX_BYTES):
        if array.dtype.kind == "f":
            variables[name] = array
        elif name.rpartition("/")[2] in TRAINED:
            raise ValueError(f"{name} is {array.dtype}: expected floating point")
    return variables


# ---- checkpoint ------------------------------------------------------------------------------------------


def _checkpoint_prefix(path: Path) -> Path | None:
    """The prefix, if `path` is one or one of the checkpoint's files."""
    name = path.name
    for end in (".index", ".meta"):
        name = name.removesuffix(end)
    prefix = path.with_name(name.partition(".data-0")[0])
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


def _read_checkpoint(prefix: Path) -> dict[str, np.ndarray]:
    try:
        import tensorflow as tf  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    except ImportError:
        raise ValueError(
            f"{prefix} is a checkpoint, which needs TensorFlow, and that is not installed: pip install "
            "'pocketvision[tf]'. Or use the frozen graph (.pb) that comes with most checkpoints, or an .npz made "
            "where TensorFlow is installed:  numpy.savez('weights.npz', **{name: tf.train.load_variable(PREFIX, name) "
            "for name, _ in tf.train.list_variables(PREFIX)})"
        ) from None
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        kept = [name for name, dtype in reader.get_variable_to_dtype_map().items() if dtype.is_floating]
        return {name: reader.get_tensor(name) for name in kept}
    except Exception as error:  # TensorFlow raises its own kinds
        raise ValueError(f"{prefix} is not a valid TensorFlow checkpoint: {error}") from error
