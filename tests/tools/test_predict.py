"""The predict command: what it takes, what it writes, and what it says about what cannot be read."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pocketvision
import pytest
from pocketvision.datasets.labels import detection_labels, segmentation_labels
from pocketvision.tools import predict as command
from pocketvision.tools.config.build import compose
from pocketvision.tools.predict import image_ids, keep_inputs, output_names, predict
from pocketvision.tools.predicting import outputs
from pocketvision.tools.predicting.inputs import Shot, find_images, read_shots
from pocketvision.tools.predicting.outputs import Found, JsonList, make_writers
from pocketvision.tools.predicting.result import Result

NAMES = ["IMG (1).jpg", "a,b.jpg", "a=b.jpg", "über.jpg"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        image = np.random.default_rng(i).integers(0, 256, (40 + i, 60, 3), dtype=np.uint8)
        cv2.imencode(".jpg", image)[1].tofile(folder / name)
    return folder


def test_ids_of_an_annotation_file_with_a_bom_and_backslashes(tmp_path: Path) -> None:
    text = json.dumps({"images": [{"file_name": f"day1\\{name}", "id": i} for i, name in enumerate(NAMES)]})
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
    files = [tmp_path / name for name in NAMES]
    assert image_ids(files, str(tmp_path / "a.json")) == dict(zip(files, range(4), strict=True))


def _predict(path: Path, output: Path, *keys: str) -> list[dict]:
    """Runs the command; the entries of predictions.json."""
    config = compose(f"output={output}", *keys, config_name="predict")
    config.inputs = [str(path)]
    assert predict(config) == 0
    return json.loads((output / "predictions.json").read_text())


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_photographs_with_awkward_names(kind: str, trained_run: Callable, photos: Path, tmp_path: Path) -> None:
    entries = _predict(photos, tmp_path / "out", f"run={trained_run(kind)}")
    assert {Path(entry["file"]).name for entry in entries} == set(NAMES)
    for entry in entries:
        assert (tmp_path / "out" / f"{Path(entry['file']).stem}.png").is_file()
        assert ("detections" if kind == "detection" else "classes") in entry
    if kind == "segmentation":
        mask = cv2.imread(str(tmp_path / "out" / "a,b_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (41, 60)


def test_a_broken_file_is_named_and_the_others_are_predicted(
    trained_run: Callable, photos: Path, tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 not a photograph")
    with pytest.raises(SystemExit) as stop:
        _predict(photos, tmp_path / "out", f"run={trained_run('detection')}")
    assert stop.value.code == 1
    assert "broken.jpg" in logged.text
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == len(NAMES)


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give photographs"):
        find_images([])
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg"):
        find_images(["nothing.jpg"])
    with pytest.raises(FileNotFoundError, match="no images in"):
        find_images([str(tmp_path)])
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    found = find_images([str(tmp_path)], outside=tmp_path / "out")
    assert found == [tmp_path / "loop.jpg"]  # a link to itself is named when it is read
    keep_inputs(found, {found[0]: "loop"}, tmp_path / "out")
    with pytest.raises(OSError, match=r"loop\.jpg"):
        list(read_shots(found[0]))


def test_results_of_the_same_name_do_not_overwrite_each_other() -> None:
    assert output_names([]) == {}
    names = output_names([Path("a/x.jpg"), Path("b/X.jpg"), Path("c/x.png"), Path("d/x.mp4")])
    assert sorted(names.values()) == ["X_2", "x", "x_3", "x_4"]
    # A segmenter writes x_mask.png for x.jpg.
    names = output_names([Path("x.jpg"), Path("x_mask.jpg")])
    assert sorted(names.values()) == ["x", "x_mask_2"]


def test_globs_folders_and_what_lies_outside(photos: Path, tmp_path: Path) -> None:
    (photos / "film.mp4").touch()
    (photos / "notes.txt").touch()
    (photos / "predictions").mkdir()
    (photos / "predictions" / "a.png").touch()
    everything = find_images([str(photos)], videos=True)
    assert {path.name for path in everything} == {*NAMES, "film.mp4", "a.png"}
    assert {path.name for path in find_images([str(photos)])} == {*NAMES, "a.png"}
    results = photos / "predictions"
    assert {path.name for path in find_images([str(photos)], outside=results)} == set(NAMES)
    assert [path.name for path in find_images([str(results)], outside=results)] == ["a.png"]  # asked for by name
    assert {path.name for path in find_images([str(tmp_path / "*" / "*")])} == set(NAMES) | {"a.png"}
    assert len(find_images([str(tmp_path / "**" / "*.png"), str(tmp_path), str(results / "a.png")])) == 5  # each once
    assert find_images([str(photos / "notes.txt")])  # whoever names a file means it
    with pytest.raises(FileNotFoundError, match=r"no image matches .*\*\.tif \(looked for"):
        find_images([str(photos / "*.tif")])


def test_hidden_files_are_left_out_and_said(photos: Path, logged: pytest.LogCaptureFixture) -> None:
    for name in ("._a.jpg", ".ipynb_checkpoints/a.jpg", "__MACOSX/._a.jpg", "raw.cr2", "app.ts", "cam.mts"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"export default" if name != "cam.mts" else b"\0\0\0\0G".ljust(192, b"\0") * 3)
    (photos.parent / "disk").mkdir()
    (photos.parent / "disk" / "far.JFIF").touch()
    (photos / "linked").symlink_to(photos.parent / "disk")
    (photos / "linked" / "circle").symlink_to(photos)
    found = find_images([str(photos)], videos=True)
    assert {path.name for path in found} == {*NAMES, "far.JFIF", "cam.mts"}
    assert f"left out below {photos}: 1 file with another extension (raw.cr2)" in logged.text
    assert "1 hidden file (._a.jpg); 2 hidden folders (.ipynb_checkpoints, __MACOSX)" in logged.text
    assert find_images([str(photos / "._a.jpg")])  # whoever names a file means it
    assert "a.jpg" not in {path.parent.name for path in find_images([str(photos / "**" / "*.jpg")])}


def test_image_ids(tmp_path: Path) -> None:
    assert image_ids([], None) == {}
    coco = [Path("a/000000000139.jpg"), Path("000000000285.jpg")]
    assert image_ids(coco, None) == {coco[0]: 139, coco[1]: 285}
    others = [Path("x.jpg"), Path("7.jpg")]
    assert image_ids(others, None) == {others[0]: 1, others[1]: 2}
    assert image_ids([Path("a/7.jpg"), Path("b/07.jpg")], None) == {Path("a/7.jpg"): 1, Path("b/07.jpg"): 2}
    assert image_ids([Path("7.jpg"), Path("film.mp4")], None) is None
    truth = tmp_path / "truth.json"
    rows = [("x.jpg", 30), ("a/y.jpg", 40), ("b/y.jpg", 50)]
    truth.write_text(json.dumps({"images": [{"file_name": name, "id": i} for name, i in rows]}))
    files = [Path("z/x.jpg"), Path("b/y.jpg")]
    assert image_ids(files, str(truth)) == {files[0]: 30, files[1]: 50}
    for name, message in (("q.jpg", "0 of its 3 images are named q"), ("c/y.jpg", "2 of its 3 images are named y")):
        with pytest.raises(ValueError, match=message):
            image_ids([Path(name)], str(truth))
    truth.write_text("[]")
    with pytest.raises(ValueError, match="not a COCO annotation file"):
        image_ids(files, str(truth))


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.mp4"):
        files = [tmp_path / name]
        keep_inputs(files, output_names(files), tmp_path / "out")
        with nullcontext() if name == "a.jpg" else pytest.raises(ValueError, match=f"{name} would overwrite an input"):
            keep_inputs(files, output_names(files), tmp_path)


def _result(*scores: float, image: np.ndarray | None = None) -> Result:
    """Boxes of these scores, of classes 18, 1, 18, ... by their ids."""
    labels = detection_labels([(1, "person", None), (18, "dog", None)])
    boxes = np.array([[10 * i, 5, 10 * i + 8, 25.5] for i in range(len(scores))], np.float32).reshape(-1, 4)
    slots = np.array([2 - i % 2 for i in range(len(scores))], np.int64)
    image = np.full((48, 64, 3), 90, np.uint8) if image is None else image
    return Result(image, labels, boxes=boxes, scores=np.array(scores, np.float32), labels=slots)


def _found(result: Result, *, frame: int | None = None, name: str = "a", image_id: int = 1) -> Found:
    shot = Shot(Path(f"{name}.jpg"), result.image, frame, None if frame is None else 10.0)
    return Found(shot, result, result.above(0.5), name, image_id)


def _write(folder: Path, kind: str, writes: list[str], *results: Found, all_masks: bool = False) -> None:
    for writer in make_writers(folder, kind, writes, all_masks=all_masks):
        for found in results:
            writer.write(found)
        writer.close()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_files_of_detections(count: int, tmp_path: Path) -> None:
    results = [_found(_result(0.9, 0.6, 0.2), name=f"ü{number}", image_id=7 + number) for number in range(count)]
    _write(tmp_path, "detection", ["json", "csv", "coco"], *results)
    entries = json.loads((tmp_path / "predictions.json").read_text("utf-8"))
    assert [entry["image_id"] for entry in entries] == [7, 8, 9][:count]
    assert all([row["category_id"] for row in entry["detections"]] == [18, 1] for entry in entries)
    results = json.loads((tmp_path / "coco_results.json").read_text("utf-8"))
    assert len(results) == 3 * count  # no threshold
    assert (
        results[:1]
        == [{"image_id": 7, "category_id": 18, "bbox": [0.0, 5.0, 8.0, 20.5], "score": pytest.approx(0.9)}][:count]
    )
    header, *rows = csv.reader((tmp_path / "predictions.csv").read_text("utf-8").splitlines())
    assert header == ["file", "frame", "category_id", "category", "score", "x1", "y1", "x2", "y2"]
    assert len(rows) == 2 * count
    assert rows[:1] == [["ü0.jpg", "", "18", "dog", "0.9", "0.0", "5.0", "8.0", "25.5"]][:count]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "a=1", "1"])
def test_no_cell_of_a_table_is_a_formula(start: str, tmp_path: Path) -> None:
    labels = detection_labels([(1, f"{start} dog", None)])
    boxes, slots = np.array([[-5, 5, 8, 9]], np.float32), np.array([1])
    result = Result(np.zeros((8, 8, 3), np.uint8), labels, boxes=boxes, scores=np.ones(1, np.float32), labels=slots)
    _write(tmp_path, "detection", ["csv"], _found(result, name=start))
    with (tmp_path / "predictions.csv").open(newline="") as file:
        _, row = csv.reader(file)
    sign = "" if start[0] in "a1" else "'"
    assert (row[0], row[3], float(row[5])) == (f"{sign}{start}.jpg", f"{sign}{start} dog", -5)


def test_two_predictions_into_one_folder(tmp_path: Path) -> None:
    """Each has temporary files of its own; what a killed one left is removed."""
    writers = make_writers(tmp_path, "detection", ["json", "csv"], all_masks=False)
    (left,) = tmp_path.glob(".*.json")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for number in (process.pid, os.getppid()):
        (tmp_path / left.name.replace(str(os.getpid()), str(number))).write_text("half")
    for writer in writers:
        writer.close()
    _write(tmp_path, "detection", ["json"], _found(_result(0.9)))
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    assert [path.name for path in tmp_path.glob(".*")] == [left.name.replace(str(os.getpid()), str(os.getppid()))]


def test_coco_results_are_scored_by_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = {
        "images": [{"id": 7, "width": 64, "height": 48}], "categories": [{"id": 1}, {"id": 18}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [0, 5, 8, 20], "area": 160, "iscrowd": 0}],
    }  # fmt: skip
    truth.createIndex()
    _write(tmp_path, "detection", ["coco"], _found(_result(0.9, 0.2), image_id=7))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "coco_results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[1] == pytest.approx(1)


def test_files_of_masks(tmp_path: Path) -> None:
    labels = segmentation_labels(["sky", "road", "void", "car"], ignore_ids=[2])  # car: slot 2, number 3
    mask = np.array([[0, 0], [2, 255]], np.uint8)
    result = Result(np.full((2, 2, 3), 90, np.uint8), labels, mask=mask)
    writes = ["json", "csv", "masks", "colors"]
    for all_masks in (False, True):
        both = _found(result), _found(result, name="film", frame=4)
        _write(tmp_path, "segmentation", writes, *both, all_masks=all_masks)
        assert (tmp_path / "film_masks" / "000004.png").is_file() == all_masks
    assert cv2.imread(str(tmp_path / "a_mask.png"), cv2.IMREAD_UNCHANGED).tolist() == [[0, 0], [3, 255]]
    colors = cv2.imread(str(tmp_path / "a_color.png"))
    assert (colors[1, 1] == 0).all()
    assert (colors[0, 0] == colors[0, 1]).all()
    assert len(np.unique(colors.reshape(-1, 3), axis=0)) == 3
    _, *rows = csv.reader((tmp_path / "predictions.csv").read_text().splitlines())
    assert rows[:3] == [
        ["a.jpg", "", "0", "sky", "2", "0.5"], ["a.jpg", "", "3", "car", "1", "0.25"],
        ["a.jpg", "", "255", "ignored", "1", "0.25"],
    ]  # fmt: skip
    assert rows[3][1] == "4"
    assert [entry.get("frame") for entry in json.loads((tmp_path / "predictions.json").read_text())] == [None, 4]


def test_an_earlier_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text("[1]")
    writer = JsonList(path, lambda found: [{}])
    writer.write(_found(_result()))
    assert path.read_text() == "[1]"
    writer.close()
    assert json.loads(path.read_text()) == [{}]


def _film(path: Path, frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size[::-1])
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write videos")
    for number in range(frames):
        writer.write(np.full((*size, 3), 20 + 10 * (number % 20), np.uint8))
    writer.release()
    return path


def _frames(path: Path) -> list[np.ndarray]:
    return [shot.image for shot in read_shots(path)]


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_a_video_becomes_a_video(kind: str, trained_run: Callable, tmp_path: Path) -> None:
    film, output = _film(tmp_path / "film.avi", 5), tmp_path / "out"
    entries = _predict(film, output, f"run={trained_run(kind)}", "batch_size=2")
    assert [(entry["frame"], entry["image_id"]) for entry in entries] == [(i, i + 1) for i in range(5)]
    (drawn,) = [path for path in output.iterdir() if path.stem == "film"]
    capture = cv2.VideoCapture(str(drawn))
    assert [capture.get(i) for i in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)] == [64, 48]
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert len(_frames(drawn)) == 5


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (9, [0])])
def test_every_nth_frame(every: int, expected: list[int], tmp_path: Path) -> None:
    shots = list(read_shots(_film(tmp_path / "film.avi", 5), every=every))
    assert [shot.frame for shot in shots] == expected
    assert [round((shot.image.mean() - 20) / 10) for shot in shots] == expected
    assert [shot.rate for shot in shots] == pytest.approx([10 / every] * len(shots))


def test_an_odd_video_loses_a_row_and_a_changing_one_is_resized(tmp_path: Path) -> None:
    video = outputs.VideoFile(tmp_path / "odd", (49, 65), rate=10)
    for size in ((49, 65), (20, 30), (80, 90)):
        video.write(np.full((*size, 3), 90, np.uint8))
    video.close()
    (path,) = tmp_path.glob("odd.*")
    assert [frame.shape for frame in _frames(path)] == [(48, 64, 3)] * 3
    with pytest.raises(OSError, match="too small for a video"):
        outputs.VideoFile(tmp_path / "thin", (1, 64), rate=10)


def test_where_opencv_writes_no_mp4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "_CODECS", ((".mp4", "zzzz"), (".avi", "MJPG")))
    outputs.VideoFile(tmp_path / "a", (48, 64), rate=10).close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.avi"]
    monkeypatch.setattr(outputs, "_CODECS", ((".mp4", "zzzz"),))
    with pytest.raises(OSError, match=r"cannot write video \(zzzz\)"):
        outputs.VideoFile(tmp_path / "b", (48, 64), rate=10)


def test_videos_that_are_none(tmp_path: Path) -> None:
    whole = _film(tmp_path / "whole.avi", 40).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    for name, message in (("empty.mp4", "is empty"), ("text.mp4", "cannot be opened as a video")):
        with pytest.raises(ValueError, match=rf"{name} {message}"):
            list(read_shots(tmp_path / name))
    seen: list[Shot] = []
    with pytest.raises(ValueError, match=r"cut\.avi ends early: \d+ of 40 frames"):
        seen.extend(read_shots(tmp_path / "cut.avi"))
    assert 5 < len(seen) < 40  # what there is, is read
    _film(tmp_path / "none.avi", 0)
    with pytest.raises(ValueError, match=r"none\.avi (cannot be opened|contains no readable frame)"):
        list(read_shots(tmp_path / "none.avi"))


class _Model:
    """Stands in for a detector; `stream` looks at how many images anybody still holds."""

    class task:  # noqa: N801
        kind = "detection"

    labels = _result().label_map

    def __init__(self, alive: Callable[[], int]) -> None:
        self.alive, self.most = alive, 0

    def stream(self, images: Iterator[np.ndarray], *, batch_size: int) -> Iterator[Result]:
        for image in images:
            self.most = max(self.most, self.alive())
            yield _result(0.9, 0.4, image=image)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Model]:
    """Makes `predict` read made-up frames, and count those that are alive."""

    class Frame(np.ndarray):
        alive = 0

        def __del__(self) -> None:
            Frame.alive -= 1

    def film(count: int, stop: int | None = None) -> _Model:
        def read(path: Path, *, every: int) -> Iterator[Shot]:
            for number in range(count):
                if number == stop:
                    raise KeyboardInterrupt
                Frame.alive += 1
                yield Shot(path, np.zeros((48, 64, 3), np.uint8).view(Frame), number, 10.0)

        Frame.alive = 0
        model = _Model(lambda: Frame.alive)
        monkeypatch.setattr(command, "read_shots", read)
        monkeypatch.setattr(command, "_model", lambda *_: model)
        return model

    return film


def _predict_film(tmp_path: Path, *keys: str) -> list[dict]:
    (tmp_path / "film.mp4").touch()
    return _predict(tmp_path / "film.mp4", tmp_path / "out", "batch_size=4", *keys)


def test_a_long_video_holds_no_more_than_a_batch(endless: Callable[..., _Model], tmp_path: Path) -> None:
    most = []
    for count in (50, 500):
        model = endless(count)
        assert len(_predict_film(tmp_path, "write=[json,csv,coco]")) == count
        most.append(model.most)
    assert 4 <= most[0] == most[1] <= 9


def test_an_interruption_leaves_valid_files(endless: Callable[..., _Model], tmp_path: Path) -> None:
    endless(50, stop=21)
    with pytest.raises(KeyboardInterrupt):
        _predict_film(tmp_path, "write=[pictures,json,csv,coco]")
    output = tmp_path / "out"
    assert len(json.loads((output / "predictions.json").read_text())) == 20  # whole batches
    assert len(json.loads((output / "coco_results.json").read_text())) == 40
    (drawn,) = [path for path in output.iterdir() if path.stem == "film"]
    assert len(_frames(drawn)) == 20
    assert not list(output.glob("*part*"))


def test_class_filter(endless: Callable[..., _Model], tmp_path: Path) -> None:
    endless(1)
    for classes, expected in (("[person]", []), ("dog", [18]), ("[dog,person]", [18])):
        (entry,) = _predict_film(tmp_path, "write=json", f"classes={classes}")
        assert [row["category_id"] for row in entry["detections"]] == expected
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.json"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("batch_size=0", "batch_size=0: expected 1 or more"),
        ("every=0", "every=0: expected 1"),
        ("score_threshold=1.5", "score_threshold=1.5: expected a number from 0 to 1"),
        ("write=[masks]", r"write=\[masks\]: for detection, choose from pictures, json, csv, coco"),
        ("write=[]", r"write=\[\]: "),
        ("classes=[Dog,persn]", "no class is named 'Dog', 'persn'; did you mean dog, person"),
        ("classes=[zebra]", "no class is named 'zebra'; choose from dog, person"),
    ],
)
def test_keys_that_cannot_be(key: str, message: str, endless: Callable[..., _Model], tmp_path: Path) -> None:
    endless(1)
    with pytest.raises(ValueError, match=message):
        _predict_film(tmp_path, key)


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pocketvision.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not trained yet"):
        pocketvision.load(tmp_path)
