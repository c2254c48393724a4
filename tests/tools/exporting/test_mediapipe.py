"""Files for MediaPipe Tasks: their outputs there and back, their metadata, and what MediaPipe itself finds."""

import json
import os
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.detection.boxes import decode
from pocketvision.detection.postprocess import Postprocess
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import check_partitions, export
from pocketvision.tools.exporting.mediapipe import labels, mediapipe_outputs, model_metadata
from pocketvision.tools.exporting.tflite_metadata import METADATA, packed
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.predicting.mediapipe import as_raw
from pocketvision.tools.runs.loaded import load_run
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

PYTHON = os.environ.get("POCKETVISION_MEDIAPIPE_PYTHON")
SIZE = (64, 64)


class Fixed(nn.Module):
    """A network of the same outputs for all images."""

    def __init__(self, outputs: dict[str, Any]) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor) -> dict[str, Any]:
        return self.outputs


@pytest.mark.parametrize("post", [Postprocess.reference(), Postprocess.torchvision()], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("shift", [-60.0, 0.0], ids=["nothing found", "boxes"])
def test_boxes_come_back(shift: float, post: Postprocess) -> None:
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand((50, 2), generator=rng) * 40
    raw = {
        "class_logits": torch.randn((1, 50, 4), generator=rng) * 2 + torch.tensor([0, shift, shift, shift]),
        "box_deltas": torch.randn((1, 50, 4), generator=rng) * 9,  # some beyond the limit of sizes
        "anchors": torch.cat((corners, corners + 20), dim=1),
    }
    found = mediapipe_outputs(Fixed(raw), post)(torch.zeros((1, 3, *SIZE)))
    assert {name: value.shape[1:] for name, value in found.items()} == {"location": (50, 4), "score": (50, 3)}
    back = as_raw(found, softmax=post.activation == "softmax") | {"anchors": raw["anchors"]}
    metas = [{"original_size": SIZE, "input_size": SIZE}]
    (expected,), (actual,) = post(raw, metas), post(back, metas)
    assert (len(expected) == 0) == (shift < 0)
    assert actual.labels.tolist() == expected.labels.tolist()
    torch.testing.assert_close(actual.scores, expected.scores)
    torch.testing.assert_close(actual.boxes, expected.boxes)


@pytest.mark.parametrize("align_corners", [True, False])
def test_masks_come_back(align_corners: bool) -> None:
    post = LabelMaps(align_corners=align_corners, void=True)
    raw = {"logits": torch.randn((1, 5, 4, 6), generator=torch.Generator().manual_seed(1)), "logits_size": (33, 49)}
    found = mediapipe_outputs(Fixed(raw), post)(torch.zeros((1, 3, 30, 48)))
    assert found["segmentation_masks"].shape == (1, 30, 48, 5)
    metas = [{"original_size": (60, 80), "input_size": (30, 48)}]
    (expected,), (actual,) = post(raw, metas), post(as_raw(found, softmax=False) | {"logits_size": (30, 48)}, metas)
    assert (actual == expected).float().mean() > 0.999


REFUSED = {
    "another format": ("detection", {"format": "onnx"}, "outputs=mediapipe: expected final or raw with format=onnx"),
    "a classifier": (
        "classification", {}, "outputs=mediapipe: expected a run of detection or segmentation, not classification"
    ),
    "a resize inside": (
        "detection", {"input": "photo", "input_size": [50, 70]}, "expected input=network or float and batch=1"
    ),
    "a batch": ("segmentation", {"batch": 2}, "batch=1, not input=network batch=2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_the_work(name: str, trained_run: Callable[[str], Path]) -> None:
    kind, keys, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make_interface(load_run(trained_run(kind)), **{"format": "litert", "outputs": "mediapipe", **keys})


def test_a_network_in_many_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="falls into 3 parts of XNNPACK"):
        check_partitions({"partitions": 3}, compose("format=litert", "outputs=mediapipe", config_name="export"))


ABOUT = {
    "pocketvision": "1.2", "task": "detection", "precision": "fp32", "step": 7, "network_size": [100, 200],
    "input": {"dtype": "uint8", "channels": "RGB, 0 to 255"},
    "classes": {"1": "cat", "3": "dog"}, "postprocess": {"activation": "sigmoid"}, "anchors": [[20, 10, 60, 30]],
    "outputs": {
        "location": {"shape": [1, 1, 4], "meaning": "deltas"}, "score": {"shape": [1, 1, 3], "meaning": "logits"}
    },
}  # fmt: skip


def test_labels_stand_in_the_order_of_the_scores() -> None:
    assert labels(ABOUT) == "cat\n???\ndog"  # no background, and a number without a class
    masks = {"segmentation_masks": {"shape": [1, 8, 8, 3]}}
    about = {**ABOUT, "task": "segmentation", "classes": {"0": "sky", "1": "road"}, "outputs": masks}
    assert labels(about) == "sky\nroad\nvoid"


class Read:
    """A FlatBuffers table, read by its fields' numbers."""

    def __init__(self, buffer: bytes, position: int | None = None) -> None:
        self.buffer = buffer
        self.position = struct.unpack_from("<I", buffer)[0] if position is None else position

    def at(self, slot: int) -> int:
        """Where the field is; 0 if it is absent."""
        table = self.position - struct.unpack_from("<i", self.buffer, self.position)[0]
        (size,) = struct.unpack_from("<H", self.buffer, table)
        field = struct.unpack_from("<H", self.buffer, table + 4 + 2 * slot)[0] if 4 + 2 * slot < size else 0
        return field and self.position + field

    def number(self, slot: int, kind: str) -> Any:
        return struct.unpack_from(f"<{kind}", self.buffer, self.at(slot))[0] if self.at(slot) else 0

    def _target(self, where: int) -> int:
        return where + struct.unpack_from("<I", self.buffer, where)[0]

    def table(self, slot: int) -> "Read":
        return Read(self.buffer, self._target(self.at(slot)))

    def data(self, slot: int, kind: str = "B") -> bytes:
        """A text, or an array of numbers."""
        start = self._target(self.at(slot))
        size = struct.unpack_from("<I", self.buffer, start)[0] * struct.calcsize(kind)
        return self.buffer[start + 4 : start + 4 + size]

    def tables(self, slot: int) -> list["Read"]:
        start = self._target(self.at(slot))
        (count,) = struct.unpack_from("<I", self.buffer, start)
        return [Read(self.buffer, self._target(start + 4 + 4 * i)) for i in range(count)]


@pytest.mark.parametrize(("dtype", "std"), [("uint8", 1), ("float32", 255)])
def test_a_detectors_metadata(dtype: str, std: int) -> None:
    """By the numbers of the schemas' fields."""
    pytest.importorskip("flatbuffers", reason="needs pip install 'pocketvision[litert]'")
    about = {**ABOUT, "input": {"dtype": dtype, "channels": "RGB"}}
    buffer = packed(model_metadata(about, ["score", "location"]), METADATA)
    assert buffer[4:8] == METADATA
    model = Read(buffer)
    assert (model.data(0), model.data(2), model.data(7)) == (b"ObjectDetector", b"pocketvision 1.2", b"1.5.0")
    (graph,) = model.tables(3)
    (image,) = graph.tables(2)
    score, location = graph.tables(3)
    assert (image.table(3).number(0, "B"), image.table(3).table(1).number(0, "b")) == (2, 1)  # an image, in RGB
    (unit,) = image.tables(4)
    assert [unit.table(1).data(i, "f") for i in (0, 1)] == [struct.pack("<f", 0), struct.pack("<f", std)]
    assert (score.data(0), location.data(0)) == (b"score", b"location")
    (file,) = score.tables(6)
    assert (file.data(0), file.number(2, "b")) == (b"labels.txt", 2)
    assert (location.table(3).number(0, "B"), location.table(3).table(1).number(1, "b")) == (3, 1)
    (custom,) = graph.tables(9)
    assert custom.data(0) == b"DETECTOR_METADATA"
    options = Read(custom.data(1))
    (anchor,) = options.table(1).table(0).tables(0)
    assert [anchor.number(i, "f") for i in range(4)] == pytest.approx([0.2, 0.2, 0.2, 0.2])
    decoding = options.table(2)
    assert [decoding.number(i, "i") for i in range(6)] == [3, 1, 4, 4, 0, 2]
    assert [decoding.number(i, "f") for i in range(6, 10)] == [10, 10, 5, 5]
    assert [decoding.number(i, "?") for i in (10, 11)] == [True, True]


@pytest.fixture(scope="module")
def exported(trained_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A file of each kind and precision."""
    pytest.importorskip("litert_torch", reason="needs pip install 'pocketvision[litert]'")
    from pocketvision.tools.exporting import litert_file

    folder, convert, known = tmp_path_factory.mktemp("mediapipe"), litert_file.convert, {}

    def once(run: Any, interface: Any) -> bytes:
        if interface not in known:
            known[interface] = convert(run, interface)
        return known[interface]

    def write(kind: str, precision: str) -> Path:
        path = folder / f"{kind}_{precision}.tflite"
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(litert_file, "convert", once)
                export(compose(
                    f"run={trained_run(kind)}", f"output={path}", "format=litert", "outputs=mediapipe", "threads=1",
                    "calibration=4", "max_drop=1.0", "num_photos=2", f"precision={precision}", config_name="export",
                ))  # fmt: skip
        return path

    return write


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8_weights"])
@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.slow
@pytest.mark.by_hand
def test_a_file_is_evaluated_as_the_run(kind: str, precision: str, exported: Callable, trained_run: Callable) -> None:
    path = exported(kind, precision)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["partitions"] <= 2
    with zipfile.ZipFile(path) as attached:  # MediaPipe refuses compressed ones
        assert {item.compress_type for item in attached.infolist()} == {zipfile.ZIP_STORED}
        assert attached.read("labels.txt").decode().split("\n") == list(about["classes"].values())
    found = evaluate(compose(f"file={path}", "threads=1", "workers=0", config_name="evaluate"))
    if precision == "fp32":
        metric = "AP" if kind == "detection" else "mIoU"
        expected = evaluate(compose(f"run={trained_run(kind)}", "workers=0", config_name="evaluate"))
        assert found[metric] == pytest.approx(expected[metric], abs=0.01)


SCRIPT = """
import json, sys
import mediapipe as mp
from mediapipe.tasks.python import BaseOptions, vision

kind, model, *photos = sys.argv[1:]
base, found = BaseOptions(model_asset_path=model), []
if kind == "detection":
    options = vision.ObjectDetectorOptions(base_options=base, score_threshold=0.05)
    task = vision.ObjectDetector.create_from_options(options)
else:
    options = vision.ImageSegmenterOptions(base_options=base, output_category_mask=True)
    task = vision.ImageSegmenter.create_from_options(options)
for photo in photos:
    image = mp.Image.create_from_file(photo)
    if kind == "detection":
        found.append([
            [box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height, c.score, c.category_name]
            for item in task.detect(image).detections for box in [item.bounding_box] for c in item.categories
        ])
    else:
        found.append(task.segment(image).category_mask.numpy_view().reshape(image.height, image.width).tolist())
task.close()
print(json.dumps(found))
"""


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", ["detection", "segmentation"])
@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.skipif(not PYTHON, reason="set POCKETVISION_MEDIAPIPE_PYTHON to an interpreter that has mediapipe")
def test_mediapipe_finds_the_same(kind: str, precision: str, exported: Callable, tmp_path: Path) -> None:
    """Photographs of the network's size: neither of the two resizes."""
    from PIL import Image

    path, scenes = exported(kind, precision), ShapesDetection(length=4, size=SIZE, seed=5)
    model, photos = load_file(path, threads=1), []
    for i in range(len(scenes)):
        photos.append(tmp_path / f"{i}.png")
        Image.fromarray(scenes.read(i).image).save(photos[-1])
    command = [str(PYTHON), "-c", SCRIPT, kind, str(path), *map(str, photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for i, theirs in enumerate(json.loads(done.stdout.splitlines()[-1])):
        array, metas = model.prepare([scenes.read(i).image])
        outputs = model.file.run(array)
        if kind == "segmentation":
            (expected,) = model.finish(outputs, metas)
            assert (torch.tensor(theirs) == expected).float().mean() >= 0.99
            continue
        names = model.file.about["classes"]
        expected = [(*box, score, names[str(label)]) for box, score, label in by_their_rule(outputs, model.anchors)]
        assert len(theirs) == len(expected)
        assert [item[5] for item in theirs] == [item[5] for item in expected]
        np.testing.assert_allclose([item[4] for item in theirs], [item[4] for item in expected], atol=0.02)
        if theirs:
            ious = box_iou(torch.tensor([i[:4] for i in theirs]).float(), torch.tensor([i[:4] for i in expected]))
            assert ious.diagonal().min() > 0.7  # theirs are cut to whole pixels


def by_their_rule(outputs: dict[str, np.ndarray], anchors: Tensor) -> list[tuple[list[float], float, int]]:
    """The best class of every anchor, and one suppression at an IoU of 0.3 for all classes."""
    raw = as_raw({name: torch.from_numpy(value) for name, value in outputs.items()}, softmax=False)
    scores, labels_ = raw["class_logits"][0, :, 1:].sigmoid().max(1)
    boxes = decode(raw["box_deltas"][0], anchors)
    passing = scores >= 0.05
    boxes, scores, labels_ = boxes[passing], scores[passing], labels_[passing] + 1
    keep = nms(boxes, scores, 0.3)
    boxes = boxes.clamp(0, SIZE[0])
    return list(zip(boxes[keep].tolist(), scores[keep].tolist(), labels_[keep].tolist(), strict=True))
