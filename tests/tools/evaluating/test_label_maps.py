"""`evaluate` of segmenters from end to end: protocols, files for Cityscapes' server, pictures of other tools."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pocketvision.datasets.cityscapes import Cityscapes
from pocketvision.segmentation.metric import MeanIoU
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.evaluating.scores import segmentation_table
from pocketvision.tools.prepare import write_shapes
from pocketvision.tools.train import train

FIGURES = ("mIoU", "pixel_accuracy", "mIoU_category", "iIoU", "iIoU_category", "IoU/road", "iIoU/car")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated scenes in Cityscapes' layout with instances, a test split without truth, and a run on them."""
    root = tmp_path_factory.mktemp("city")
    sizes = ("num_train=8", "num_val=3", "size=[64,96]")
    write_shapes(compose("layout=cityscapes", f"output={root}/data", *sizes, config_name="prepare"))
    for path in sorted((root / "data").glob("gtFine/*/*/*_labelIds.png")):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint16)
        labels[labels == 26] = 26001
        assert cv2.imwrite(str(path).replace("labelIds", "instanceIds"), labels)
    shutil.copytree(root / "data/leftImg8bit/val/shapes", root / "data/leftImg8bit/test/town")
    train(
        compose(
            "experiment=lraspp_cityscapes", f"data.root={root}/data", f"run_dir={root}/run", "name=x", "workers=0",
            "data.input_size=[65,65]", "batch_size=4", "epochs=6", "eval_every=6", "backbone.width=0.35",
            "backbone.bn_momentum=0.2", "model.network.bn_momentum=0.2", "optimizer.lr=0.1", "decay_rule=weights",
        )
    )  # fmt: skip
    return root


def asked(city: Path, *keys: str, run: bool = True) -> dict[str, float]:
    where = [f"run={city}/run", "checkpoint=last"] if run else [f"++data.root={city}/data"]
    return evaluate(compose(*where, "workers=0", f"output={city}/results.json", *keys, config_name="evaluate"))


@pytest.fixture(scope="module")
def whole(city: Path) -> dict[str, float]:
    """The whole image, its label maps written to an archive."""
    return asked(city, f"cityscapes_results={city}/val.zip")


def test_whole_images_have_all_figures(whole: dict[str, float], city: Path) -> None:
    assert set(FIGURES) <= set(whole)
    assert 0.05 < whole["pixel_accuracy"] < 1
    assert json.loads((city / "results.json").read_text()).keys() == whole.keys()


@pytest.mark.parametrize("prediction_ids", ["label", "train"])
def test_the_files_score_as_the_run_does(
    prediction_ids: str, whole: dict[str, float], city: Path, tmp_path: Path
) -> None:
    """Out to label ids and back; and as another tool's train ids in a folder."""
    path = city / "val.zip"
    if prediction_ids == "train":
        zipfile.ZipFile(path).extractall(tmp_path)
        path = tmp_path
        for file in tmp_path.iterdir():
            labels, ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED), Cityscapes(city / "data", split="val").labels
            slots = np.full(256, 255, np.uint8)
            slots[list(ids.source_ids.values())] = list(ids.source_ids)
            assert cv2.imwrite(str(file), cv2.LUT(labels, slots))
    found = asked(city, f"predictions={path}", f"prediction_ids={prediction_ids}", run=False)
    assert found == pytest.approx({key: whole[key] for key in found})
    assert set(FIGURES) <= set(found)


@pytest.mark.parametrize(
    "keys",
    [
        ("protocol=sliding", "window=[64,96]"),
        ("protocol=sliding", "window=[999,999]", "stride=[1,1]"),
        ("scales=[1.0]", "flip=false", "batch_size=2"),
    ],
)
def test_one_view_is_the_whole_image(keys: tuple[str, ...], whole: dict[str, float], city: Path) -> None:
    found = asked(city, *keys)
    assert {key: found[key] for key in (*FIGURES, "loss")} == {key: whole[key] for key in (*FIGURES, "loss")}


@pytest.mark.parametrize(
    "keys",
    [
        ("protocol=sliding", "window=[48,48]"),
        ("scales=[0.75,1.25]",),
        ("flip=true",),
        ("protocol=sliding", "window=[48,64]", "stride=[48,32]", "scales=[1.0,1.25]", "flip=true"),
    ],
)
def test_other_views_change_the_figures_a_little(keys: tuple[str, ...], whole: dict[str, float], city: Path) -> None:
    found = asked(city, *keys)
    assert found["loss"] != whole["loss"]
    assert found["pixel_accuracy"] == pytest.approx(whole["pixel_accuracy"], abs=0.3)


