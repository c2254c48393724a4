"""The images from which a quantizer learns the ranges of a network's values."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...datasets.annotations.sample import evenly
from ...datasets.augmentation.resize import prepare
from ...datasets.images.decode import decode_image
from ..config import build
from ..config.command import InstantiationException, explain
from ..predicting.inputs import find_images
from ..predicting.interface import Interface
from ..runs.loaded import LoadedRun
from ..system.console import progress


@dataclass(frozen=True)
class Calibration:
    """Inputs of the network, and where they come from."""

    batches: Sequence[np.ndarray]  # float32 [B, 3, h, w] in 0..255
    source: str
    images: int
    fingerprint: str  # SHA-256 of the batches

    def to_json(self) -> dict[str, str | int]:
        return {"source": self.source, "images": self.images, "fingerprint": self.fingerprint}


def calibrate(run: LoadedRun, interface: Interface, calibration: int | str) -> Calibration:
    """The images of the training split, evenly spaced, or all photographs of a folder, as evaluation resizes them.

    Args:
        calibration: the number of images, or a folder.

    Raises:
        ValueError: it is neither, or there is no training split.
        FileNotFoundError: there is no photograph in the folder.
    """
    if isinstance(calibration, str):
        files = find_images([calibration])
        return _calibration(run, interface, (decode_image(file) for file in files), len(files), calibration)
    if type(calibration) is not int:  # its range is checked with those of all keys
        raise ValueError(f"calibration={calibration}: expected a number of images, or a folder of photographs")
    source = read_split(run, "train", "calibration=FOLDER, a folder of photographs")
    chosen = evenly(len(source), calibration)
    return _calibration(run, interface, (source.read(i).image for i in chosen), len(chosen), "the training split")


def read_split(run: LoadedRun, split: str, remedy: str) -> Any:
    """A split of the run's data.

    Raises:
        ValueError: it cannot be read; names `remedy`.
    """
    try:
        return build.build_source(run.config, split, labels=run.task.labels)
    except (OSError, ValueError, InstantiationException) as error:
        what = "calibrated with the training split" if split == "train" else "judged by the validation split"
        raise ValueError(f"int8 is {what}, which cannot be read ({explain(error)}). Remedy: {remedy}") from error


def _calibration(
    run: LoadedRun, interface: Interface, images: Iterable[np.ndarray], count: int, source: str
) -> Calibration:
    batches = list(_batches(run, interface, progress(images, total=count, title="calibration images")))
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.tobytes())
    return Calibration(batches, source, count, digest.hexdigest())


def _batches(run: LoadedRun, interface: Interface, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The last batch of a fixed size is filled with its last image."""
    data, size = run.config.data, interface.network_size
    resize = "none" if size is None else "stretch" if data.resize == "none" else data.resize
    waiting: list[np.ndarray] = []
    for image in images:
        prepared, _ = prepare(image, size, resize, crop_fraction=build.crop_fraction(data), exact=size is not None)
        waiting.append(prepared.astype(np.float32).transpose(2, 0, 1))
        if len(waiting) == (interface.batch or 1):
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack([*waiting, *waiting[-1:] * ((interface.batch or 1) - len(waiting))])
