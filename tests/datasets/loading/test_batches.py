"""Batches, the order of epochs, and that workers change nothing."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from pocketvision.datasets.annotations.sample import Sample
from pocketvision.datasets.augmentation.crops import RandomScaleCrop, SSDRandomCrop
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.labels import detection_labels
from pocketvision.datasets.loading.augmented import AugmentedDataset, sample_seed
from pocketvision.datasets.loading.batches import Batch, EpochSampler, collate, make_loader


class Noise:
    """A source without files; sample i has i % 3 boxes."""

    labels = detection_labels([(1, "thing", None)])
    notes = ()

    def __len__(self):
        return 10

    def read(self, index):
        rng = np.random.default_rng(index)
        size = (40 + index, 60 - index)
        boxes = np.tile(np.array([[5, 5, 30, 30]], np.float32), (index % 3, 1))
        return Sample(
            rng.integers(0, 256, (*size, 3), np.uint8), index, boxes=boxes, labels=np.ones(len(boxes), np.int64),
            mask=np.full(size, index, np.uint8), ground_truth={"mask": np.full(size, index, np.uint8)},
            path=f"{index}.jpg",
        )  # fmt: skip


class Broken(Transform):
    def __call__(self, sample, seed):
        if sample.image_id == 7:
            raise RuntimeError("that went wrong")
        return super().__call__(sample, seed)


def _dataset(policy=(), *, size=(32, 48), resize="stretch", cls=Transform, **more):
    return AugmentedDataset(Noise(), transform=cls(list(policy), input_size=size, resize=resize), **more)


TRAINING = [A.HorizontalFlip(), SSDRandomCrop(), A.ColorJitter()]


def _equal(a: Batch, b: Batch):
    assert torch.equal(a.images, b.images)
    assert a.metas == b.metas
    for x, y in zip(a.targets, b.targets, strict=True):
        assert x.keys() == y.keys()
        assert all(torch.equal(x[key], y[key]) for key in x)


def test_item_without_boxes():
    image, target, meta = _dataset()[0]
    assert (image.shape, image.dtype) == ((3, 32, 48), torch.uint8)
    assert (target["boxes"].shape, target["boxes"].dtype) == ((0, 4), torch.float32)
    assert (target["labels"].shape, target["labels"].dtype) == ((0,), torch.int64)
    assert meta == {
        "image_id": 0, "path": "0.jpg", "original_size": (40, 60), "input_size": (32, 48), "pad": (0, 0, 0, 0),
        "epoch": 0, "index": 0,
    }  # fmt: skip


def test_ground_truth_is_only_there_when_asked_for_and_keeps_its_size():
    _, target, meta = _dataset(ground_truth=True)[2]
    assert meta["ground_truth"]["mask"].shape == (42, 58)
    assert target["mask"].shape == (32, 48)
    assert "ground_truth" not in _dataset()[2][2]


def test_randomness_is_a_function_of_seed_epoch_and_index():
    one, same, other = _dataset(TRAINING), _dataset(TRAINING), _dataset(TRAINING, seed=1)
    for index in (9, 3, 0):
        same[(4, index)]
    assert torch.equal(one[(1, 3)][0], same[(1, 3)][0])
    assert torch.equal(one[3][0], one[(0, 3)][0])
    assert not torch.equal(one[(1, 3)][0], one[(2, 3)][0])
    assert not torch.equal(one[(1, 3)][0], other[(1, 3)][0])
    seeds = {sample_seed(*key) for key in np.ndindex(5, 20, 50)}
    assert len(seeds) == 5000


def test_an_index_too_far_ends_iteration():
    with pytest.raises(IndexError, match="sample 10 of 10"):
        _dataset()[10]
    assert len(list(_dataset())) == 10


def test_collate_equal_sizes():
    dataset = _dataset()
    batch = collate([dataset[i] for i in range(4)])
    assert batch.images.shape == (4, 3, 32, 48)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for row, index in zip(batch.images, range(4), strict=True):
        assert torch.equal(row, dataset[index][0])
    assert [len(t["boxes"]) for t in batch.targets] == [0, 1, 2, 0]
    assert len(batch) == 4


def test_collate_pads_ragged_images():
    dataset = _dataset(size=None, resize="none", ground_truth=True)
    items = [dataset[0], dataset[9]]  # 40x60 and 49x51
    items[1][2]["pad"] = (1, 2, 3, 4)
    batch = collate(items, fill=(1, 2, 3))
    assert batch.images.shape == (2, 3, 49, 60)
    assert [m["pad"] for m in batch.metas] == [(0, 0, 0, 9), (1, 2, 12, 4)]
    assert [m["input_size"] for m in batch.metas] == [(49, 60)] * 2
    assert items[1][2]["pad"] == (1, 2, 3, 4)  # items are left alone
    assert torch.equal(batch.images[0, :, :40], items[0][0])
    assert batch.images[0, :, 45, 3].tolist() == batch.images[1, :, 3, 55].tolist() == [1, 2, 3]
    assert batch.targets[0]["mask"].shape == (49, 60)
    assert (batch.targets[0]["mask"][40:] == 255).all()
    assert (batch.targets[1]["mask"][:, :51] == 9).all()


def test_batch_moves_and_pickles():
    batch = collate([_dataset()[i] for i in range(3)])
    moved = batch.to("meta")
    assert {moved.images.device.type, *(t["boxes"].device.type for t in moved.targets)} == {"meta"}
    assert moved.metas is batch.metas
    _equal(pickle.loads(pickle.dumps(batch)), batch)


def test_sampler_orders():
    assert list(EpochSampler(3, shuffle=False)) == [(0, 0), (0, 1), (0, 2)]
    assert list(EpochSampler(0)) == []
    sampler = EpochSampler(50, seed=3)
    first = list(sampler)
    assert sorted(i for _, i in first) == list(range(50))
    assert list(sampler) == first == list(EpochSampler(50, seed=3))
    sampler.set_epoch(1)
    second = list(sampler)
    assert {epoch for epoch, _ in second} == {1}
    assert [i for _, i in second] != [i for _, i in first]
    assert [i for _, i in EpochSampler(50, seed=4)] != [i for _, i in first]


@pytest.mark.parametrize(
    ("last", "batch_size", "counts", "distinct"),
    [("keep", 4, [4, 3, 3], 10), ("drop", 2, [2, 2, 2], 6), ("wrap", 2, [4, 4, 4], 10), ("wrap", 20, [20, 20, 20], 10)],
)
def test_sampler_splits_over_ranks(last, batch_size, counts, distinct):
    ranks = [EpochSampler(10, batch_size=batch_size, last=last, rank=r, world=3) for r in range(3)]
    drawn = [[i for _, i in rank] for rank in ranks]
    assert [len(d) for d in drawn] == [len(rank) for rank in ranks] == counts
    together = [i for d in drawn for i in d]
    assert len(set(together)) == distinct
    if last != "wrap":
        assert len(together) == distinct  # nobody sees a sample another rank has


def test_a_step_sees_the_same_samples_however_many_ranks():
    alone = [i for _, i in EpochSampler(24, batch_size=4, last="drop")]
    halves = [[i for _, i in EpochSampler(24, batch_size=2, last="drop", rank=r, world=2)] for r in (0, 1)]
    for step in range(6):
        assert set(alone[step * 4 : step * 4 + 4]) == {i for h in halves for i in h[step * 2 : step * 2 + 2]}


def test_sampler_goes_on_in_the_middle_of_an_epoch():
    sampler = EpochSampler(10, rank=1, world=2, last="wrap", batch_size=4)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_epoch(2, start=4)
    assert list(sampler) == whole[4:]
    assert len(sampler) == len(whole) - 4
    sampler.set_epoch(3)
    assert len(sampler) == len(whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"last": "pad"}, "unknown last='pad'"),
        ({"rank": 2, "world": 2}, "rank 2 does not exist in a world of 2"),
        ({"last": "drop", "batch_size": 11}, "10 samples do not fill one batch of 11.*reduce the batch size"),
    ],
)
def test_sampler_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        EpochSampler(10, **arguments)
    with pytest.raises(ValueError, match="sampler has length 3, but the dataset has 10"):
        make_loader(_dataset(), batch_size=2, sampler=EpochSampler(3))


def test_workers_change_nothing():
    loaders = []
    for workers in (0, 2):
        sampler = EpochSampler(10, seed=1, batch_size=4, last="wrap")
        loaders.append((make_loader(_dataset(TRAINING), batch_size=4, sampler=sampler, workers=workers), sampler))
    previous = None
    for epoch in range(2):
        for _, sampler in loaders:
            sampler.set_epoch(epoch)
        batches = [list(loader) for loader, _ in loaders]
        assert [len(b) for b in batches] == [3, 3]
        for a, b in zip(*batches, strict=True):
            _equal(a, b)
        assert previous is None or not torch.equal(previous, batches[0][0].images)
        previous = batches[0][0].images


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="not on this system")
def test_loader_processes_of_a_forkserver():
    """Python's default from 3.14 on: data come as a pickle, from a process that is not the parent."""
    before, policy = multiprocessing.get_start_method(), [*TRAINING, RandomScaleCrop((20, 20))]
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        batches = list(make_loader(_dataset(policy), batch_size=4, workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)
    for batch, expected in zip(batches, make_loader(_dataset(policy), batch_size=4), strict=True):
        _equal(batch, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_leaves_the_global_generator_alone(workers):
    loader = make_loader(_dataset(TRAINING), batch_size=4, workers=workers)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert [len(batch) for batch in loader] == [4, 4, 2]
    assert torch.equal(torch.get_rng_state(), state)


def _broken_transform(folder):
    return _dataset(cls=Broken), RuntimeError, ["that went wrong", "while transforming 7.jpg (epoch 0, sample 7)"]


def _broken_picture(folder):
    (folder / "train/a").mkdir(parents=True)
    (folder / "train/a/7.jpg").write_bytes(b"junk")
    transform = Transform([], input_size=(32, 32), resize="stretch")
    return AugmentedDataset(ImageFolder(folder), transform=transform), ValueError, ["7.jpg cannot be decoded"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("broken", [_broken_transform, _broken_picture])
def test_errors_name_the_file(tmp_path, monkeypatch, broken, workers):
    # After an error, torch waits so many seconds for processes that still have batches.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    dataset, kind, messages = broken(tmp_path)
    loader = make_loader(dataset, batch_size=4, workers=workers)
    with pytest.raises(kind) as caught:
        list(loader)
    if workers:
        loader._iterator._shutdown_workers()
    said = str(caught.value) + " ".join(getattr(caught.value, "__notes__", ()))
    assert all(message in said for message in messages)


def test_real_photographs(data_root):
    source = CocoDetection(root=data_root / "coco_mini", slots="coco91")
    transform = Transform(TRAINING, input_size=(320, 320), resize="stretch")
    sampler = EpochSampler(len(source), batch_size=16, last="drop")
    batch = next(iter(make_loader(AugmentedDataset(source, transform=transform), batch_size=16, sampler=sampler)))
    assert batch.images.shape == (16, 3, 320, 320)
    boxes = torch.cat([t["boxes"] for t in batch.targets])
    assert len(boxes) > 30
    assert boxes.min() >= 0
    assert boxes.max() <= 320
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert torch.cat([t["labels"] for t in batch.targets]).max() <= 90


def test_scale_crop_batches_are_of_one_size():
    dataset = _dataset([RandomScaleCrop((33, 65)), A.HorizontalFlip()], size=None, resize="none")
    for batch in make_loader(dataset, batch_size=5):
        assert batch.images.shape == (5, 3, 33, 65)
        assert {m["pad"] for m in batch.metas} == {(0, 0, 0, 0)}


def test_workers_use_one_thread(monkeypatch):
    from pocketvision.datasets.loading import batches

    calls = []
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: calls.append(("cv2", n)))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: calls.append(("torch", n)))
    monkeypatch.delattr(signal, "sigtimedwait", raising=False)  # or this process would end with its parent
    batches._start_worker(0, parent=os.getppid())
    assert calls == [("cv2", 0), ("torch", 1)]


ORPHANS = """
import os, signal, time
from pocketvision.datasets.loading import batches as loading
for late in (False, True):
    if os.fork() == 0:
        parent = os.getpid()
        if os.fork() == 0:
            while late and os.getppid() == parent:
                time.sleep(0.01)
            loading._start_worker(0, parent=parent)
            time.sleep(60)
        time.sleep(0.2)
        os.kill(parent, signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="not on this system")
def test_a_loader_process_does_not_outlive_a_killed_run():
    """Whether it has started before the run is killed, or starts later."""
    command = [sys.executable, "-c", ORPHANS]
    subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=False)  # until the last one closes its output
