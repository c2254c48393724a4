"""What is told before training: crops that hold next to nothing of large photographs."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.tools.config.build import compose
from pocketvision.tools.config.hints import crop_hint


def folder(root: Path, sizes: list[tuple[int, int]]) -> MaskFolder:
    for name in ("images", "labels"):
        (root / "train" / name).mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        for name, shape in (("images", (height, width, 3)), ("labels", (height, width))):
            cv2.imwrite(str(root / "train" / name / f"{i}.png"), np.zeros(shape, np.uint8))
    return MaskFolder(root, split="train", classes=["a", "b"])


def config(*overrides: str) -> Any:
    return compose("experiment=small_segmentation", "data.root=x", "data.classes=[a,b]", *overrides)


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([(480, 640)], None),
        ([(1000, 1300)], None),  # 0.13 of it
        ([(1024, 1400)], "[512, 672]"),
        ([(4000, 3000), (480, 640), (4000, 3000)], "[672, 512]"),  # their medians
        ([(100, 60000)], "[32, 14240]"),
    ],
)
def test_crops_of_large_photographs(sizes: list[tuple[int, int]], fit: str | None, tmp_path: Path) -> None:
    hint = crop_hint(config(), folder(tmp_path, sizes))
    assert (hint is None) == (fit is None)
    assert fit is None or hint.endswith(f'data.resize=letterbox "data.eval_size={fit}"')  # type: ignore[union-attr]


def test_who_follows_the_hint_is_not_told_again(tmp_path: Path) -> None:
    source = folder(tmp_path, [(3000, 4000)])
    hint = crop_hint(config(), source)
    assert hint is not None
    assert hint.startswith("training crops of 480x352 cover 1.4% of a photograph of 4000x3000. ")
    overrides = hint.rpartition(": ")[2].replace('"', "").replace(", ", ",").split()
    assert crop_hint(config(*overrides), source) is None


def test_what_cannot_be_read_is_no_hint(tmp_path: Path) -> None:
    source = folder(tmp_path, [(3000, 4000)])
    (tmp_path / "train/images/0.png").write_bytes(b"no picture")
    assert crop_hint(config(), source) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=small_detection", "data.images=x"],
        ["experiment=small_segmentation", "data.root=x", "data.classes=[a,b]", "data.resize=letterbox"],
        ["experiment=demo_segmentation"],
    ],
)
def test_others_are_told_nothing(overrides: list[str], tmp_path: Path) -> None:
    assert crop_hint(compose(*overrides), folder(tmp_path, [(3000, 4000)])) is None
