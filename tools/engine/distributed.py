"""Ranks: this process's rank and device, and the few collectives the loop needs. One process is a world of 1."""

import importlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..system.console import log


@dataclass(frozen=True)
class Ranks:
    rank: int
    world: int
    device: torch.device
    hosts: Any = None  # CPU process group; None: the default one
    peers: tuple[tuple[str, int], ...] = ()  # host and process ID of every rank

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor (all of one type) by its sum over ranks, in place, in one collective.

        Gradients use this too, not DistributedDataParallel: it rebuilds its buckets after the first step, so with three
        or more ranks a resumed run would add in a different order than an uninterrupted one.
        """
        if self.world > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in place, in one collective."""
        if self.world > 1 and tensors:
            self.sum(tensors)
            torch._foreach_div_(list(tensors), self.world)  # pyright: ignore[reportPrivateImportUsage]

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank. Runs on the CPU, without a device sync."""
        if self.world == 1:
            return flag
        told = torch.tensor([int(flag)])
        dist.all_reduce(told, group=self.hosts)
        return bool(told.item())

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    @contextmanager
    def peer_failures_told(self) -> Iterator[None]:
        """Turn errors caused by a lost rank into a log line and PeerLost."""
        try:
            yield
        except RuntimeError as error:  # torch has no class for gloo's
            if self.world == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            log.error("%s", self._failure(str(error).splitlines()[0]))
            raise PeerLost from error

    def _failure(self, reason: str) -> str:
        here = self.peers[self.rank][0]
        local = {i: pid for i, (host, pid) in enumerate(self.peers) if host == here}
        deadline = time.monotonic() + (0 if "imed out" in reason else 10)  # a connection closes before its process ends
        while not (dead := [f"rank {i} (process {pid})" for i, pid in local.items() if _is_gone(pid)]):
            if time.monotonic() > deadline:
                what = f"another rank does not respond ({reason}); see its messages"
                break
            time.sleep(0.05)
        else:
            what = (
                f"{', '.join(dead)} ended. If there is no message from it above, it was killed, often because memory "
                "ran out"
            )
        return f"{what}. Rank {self.rank} stops as well. Run the same command again to resume from the last checkpoint"


class PeerLost(SystemExit):
    """Another rank is gone; the log says which."""

    def __init__(self) -> None:
        super().__init__(2)


def _is_gone(pid: int) -> bool:
    """Whether the process has ended; on Linux also if torchrun has not reaped it yet (a zombie)."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except ProcessLookupError:
        return True
    except OSError:  # no /proc here
        return False
    return state.startswith("Z")


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of this process; `auto` is CUDA if available.

    Raises:
        ValueError: the device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={name}: torch finds no CUDA device; use device=cpu or device=auto")
    try:
        device = torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
    except RuntimeError as error:
        gpu = f" (device=cuda:{name} for this GPU; torchrun for several)" if name.isdecimal() else ""
        raise ValueError(f"device={name} is not a device{gpu}: choose auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device={device}: torch finds {count} CUDA devices, numbered from 0; use one of them")
    return device


def start_ranks(device: str = "auto", *, timeout_minutes: float = 30) -> Ranks:
    """Join the process group that torchrun sets in the environment, if any.

    If a collective waits longer than `timeout_minutes` for a rank, it fails on all others.
    """
    world, local_rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    chosen = pick_device(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    hosts = None
    peers: list[Any] = [None] * world
    if world > 1 and not dist.is_initialized():
        # Imported later, its default arguments would hold the existing group forever. Its threads would then outlive
        # `stop_ranks`, and occasionally one kills the process (SIGABRT) while Python shuts down.
        importlib.import_module("torch.distributed.nn")
        timeout = timedelta(minutes=timeout_minutes)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timeout)
        hosts = dist.new_group(backend="gloo", timeout=timeout) if chosen.type == "cuda" else None
    if world > 1:
        dist.all_gather_object(peers, (socket.gethostname(), os.getpid()))
    rank = int(os.environ.get("RANK", 0))
    return Ranks(rank=rank, world=world, device=chosen, hosts=hosts, peers=tuple(peers))


def stop_ranks() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
