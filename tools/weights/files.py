"""Reading third-party weights: no file can run code, use more memory than its size, or pass for another."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..engine.state import FORMAT, read_tensors

_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # torch.hub's way: NAME-HASH.pth
_MAX_NAME = 200  # characters
_MAX_HEADER = 16 * 2**20  # bytes; a MobileNet's header has about ten thousand
_DTYPES = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}


def read_content(path: Path) -> Mapping[str, Any]:
    """The content of a run folder's checkpoint, a `torch.save` file or a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or does not contain a state dict.
    """
    if path.is_dir():
        path = checkpoint_path(path)
    label = f"weights={path}"
    if not path.is_file():
        raise FileNotFoundError(f"{label}: no such file")
    safe = path.suffix == ".safetensors"
    content = read_safetensors(path) if safe else read_tensors(path, label=label, what="state dict")
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} contains a {type(content).__name__}, not a state dict")
    return content


def state_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint, or the mapping itself.

    Supports our checkpoints, those of torchvision's reference scripts (`model`) and those with a `state_dict`; removes
    the prefix `module.` of data-parallel training.

    Raises:
        ValueError: there are no tensors, or some are not plain dense ones; a name cannot be a layer's.
    """
    if content.get("format") == FORMAT and isinstance(content.get("ema"), Mapping):
        content = content["ema"]
    inner = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)), content)
    state = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError("the weights contain no tensors: not a state dict?")
    for name, tensor in state.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > _MAX_NAME:
            raise ValueError(f"the weights contain a tensor named {ascii(name)[:80]}: not a state dict?")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise ValueError(
                f"{name} is sparse, quantized, complex or without values: only plain tensors can be loaded"
            )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def checkpoint_path(run: str | Path, which: str = "best") -> Path:
    """The checkpoint of a run folder (`best`, or `last` if there is no best), or the file itself.

    Raises:
        FileNotFoundError: there is neither.
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
    raise FileNotFoundError(f"{run} {what}: expected the folder of a training run, or a checkpoint file")


def hash_in(name: str) -> str | None:
    """The start of a file's SHA-256 that its name contains, as torchvision's and timm's do."""
    told = _HASH.search(name)
    return told[1] if told else None


def check_hash(path: Path) -> None:
    """Raise ValueError if the file's name contains its SHA-256, and it differs."""
    told = hash_in(path.name)
    if told is None or not path.is_file():
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(told):
        raise ValueError(
            f"weights={path}: the file name says that its SHA-256 starts with {told}, but it is {found[:16]}...: "
            "the file is corrupt or a different one. Download it again; if the name contains no hash, rename the file"
        )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: it is truncated, its header is wrong, or it contains anything but a network's tensors.
    """
    content = path.read_bytes()
    try:
        header = int.from_bytes(content[:8], "little")
        if header > _MAX_HEADER:
            raise ValueError(f"a header of {header} bytes in a file of {len(content)}")
        tensors = load(content)
        for name, tensor in tensors.items():
            if tensor.dtype not in _DTYPES or tensor.ndim > 8:
                raise ValueError(f"{name} has the dtype {tensor.dtype} and {tensor.ndim} dimensions")
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"weights={path} is not a valid safetensors file ({error}): truncated?") from error
    return tensors
