"""evaluate's files and words, others' predictions, and which differences between two are real."""

import errno
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.datasets.labels import segmentation_labels
from pocketvision.detection.analysis import analyse
from pocketvision.detection.metric import CocoMetric
from pocketvision.segmentation.metric import ImageCounts, MeanIoU
from pocketvision.tools.compare import compare_runs
from pocketvision.tools.comparing.evaluations import lines
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.evaluating.scores import Evaluation, class_table, interval, load, publish, save
from pocketvision.tools.evaluating.states import pack, unpack
from pocketvision.tools.runs.keys import flat_json

CLASS_KEYS = ("AP50", "AR", "threshold", "F1")
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


def score(files: Path, name: str | Path, *, truth: str = "truth", **keys: Any) -> dict[str, float]:
    paths = (f"predictions={files / name}.json", f"annotations={files / truth}.json")
    return evaluate(compose(*paths, *(f"{key}={value}" for key, value in keys.items()), config_name="evaluate"))


def compared(*paths: Any, **keys: Any) -> dict[str, Any]:
    config = compose(*(f"{key}={value}" for key, value in keys.items()), config_name="compare")
    config.runs = [str(path) for path in paths]
    return compare_runs(config)


def test_predictions_of_any_tool(files: Path, tmp_path: Path) -> None:
    output, again = tmp_path / "a.json", tmp_path / "again"
    found = score(files, "sharp", output=output, bootstrap=30, coco_results=f"{again}.json")
    assert found == json.loads(output.read_text())
    assert 0.5 < found["AP/low"] < found["AP"] < found["AP/high"] < 1
    newt = {key: value for key, value in found.items() if "/newt" in key}
    assert newt == dict.fromkeys(["AP/newt", "AP/newt/low", "AP/newt/high", *(f"{k}/newt" for k in CLASS_KEYS)])
    assert {"AR/cat", "F1/dog", "AP50/high", "AP/cat/low", "lost/missed"} <= found.keys()
    entries = json.loads(again.with_suffix(".json").read_text())
    assert len(entries) == len(json.loads((files / "sharp.json").read_text()))
    assert score(files, again, output=tmp_path / "b.json").items() <= found.items()


FILES = {"predictions": "sharp.json", "annotations": "truth.json"}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"predictions": "x.json"}, r"needs annotations=FILE"),
        ({"predictions": "x.png", "annotations": "y.json"}, r"is for a JSON of detections"),
        ({"annotations": "y.json"}, "needs predictions=FILE"),
        ({**FILES, "run": "runs/a"}, "drop run="),
        ({**FILES, "annotations": "no.json"}, r"annotation file not found: no\.json"),
        ({**FILES, "bootstrap": -1}, "bootstrap=-1: expected 0"),
        ({**FILES, "bootstrap": 2}, "bootstrap=2: expected 0"),
        ({**FILES, "protocol": "sliding"}, "is scored directly"),
        ({**FILES, "output": "sharp.json"}, "predictions and output are the same file"),
        ({**FILES, "output": "a", "coco_results": "a"}, "coco_results and output are the same file"),
        ({**FILES, "output": "a.npz"}, "ends in .json"),
        ({**FILES, "coco_results": "."}, "is a folder"),
    ],
)
def test_keys_that_do_not_go_together(
    keys: dict[str, Any], told: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    before = (files / "sharp.json").read_bytes()
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        evaluate(compose(*(f"{key}={value}" for key, value in keys.items()), config_name="evaluate"))
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
    assert compared(a, more, samples=20)["differences"]  # one image more, the shared ones alike
    (tmp_path / "run").mkdir()
    for paths, told in (
        ((a, other), r"evaluated on different data \(fingerprints"),
        ((a, tmp_path / "run"), r"was not evaluated .*: run pocketvision evaluate run=.*run. Runs for classification"),
        ((a, tmp_path / "no"), "no does not exist"),
        ((a,), "two or more different runs"),
        ((a, f"{tmp_path}/../{tmp_path.name}/a.json"), "two or more different"),
    ):
        with pytest.raises(ValueError, match=told):
            compared(*paths)
    with pytest.raises(ValueError, match="samples=5"):
        compared(a, more, samples=5)


def test_a_damaged_evaluation_is_told(files: Path, tmp_path: Path) -> None:
    score(files, "blunt", output=tmp_path / "a.json")
    whole = (tmp_path / "a.npz").read_bytes()
    flipped = (whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :] for i in range(60, 300, 8))
    for content in (b"PK broken", *flipped):  # zlib and zipfile have several exceptions for these
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"is not an evaluation: .* pocketvision evaluate again"):
            load(tmp_path / "a.npz")


