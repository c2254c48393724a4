"""Base of all metrics: each image's contribution is stored under its id, so no image counts twice."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Share = TypeVar("Share")  # an image's contribution, picklable
ImageId = int | str
Weights = npt.NDArray[np.integer]  # [S, I]: how often data set s has image i


class ImageMetric(Generic[Share]):
    """Contributions of images, which can be merged across processes."""

    def __init__(self) -> None:
        self._images: dict[ImageId, Share] = {}

    def reset(self) -> None:
        """Forget all images."""
        self._images = {}

    def images(self) -> list[ImageId]:
        """The ids of all images in evaluation order: numbers before strings, each sorted."""
        return sorted(self._images, key=lambda image: (isinstance(image, str), image))

    def state(self) -> dict[ImageId, Share]:
        """All contributions, for `merge` in another process."""
        return dict(self._images)

    def merge(self, states: Sequence[Mapping[ImageId, Share]]) -> None:
        """Replace all contributions by the union of `states`; samplers repeat some images to fill ranks."""
        self._images = {image: share for state in states for image, share in state.items()}

    def drawn(self, samples: int, seed: int, weights: Weights | None) -> Weights:
        """`weights`, or by default `draw_weights`, of `images()`.

        Raises:
            ValueError: `weights` is not [samples, images].
        """
        if weights is None:
            weights = draw_weights(len(self._images), samples, seed)
        if weights.shape != (samples, len(self._images)):
            raise ValueError(
                f"weights must be [samples, images] = {[samples, len(self._images)]}, got {list(weights.shape)}"
            )
        return weights


def draw_weights(num_images: int, samples: int, seed: int) -> npt.NDArray[np.int64]:
    """[samples, num_images]: as many images as there are, drawn with replacement, `samples` times."""
    if samples < 1:
        raise ValueError(f"samples={samples}: expected 1 or more")
    rng = np.random.default_rng(seed)
    shares = np.full(num_images, 1 / max(1, num_images))
    return rng.multinomial(num_images, shares, size=samples) if num_images else np.zeros((samples, 0), np.int64)


def class_list(names: Mapping[int, str]) -> list[str]:
    """The names of the slots 0..K-1, for tasks without a background.

    Raises:
        ValueError: there are gaps.
    """
    if sorted(names) != list(range(len(names))) or not names:
        raise ValueError(f"names must cover the slots 0..K-1 without gaps; got slots {sorted(names)}")
    return [names[slot] for slot in range(len(names))]
