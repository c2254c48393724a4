"""Damaged inputs: a few hundred always, 5,000 where slow tests run (tests/datasets/mutations.py tells more)."""

import json
import warnings

import numpy as np
import pytest
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.datasets.loading.batches import EpochSampler, make_loader


@pytest.mark.parametrize(
    ("error", "result", "wrong"),
    [
        (None, "read", False),
        (ValueError("{}/a.png cannot be decoded"), "refused", False),
        (ValueError("{}/a.png\nis bad"), "refused", True),
        (ValueError("bad"), "refused", True),  # which file?
        (KeyError("x"), "traceback", True),
        (UserWarning("hm"), "read", True),
    ],
    ids=repr,
)
def test_the_trial_sees_what_it_is_for(mutations, error, result, wrong):
    def family(folder, rng):
        def read():
            if isinstance(error, Warning):
                warnings.warn(error, stacklevel=1)
            elif error is not None:
                raise type(error)(str(error).format(folder))

        return folder / "a.png", read

    (row,) = mutations.run(mutations.Trial(1, families={"one": family}), workers=0)
    assert (row["result"], bool(row["problem"])) == (result, wrong)


@pytest.mark.parametrize("count", [330, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.by_hand])])
def test_damaged_inputs(mutations, count):
    found = mutations.run(mutations.Trial(count, seed=count))
    assert [f"{row['index']} {row['family']}: {row['problem']}" for row in found if row["problem"]] == []
    for family in mutations.FAMILIES:
        results = [row["result"] for row in found if row["family"] == family]
        assert "refused" in results
    assert sum(row["result"] == "read" for row in found) > count / 10  # not all damage is beyond repair


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_among_damaged_pictures(mutations, tmp_path, workers):
    rng = np.random.default_rng(0)
    kinds, images = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"), []
    for i in range(60):
        kind = kinds[i % 6]
        data = mutations.picture("PNG", np.random.default_rng(i))
        name = f"{i}.{kind.lower()}"
        (tmp_path / name).write_bytes(mutations.damage(mutations.picture(kind, rng), rng) if i % 3 == 0 else data)
        images.append({"id": i, "file_name": name, "height": mutations.SIZE[0], "width": mutations.SIZE[1]})
    categories = [{"id": 1, "name": "a"}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    transform = Transform(input_size=(32, 32), resize="stretch")
    dataset = AugmentedDataset(CocoDetection(path, tmp_path), transform=transform, skip_bad=True)
    sampler = EpochSampler(60, batch_size=4, last="drop")
    metas = [
        meta for batch in make_loader(dataset, batch_size=4, sampler=sampler, workers=workers) for meta in batch.metas
    ]
    bad = {index for meta in metas for index, _ in meta.get("skipped", ())}
    assert len(metas) == 60
    assert len(bad) > 8
    assert all(index % 3 == 0 for index in bad)
