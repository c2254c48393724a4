"""MeanIoU against cityscapesScripts' own evaluation, of label pictures that show every rule."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.datasets.labels import CITYSCAPES, CITYSCAPES_TABLE, instance_sizes
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.segmentation.metric import MeanIoU
from pocketvision.tools.config.build import categories

IDS = [row[1] for row in CITYSCAPES_TABLE if row[1] >= 0]
SCORED = sorted(CITYSCAPES.source_ids.values())
THINGS = [24, 25, 26, 27, 28, 31, 32, 33]
SIZE = (60, 84)
CARAVAN, TRAILER = 29, 30


@pytest.fixture(scope="session")
def official():
    """The official script as a module. It calls np.in1d, which NumPy 2.4 has no more."""
    pytest.importorskip("cityscapesscripts", reason="parity needs cityscapesscripts")
    before = sys.argv
    sys.argv = ["evaluate"]
    try:
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script  # noqa: N813
    finally:
        sys.argv = before
    return script


def blobs(rng, values, cell=6):
    """Random label picture of rectangles."""
    small = rng.choice(values, (SIZE[0] // cell, SIZE[1] // cell))
    return small.repeat(cell, 0).repeat(cell, 1).astype(np.uint8).copy()


def scene(rng, *, classes=SCORED, things=THINGS, predicted=None):
    """(prediction, truth, instances): void, a border out of roi, groups of things, and single ones of various sizes."""
    truth = blobs(rng, [*classes, 0, 4, 9])
    truth[:3], truth[-5:] = 3, 1
    instances = truth.astype(np.uint16)  # things here are groups: they have no count
    for count in range(8 if things else 0):
        kind, (top, left) = int(rng.choice(things)), rng.integers(0, 45, 2)
        part = np.s_[top : top + rng.integers(1, 14), left : left + rng.integers(1, 14)]
        truth[part], instances[part] = kind, kind * 1000 + count
    wrong = blobs(rng, IDS if predicted is None else predicted, 4)
    return np.where(rng.random(SIZE) < 0.6, truth, wrong).astype(np.uint8), truth, instances


def constant(label_id, rng):
    prediction, truth, instances = scene(rng)
    return np.full_like(prediction, label_id), truth, instances


SCENES = {
    "lively": lambda rng: [scene(rng) for _ in range(4)],
    "classes are absent": lambda rng: [
        scene(rng, classes=[7, 23], things=[26], predicted=[7, 23, 26, 24]) for _ in "ab"
    ],
    "no instances": lambda rng: [scene(rng, things=[])],
    "perfect": lambda rng: [(truth, truth, ids) for _, truth, ids in (scene(rng), scene(rng))],
    "all void predicted": lambda rng: [constant(0, rng)],
    "all caravan": lambda rng: [constant(CARAVAN, rng), constant(TRAILER, rng)],
    "caravan instances": lambda rng: [scene(rng, things=[CARAVAN, TRAILER, 26])],
    "nothing to score": lambda rng: [tuple(np.zeros(SIZE, t) for t in (np.uint8, np.uint8, np.uint16))],
}


def write(root: Path, scenes) -> list[tuple[str, str]]:
    """In Cityscapes' layout; the (prediction, truth) files."""
    pairs = []
    for number, (prediction, truth, instances) in enumerate(scenes):
        name = f"town_{number:06d}_000019"
        files = {
            f"leftImg8bit/val/town/{name}_leftImg8bit.png": np.zeros((*SIZE, 3), np.uint8),
            f"gtFine/val/town/{name}_gtFine_labelIds.png": truth,
            f"gtFine/val/town/{name}_gtFine_instanceIds.png": instances,
            f"results/{name}.png": prediction,
        }
        for path, picture in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / path), picture)
        pairs.append((str(root / f"results/{name}.png"), str(root / f"gtFine/val/town/{name}_gtFine_labelIds.png")))
    return pairs


def run_official(script, pairs, monkeypatch):
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    args = SimpleNamespace(**vars(script.args))
    args.quiet, args.JSONOutput, args.evalLabels = True, False, []
    return script.evaluateImgLists([p for p, _ in pairs], [t for _, t in pairs], args)


def official_figures(found) -> dict[str, float]:
    """What the script found, by our names; NaN is left out, as we do."""
    figures = {
        "mIoU": found["averageScoreClasses"],
        "iIoU": found["averageScoreInstClasses"],
        "mIoU_category": found["averageScoreCategories"],
        "iIoU_category": found["averageScoreInstCategories"],
    }
    for key, ours in (
        ("classScores", "IoU"), ("classInstScores", "iIoU"), ("categoryScores", "category"),
        ("categoryInstScores", "category_iIoU"),
    ):  # fmt: skip
        figures |= {f"{ours}/{name}": value for name, value in found[key].items()}
    confusion = np.array(found["confMatrix"], np.int64)[SCORED]
    figures["pixel_accuracy"] = confusion[:, SCORED].trace() / max(1, confusion.sum())
    return {key: value for key, value in figures.items() if not np.isnan(value)}


def our_figures(root: Path, scenes, **changes) -> dict[str, float]:
    slot_of = {label_id: slot for slot, label_id in CITYSCAPES.source_ids.items()} | {CARAVAN: 20, TRAILER: 21}
    table = np.array([slot_of.get(value, 255) for value in range(256)], np.uint8)
    rules = {
        "categories": categories(CITYSCAPES),
        "instances": instance_sizes(CITYSCAPES),
        "unscored": {20: "vehicle", 21: "vehicle"},
    }
    metric = MeanIoU(CITYSCAPES.names, **(rules | changes))
    data = AugmentedDataset(
        Cityscapes(root, split="val"), transform=Transform(input_size=None, resize="none"), ground_truth=True
    )
    for index, (prediction, _, _) in enumerate(scenes):
        _, target, meta = data[index]
        metric.update([torch.from_numpy(table[prediction])], [target], [meta])
    return metric.compute()


@pytest.mark.parametrize("name", SCENES)
def test_equals_the_official_evaluation(name, official, tmp_path, monkeypatch):
    scenes = SCENES[name](np.random.default_rng(len(name)))
    expected = official_figures(run_official(official, write(tmp_path, scenes), monkeypatch))
    ours = our_figures(tmp_path, scenes)
    known = {key: value for key, value in ours.items() if value is not None}  # the others are the script's NaN
    assert known == pytest.approx(expected, rel=1e-12)
    if name == "lively":
        assert len(expected) == 5 + 19 + 7 + 8 + 2
        assert all(0.05 < value < 0.95 for value in expected.values())


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"unscored": None}, {"iIoU_category", "category_iIoU/vehicle"}),
        ({"instances": instance_sizes(CITYSCAPES) | {13: (26, 1e4)}},
         {"iIoU", "iIoU/car", "iIoU_category", "category_iIoU/vehicle"}),
    ],
)  # fmt: skip
def test_the_comparison_notices(changes, keys, tmp_path):
    """A rule left out, a size that is another."""
    scenes = SCENES["lively"](np.random.default_rng(1))
    write(tmp_path, scenes)
    right, wrong = our_figures(tmp_path, scenes), our_figures(tmp_path, scenes, **changes)
    assert {key for key in right if abs(right[key] - wrong[key]) > 1e-6} == keys


def test_the_average_sizes_are_the_script_s(official):
    sizes = {CITYSCAPES.names[slot]: size for slot, (_, size) in instance_sizes(CITYSCAPES).items()}
    assert sizes == {name: official.args.avgClassSize[name] for name in sizes}
    assert set(official.args.avgClassSize) - set(sizes) == {"caravan", "trailer"}
