"""The benchmark: what it says, compares and refuses. Nothing here asserts how long anything takes."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pocketvision.conf.schema import BenchmarkConfig
from pocketvision.datasets.images.decode import decode_bytes
from pocketvision.detection.results import Detections
from pocketvision.segmentation.postprocess import LabelMaps
from pocketvision.tools.benchmark import benchmark, check
from pocketvision.tools.benchmarking import agreement, memory, pictures, results, timing
from pocketvision.tools.benchmarking.case import agree, share_computed, specs_of
from pocketvision.tools.benchmarking.subject import Setup, Subject
from pocketvision.tools.benchmarking.variant import Spec, Variant
from pocketvision.tools.benchmarking.variants import make_variant
from pocketvision.tools.config.build import compose
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.export import export
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.system import machine
from torchvision.transforms._presets import SemanticSegmentation

QUICK = ("rounds=2", "repeats=2", "warmup=0", "memory=false", "threads=1", "device=cpu")
DETECTOR = ("model=ssdlite_torchvision", "data.num_classes=3", "data.slots=contiguous", "data.labels=null",
            "data.input_size=[96,96]", "photo_size=[60,80]")  # fmt: skip
SEGMENTER = ("model=lraspp_torchvision", "data.resize=none", "data.eval_size=null", "photo_size=[64,96]",
             "data.input_size=[64,64]")  # fmt: skip
PEER, V3 = "peer=torchvision", "backbone=mobilenet_v3_large"
KINDS = {"detection": DETECTOR, "segmentation": SEGMENTER}


def composed(*keys: str) -> Any:
    return compose(*QUICK, *keys, config_name="benchmark")


@pytest.fixture
def run(trained_run: Callable[[str], Path], traced_once: None) -> Path:
    """Trained: scores that all lie together would change places by rounding."""
    return trained_run("detection")


# ---- statistics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "low", "median", "high"),
    [
        ([3.0], 3, 3, 3),
        ([1.0, 2.0], 1.25, 1.5, 1.75),
        ([5.0, 1.0, 2.0, 4.0, 3.0], 2, 3, 4),
        ([1.0] * 4 + [99.0], 1, 1, 1),
    ],
)
def test_quartiles(values: list[float], low: float, median: float, high: float) -> None:
    assert timing.Spread.of(values) == timing.Spread(median, low, high)


def test_ratios_are_of_medians() -> None:
    times = {"a": timing.Times([2.0, 4.0, 90.0]), "b": timing.Times([1.0, 2.0, 3.0])}
    assert timing.ratios(times, "a") == {"a": 1.0, "b": 2.0}


def test_bursts_take_turns_and_only_repeats_are_timed() -> None:
    calls: list[str] = []

    def variant(name: str) -> Variant:
        def stage(value: Any) -> Any:
            calls.append(name)
            return value

        return Variant(Spec("file", file=f"x.{name}"), "detection", {"one": stage, "two": lambda value: value}, 0, list)

    variants = [variant("onnx"), variant("xml")]
    found = timing.measure(variants, device=torch.device("cpu"), warmup=1, rounds=2, repeats=3, pause=0)
    assert calls == ["onnx", "xml", *["onnx"] * 4, *["xml"] * 4, *["xml"] * 4, *["onnx"] * 4]
    assert [len(times.whole) for times in found.values()] == [6, 6]
    assert [list(map(len, times.stages.values())) for times in found.values()] == [[6, 6], [6, 6]]


def test_a_single_call_is_timed_in_place_of_the_stages() -> None:
    stages = {"one": lambda value: value}
    slow = Variant(Spec("torchvision"), "detection", stages, 0, list, whole=lambda value: time.sleep(0.01))
    times = timing.measure([slow], device=torch.device("cpu"), warmup=0, rounds=1, repeats=1, pause=0)["torchvision"]
    assert times.whole[0] >= 0.01 > times.stages["one"][0]


@pytest.mark.parametrize(
    ("siblings", "quota", "cores"),
    [
        (["0", "1"], "max 100000", 2),
        (["0,2", "1,3", "0,2", "1,3"], "max 100000", 2),  # two threads a core
        (["0", "1", "2", "3"], "150000 100000", 2),  # one and a half
        ([], None, 3),  # the system does not tell
    ],
)
def test_physical_cores(
    siblings: list[str], quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, text in enumerate(siblings):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(text + "\n")
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(len(siblings) or 3)), raising=False)
    assert machine.physical_cores() == cores


def test_the_peak_counts_multiply_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 1.0, 3.0, 9.0])
    monkeypatch.setattr(machine, "_SIDES", (10,))
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert machine.peak_madds(torch.float32, torch.device("cpu"), seconds=5.0) == 10**3 / 2


# ---- agreement -------------------------------------------------------------------------------------------


def detections(*rows: tuple[float, ...]) -> Detections:
    table = torch.tensor(rows).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


BOX = (10.0, 10.0, 50.0, 50.0, 0.9, 1.0)
RIM = (20.0, 0.0, 20.0, 60.0, 0.8, 1.0)  # without area


@pytest.mark.parametrize(
    ("kind", "expected", "found", "value"),
    [
        ("detection", [detections()], [detections()], 0.0),
        ("detection", [detections(BOX)], [detections()], 1.0),
        ("detection", [detections(BOX, RIM)], [detections(BOX, RIM)], 0.0),
        ("detection", [detections(BOX, RIM)], [detections(BOX, (*RIM[:4], 0.7, 1.0))], 0.5),  # as sure it is not
        ("detection", [detections(BOX, RIM)], [detections(BOX, (*RIM[:4], 0.8, 2.0))], 0.5),
        ("detection", [detections(BOX)], [detections((10.0, 10.0, 50.0, 55.0, 0.9, 1.0))], 1.0),
        ("detection", [detections(BOX), detections()], [detections(BOX)], 1.0),  # an image is lacking
        ("segmentation", [torch.zeros(2, 4)], [torch.eye(2, 4)], 0.25),
        ("segmentation", [torch.zeros(2, 4)], [torch.zeros(4, 2)], 1.0),
        ("training", [2.0], [2.5], 0.25),
    ],
)
def test_agreement(kind: str, expected: list[Any], found: list[Any], value: float) -> None:
    result = agreement.compare(kind, expected, found, precision="fp32")
    assert result.value == pytest.approx(value)
    assert result.holds is (value == 0)


def test_half_precision_on_random_weights_is_told_and_not_judged_but_never_nan() -> None:
    for trained in (True, False):
        result = agreement.compare("training", [1.0], [2.0], precision="bf16", trained=trained)
        assert result.holds is not trained
    assert not agreement.compare("training", [1.0], [math.nan], precision="bf16", trained=False).holds


def test_as_much_as_the_limit_holds() -> None:
    """4 of 200 are 2 %; 1 - 196 / 200 is a little more."""
    boxes = [(100.0 * i, 0.0, 100.0 * i + 50, 50.0, 0.9, 1.0) for i in range(100)]
    elsewhere = [(x1, y1 + 500, x2, y2 + 500, score, label) for x1, y1, x2, y2, score, label in boxes[:2]]
    pair = detections(*boxes), detections(*elsewhere, *boxes[2:])
    result = agreement.compare("detection", [pair[0]], [pair[1]], precision="fp32")
    assert (result.value, result.holds) == (0.02, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_torchvision_agrees_and_a_perturbed_layer_does_not(kind: str, training: bool) -> None:
    config = composed(*KINDS[kind], "batch_size=2", f"training={str(training).lower()}")
    subject = Subject(Setup(config, 1))
    variants = [make_variant(subject, Spec(side)) for side in ("torchvision", "pocketvision")]
    (found,) = agree(variants, trained=False).values()
    assert found.holds
    if kind == "detection" and not training:
        results_ = variants[0].results(variants[0].call())
        assert sum(map(len, results_)) > 50
        assert len(torch.cat([one.labels for one in results_]).unique()) == 3
    with torch.no_grad():
        subject.run.task.model.backbone.blocks[3].project.norm.weight.mul_(1.5)
    variants[1] = make_variant(subject, Spec("pocketvision"))
    with pytest.raises(ValueError, match="as loaded does not agree with torchvision"):
        agree(variants, trained=False)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_torchvision_computes_in_the_memory_layout_that_its_documented_way_brings(batch_size: int) -> None:
    subject = Subject(Setup(composed(*SEGMENTER, f"batch_size={batch_size}"), 1))
    preset, conv = SemanticSegmentation(resize_size=64), torch.nn.Conv2d(3, 8, 3, stride=2)
    theirs = [preset(Image.fromarray(photo)) for photo in subject.photos]
    documented = torch.stack(theirs) if batch_size > 1 else theirs[0].unsqueeze(0)
    for channels_last in (False, True):
        variant = make_variant(subject, Spec("torchvision", channels_last=channels_last))
        images = variant.stages["pre-process"](subject.photos)
        torch.testing.assert_close(images, documented, atol=1e-5, rtol=0)
        # Not by the image's own flag: of a single photograph that says channels_last, and convolutions do otherwise.
        assert (conv(images).stride(1) == 1) is channels_last
    assert conv(documented).stride(1) != 1


def test_thresholds_of_a_run_reach_the_peer() -> None:
    config = composed(*DETECTOR, "min_score=0.4", "model.postprocess.max_detections=7", "model.postprocess.max_iou=0.3")
    subject = Subject(Setup(config, 1))
    variants = [make_variant(subject, Spec(side)) for side in ("torchvision", "pocketvision")]
    assert agree(variants, trained=False)["as loaded"].holds
    assert len(variants[0].results(variants[0].call())[0]) == 7


# ---- the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_table_json_and_picture(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    case = benchmark(composed(*KINDS[kind], "peer=torchvision", "optimize=true", f"output={tmp_path}"))
    other = ["torchvision channels_last"] if kind == "segmentation" else []
    assert [row.name for row in case.rows] == ["torchvision", *other, "as loaded", "optimize"]
    text = results.table(case)
    for part in ("x torchvision", "pre-process", "network", "post-process", "quartiles", "of peak", "not measured"):
        assert part in text
    told = json.loads((tmp_path / "results.json").read_text())
    (row, *_), facts = told["cases"][0]["rows"], told["cases"][0]["facts"]
    assert len(row["times"]["whole"]) == len(row["times"]["stages"]["network"]) == 4
    assert row["ratio"] == 1
    assert told["machine"]["threads"] == 1
    assert told["cases"][0]["peaks"]["fp32"] > 0
    assert set(facts) == (
        {"candidates", "detections"} if kind == "detection" else {"share of cells computed", "classes seen"}
    )
    assert all(value > 0 for value in facts.values())
    assert cv2.imread(str(tmp_path / "benchmark.png")).shape[0] > 100


class FakeFile:
    """A file for two photographs at a time that finds nothing, or in the odd ones a box."""

    batch = 2
    interface = SimpleNamespace(kind="detection")

    def __init__(self, box: Detections | None = None) -> None:
        self.file, self.box, self.seen = self, box, 0

    def prepare(self, photos: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        return np.stack(photos), list(range(len(photos)))

    def run(self, array: np.ndarray) -> int:
        self.seen += len(array)
        return len(array)

    def finish(self, count: int, metas: list[int]) -> list[Detections]:
        assert count == len(metas)
        return [self.box if self.box and meta else detections() for meta in metas]


def test_a_file_takes_a_batch_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeFile(detections(BOX))
    monkeypatch.setattr("pocketvision.tools.benchmarking.variants.load_file", lambda *_, **__: fake)
    variant = make_variant(Subject(Setup(composed("batch_size=5"), 1)), Spec("file", file="a.onnx"))
    assert [len(found) for found in variant.results(variant.call())] == [0, 1, 0, 1, 0]
    assert fake.seen == 5


def test_a_file_that_says_something_else_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketvision.tools.benchmarking.variants.load_file", lambda *_, **__: FakeFile())
    with pytest.raises(ValueError, match="ONNX Runtime does not agree with as loaded"):
        benchmark(composed(f"run={run}", "file=a.onnx", "output=null", "min_score=0"))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_run_beside_its_file_and_photographs(format: str, run: Path, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[format])
    photo = pictures.make_photos(1, (48, 64))[0]
    (tmp_path / "photo.jpg").write_bytes(pictures.jpeg_bytes(photo).tobytes())
    file = tmp_path / f"model{FORMATS[format].ending}"
    export(compose(f"format={format}", "num_photos=1", f"output={file}", f"run={run}", config_name="export"))
    keys = (f"file={file}", f"photos={tmp_path}", "batch_size=2", "output=null")
    case = benchmark(composed(f"run={run}", *keys))
    name = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}[format]
    assert [row.name for row in case.rows] == ["as loaded", name]
    assert case.rows[1].agreement.holds
    alone = benchmark(composed(*keys))
    assert [row.name for row in alone.rows] == [name]


def test_training_steps_leave_the_weights_as_they_are() -> None:
    subject = Subject(Setup(composed(*DETECTOR, "training=true", "batch_size=2"), 1))
    variant = make_variant(subject, Spec("pocketvision"))
    assert variant.results(variant.call()) == pytest.approx(variant.results(variant.call()), rel=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((), "set run=FOLDER"),
        (("model=ssdlite", "data=coco"), "backbone=NAME"),
        (("rounds=0",), "rounds=0"),
        (("batch_size=0",), "batch_size=0"),
        (("photo_size=[3]",), "photo_size"),
        (("peer=keras", *DETECTOR), "peer=keras"),
        (("precision=fp16", "optimize=true", *DETECTOR), "precision=fp16"),
        (("precision=bf16", *DETECTOR), "need optimize=true"),
        (("compile=true", *DETECTOR), "need optimize=true"),
        (("training=true", "optimize=true", *DETECTOR), "drop it"),
        (("training=true", "file=a.onnx"), "cannot be trained"),
        (("file=a.onnx", "peer=torchvision"), "in addition to file="),
        (("run=a", *DETECTOR), "run= already has a model"),
        (("run=nowhere",), "nowhere"),
        (("file=nowhere.onnx",), "nowhere.onnx"),
        (("min_score=0.5", *SEGMENTER), "min_score=0.5"),
        ((PEER, "model=ssdlite", V3, "data=shapes_detection"), "model=ssdlite_torchvision"),
        ((PEER, "model=lraspp", V3, "data=shapes_segmentation"), "backbone.atrous=torchvision"),
        ((PEER, "model=classifier", "data.input_size=[32,32]"), "which Classifier is not"),
        ((PEER, "model=classifier", "data.input_size=[32,32]", "training=true"), "which Classifier is not"),
        ((PEER, *DETECTOR, "data.resize=letterbox"), "data.resize=stretch"),
        ((PEER, *DETECTOR, "model.postprocess.clip=after"), "model.postprocess.clip=before"),
        ((PEER, *DETECTOR, "backbone.reduced=null"), "backbone.reduced=detection"),
        ((PEER, *SEGMENTER, "data.resize=shorter", "data.eval_size=[64,64]"), "data.resize=stretch"),
    ],
)
def test_mistakes_are_named(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        benchmark(composed(*keys, "output=null"))


def test_experiments_compose_with_keys_of_the_benchmark_and_not_of_training() -> None:
    config = compose("experiment=ssdlite_coco_torchvision", "compile=true", "optimize=true", config_name="benchmark")
    settings = settings_of(config, BenchmarkConfig)
    assert (settings.batch_size, settings.threads, settings.name) == (1, 0, "benchmark")
    check(settings)
    assert [spec.name for spec in specs_of(settings)] == ["as loaded", "optimize + compile"]


# ---- memory ----------------------------------------------------------------------------------------------


def test_memory_of_a_call_is_seen_and_that_of_loading_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if not memory._CLEAR.exists():
        pytest.skip("this system does not tell")

    def take(_: Any) -> Any:
        return bytes(bytearray(b"x") * 50_000_000)[:1]

    variant = Variant(Spec("pocketvision"), "detection", {"one": take}, 0, list)
    monkeypatch.setattr(memory, "Subject", lambda setup: SimpleNamespace(device=torch.device("cpu")))
    monkeypatch.setattr(memory, "make_variant", lambda subject, spec: take(0) and variant)
    found = memory.calls_peak(Setup(composed(), 1), variant.spec)
    assert found is not None
    assert 49 < found < 130


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    found = memory.peak_memory(Setup(composed(*SEGMENTER), 1), Spec("pocketvision"))
    assert (found is None) is not memory._CLEAR.exists()
    assert found is None or 0 < found < 2000


# ---- parts -----------------------------------------------------------------------------------------------


def test_the_share_computed_is_what_the_label_map_computes() -> None:
    meta = {"original_size": (32, 32), "input_size": (32, 32), "pad": (0, 0, 0, 0)}
    logits = torch.zeros(2, 4, 4)
    assert share_computed(logits, (32, 32), meta, align_corners=False) == 0
    logits[1, :, 2:] = 1
    share = share_computed(logits, (32, 32), meta, align_corners=False)
    assert 0 < share < 0.5
    (labels,) = LabelMaps(align_corners=False)({"logits": logits[None], "logits_size": (32, 32)}, [meta])
    assert labels[:, 0].max() == 0
    assert labels[:, -1].min() == 1


def test_stages_fill_the_whole() -> None:
    assert results.lengths({"a": [1.0], "b": [1.0]}, 1.0) == [("a", 0.5), ("b", 0.5)]
    assert results.lengths({"a": [1.0], "b": [2.0]}, 4.0) == [("a", 1), ("b", 2), ("rest", 1)]


def test_photographs_are_what_they_are_decoded_to() -> None:
    (photo,) = pictures.make_photos(1, (40, 60))
    assert photo.shape == (40, 60, 3)
    assert photo.std() > 20
    again = decode_bytes(pictures.jpeg_bytes(photo))
    assert np.abs(again.astype(int) - photo).mean() < 5
