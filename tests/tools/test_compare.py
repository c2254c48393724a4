"""evaluate's files and words, others' predictions, and which differences between two are real."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.datasets.labels import LabelMap
from pocketvision.detection.analysis import analyse
from pocketvision.detection.metric import CocoMetric
from pocketvision.segmentation.metric import ImageCounts, MeanIoU
from pocketvision.tools.compare import compare_runs
from pocketvision.tools.comparing.evaluations import lines
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.evaluating.scores import Evaluation, class_table, interval, load, save
from pocketvision.tools.evaluating.states import pack, unpack
from pocketvision.tools.train import train

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 9, "name": "newt"}]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of 40 images, and three detectors: a sharp one, a blunt one, and the blunt one with other scores."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    annotations, results = [], {"sharp": [], "blunt": [], "same": []}
    for image in range(40):
        for _ in range(image % 4):
            box, category = (rng.random(4) * 100 + 20).tolist(), int(rng.choice([7, 2]))
            kind = {"category_id": category, "area": box[2] * box[3], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "bbox": box, **kind})
            noise = rng.normal(0, 1, 4)
            for name, pixels in (("sharp", 2), ("blunt", 12), ("same", 12)):
                moved = np.abs(np.array(box) + pixels * noise * (-1 if name == "same" else 1)).tolist()
                entry = {"image_id": image, "category_id": category, "bbox": moved, "score": float(rng.random())}
                results[name].append(entry)
    truth = {"images": [{"id": i} for i in range(40)], "annotations": annotations, "categories": CATEGORIES}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "part.json").write_text(json.dumps({**truth, "images": truth["images"] + [{"id": 99}]}))
    moved = [{**annotation, "area": 1.0} for annotation in annotations]
    (folder / "other.json").write_text(json.dumps({**truth, "annotations": moved}))
    for name, entries in results.items():
        (folder / f"{name}.json").write_text(json.dumps(entries))
    return folder


def score(files: Path, name: str, *, truth: str = "truth", output: Path | None = None, **keys: Any) -> dict[str, float]:
    given = [f"{key}={value}" for key, value in keys.items()] + ([f"output={output}"] if output else [])
    paths = (f"predictions={files / name}.json", f"annotations={files / truth}.json")
    return evaluate(compose(*paths, *given, config_name="evaluate"))


def compared(*paths: Any, **keys: Any) -> dict[str, Any]:
    config = compose(*(f"{key}={value}" for key, value in keys.items()), config_name="compare")
    config.runs = [str(path) for path in paths]
    return compare_runs(config)


def test_predictions_of_any_tool(files: Path, tmp_path: Path) -> None:
    output, again = tmp_path / "a.json", tmp_path / "again.json"
    found = score(files, "sharp", output=output, bootstrap=30, coco_results=again)
    assert found == json.loads(output.read_text())
    assert 0.5 < found["AP/low"] < found["AP"] < found["AP/high"] < 1
    assert found["AP/newt"] == found["AP50/newt"] == found["threshold/newt"] == -1
    assert {"AR/cat", "F1/dog", "AP50/high", "AP/cat/low", "lost/missed"} <= found.keys()
    assert len(json.loads(again.read_text())) == len(json.loads((files / "sharp.json").read_text()))
    rewritten = evaluate(
        compose(
            f"predictions={again}",
            f"annotations={files / 'truth.json'}",
            f"output={tmp_path / 'b.json'}",
            config_name="evaluate",
        )
    )
    assert rewritten.items() <= found.items()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"predictions": "x.json"}, r"needs annotations=FILE"),
        ({"predictions": "x.png", "annotations": "y.json"}, r"is for a JSON of detections"),
        ({"predictions": "x.json", "annotations": "y.json", "run": "runs/a"}, "drop run="),
        ({"annotations": "y.json"}, "needs predictions=FILE"),
        ({"predictions": "x.json", "annotations": "y.json", "bootstrap": -1}, "bootstrap=-1: expected 0"),
        ({"predictions": "x.json", "annotations": "no.json"}, r"annotation file not found: no\.json"),
    ],
)
def test_keys_that_do_not_go_together(keys: dict[str, Any], told: str) -> None:
    config = compose(*(f"{key}={value}" for key, value in keys.items()), config_name="evaluate")
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        evaluate(config)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"output": "sharp.json"}, "predictions and output are the same file"),
        ({"output": "a", "coco_results": "a"}, "coco_results and output are the same file"),
        ({"output": "a.npz"}, "ends in .json"),
        ({"coco_results": "."}, "is a folder"),
        ({"protocol": "sliding"}, "is scored directly"),
        ({"bootstrap": 2}, "bootstrap=2: expected 0"),
    ],
)
def test_no_file_takes_the_place_of_another(
    keys: dict[str, Any], told: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    before = (files / "sharp.json").read_bytes()
    given = [f"{key}={value}" for key, value in keys.items()]
    config = compose("predictions=sharp.json", "annotations=truth.json", *given, config_name="evaluate")
    with pytest.raises(ValueError, match=told):
        evaluate(config)
    assert (files / "sharp.json").read_bytes() == before


def test_names_with_dots_have_states_of_their_own(files: Path, tmp_path: Path) -> None:
    for name, output in (("sharp", "lr.1"), ("blunt", "lr.2")):
        score(files, name, output=tmp_path / output)
    (found,) = compared(tmp_path / "lr.1", tmp_path / "lr.2", samples=20)["differences"].values()
    assert found["AP"]["difference"] < 0


def test_few_images_tell_nothing_apart(files: Path, tmp_path: Path) -> None:
    truth = json.loads((files / "truth.json").read_text())
    truth["images"] = truth["images"][:4]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] < 4]
    (tmp_path / "few.json").write_text(json.dumps(truth))
    for name in ("sharp", "blunt"):
        some = [one for one in json.loads((files / f"{name}.json").read_text()) if one["image_id"] < 4]
        (tmp_path / f"{name}.json").write_text(json.dumps(some))
        score(tmp_path, name, truth="few", output=tmp_path / f"{name}.out.json")
    found = compared(tmp_path / "blunt.out.json", tmp_path / "sharp.out.json", samples=20)
    (differences,) = found["differences"].values()
    assert differences["AP"]["difference"] > 0
    assert not differences["AP"]["real"]
    assert "4 common images; fewer than 10 are too few for significance" in "\n".join(lines(found))


def test_a_run_is_not_compared_with_itself(files: Path, tmp_path: Path) -> None:
    score(files, "sharp", output=tmp_path / "a.json")
    with pytest.raises(ValueError, match="two or more different"):
        compared(tmp_path / "a.json", f"{tmp_path}/../{tmp_path.name}/a.json")


def test_a_difference_is_real_or_not(files: Path, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in ("sharp", "blunt", "same")}
    figures = {name: score(files, name, output=path) for name, path in paths.items()}
    output = tmp_path / "out" / "comparison.json"
    found = compared(paths["blunt"], paths["sharp"], paths["same"], samples=200, output=output)
    assert json.loads(output.read_text()) == found
    sharp, same = (found["differences"][str(paths[name])] for name in ("sharp", "same"))
    assert sharp["AP"]["real"]
    assert sharp["AP"]["difference"] == pytest.approx(figures["sharp"]["AP"] - figures["blunt"]["AP"])
    assert 0 < sharp["AP"]["low"] < sharp["AP"]["difference"] < sharp["AP"]["high"]
    assert not same["AP"]["real"]
    assert same["AP"]["low"] < 0 < same["AP"]["high"]
    assert sharp["AP/newt"]["difference"] is None
    page = "\n".join(lines(found))
    assert f"  AP      {sharp['AP']['difference']:+.3f}  [" in page
    assert "not significant" in page
    assert "classes without ground truth: 1" in page


def test_a_run_is_no_different_from_itself(files: Path, tmp_path: Path) -> None:
    """The same images are drawn for both: every difference is 0, not only the mean."""
    for name in ("a", "b"):
        score(files, "blunt", output=tmp_path / f"{name}.json")
    (differences,) = compared(tmp_path / "a.json", tmp_path / "b.json", samples=30)["differences"].values()
    assert differences["AP"] == {"difference": 0, "low": 0, "high": 0, "real": False}


def test_what_cannot_be_compared(files: Path, tmp_path: Path) -> None:
    a, other, more = (tmp_path / f"{name}.json" for name in ("a", "other", "more"))
    for path, truth in ((a, "truth"), (other, "other"), (more, "part")):
        score(files, "blunt", truth=truth, output=path)
    with pytest.raises(ValueError, match=r"evaluated on different data \(fingerprints"):
        compared(a, other, samples=20)
    assert compared(a, more, samples=20)["differences"]  # one image more, the shared ones alike
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=r"was not evaluated .*: run pocketvision evaluate run=.*run"):
        compared(a, tmp_path / "run")
    with pytest.raises(ValueError, match="no does not exist"):
        compared(a, tmp_path / "no")
    with pytest.raises(ValueError, match="two or more different runs"):
        compared(a)
    with pytest.raises(ValueError, match="samples=5"):
        compared(a, more, samples=5)
    more.with_suffix(".npz").write_bytes(b"PK broken")
    with pytest.raises(ValueError, match=r"is not an evaluation: .* pocketvision evaluate again"):
        compared(a, more)


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_runs_are_evaluated_for_comparison(kind: str, tmp_path: Path) -> None:
    small = ("data.input_size=[64,64]", "data.num_train=8", "data.num_val=6", "batch_size=4", "workers=0",
             "backbone.width=0.35", "threads=1", "device=cpu")  # fmt: skip
    train(compose(f"experiment=demo_{kind}", *small, "epochs=1", f"run_dir={tmp_path / 'run'}"))
    keys = ("bootstrap=20", f"coco_results={tmp_path / 'r.json'}") if kind == "detection" else ()
    found = evaluate(compose(f"run={tmp_path / 'run'}", "workers=0", *keys, config_name="evaluate"))
    assert found == json.loads((tmp_path / "run" / "results.json").read_text())
    again = load(tmp_path / "run" / "results.npz")
    assert again.metric.compute().items() <= found.items()
    assert again.about["step"] == 2
    assert again.about["config"]["optimizer"]["lr"] > 0  # of training, which the checkpoint's checked part leaves out
    assert again.about["params"] > 10_000
    if kind == "detection":
        entries = json.loads((tmp_path / "r.json").read_text())
        assert 0 < len(entries) <= 600
        assert "AP/low" in found
    else:
        with pytest.raises(ValueError, match=r"coco_results=x\.json is for detection, not for segmentation"):
            evaluate(compose(f"run={tmp_path / 'run'}", "coco_results=x.json", config_name="evaluate"))
        with pytest.raises(ValueError, match="backend=faster is for detection, but this run uses MeanIoU"):
            evaluate(compose(f"run={tmp_path / 'run'}", "backend=faster", config_name="evaluate"))


def test_states_come_back_as_they_were() -> None:
    assert unpack(*pack({})) == {}
    detection = {
        image: ({"boxes": np.ones((image, 4)), "labels": np.arange(image)}, {"crowd": np.zeros(2, bool)})
        for image in (3, 0, 2)
    }
    found = unpack(*pack(detection))
    assert list(found) == [3, 0, 2]
    assert found[3][0]["boxes"].shape == (3, 4)
    assert found[2][0]["labels"].tolist() == [0, 1]
    assert found[0][1]["crowd"].dtype == bool
    cells = unpack(*pack({"a": (np.array([1, 2]), np.array([5, 6])), "b": (np.array([7]), np.array([8]))}))
    assert [array.tolist() for array in cells["b"]] == [[7], [8]]


def test_segmentation_is_saved_and_loaded(tmp_path: Path) -> None:
    labels = LabelMap.from_json(
        {"num_classes": 2, "labels": [{"slot": i, "name": n, "source_id": i} for i, n in enumerate(["sky", "road"])]}
    )
    metric = MeanIoU(labels.names)
    metric.merge(
        [{"a": ImageCounts(np.array([0, 1]), np.array([5, 2])), "b": ImageCounts(np.array([4]), np.array([3]))}]
    )
    evaluation = Evaluation("segmentation", labels, metric, metric.compute(), {}, {"data": "1234", "step": 3})
    save(evaluation, evaluation.results, tmp_path / "a.npz")
    again = load(tmp_path / "a.npz")
    assert again.metric.compute() == metric.compute()
    assert again.about == {"data": "1234", "step": 3}


def test_segmentation_is_compared(tmp_path: Path) -> None:
    labels = LabelMap.from_json(
        {"num_classes": 2, "labels": [{"slot": i, "name": n, "source_id": i} for i, n in enumerate(["sky", "road"])]}
    )
    for name, wrong in (("a", 10), ("b", 1)):
        metric = MeanIoU(labels.names)
        metric.merge([{i: ImageCounts(np.array([0, 1, 4]), np.array([50 + i, wrong, 30 - i])) for i in range(10)}])
        (tmp_path / f"{name}.json").write_text("{}")
        about = {"data": "1234"}
        evaluation = Evaluation("segmentation", labels, metric, metric.compute(), {}, about)
        save(evaluation, evaluation.results, tmp_path / f"{name}.npz")
    (found,) = compared(tmp_path / "a.json", tmp_path / "b.json", samples=50)["differences"].values()
    assert found["mIoU"]["real"]
    assert found["mIoU"]["low"] > 0


def test_many_classes_stay_readable() -> None:
    metric = CocoMetric({slot: f"class {slot}" for slot in range(1, 81)})
    box = np.array([[0.0, 0, 10, 10]])
    for slot in range(1, 80):
        truth = {"boxes_xywh": box, "labels": np.array([slot]), "area": np.array([100.0]), "crowd": np.array([False])}
        found = {"boxes_xywh": box + slot / 20, "labels": np.array([slot]), "scores": np.array([0.5])}
        metric.add(slot, found, truth)
    rows = class_table(analyse(metric), {})
    assert len(rows) == 33
    assert "(49 more classes: see the results file)" in rows[16]
    assert rows[-1] == "  classes without annotations: 1"
    assert max(map(len, rows)) < 80


def test_intervals() -> None:
    assert interval(np.array([])) == (-1, -1)
    assert interval(np.array([-1, np.nan])) == (-1, -1)
    assert interval(np.array([-1, *np.linspace(0, 1, 1001)])) == pytest.approx((0.025, 0.975))
