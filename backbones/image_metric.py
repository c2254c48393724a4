"""Base of all metrics: each image's contribution is stored under its id, so no image counts twice."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

Share = TypeVar("Share")  # an image's contribution, picklable
ImageId = int | str


class ImageMetric(Generic[Share]):
    """Contributions of images, which can be merged across processes."""

    def __init__(self) -> None:
        self._images: dict[ImageId, Share] = {}

    def reset(self) -> None:
        """Forget all images."""
        self._images = {}

    def state(self) -> dict[ImageId, Share]:
        """All contributions, for `merge` in another process."""
        return dict(self._images)

    def merge(self, states: Sequence[Mapping[ImageId, Share]]) -> None:
        """Replace all contributions by the union of `states`; samplers repeat some images to fill ranks."""
        self._images = {image: share for state in states for image, share in state.items()}


def class_list(names: Mapping[int, str]) -> list[str]:
    """The names of the slots 0..K-1, for tasks without a background.

    Raises:
        ValueError: there are gaps.
    """
    if sorted(names) != list(range(len(names))) or not names:
        raise ValueError(f"names must cover the slots 0..K-1 without gaps; got slots {sorted(names)}")
    return [names[slot] for slot in range(len(names))]
