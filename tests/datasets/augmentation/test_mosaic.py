"""Four samples joined: pixels, masks and boxes stay together, and chance is (seed, epoch, index) alone."""

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from pocketvision.datasets.annotations.sample import Sample
from pocketvision.datasets.augmentation import mosaic
from pocketvision.datasets.augmentation.crops import SSDRandomCrop
from pocketvision.datasets.augmentation.mosaic import join
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.labels import detection_labels
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.datasets.loading.batches import EpochSampler, make_loader

SIZE = (60, 80)
NO_BOXES = np.zeros((0, 4), np.float32)
NO_LABELS = np.zeros(0, np.int64)


def sample(number: int, boxes: Any = (), crowd: Any = (), size: tuple[int, int] = SIZE) -> Sample:
    """Grey as its number, in which each box is white; labels and mask are the number."""
    boxes, crowd = (np.array(found, np.float32).reshape(-1, 4) for found in (boxes, crowd))
    image = np.full((*size, 3), 10 * number, np.uint8)
    for left, top, right, bottom in boxes.astype(int):
        image[top:bottom, left:right] = 255
    labels, crowd_labels = np.full(len(boxes), number), np.full(len(crowd), number)
    return Sample(image, number, boxes=boxes, labels=labels, crowd_boxes=crowd, crowd_labels=crowd_labels,
                  mask=np.full(size, number, np.uint8), path=f"{number}.jpg")  # fmt: skip


def with_window(
    window: tuple[int, int, int, int], tiles: list[Sample], monkeypatch: pytest.MonkeyPatch, *, least: float = 1.0
) -> Sample:
    monkeypatch.setattr(mosaic, "_draw", lambda size, random: window)
    return join(tiles, np.random.default_rng(0), min_box_size=least)


def test_without_boxes_there_are_none() -> None:
    made = join([sample(i) for i in range(4)], np.random.default_rng(0), min_box_size=1)
    assert (made.boxes.shape, made.boxes.dtype) == ((0, 4), np.float32)  # type: ignore[union-attr]
    assert (made.labels.shape, made.labels.dtype) == ((0,), np.int64)  # type: ignore[union-attr]
    assert (made.image.shape, made.image.dtype, made.mask.shape) == ((*SIZE, 3), np.uint8, SIZE)  # type: ignore[union-attr]


def test_what_samples_do_not_have_their_mosaic_has_not() -> None:
    tiles = [Sample(np.zeros((*SIZE, 3), np.uint8), i, mask=np.zeros(SIZE, np.uint8)) for i in range(4)]
    made = join(tiles, np.random.default_rng(0), min_box_size=1)
    assert (made.boxes, made.labels, made.crowd_boxes, made.path) == (None, None, None, "0 + 1 + 2 + 3")


