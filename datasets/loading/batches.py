"""From samples to batches: collation, the order of an epoch, the DataLoader."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ...words import counted
from ..annotations.shared import give_back_freed_memory
from ..augmentation.resize import FILL
from ..images.processes import watch_of
from ..labels import IGNORE
from .augmented import AugmentedDataset, Item


@dataclass(frozen=True)
class Batch:
    """Images [B, 3, H, W] RGB (channels last in memory), and one target and one meta per image.

    uint8, or float32 in 0..255 in evaluation, which does not round after the resize.
    """

    images: Tensor
    targets: list[dict[str, Tensor]]
    metas: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.metas)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The batch with images and targets on `device`; metas stay unchanged."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Called by a DataLoader with pin_memory."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        targets = [{key: function(value) for key, value in target.items()} for target in self.targets]
        return replace(self, images=function(self.images), targets=targets)


def collate(items: Sequence[Item], *, fill: Sequence[int] = FILL) -> Batch:
    """Stack; images of unequal size are padded right and bottom (masks with 255), as recorded in their `pad`."""
    height, width = (max(image.shape[axis] for image, _, _ in items) for axis in (1, 2))
    dtype = items[0][0].dtype
    images = torch.empty((len(items), 3, height, width), dtype=dtype, memory_format=torch.channels_last)
    targets, metas = [], []
    for row, (image, target, meta) in zip(images, items, strict=True):
        h, w = image.shape[1:]
        if (h, w) != (height, width):
            row.copy_(torch.tensor(fill, dtype=dtype)[:, None, None])
            left, top, right, bottom = meta["pad"]
            pad = (left, top, right + width - w, bottom + height - h)
            meta = {**meta, "input_size": (height, width), "pad": pad}
            if "mask" in target:
                mask = torch.full((height, width), IGNORE, dtype=target["mask"].dtype)
                mask[:h, :w] = target["mask"]
                target = {**target, "mask": mask}
        row[:, :h, :w] = image
        targets.append(target)
        metas.append(meta)
    return Batch(images, targets, metas)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): a permutation that is a function of (seed, epoch), split over ranks without duplicates.

    `last` determines what happens to samples that do not fill a step of `world * batch_size`: "keep" them (evaluation:
    every sample exactly once, ranks may differ by one), "drop" them, or "wrap" around to fill it (every rank then makes
    the same number of full batches). Ranks interleave, so that a step sees the same samples however many ranks share
    it.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        batch_size: int = 1,
        last: str = "keep",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if last not in ("keep", "drop", "wrap"):
            raise ValueError(f"unknown last={last!r}: choose keep, drop or wrap")
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} does not exist in a world of {world}")
        step = batch_size * world
        if last == "drop" and num_samples < step:
            raise ValueError(
                f"{counted(num_samples, 'sample does', 'samples do')} not fill one batch "
                f"of {batch_size} images on each of {world} ranks: reduce "
                "the batch size"
            )
        self.num_samples, self.seed, self.shuffle = num_samples, seed, shuffle
        self.rank, self.world = rank, world
        full_steps = -(-num_samples // step) if last == "wrap" else num_samples // step
        self._total = num_samples if last == "keep" else full_steps * step
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, *, start: int = 0) -> None:
        """Set the epoch; `start` skips the samples (not batches) of it that this rank has already used."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        order = np.resize(order, self._total) if self.num_samples else order  # truncates, or repeats from the start
        epoch = self.epoch
        return ((epoch, int(index)) for index in order[self.rank :: self.world][self.start :])

    def __len__(self) -> int:
        return max(0, len(range(self.rank, self._total, self.world)) - self.start)


def make_loader(
    dataset: AugmentedDataset,
    *,
    batch_size: int,
    sampler: EpochSampler | None = None,
    workers: int = 0,
    pin_memory: bool = False,
    fill: Sequence[int] = FILL,
) -> DataLoader[Any]:
    """A DataLoader of Batches. Without a sampler: in order, every sample once. Workers affect only the speed."""
    sampler = EpochSampler(len(dataset), shuffle=False) if sampler is None else sampler
    if sampler.num_samples != len(dataset):
        raise ValueError(f"the sampler has length {sampler.num_samples}, but the dataset has {len(dataset)}")
    give_back_freed_memory()  # forked processes would keep it, too
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=partial(collate, fill=tuple(fill)),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=partial(_start_worker, parent=os.getpid()),
        # Creating an iterator draws a random number; from the global generator that would change dropout after a
        # resume.
        generator=torch.Generator(),
    )


def _start_worker(worker: int, *, parent: int) -> None:
    """One thread per process: workers already share the cores.

    Ctrl-C and SIGTERM often reach every process of a job. The main process decides what happens: workers must stay
    alive until it has finished its step, and obey only its own SIGTERM.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # not on macOS and Windows, where a SIGTERM to all ends workers first
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_live_with, args=(parent,), daemon=True).start()


def _live_with(parent: int) -> None:
    """A worker's thread that ends it when the parent sends SIGTERM and joins it, or when the parent is gone.

    torch's own watchdog misses a parent that was killed before the worker had started.
    """
    lives = watch_of(parent)
    while lives():
        told = signal.sigtimedwait([signal.SIGTERM], 1)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
