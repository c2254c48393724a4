"""Peak memory of a variant's calls, each in a process of its own."""

import contextlib
import gc
import multiprocessing
import os
from pathlib import Path
from typing import Any

import torch

from ...datasets.annotations.shared import give_back_freed_memory
from .subject import Setup, Subject
from .timing import mode
from .variant import Spec
from .variants import make_variant

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CALLS = 2
_PATIENCE = 300.0  # seconds
_PRELOAD = ["torch", "torchvision", "pocketvision.tools.benchmarking.variants"]


def peak_memory(setup: Setup, spec: Spec) -> float | None:
    """Peak megabytes that calls need beyond the loaded state; None if the system does not report it.

    On CUDA, this is the device's memory. The first call counts, including any compilation.
    """
    if not torch.cuda.is_available() and not (_STATUS.exists() and _CLEAR.exists()):
        return None
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(_PRELOAD)  # so that children do not import torch again
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(setup, spec, sender), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(_PATIENCE):
            return None
        return receiver.recv()
    except EOFError:  # the child died
        return None
    finally:
        child.terminate()
        child.join()


def _child(setup: Setup, spec: Spec, sender: Any) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        sender.send(calls_peak(setup, spec))


def calls_peak(setup: Setup, spec: Spec) -> float | None:
    """`peak_memory` in the current process."""
    subject = Subject(setup)
    variant = make_variant(subject, spec)
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
        before = torch.cuda.memory_allocated(subject.device)
        with mode(variant):
            for _ in range(_CALLS):
                variant.call()
        return (torch.cuda.max_memory_allocated(subject.device) - before) / 1e6
    gc.collect()
    give_back_freed_memory()  # freed after loading: otherwise calls would reuse it unnoticed
    try:
        _CLEAR.write_text("5")  # resets the high-water mark
        before = _status("VmRSS")
    except (OSError, KeyError):
        return None
    with mode(variant):
        for _ in range(_CALLS):
            variant.call()
    return (_status("VmHWM") - before) * 1024 / 1e6


def _status(key: str) -> int:
    """A memory entry in kilobytes (1,024 bytes)."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)
