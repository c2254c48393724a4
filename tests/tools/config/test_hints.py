"""What is told before training: crops that hold next to nothing of large photographs."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pocketvision.datasets.images.decoder import PictureFile
from pocketvision.tools.config.hints import crop_hint

LARGE = (3000, 4000)


class Photographs:
    """A source of files of these sizes; None: it has to be read."""

    def __init__(self, *sizes: tuple[int, int] | None, path: str = "x.png") -> None:
        self.sizes, self.path = sizes, Path(path)

    def __len__(self) -> int:
        return len(self.sizes)

    def files(self, index: int) -> list[PictureFile]:
        return [PictureFile(self.path, self.sizes[index]), PictureFile(self.path, (1, 1), mask=True)]


def data(**changes: Any) -> Any:
    keys = {"task": "segmentation", "resize": "none", "input_size": [352, 480], "eval_size": None}
    return OmegaConf.create(keys | changes)


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([(480, 640)], None),
        ([(1000, 1300)], None),  # 0.13 of it
        ([(1024, 1400)], "[512, 672]"),
        ([(4000, 3000), (480, 640), (4000, 3000)], "[672, 512]"),  # their medians
        ([(100, 60000)], "[32, 14240]"),
        ([LARGE], "[512, 672]"),
    ],
)
def test_crops_of_large_photographs(sizes: list[tuple[int, int]], fit: str | None) -> None:
    hint = crop_hint(data(), Photographs(*sizes))
    assert (hint is None) == (fit is None)
    assert fit is None or hint.endswith(f'data.resize=letterbox "data.eval_size={fit}"')  # type: ignore[union-attr]
    if sizes == [LARGE]:
        assert hint.startswith("training crops of 480x352 cover 1.4% of a photograph of 4000x3000. ")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "detection"},
        {"input_size": None},
        {"resize": "letterbox", "eval_size": [512, 672]},  # who follows the hint is not told again
    ],
)
def test_others_are_told_nothing(changes: dict[str, Any]) -> None:
    assert crop_hint(data(**changes), Photographs(LARGE)) is None


def test_what_cannot_be_read_is_no_hint(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    assert crop_hint(data(), Photographs(None, path=str(tmp_path / "0.png"))) is None
