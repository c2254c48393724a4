"""Pictures that are decoded once: the same batches, whatever happens to the files."""

import logging
import os

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from pocketvision.datasets.augmentation.crops import RandomScaleCrop, SSDRandomCrop
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.images import cache, decoder
from pocketvision.datasets.images.cache import CachedDecoder, estimate
from pocketvision.datasets.loading.augmented import AugmentedDataset, FirstSamples
from pocketvision.datasets.loading.batches import make_loader
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.datasets.writing.shapes_writer import write_coco

SIZE = (96, 128)


def _picture(path, seed=0, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 3 if "labels" in path.parts else 256, size, np.uint8)
    pixels = pixels if "labels" in path.parts else cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    cv2.imencode(path.suffix, pixels)[1].tofile(path)
    return path


def _boxes(folder):
    write_coco(folder, {"train": ShapesDetection(length=5, size=SIZE)})
    return CocoDetection(root=folder)


def _masks(folder):
    for i in range(4):
        _picture(folder / "train" / "images" / f"{i}.{'jpg' if i % 2 else 'png'}", i)
        _picture(folder / "train" / "labels" / f"{i}.png", i)
    return MaskFolder(folder, classes=["a", "b", "c"])


def _classes(folder):
    for i in range(4):
        _picture(folder / "train" / f"class{i % 2}" / f"{i}.jpg", i)
    return ImageFolder(folder)


MADE = {"boxes": _boxes, "masks": _masks, "classes": _classes}
POLICIES = {
    "boxes": [SSDRandomCrop(), A.HorizontalFlip()],
    "masks": [RandomScaleCrop((32, 32), scale=(0.25, 0.5)), A.HorizontalFlip()],
    "classes": [A.RandomResizedCrop((32, 32)), A.HorizontalFlip()],
}


def _batches(source, kind, *, reduced=False, workers=0, epochs=2, training=True):
    size, resize = (None, "none") if kind == "masks" else ((32, 32), "stretch")
    transform = Transform(
        POLICIES[kind] if training else (), input_size=size, resize=resize, reduced=reduced, exact=not training
    )
    loader = make_loader(AugmentedDataset(source, transform=transform), batch_size=2, workers=workers)
    found = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += list(loader)
    return found


def _assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.metas == other.metas
        for target, truth in zip(one.targets, other.targets, strict=True):
            assert target.keys() == truth.keys()
            assert all(torch.equal(target[key], truth[key]) for key in truth)


@pytest.mark.parametrize(("reduced", "training"), [(False, True), (True, True), (False, False)])
@pytest.mark.parametrize("kind", MADE)
def test_a_cache_changes_nothing(tmp_path, monkeypatch, kind, reduced, training):
    source = MADE[kind](tmp_path / "data")
    expected = _batches(source, kind, reduced=reduced, training=training)
    (tmp_path / "cache").mkdir()
    source.decoder = CachedDecoder(tmp_path / "cache")
    _assert_equal(_batches(source, kind, reduced=reduced, training=training), expected)
    number = len(list((tmp_path / "cache").iterdir()))
    assert number >= len(source) * (2 if kind == "masks" else 1)

    def never(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoder, "decode_image", never)
    monkeypatch.setattr(decoder, "decode_mask", never)
    _assert_equal(_batches(source, kind, reduced=reduced, training=training), expected)
    assert len(list((tmp_path / "cache").iterdir())) == number


def test_reduced_pictures_are_kept_apart(tmp_path):
    source = _boxes(tmp_path / "data")
    (tmp_path / "cache").mkdir()
    plain = _batches(source, "boxes")
    reduced = _batches(source, "boxes", reduced=True)
    assert any(not torch.equal(a.images, b.images) for a, b in zip(plain, reduced, strict=True))
    source.decoder = CachedDecoder(tmp_path / "cache")
    _assert_equal(_batches(source, "boxes", reduced=True), reduced)
    _assert_equal(_batches(source, "boxes"), plain)
    _assert_equal(_batches(source, "boxes", reduced=True), reduced)