def test_the_test_split_gives_files_alone(city: Path, tmp_path: Path) -> None:
    assert asked(city, "split=test", f"cityscapes_results={tmp_path}/test.zip", "flip=true") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["test.zip"]
    names = [path.name for path in (city / "data/leftImg8bit/test/town").iterdir()]
    written = {name.replace("_labelIds", "_leftImg8bit") for name in zipfile.ZipFile(tmp_path / "test.zip").namelist()}
    assert written == set(names)
    assert asked(city, f"predictions={tmp_path}/test.zip", "split=test", run=False) == {}


def test_what_fails_leaves_no_archive(city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeanIoU, "update", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asked(city, f"cityscapes_results={tmp_path}/val.zip")
    assert not list(tmp_path.iterdir())


def test_wrong_pictures_are_all_named(city: Path, whole: dict[str, float], tmp_path: Path) -> None:
    zipfile.ZipFile(city / "val.zip").extractall(tmp_path)
    for path in sorted(tmp_path.iterdir())[1:]:
        assert cv2.imwrite(str(path), np.zeros((2, 2), np.uint8))
    with pytest.raises(
        ValueError, match=r"2 of 3 pictures are invalid, the first ones: shapes_000001.*; shapes_000002"
    ):
        asked(city, f"predictions={tmp_path}", run=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["protocol=window"], "protocol=window: expected whole or sliding"),
        (["protocol=sliding"], r"needs window=[h,w]"),
        (["window=[9,9]"], "window and stride need protocol=sliding"),
        (["protocol=sliding", "window=[9,9]", "stride=[10,1]"], "larger than window"),
        (["scales=[]"], r"scales=[]"),
        (["split=test"], "split=test has no ground truth"),
        (["split=test", "cityscapes_results=x.zip", "report=true"], "ground truth: drop report"),
        (["split=tset"], "split=tset: expected train or val"),
        (["cityscapes_results={city}/data"], "already exists"),
        (["predictions=x"], "drop run=, file=, pictures=, report= and cityscapes_results="),
        (["run=null", "predictions=nowhere"], "neither a folder nor a zip archive: nowhere"),
        (["run=null", "predictions={city}/data/gtFine", "prediction_ids=x"], "choose label or train"),
        (["run=null", "predictions={city}", "++data.classes=x"], "data.classes does not apply to label maps"),
        (["run=null", "predictions={city}", "++data.root=null"], "data.root=null: expected a path"),
        (["run={detector}", "flip=true"], "is for detection: drop them"),
        (["run={detector}", "cityscapes_results=x.zip"], "needs all images of a Cityscapes split"),
        (["run={detector}", "split=test", "cityscapes_results=x.zip"], "split=test is only for Cityscapes"),
    ],
)
def test_mistakes_are_told(
    keys: list[str], message: str, city: Path, trained_run: Callable[[str], Path], in_tmp_path: Path
) -> None:
    given = [key.format(city=city, detector=trained_run("detection")) for key in keys]
    data = () if keys[0] != "run=null" else (f"++data.root={city}/data",)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        asked(city, *data, *given)


def test_the_table_tells_each_class_once() -> None:
    metric = MeanIoU({0: "road", 1: "car"}, instances={1: (26, 4.0)}, categories={"flat": [0]})
    truth = torch.tensor([[0, 0, 1, 1]], dtype=torch.uint8)
    ids = np.array([[7, 7, 26000, 26000]], np.uint16)
    meta: dict[str, Any] = {"image_id": 0, "original_size": (1, 4), "ground_truth": {"mask": truth, "instances": ids}}
    metric.update([torch.tensor([[0, 1, 1, 1]], dtype=torch.uint8)], [{}], [meta])
    text = segmentation_table(metric, metric.compute())
    assert text.count("car") == 1
    assert [line.split() for line in text.splitlines()][-2:] == [
        ["road", "50.00", "50.00", "100.00", "50.00", "-"],
        ["car", "66.67", "50.00", "66.67", "100.00", "80.00"],
    ]