def _repacked(path: Path, changes: dict[str, Any]) -> None:
    """The file with other arrays; `header` is a function that changes its JSON."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    changes.pop("header", lambda _: None)(header)
    arrays |= {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **changes}
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"#0.scores|values": None},
        {"#0.scores|values": np.zeros(3)},
        {"#0.scores|values": np.array(["a"] * 30)},
        {"#0.scores|starts": np.zeros(2, int)},
        {"#0.boxes_xywh|values": np.zeros((30, 3))},
        {"#1.labels|values": np.full(60, 999)},
        {"#1.crowd|starts": -np.arange(41)},
        {"#1.labels|starts": None},
        {"more": np.zeros(3)},
        {"header": lambda header: header["about"].pop("data")},
        {"header": lambda header: header["about"].update(data=3)},
        {"header": lambda header: header["about"].update(step="7")},
        {"header": lambda header: header["about"].update(config=[1])},
        {"header": lambda header: header["results"].update(AP="high")},
        {"header": lambda header: header.update(results=None)},
        {"header": lambda header: header.update(kind="other")},
        {"header": lambda header: header.update(kind="segmentation")},
        {"header": lambda header: header.update(images=[[1]] * 40)},
        {"header": lambda header: header.update(images=header["images"][:-1])},
        {"header": lambda header: header["images"].__setitem__(0, header["images"][1])},
        {"header": lambda header: header["arguments"].update(other=1)},
        {"header": lambda header: header["labels"].update(num_classes=1)},
        {"header": lambda header: header["labels"].update(labels=header["labels"]["labels"] * 2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_evaluation_of_another_kind_is_told(changes: dict[str, Any], files: Path, tmp_path: Path) -> None:
    score(files, "blunt", output=tmp_path / "a.json")
    _repacked(tmp_path / "a.npz", dict(changes))
    with pytest.raises(ValueError, match=r"a\.npz is not an evaluation: .* pocketvision evaluate again"):
        load(tmp_path / "a.npz")


def test_an_evaluation_is_unpacked_in_bounded_memory(tmp_path: Path) -> None:
    """Zeros shrink to a thousandth; a header may claim any size, and be any text."""
    np.savez_compressed(tmp_path / "zeros.npz", header=np.zeros(2 << 26, np.uint8))
    for name, head in (("claim", b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }\n"),
                       ("text", b"{'descr': '\n"), ("number", b"7\n")):  # fmt: skip
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            archive.writestr("header.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    tracemalloc.start()
    for path in tmp_path.glob("*.npz"):
        with pytest.raises(ValueError, match="is not an evaluation"):
            load(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_a_full_disk_keeps_the_last_evaluation(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of its files, which always belong together."""
    score(files, "blunt", output=tmp_path / "a.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space") as found:
        score(files, "sharp", output=tmp_path / "a.json")
    assert found.value.filename == str(tmp_path / "a.npz")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_runs_are_evaluated_for_comparison(kind: str, copied_run: Callable[[str], Path], tmp_path: Path) -> None:
    run = copied_run(kind)
    report = ("report=true", "report_images=0")
    keys = ("bootstrap=20", f"coco_results={tmp_path / 'r.json'}", *report) if kind == "detection" else ()
    found = evaluate(compose(f"run={run}", "workers=0", *keys, config_name="evaluate"))
    assert found == json.loads((run / "results.json").read_text())
    again = load(run / "results.npz")
    assert again.metric.compute().items() <= found.items()
    assert again.about["step"] > 0
    assert again.about["config"]["optimizer"]["lr"] > 0  # of training, which the checkpoint's checked part leaves out
    assert again.about["params"] > 10_000
    if kind == "detection":
        told = json.loads((run / "report/summary.json").read_text())["config"]
        assert told.keys() == flat_json(again.about["config"]).keys()  # a page shows what `compare` compares
        assert 0 < len(json.loads((tmp_path / "r.json").read_text())) <= 600
        assert "AP/low" in found
        return
    for key, told in (
        ("coco_results=x.json", r"coco_results=x\.json is for detection, not for segmentation"),
        ("backend=faster", "backend=faster is for detection, but this run uses MeanIoU"),
    ):
        with pytest.raises(ValueError, match=told):
            evaluate(compose(f"run={run}", key, config_name="evaluate"))


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