def test_workers_share_it(tmp_path):
    source = _boxes(tmp_path / "data")
    expected = _batches(source, "boxes")
    (tmp_path / "cache").mkdir()
    source.decoder = CachedDecoder(tmp_path / "cache")
    _assert_equal(_batches(source, "boxes", workers=2), expected)
    assert len(list((tmp_path / "cache").iterdir())) == len(source)


def test_a_changed_photograph_is_decoded_again(tmp_path):
    kept = CachedDecoder(tmp_path)
    path = _picture(tmp_path / "photo" / "x.png", 1)
    first = kept.image(path)
    before = os.stat(path)
    _picture(path, 2)  # as large in pixels
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert not np.array_equal(kept.image(path), first)
    np.testing.assert_array_equal(kept.image(path), decoder.decode_image(path))


@pytest.mark.parametrize("damage", [b"", b"\0" * 8, None], ids=["empty", "short", "cut"])
def test_what_is_not_whole_is_decoded_again(tmp_path, damage):
    kept, path = CachedDecoder(tmp_path), _picture(tmp_path / "photo" / "x.png")
    expected = kept.image(path).copy()
    (file,) = (file for file in tmp_path.iterdir() if file.is_file())
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if damage is None else damage)
    np.testing.assert_array_equal(kept.image(path), expected)
    assert file.read_bytes() == whole


def test_changing_pixels_changes_no_file(tmp_path):
    kept, path = CachedDecoder(tmp_path), _picture(tmp_path / "photo" / "labels" / "x.png")
    expected = kept.mask(path).copy()
    assert expected.shape == SIZE
    kept.mask(path)[:] = 9
    np.testing.assert_array_equal(kept.mask(path), expected)


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    kept, path = CachedDecoder(tmp_path), _picture(tmp_path / "photo" / "x.png")
    monkeypatch.setattr(cache.os, "replace", full)
    with caplog.at_level(logging.WARNING, logger=cache.__name__):
        for _ in range(2):
            assert kept.image(path).shape == (*SIZE, 3)
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["photo"]  # nothing half-written stays


def test_errors_are_those_of_decoding(tmp_path):
    kept = CachedDecoder(tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"bad\.jpg cannot be decoded"):
            kept.image(tmp_path / "bad.jpg")
    with pytest.raises(FileNotFoundError, match=r"image not found: .*none\.jpg"):
        kept.image(tmp_path / "none.jpg")


def test_estimates(tmp_path, monkeypatch):
    kept, area = CachedDecoder(tmp_path / "cache"), SIZE[0] * SIZE[1]
    kept.folder.mkdir()
    boxes, masks, classes = (MADE[kind](tmp_path / kind) for kind in MADE)
    assert estimate([], kept, reduced=False) == (0, 0)
    assert estimate([boxes], kept, reduced=False) == (5, 5 * area * 3)
    assert estimate([boxes, boxes], kept, reduced=True) == (5, 5 * area * 4)
    assert estimate([FirstSamples(boxes, 2)], kept, reduced=False) == (2, 2 * area * 3)
    assert estimate([masks, classes], kept, reduced=False) == (12, 4 * area * 4 + 4 * area * 3)
    monkeypatch.setattr(cache, "_SAMPLES", 2)
    assert estimate([masks, classes], kept, reduced=False) == (12, 4 * area * 4 + 4 * area * 3)
    kept.image(masks.files(0)[0].path)
    assert estimate([masks], kept, reduced=False) == (7, 4 * area * 4 - area * 3)
    (tmp_path / "masks" / "train" / "images" / "1.jpg").write_bytes(b"damaged")
    assert estimate([masks], kept, reduced=False)[0] == 7
    with pytest.raises(ValueError, match="ShapesDetection reads no picture files"):
        estimate([ShapesDetection(length=3)], kept, reduced=False)
