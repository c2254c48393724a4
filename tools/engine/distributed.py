"""Ranks: who am I, on which device, and the few collectives the loop needs. One process is simply world 1."""

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
    hosts: Any = None  # a process group for what the hosts tell each other; None: the default one
    peers: tuple[tuple[str, int], ...] = ()  # host and process of every rank

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor (all of one type) becomes its sum over ranks, in place, in one collective.

        Gradients go this way, too, and not through DistributedDataParallel: it lays them out anew after the first step,
        so that from three ranks on a resumed run adds in another order than one that was not stopped.
        """
        if self.world > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its mean over ranks, in place, in one collective."""
        if self.world > 1 and tensors:
            self.sum(tensors)
            torch._foreach_div_(list(tensors), self.world)  # pyright: ignore[reportPrivateImportUsage]

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes. Between the hosts: the device is not asked, nor waited for."""
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
        """While entered, an error because another rank is gone becomes a line in the log, and then PeerLost."""
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
                what = f"another rank does not answer ({reason}); see its own messages"
                break
            time.sleep(0.05)
        else:
            what = f"{', '.join(dead)} ended; if it has not said why above it was killed, often for lack of memory"
        return f"{what}. So rank {self.rank} ends too. The same command goes on from the last checkpoint"


class PeerLost(SystemExit):
    """Another rank is gone; the log says which."""

    def __init__(self) -> None:
        super().__init__(2)


def _is_gone(pid: int) -> bool:
    """Whether the process has ended; where that can be told, also if torchrun has not taken note yet (a zombie)."""
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
    """The device of this process: `auto` is CUDA where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={name}: torch sees no CUDA device here; use device=cpu or device=auto")
    try:
        return torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is no device: use auto, cpu, cuda or cuda:N") from error


def start_ranks(device: str = "auto", *, timeout_minutes: float = 30) -> Ranks:
    """Join the process group that torchrun announces in the environment, if it does.

    A collective that waits longer than `timeout_minutes` for a rank is an error on all others.
    """
    world, local_rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    chosen = pick_device(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    hosts = None
    peers: list[Any] = [None] * world
    if world > 1 and not dist.is_initialized():
        # Default arguments there would hold a group that is there already, for good. Its threads would then outlive
        # `stop_ranks`, and now and then one kills the process (SIGABRT) while Python shuts down.
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
