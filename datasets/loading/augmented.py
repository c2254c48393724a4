"""A source with a transform: the dataset of a DataLoader."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...words import counted
from ..annotations.sample import Pending, Sample, Source, digest
from ..augmentation.mosaic import TILES, join
from ..augmentation.policy import Transform
from ..images.decode import check_size, decode_instances
from ..labels import LabelMap

Item = tuple[Tensor, dict[str, Tensor], dict[str, Any]]
Key = tuple[int, ...]  # epoch, index; random numbers depend on these and the seed
Drawn = tuple[Sample, dict[str, Any], list[tuple[int, str]]]  # with its meta, and the bad samples it replaces
# Errors that a file causes. Not every OSError: if files cannot be opened for lack of descriptors, or a disk returns
# errors, other samples would replace them at random.
FILE_FAULTS = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_STAND_IN, _MOSAIC = 1, 2  # separate random draws for these from the augmentation's
_DRAWS = 20  # bad samples in a row; only likely if nearly all are bad


class AugmentedDataset(Dataset[Item]):
    """Returns (image uint8 or float32 [3, H, W], target, meta). Randomness depends only on (seed, epoch, index).

    target: `boxes`, `labels`, `crowd_boxes`, `crowd_labels` in pixels of the returned image, or `mask`, or `label`.
    meta: `image_id`, `original_size`, `input_size`, `pad`, `path`, `epoch`, `index`, and with `ground_truth` the
    source's own annotations in original pixels.

    With `skip_bad` another sample replaces one whose files cannot be read: drawn by (seed, epoch, index), so that
    workers, ranks and restarts do not matter, and augmented like the bad one. Its meta then has
    `skipped`, a list of (index, reason). Otherwise such a file is an error, which ends with `remedy`.

    `mosaic`: this fraction of the samples is joined with three others, drawn and augmented likewise (`mosaic.join`);
    their `path` names all four. The transform must produce pictures of equal size.
    """

    def __init__(
        self,
        source: Source,
        *,
        transform: Transform,
        seed: int = 0,
        ground_truth: bool = False,
        skip_bad: bool = False,
        mosaic: float = 0.0,
        remedy: str = "",
    ) -> None:
        self.source, self.transform, self.seed, self.ground_truth = source, transform, seed, ground_truth
        self.skip_bad, self.mosaic, self.remedy = skip_bad, mosaic, remedy

    @property
    def labels(self) -> LabelMap:
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        drawn = self._first_good(index, (epoch, index))
        sample, meta, skipped = self._maybe_mosaic(drawn, (epoch, index)) if self.mosaic else drawn
        meta |= {"image_id": sample.image_id, "path": sample.path, "epoch": epoch, "index": index}
        if skipped:
            meta["skipped"] = skipped
        if self.ground_truth:
            meta["ground_truth"] = _whole_truth(sample)
        # A view: batches are channels-last, which is already the layout of the pixels.
        image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1)
        return image, _target(sample), meta

    def _maybe_mosaic(self, drawn: Drawn, key: Key) -> Drawn:
        """The sample alone, or joined with three others."""
        random = np.random.default_rng((self.seed, *key, _MOSAIC))
        if random.random() >= self.mosaic:
            return drawn
        places = random.integers(len(self), size=TILES - 1).tolist()
        tiles = [drawn, *(self._first_good(place, (*key, _MOSAIC, i)) for i, place in enumerate(places, 1))]
        sample = join([tile for tile, _, _ in tiles], random, min_box_size=self.transform.min_box_size)
        return sample, drawn[1] | {"pad": (0, 0, 0, 0)}, [bad for _, _, skipped in tiles for bad in skipped]

    def _first_good(self, index: int, key: Key) -> Drawn:
        """Sample `index`, transformed with the random numbers of `key`; with `skip_bad` possibly a replacement."""
        skipped: list[tuple[int, str]] = []
        for place in self._places(index, key):
            pending = None
            try:
                pending = getattr(self.source, "open", self.source.read)(place)
                return (*self.transform(pending, sample_seed(self.seed, *key)), skipped)
            except Exception as error:
                if pending is not None and getattr(pending, "fault", None) is not error:
                    sample = getattr(pending, "sample", pending)
                    error.add_note(
                        f"while transforming {sample.path or sample.image_id} (epoch {key[0]}, sample {place})"
                    )
                    raise
                if not isinstance(error, FILE_FAULTS):
                    raise
                if not self.skip_bad:
                    raise _kind(error)(f"{_said(error)}{self.remedy}") from error
                skipped.append((place, _said(error)))
        raise ValueError(
            f"{len(skipped)} randomly drawn samples in a row are unreadable, so this is not about single "
            f"files. The first one: {skipped[0][1]}"
        )

    def _places(self, index: int, key: Key) -> Iterator[int]:
        yield index
        if self.skip_bad:
            yield from np.random.default_rng((self.seed, *key, _STAND_IN)).integers(len(self), size=_DRAWS).tolist()


def _kind(error: Exception) -> type[Exception]:
    """Excludes exceptions that need more than a message, such as UnicodeDecodeError."""
    return ValueError if isinstance(error, ValueError) else type(error)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _whole_truth(sample: Sample) -> dict[str, Any] | None:
    """The source's own annotations, with `instances` uint16 [H, W] if there is an instance-id picture."""
    if not sample.instances_path or sample.ground_truth is None:
        return sample.ground_truth
    instances = decode_instances(sample.instances_path)
    size = sample.ground_truth["mask"].shape
    check_size(size, instances.shape, path=sample.path, source=sample.instances_path)
    return {**sample.ground_truth, "instances": instances}


def sample_seed(seed: int, *key: int) -> int:
    """A well-mixed seed for one sample in one epoch."""
    low, high = np.random.SeedSequence((seed, *key)).generate_state(2).tolist()
    return low | high << 32


def _target(sample: Sample) -> dict[str, Tensor]:
    keys = ("boxes", "labels", "crowd_boxes", "crowd_labels", "mask")
    arrays = {key: getattr(sample, key) for key in keys}
    target = {key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in arrays.items() if a is not None}
    return target if sample.label is None else target | {"label": torch.tensor(sample.label)}


class FirstSamples:
    """The first `count` samples of a source; with `spread`, evenly spaced ones, as a source may be ordered by class."""

    def __init__(self, source: Source, count: int, *, spread: bool = False) -> None:
        if count < 1:
            raise ValueError(f"overfit={count}: expected the number of images to train on, at least 1")
        self.source, self.count, self.spread = source, min(count, len(source)), spread

    @property
    def labels(self) -> LabelMap:
        return self.source.labels

    @property
    def notes(self) -> list[str]:
        which = "evenly spaced" if self.spread else "the first ones"
        return [*self.source.notes, f"only {counted(self.count, 'image')}, {which}"]

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        return self.source.read(self._index(index))

    def open(self, index: int) -> Sample | Pending:
        """Like the source's `open`, if it has one."""
        return getattr(self.source, "open", self.source.read)(self._index(index))

    def files(self, index: int) -> list[Any]:
        return self.source.files(self._index(index))  # type: ignore[attr-defined]

    @property
    def decoder(self) -> Any:
        return self.source.decoder  # type: ignore[attr-defined]

    @decoder.setter
    def decoder(self, decoder: Any) -> None:
        self.source.decoder = decoder  # type: ignore[attr-defined]

    def _index(self, index: int) -> int:
        return index * len(self.source) // self.count if self.spread else index

    def fingerprint(self) -> str:
        """Over the source's fingerprint, the count, and whether the samples are spread."""
        return digest(self.source.fingerprint(), str(self.count), *["spread"] * self.spread)
