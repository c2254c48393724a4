"""A trained run as a callable: images in; boxes or label maps in their pixels, or classes, out."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.augmentation.resize import prepare
from ...datasets.images.decode import decode_bytes, decode_image, to_uint8
from ...datasets.loading.batches import Batch, collate
from ...words import counted
from ..config.build import crop_fraction
from ..runs.loaded import LoadedRun
from .result import Result

Image = Any  # a path, a file's bytes, a numpy array, a torch tensor or a PIL image: see `to_rgb`
Item = tuple[np.ndarray, str | None]  # uint8 RGB [H, W, 3] and its path, if it has one
BATCH_SIZE = 16


def to_rgb(image: Image) -> np.ndarray:
    """Any image as uint8 RGB [H, W, 3].

    Args:
        image: a path (str, Path), the bytes of an image file, a PIL image (rotated by EXIF), a numpy array
            [H, W], [H, W, 1], [H, W, 3] RGB or [H, W, 4] RGBA (laid over white), or a torch tensor [3, H, W],
            [1, H, W] or [H, W] on any device. Numbers are uint8, uint16, or floats from 0 to 1 (`to_uint8`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded, or is none of these; the message shows what was given.
    """
    if isinstance(image, str | Path):
        return decode_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_bytes(bytes(image))
    if isinstance(image, Tensor):
        return _tensor_to_rgb(image)
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image)
    if _is_pil(image):
        return _pil_to_rgb(image)
    raise ValueError(
        "an image must be a path, a file's bytes, a numpy array [H, W, 3], a torch tensor [3, H, W] or a PIL image; "
        f"got {type(image).__name__}"
    )


def _array_to_rgb(image: np.ndarray) -> np.ndarray:
    shape = list(image.shape)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in shape:
        hint = ""
        if image.ndim == 3 and image.shape[0] in (1, 3) and 0 not in shape:
            hint = ". This one looks like [3, H, W]: use array.transpose(1, 2, 0)"
        raise ValueError(f"an image array must be RGB [H, W, 3], gray [H, W] or RGBA [H, W, 4]; got {shape}{hint}")
    image = to_uint8(image, name="the array")
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    return np.require(image, requirements=["C", "W"])  # torch warns about read-only arrays


def _tensor_to_rgb(image: Tensor) -> np.ndarray:
    shape = list(image.shape)
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in shape:
        turned = image.ndim == 3 and image.shape[2] in (1, 3) and 0 not in shape
        hint = ". This one looks like [H, W, 3]: use tensor.permute(2, 0, 1)" if turned else ""
        raise ValueError(f"an image tensor must be [3, H, W], [1, H, W] or [H, W]; got {shape}{hint}")
    image = image.detach().cpu().permute(1, 2, 0)
    return _array_to_rgb((image.float() if image.is_floating_point() else image).numpy())


def _is_pil(image: Any) -> bool:
    return any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__)


def _pil_to_rgb(image: Any) -> np.ndarray:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16-bit or float gray, which PIL would clip at 255
        array = np.asarray(image)
        deep = image.mode == "I" and array.min(initial=0) >= 0 and array.max(initial=0) <= 65535
        return _array_to_rgb(array.astype(np.uint16) if deep else array)
    transparent = image.has_transparency_data
    return _array_to_rgb(np.asarray(image.convert("RGBA" if transparent else "RGB")))


class Predictor:
    """`predictor("photo.jpg")` gives a Result; a list or a batch gives a list. See `to_rgb` for accepted images."""

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        self.task = run.task
        self.labels = run.task.labels
        size = run.config.data.eval_size
        self._size = None if size is None else (int(size[0]), int(size[1]))
        self._resize, self._crop_fraction = run.config.data.resize, crop_fraction(run.config.data)

    def __repr__(self) -> str:
        names = list(self.labels.names.values())
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return (
            f"<{type(self).__name__} for {self.task.kind}, {counted(len(names), 'class')} ({shown}), on {self.device}>"
        )

    @property
    def device(self) -> torch.device:
        return next(self.task.model.parameters()).device

    def __call__(self, images: Image | Iterable[Image], *, batch_size: int = BATCH_SIZE) -> Any:
        """The Result of one image, or a list of them for a sequence, tensor [B, 3, H, W] or array [B, H, W, 3].

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: an image cannot be decoded, or is not accepted by `to_rgb`.
        """
        if _is_one(images):
            return next(self.stream([images]))
        return list(self.stream(images, batch_size=batch_size))

    def stream(self, images: Iterable[Image], *, batch_size: int = BATCH_SIZE) -> Iterator[Result]:
        """Results one by one; at most `batch_size` images are in memory at a time.

        Raises:
            ValueError: `batch_size` is below 1; otherwise as for a call.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected 1 or more")
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size)):
            read = [(self.read(image), str(image) if isinstance(image, str | Path) else None) for image in batch]
            for group in self._groups(read):
                found = self._find([image for image, _ in group])
                yield from (self._result(*item, result) for item, result in zip(group, found, strict=True))

    read = staticmethod(to_rgb)

    def _groups(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Consecutive images of the same input size."""
        one_size = self._size is not None and self._resize != "shorter"
        return (list(group) for _, group in groupby(items, lambda item: one_size or item[0].shape))

    def to_batch(self, images: Sequence[np.ndarray]) -> Batch:
        """The network's input for images uint8 RGB [H, W, 3] of the same input size."""
        fraction = self._crop_fraction
        prepared = [prepare(image, self._size, self._resize, crop_fraction=fraction) for image in images]
        tensors = [
            (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), {}, meta) for image, meta in prepared
        ]
        return collate(tensors).to(self.device)

    @torch.inference_mode()
    def _find(self, images: Sequence[np.ndarray]) -> list[Any]:
        """Each image's Detections, label map or Ranking."""
        batch = self.to_batch(images)
        return self.task.postprocess(self.task.model(batch.images), batch.metas)

    def _result(self, image: np.ndarray, path: str | None, found: Any) -> Result:
        found = {"mask": found} if isinstance(found, Tensor) else vars(found)
        return Result(image, self.labels, path, **{name: value.cpu().numpy() for name, value in found.items()})


def _is_one(images: Any) -> bool:
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim != 4
    return (
        not isinstance(images, Iterable) or isinstance(images, str | bytes | bytearray | memoryview) or _is_pil(images)
    )
