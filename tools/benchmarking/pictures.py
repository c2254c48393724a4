"""Photographs to measure with: from files, or synthetic."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ...datasets.images.decode import decode_bytes


def make_photos(count: int, size: Sequence[int], *, seed: int = 0) -> list[np.ndarray]:
    """Different images of soft patches of color, uint8 RGB [H, W, 3]."""
    height, width = int(size[0]), int(size[1])
    photos = []
    for i in range(count):
        random = np.random.default_rng((seed, i))
        picture = np.zeros((height, width, 3), np.float32)
        for cell, strength in ((64, 90.0), (16, 40.0)):
            coarse = random.uniform(-1, 1, (max(2, height // cell), max(2, width // cell), 3)).astype(np.float32)
            picture += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        photos.append(np.clip(picture + 128, 0, 255).astype(np.uint8))
    return photos


def jpeg_bytes(photo: np.ndarray) -> np.ndarray:
    """The photograph as a JPEG file, as a camera would store it."""
    return cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]


def read_photos(files: Sequence[str | Path], count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first `count` photographs and the bytes of their files, repeated if there are fewer."""
    some = [files[i % len(files)] for i in range(count)]
    data = [np.fromfile(file, np.uint8) for file in some]
    return [decode_bytes(one, name=file) for one, file in zip(data, some, strict=True)], data


def make_targets(kind: str, num_classes: int, images: Tensor, *, seed: int = 0) -> list[dict[str, Tensor]]:
    """Targets for images [B, 3, H, W]: one to nine boxes each, a mask of square patches, or a label."""
    generator = torch.Generator().manual_seed(seed)
    height, width = images.shape[-2:]

    def one() -> dict[str, Tensor]:
        if kind == "classification":
            return {"label": torch.randint(num_classes, (), generator=generator)}
        if kind == "segmentation":
            cell = 16
            patches = torch.randint(num_classes, (-(-height // cell), -(-width // cell)), generator=generator)
            mask = patches.repeat_interleave(cell, 0).repeat_interleave(cell, 1)[:height, :width]
            return {"mask": mask.to(torch.uint8)}
        count = int(torch.randint(1, 10, (1,), generator=generator))
        side = torch.tensor([width, height])
        corner = torch.rand(count, 2, generator=generator) * side * 0.5
        # Not smaller than the anchors: if several contain a whole box, their overlaps tie and rounding decides.
        extent = (0.25 + torch.rand(count, 2, generator=generator) * 0.25) * side
        labels = torch.randint(1, num_classes + 1, (count,), generator=generator)
        nothing = {"crowd_boxes": torch.zeros(0, 4), "crowd_labels": torch.zeros(0, dtype=torch.int64)}
        return {"boxes": torch.cat((corner, corner + extent), dim=1), "labels": labels, **nothing}

    return [one() for _ in images]
