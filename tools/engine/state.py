"""Checkpoints: tensors and plain JSON values only, written whole or not at all."""

import contextlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

FORMAT = "pocketvision-checkpoint-1"


@dataclass
class Progress:
    """Where a run stands. `batches_done` counts the optimizer steps of the epoch in progress."""

    step: int = 0
    epoch: int = 0
    batches_done: int = 0
    best: float | None = None
    finished: bool = False


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write beside `path` first and move into place, so that a crash leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **checkpoint}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that `save_checkpoint` wrote; nothing in the file can run code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    checkpoint = read_tensors(path, label=str(path), what="checkpoint")
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of pocketvision; for other weights use weights= and weights_source="
        )
    return checkpoint


def read_tensors(path: Path, *, label: str, what: str) -> Any:
    """What `torch.save` wrote, restricted to tensors and plain values.

    Raises:
        ValueError: `label` is no readable `what`.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for files that are cut or foreign
        raise ValueError(f"{label} is not a readable {what} ({type(error).__name__}): truncated or foreign?") from error


def random_state() -> dict[str, Any]:
    """State of the global generators. Data does not depend on them; dropout does."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