def test_all_of_the_four(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [sample(i, [[20, 30, 40, 50]], [[0, 0, 10, 10]]) for i in range(4)]
    made = with_window((0, 0, 160, 120), tiles, monkeypatch)
    places = np.array([[0, 0], [40, 0], [0, 30], [40, 30]])
    assert np.array_equal(made.boxes, np.array([10, 15, 20, 25]) + np.tile(places, 2))  # type: ignore[arg-type]
    assert np.array_equal(made.crowd_boxes, np.array([0, 0, 5, 5]) + np.tile(places, 2))  # type: ignore[arg-type]
    assert made.labels.tolist() == made.crowd_labels.tolist() == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert made.mask is not None
    for number, (left, top) in enumerate(places):
        assert (made.mask[top : top + 30, left : left + 40] == number).all()
        assert (made.image[top : top + 14, left : left + 40] == 10 * number).all()
        assert (made.image[top + 16 : top + 24, left + 11 : left + 19] == 255).all()
    assert made.path == "0.jpg + 1.jpg + 2.jpg + 3.jpg"


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ([0, 0, 100, 10], [0, 0, 80, 10]),
        ([70, 10, 100, 20], [70, 10, 80, 20]),  # a third of it is inside
        ([73, 10, 98, 20], None),  # 0.28
        ([0, 55, 10, 70], [0, 55, 10, 60]),
        ([79.5, 10, 80.5, 20], None),  # half of it, but half a pixel wide
        ([85, 10, 95, 20], None),
    ],
)
def test_boxes_are_cut_at_the_window(
    box: list[float], kept: list[float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is the first tile; crowd regions stay with less."""
    tiles = [sample(1, [box], [box]), *(sample(0) for _ in range(3))]
    made = with_window((0, 0, 80, 60), tiles, monkeypatch)
    assert made.boxes.tolist() == ([] if kept is None else [kept])  # type: ignore[union-attr]
    assert len(made.crowd_boxes) == (kept is not None or box[0] == 73)  # type: ignore[arg-type]


def test_boxes_of_the_least_size_are_those_of_the_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [sample(1, [[0, 0, 3, 30], [0, 0, 5, 30]]), *(sample(0) for _ in range(3))]
    assert len(with_window((0, 0, 80, 60), tiles, monkeypatch, least=4).boxes) == 1  # type: ignore[arg-type]
    assert len(with_window((0, 0, 160, 120), tiles, monkeypatch, least=4).boxes) == 0  # type: ignore[arg-type]


def test_masks_hold_no_class_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [sample(number) for number in (0, 9, 9, 0)]
    made = with_window((13, 7, 122, 88), tiles, monkeypatch)
    assert np.unique(made.mask).tolist() == [0, 9]  # type: ignore[arg-type]
    assert np.array_equal(made.mask == 9, made.image[..., 0] > 45)  # type: ignore[operator]


def test_windows_are_one_to_two_sizes_large_and_lie_anywhere() -> None:
    random = np.random.default_rng(0)
    windows = np.array([mosaic._draw(SIZE, random) for _ in range(2000)])
    sides = (windows[:, 2:] - windows[:, :2]) / [80, 60]
    assert np.abs(sides[:, 0] - sides[:, 1]).max() < 0.02  # rounding
    assert (sides.min(), sides.max()) == pytest.approx((1, 2), abs=0.01)
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= [160, 120]).all()
    assert (windows.max(0) == [*windows[:, :2].max(0), 160, 120]).all()
    assert windows[:, 0].max() > 75
    assert np.histogram(sides[:, 1], 4, (1, 2))[0].min() > 400


def test_samples_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.jpg is 80x60 and 3\.jpg 81x60: set augment\.mosaic=0"):
        join([sample(0), sample(1), sample(2), sample(3, size=(60, 81))], np.random.default_rng(0), min_box_size=1)


class Numbered:
    """A source of `sample`s of which `bad` ones cannot be read."""

    labels = detection_labels([(1, "thing", None)])
    notes = ()

    def __init__(self, bad: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.bad = bad

    def __len__(self) -> int:
        return 24

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise ValueError(f"{index}.jpg cannot be decoded")
        return sample(index, [[5, 5, 60, 50]] * (index % 3))


def dataset(bad: set[int] = frozenset(), **options: Any) -> AugmentedDataset:  # type: ignore[assignment]
    transform = Transform([SSDRandomCrop(), A.HorizontalFlip()], input_size=(32, 48), resize="stretch")
    source: Any = Numbered(bad)
    return AugmentedDataset(source, transform=transform, **options)


def joined(made: AugmentedDataset, epoch: int = 0) -> list[int]:
    return [i for i in range(len(made)) if " + " in made[epoch, i][2]["path"]]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 100, 140), (1.0, 240, 240)])
def test_this_share_is_joined_and_the_others_are_as_without(share: float, least: int, most: int) -> None:
    made, plain = dataset(mosaic=share), dataset()
    found = [joined(made, epoch) for epoch in range(10)]
    assert least <= sum(map(len, found)) <= most
    for epoch, indices in enumerate(found):
        for i in set(range(24)) - set(indices):
            assert torch.equal(made[epoch, i][0], plain[epoch, i][0])
    assert share in (0, 1) or len({tuple(indices) for indices in found}) > 1


def test_a_mosaic_depends_on_seed_epoch_and_index_alone() -> None:
    def drawn(workers: int, seed: int = 0, world: int = 1) -> list[torch.Tensor]:
        made, batches = dataset(mosaic=0.5, seed=seed), []
        for rank in range(world):
            sampler = EpochSampler(24, batch_size=4 // world, last="drop", rank=rank, world=world)
            sampler.set_epoch(3)
            batches.append(list(make_loader(made, batch_size=4 // world, sampler=sampler, workers=workers)))
        return [image for step in zip(*batches, strict=True) for image in zip(*(b.images for b in step), strict=True)
                for image in image]  # fmt: skip

    once = drawn(0)
    for other in (drawn(2), drawn(0, world=2)):
        assert all(torch.equal(a, b) for a, b in zip(once, other, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(once, drawn(0, seed=1), strict=True))
    made, other = dataset(mosaic=1.0), dataset(mosaic=1.0, seed=1)
    paths = [[data[epoch, 5][2]["path"] for epoch in range(8)] for data in (made, other)]
    assert all(len(set(found)) > 6 for found in paths)
    assert not set(paths[0]) & set(paths[1])
    assert joined(dataset(mosaic=0.5)) != joined(dataset(mosaic=0.5, seed=1))


class Same(Numbered):
    """One picture, in which every pixel tells where it is."""

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Sample:
        rows, columns = np.mgrid[:60, :80]
        return Sample(np.stack([3 * rows, 3 * columns, 0 * rows], 2).astype(np.uint8), index,
                      boxes=NO_BOXES, labels=NO_LABELS)  # fmt: skip


def test_each_tile_is_augmented_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic, "_draw", lambda size, random: (0, 0, 2 * size[1], 2 * size[0]))
    source: Any = Same()
    transform = Transform([SSDRandomCrop(skip=0)], input_size=(60, 240), resize="letterbox")
    image, _, meta = AugmentedDataset(source, transform=transform, mosaic=1.0)[0, 0]
    quarters = [image[:, top : top + 30, left : left + 120].tolist() for top in (0, 30) for left in (0, 120)]
    assert not any(a == b for i, a in enumerate(quarters) for b in quarters[:i])
    assert AugmentedDataset(source, transform=transform)[0, 0][2]["pad"] != (0, 0, 0, 0)
    assert meta["pad"] == (0, 0, 0, 0)  # the padding of one tile is none of the mosaic's


def test_the_target_is_that_of_the_mosaic() -> None:
    made = dataset(mosaic=1.0)
    assert max(len(made[0, i][1]["boxes"]) for i in range(24)) > 2  # more than any tile has
    _, target, meta = made[0, 0]
    assert target["mask"].shape == (32, 48)
    assert meta["input_size"] == (32, 48)


def test_tiles_that_cannot_be_read_are_told_and_replaced() -> None:
    bad = {3, 17}
    made = dataset(bad, mosaic=1.0, skip_bad=True)
    metas = [made[epoch, i][2] for epoch in range(4) for i in range(24)]
    assert {index for meta in metas for index, _ in meta.get("skipped", ())} == bad
    told = [meta for meta in metas if "skipped" in meta and meta["index"] not in bad]
    assert told  # as a tile of another one
    assert not any(f"{number}.jpg" in meta["path"].split(" + ") for meta in metas for number in bad)
    index = next(meta["index"] for meta in told if meta["epoch"] == 0)
    with pytest.raises(ValueError, match=r"(3|17)\.jpg cannot be decoded"):
        _ = dataset(bad, mosaic=1.0)[0, index]


def test_the_same_stands_in_whether_tiles_are_bad_or_not() -> None:
    """A good first tile does not move with the others' faults."""
    good, some = dataset(mosaic=1.0), dataset({3, 17}, mosaic=1.0, skip_bad=True)
    for i in range(24):
        paths = [made[2, i][2]["path"].split(" + ") for made in (good, some)]
        for before, after in zip(*paths, strict=True):
            assert before == after or before in ("3.jpg", "17.jpg")