def test_segmentation_is_saved_loaded_and_compared(tmp_path: Path) -> None:
    labels = segmentation_labels(["sky", "road"])
    for name, wrong in (("a", 10), ("b", 1)):
        metric = MeanIoU(labels.names)
        metric.merge([{i: ImageCounts(np.array([0, 1, 4]), np.array([50 + i, wrong, 30 - i])) for i in range(10)}])
        about = {"data": "1234", "step": 3}
        evaluation = Evaluation("segmentation", labels, metric, metric.compute(), {}, about)
        (tmp_path / f"{name}.json").write_text("{}")
        save(evaluation, evaluation.results, tmp_path / f"{name}.npz")
        again = load(tmp_path / f"{name}.npz")
        assert (again.metric.compute(), again.about) == (metric.compute(), about)
    (found,) = compared(tmp_path / "a.json", tmp_path / "b.json", samples=50)["differences"].values()
    assert found["mIoU"]["real"]
    assert found["mIoU"]["low"] > 0


def test_a_class_without_truth_is_absent(tmp_path: Path) -> None:
    """Unless it is predicted, which counts as 0; also in a file of an earlier version."""
    labels = segmentation_labels(["sky", "road", "sea"])
    metric = MeanIoU(labels.names)
    metric.merge([{i: ImageCounts(np.array([0, 1]), np.array([50 + i, 10])) for i in range(10)}])
    found = metric.compute()
    assert (found["IoU/road"], found["IoU/sky"], found["mIoU"]) == (0, 545 / 645, 545 / 645 / 2)
    assert found["IoU/sea"] is None
    evaluation = Evaluation("segmentation", labels, metric, found, {}, {"data": "1234"})
    written = publish(evaluation, tmp_path / "a.json", bootstrap=20)
    assert (written["IoU/sea/low"], written["IoU/sea/high"]) == (None, None)
    assert 0 < written["mIoU/low"] < written["mIoU/high"] < 0.5
    save(evaluation, {**written, "IoU/sea": -1.0}, tmp_path / "b.npz")
    (tmp_path / "b.json").write_text("{}")
    assert load(tmp_path / "b.npz").results["IoU/sea"] is None
    (differences,) = compared(tmp_path / "a.json", tmp_path / "b.json", samples=20)["differences"].values()
    assert (differences["IoU/sea"]["difference"], differences["IoU/sky"]["difference"]) == (None, 0)


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
    assert rows[-1] == "  classes without annotations: 1 (class 80)"
    assert max(map(len, rows)) < 80


def test_intervals() -> None:
    assert interval(np.array([])) == (None, None)
    assert interval(np.array([np.nan])) == (None, None)
    assert interval(np.array([np.nan, *np.linspace(0, 1, 1001)])) == pytest.approx((0.025, 0.975))
