"""Reading weights that others wrote: no file can run code, take more memory than it has bytes, or pass for another."""

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engine.state import FORMAT, read_tensors

_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # torch.hub's way: NAME-HASH.pth
_MAX_NAME = 200  # characters
_MAX_HEADER = 16 * 2**20  # bytes; that of a MobileNet has some ten thousand
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_content(path: Path) -> Mapping[str, Any]:
    """What a run folder's checkpoint, a file of `torch.save` or a safetensors file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds no state dict.
    """
    if path.is_dir():
        path = checkpoint_path(path)
    label = f"weights={path}"
    if not path.is_file():
        raise FileNotFoundError(f"{label}: no such file")
    safe = path.suffix == ".safetensors"
    content = read_safetensors(path) if safe else read_tensors(path, label=label, what="state dict")
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} holds a {type(content).__name__}, not a state dict")
    return content


def state_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint, or the mapping itself.

    Known are our checkpoints, those of torchvision's reference scripts (`model`) and those that say `state_dict`; the
    `module.` that data-parallel training puts before all names is taken off.

    Raises:
        ValueError: there are no tensors, or some that are no plain numbers in memory; a name is no layer's.
    """
    if content.get("format") == FORMAT and isinstance(content.get("ema"), Mapping):
        content = content["ema"]
    inner = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)), content)
    state = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError("the weights hold no tensors: not a state dict?")
    for name, tensor in state.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > _MAX_NAME:
            raise ValueError(f"the weights have a tensor named {ascii(name)[:80]}: not a state dict?")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise ValueError(
                f"{name} is sparse, quantized, complex or without values: only plain tensors can be loaded"
            )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def checkpoint_path(run: str | Path, which: str = "best") -> Path:
    """The checkpoint of a run folder (`best`, or `last` where there is no best), or the file itself.

    Raises:
        FileNotFoundError: neither.
    """
    if which not in ("best", "last"):
        raise ValueError(f"checkpoint={which}: expected best or last")
    run = Path(run)
    if run.is_file():
        return run
    for name in dict.fromkeys([which, "last"]):
        path = run / "checkpoints" / f"{name}.pt"
        if path.is_file():
            return path
    what = "has no checkpoints/best.pt or last.pt (not trained yet?)" if run.is_dir() else "does not exist"
    raise FileNotFoundError(f"{run} {what}: give the folder of a training run, or a checkpoint file")


def check_hash(path: Path) -> None:
    """Raise ValueError if the file's name tells its SHA-256, as torchvision's and timm's do, and it has another."""
    told = _HASH.search(path.name)
    if told is None or not path.is_file():
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(told[1]):
        raise ValueError(
            f"weights={path}: by its name its SHA-256 starts with {told[1]}, but it is {found[:16]}...: the file is "
            "damaged or another one. Download it again; if the name tells no hash, rename the file"
        )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file: eight bytes of length, a JSON header, the numbers.

    Raises:
        ValueError: it is truncated, or its header is not one.
    """
    content = bytearray(path.read_bytes())
    try:
        (length,) = struct.unpack_from("<Q", content)
        if not 2 <= length <= min(_MAX_HEADER, len(content) - 8):
            raise ValueError(f"a header of {length} bytes in a file of {len(content)}")
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        entries = {name: _entry(name, entry) for name, entry in header.items()}
        position = 0
        for name, (dtype, shape, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
            if begin != position or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} at {begin} to {end} is not what follows, {dtype} {list(shape)} at {position}")
            position = end
        if position != len(content) - 8 - length:
            raise ValueError(f"{len(content) - 8 - length} bytes of numbers instead of {position}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error) as error:
        raise ValueError(f"weights={path} is no readable safetensors file ({error}): truncated or foreign?") from error
    start = 8 + length
    return {
        name: torch.frombuffer(content, dtype=dtype, count=math.prod(shape), offset=start + begin).clone().view(shape)
        if end > begin
        else torch.empty(shape, dtype=dtype)
        for name, (dtype, shape, begin, end) in entries.items()
    }


def _entry(name: str, entry: Mapping[str, Any]) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{name} has the dtype {entry['dtype']!r}")
    sizes = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    if not sizes or len(shape) > 8 or math.prod(max(n, 1) for n in shape) >= 2**63:  # torch counts in 64 bits
        raise ValueError(f"{name} has the shape {shape} at {begin} to {end}")
    return _DTYPES[entry["dtype"]], tuple(shape), begin, end
