"""The machine used for measurements: the cores of this process, and its matrix multiplication speed."""

import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import cv2
import torch

_CPUS, _QUOTA = Path("/sys/devices/system/cpu"), Path("/sys/fs/cgroup/cpu.max")
_SIDES = (512, 1024)


def physical_cores() -> int:
    """Physical cores that this process may use, within a container's quota.

    If the system does not report them, the number of logical processors.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in usable}
    return max(1, min(len(cores), _quota()))


def _siblings(cpu: int) -> str:
    try:
        return (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    try:
        quota, period = _QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # none, or "max"
        return 1_000_000


def pin_threads(threads: int) -> None:
    """Make torch and cv2 use this many threads."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


@torch.inference_mode()
def peak_madds(dtype: torch.dtype, device: torch.device, *, seconds: float = 0.05) -> float:
    """The highest rate, in multiply-adds per second, of square matrix products; each size runs for `seconds`."""
    best = 0.0
    for side in _SIDES:
        a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            synchronize(device)
            start = time.perf_counter()
            torch.mm(a, b)
            synchronize(device)
            best = max(best, side**3 / (time.perf_counter() - start))
    return best


def synchronize(device: torch.device) -> None:
    """Wait until the accelerator has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """A description of the machine for the results."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
