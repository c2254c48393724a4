"""Checkpoints: tensors and plain JSON values only, written atomically."""

import io
import os
import pickle
import random
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...files import sync, whole_file
from ..system.console import log
from ..system.zips import zip_fault

FORMAT = "pocketvision-checkpoint-1"


@dataclass
class Progress:
    """The progress of a run. `batches_done` counts the optimizer steps of the current epoch."""

    step: int = 0
    epoch: int = 0
    batches_done: int = 0
    best: float | None = None
    finished: bool = False
    evaluated: int = 0  # the step of the last evaluation
    evaluations: int = 0  # that gave a metric
    best_evaluation: int = 0  # which of them was the best
    bad_samples: int = 0  # skipped in the current epoch, over all ranks
    bad_in_window: int = 0  # of these, since the last row of metrics.jsonl


def save_checkpoint(path: Path, checkpoint: dict[str, Any], *, keep: int = 1) -> None:
    """Write `path` atomically; the `keep - 1` files before it stay as NAME-1.pt (the newest), NAME-2.pt, ...

    Raises:
        OSError: the disk is full, or similar. All earlier files are still there.
    """
    write_checkpoint(path, checkpoint_bytes(checkpoint), keep=keep)


def checkpoint_bytes(checkpoint: dict[str, Any]) -> memoryview:
    """A checkpoint's file in memory. It makes a full disk a plain OSError: torch writes the end of a zip last."""
    content = io.BytesIO()
    torch.save({"format": FORMAT, **checkpoint}, content)
    return content.getbuffer()


def write_checkpoint(path: Path, content: memoryview, *, keep: int = 1) -> None:
    """Write a checkpoint's file as `save_checkpoint` does."""
    with whole_file(path, durable=True) as unfinished:
        unfinished.write_bytes(content)
        sync(unfinished)  # before the earlier checkpoints move
        _rotate(path, keep)


def _rotate(path: Path, keep: int) -> None:
    """NAME.pt is linked to NAME-1.pt, NAME-1.pt becomes NAME-2.pt, ...; NAME.pt itself is never missing."""
    if keep < 2 or not path.exists():
        return
    names = [path, *(path.with_stem(f"{path.stem}-{i}") for i in range(1, keep))]
    for older, younger in zip(names[:1:-1], names[-2:0:-1], strict=True):
        if younger.exists():
            os.replace(younger, older)
    temporary = path.with_name(f".{names[1].name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a killed process with the same ID
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copy2(path, temporary)
    os.replace(temporary, names[1])
    temporary.unlink(missing_ok=True)  # a rename does nothing if both are links to one file, after a kill in a save


def load_latest(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The first readable one of last.pt, last-1.pt, ...; None if none of them exists.

    Raises:
        ValueError: none is readable; the message is that of the first.
    """
    older = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"), key=lambda p: (len(p.name), p.name))
    problems = []
    for candidate in [p for p in (path, *older) if p.exists()]:
        try:
            checkpoint = load_checkpoint(candidate)
        except ValueError as error:
            problems.append(str(error))
            log.warning("%s", error)
            continue
        if problems:
            log.warning("using %s instead", candidate)
        return candidate, checkpoint
    if problems:
        raise ValueError(f"{problems[0]} No older checkpoint is readable either: start over with another name=")
    return None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that `save_checkpoint` wrote; nothing in the file can run code.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is truncated or not a pocketvision checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    checkpoint = read_tensors(path, label=str(path), what="checkpoint")
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise ValueError(f"{path} is not a pocketvision checkpoint; for other weights use weights= and weights_source=")
    return checkpoint


def read_tensors(path: Path | IO[bytes], *, label: str, what: str) -> Any:
    """The content of a `torch.save` file, restricted to tensors and plain values.

    Raises:
        ValueError: `label` is not a readable `what`.
    """
    try:
        fault = zip_fault(path)
        if not isinstance(path, Path):
            path.seek(0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Validating sparse")  # of torch, for foreign files
            content = None if fault else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for truncated and other files
        told = f"truncated, or not a {what}?"
        if isinstance(error, pickle.UnpicklingError):
            told = f"truncated, not a {what}, or with Python objects other than tensors, which are never loaded"
        raise ValueError(f"{label} is not a readable {what} ({type(error).__name__}): {told}") from error
    if fault:
        raise ValueError(f"{label} is not a readable {what}: {fault}. The file is damaged: use another copy of it")
    return content


def load_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load the weights of a checkpoint into its network.

    Raises:
        ValueError: the weights are from a different network.
    """
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:  # the latter two: not a state dict
        lines = [line.strip() for line in str(error).splitlines()]
        raise ValueError(f"the weights in {path} do not fit this network: {' '.join(lines[:3])}") from error


def check_not_nan(state: Mapping[str, Tensor], file: str | Path) -> None:
    """Raise ValueError for weights that nothing can be predicted with."""
    if spoiled := [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.isnan().any()]:
        raise ValueError(
            f"{file}: {len(spoiled)} of {len(state)} tensors of weights hold NaN, such as {spoiled[0]}: the training "
            "that wrote them diverged. Remedy: another checkpoint, or train again with a lower optimizer.lr"
        )


def random_state() -> dict[str, Any]:
    """State of the global generators. Data does not depend on them; dropout does."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
    }
    return state | generator_state()


def set_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    set_generator_state(state)


def generator_state() -> dict[str, Tensor]:
    """State of torch's generators, which dropout uses; small, and on the host."""
    state = {"torch": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_generator_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
