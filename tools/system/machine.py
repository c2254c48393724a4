"""The machine that is measured on: the cores of this process, and how fast it multiplies matrices."""

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
    """Cores that this process may use, two threads of one core counted once and a container's quota respected.

    Where the system does not tell, the number of logical processors.
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
    """Torch and cv2 use so many threads from now on."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


@torch.inference_mode()
def peak_madds(dtype: torch.dtype, device: torch.device, *, seconds: float = 0.05) -> float:
    """The highest rate, in multiply-adds a second, of square matrix products; each size is tried for `seconds`."""
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
    """Wait until an accelerator has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """Plain facts for the results."""
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
