"""Prediction from the command and from Python: awkward names, pictures, json, broken files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pocketvision
import pytest
from pocketvision.tools.build import compose
from pocketvision.tools.inputs import find_images
from pocketvision.tools.predict import image_ids, output_names, predict
from pocketvision.tools.train import train

NAMES = ["IMG (1).jpg", "a,b.jpg", "a=b.jpg", "über.jpg"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A hardly trained run of each task."""
    folder = tmp_path_factory.mktemp("runs")
    small = ("data.input_size=[64,64]", "data.num_train=4", "data.num_val=2", "batch_size=4", "epochs=1", "workers=0",
             "backbone.width=0.35")  # fmt: skip
    for kind in ("detection", "segmentation"):
        train(compose(f"experiment=demo_{kind}", *small, f"run_dir={folder / kind}"))
    return {kind: folder / kind for kind in ("detection", "segmentation")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        image = np.random.default_rng(i).integers(0, 256, (40 + i, 60, 3), dtype=np.uint8)
        cv2.imencode(".jpg", image)[1].tofile(folder / name)
    return folder


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_photographs_with_awkward_names(kind: str, runs: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    config = compose(f"run={runs[kind]}", f"output={tmp_path / 'out'}", config_name="predict")
    config.inputs = [str(photos)]
    assert predict(config) == 0
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {Path(entry["file"]).name for entry in entries} == set(NAMES)
    for entry in entries:
        assert (tmp_path / "out" / f"{Path(entry['file']).stem}.png").is_file()
        assert ("detections" if kind == "detection" else "classes") in entry
    if kind == "segmentation":
        mask = cv2.imread(str(tmp_path / "out" / "a,b_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (41, 60)


def test_a_broken_file_is_named_and_the_others_are_predicted(
    runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 not a photograph")
    config = compose(f"run={runs['detection']}", f"output={tmp_path / 'out'}", config_name="predict")
    config.inputs = [str(photos)]
    with pytest.raises(SystemExit) as stop:
        predict(config)
    assert stop.value.code == 1
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == len(NAMES)


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give photographs"):
        find_images([])
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg"):
        find_images(["nothing.jpg"])
    with pytest.raises(FileNotFoundError, match="no images in"):
        find_images([str(tmp_path)])


def test_results_of_the_same_name_do_not_overwrite_each_other() -> None:
    assert output_names([]) == {}
    names = output_names([Path("a/x.jpg"), Path("b/X.jpg"), Path("c/x.png"), Path("d/x.mp4")])
    assert sorted(names.values()) == ["X_2", "x", "x_3", "x_4"]
    # A segmenter writes x_mask.png for x.jpg.
    names = output_names([Path("x.jpg"), Path("x_mask.jpg")])
    assert sorted(names.values()) == ["x", "x_mask_2"]


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pocketvision.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not trained yet"):
        pocketvision.load(tmp_path)
