"""formats=: what is chosen, refused, written, reused and reported. Nothing here asserts how long anything takes."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pocketvision.tools.benchmark import benchmark
from pocketvision.tools.benchmarking import format_results, formats, timing
from pocketvision.tools.benchmarking.format_choice import MEASURED, chosen
from pocketvision.tools.benchmarking.formats import FormatRow, FormatTable
from pocketvision.tools.benchmarking.timing import Times
from pocketvision.tools.config import build
from pocketvision.tools.config.build import compose
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.exporting import files
from pocketvision.tools.exporting.files import OtherRunError
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.runs.loaded import LoadedRun, load_run

QUICK = ("rounds=2", "repeats=1", "warmup=0", "memory=false", "workers=0")


def composed(*keys: str) -> Any:
    return compose(*QUICK, *keys, config_name="benchmark")


# ---- the choice ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        ("onnx:int8", [("onnx", "int8")]),
        (["onnx"], [("onnx", "fp32"), ("onnx", "int8")]),
        (["onnx:int8", "onnx"], [("onnx", "int8"), ("onnx", "fp32")]),
        (["torch_export", "openvino:bf16"], [("torch_export", "fp32"), ("openvino", "bf16")]),
        ("all", [(format, precision) for format in MEASURED for precision in FORMATS[format].precisions]),
    ],
)
def test_formats_and_precisions_are_chosen(asked: Any, pairs: list[tuple[str, str]]) -> None:
    assert chosen(asked) == pairs


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("formats=[]", "run=a"), r"formats=\[\]: expected all, or some of onnx, "),
        (("formats=tflite", "run=a"), "formats=tflite: expected all, or some of onnx, .*, as onnx:int8"),
        (("formats=[onnx:int4]", "run=a"), "formats=onnx:int4: onnx has the precisions fp32, int8"),
        (("formats=all",), r"formats=all exports a training run: set run=FOLDER"),
        (("formats=all", "run=a", "training=true"), "training=true: .* cannot be trained; drop it, or formats="),
        (("formats=all", "run=a", "file=a.onnx"), "file=a.onnx: formats= writes files of its own; drop it"),
        (("formats=all", "run=a", "peer=torchvision"), "peer=torchvision: .*; drop it"),
        (("formats=all", "run=a", "device=cuda:1"), "device=cuda:1: exported files run on the CPU; drop it"),
        (("formats=all", "run=a", "batch_size=2"), "batch_size=2: .* single photographs; drop it"),
        (("raw=true", "run=a"), "raw=true .*: set formats=all"),
    ],
)
def test_mistakes_are_named_before_the_work(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark(composed(*keys, "output=null"))


# ---- a run -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(trained_run: Callable[[str], Path], traced_once: None) -> Iterator[Path]:
    pytest.importorskip("onnxruntime", reason="needs pip install 'pocketvision[onnx]'")
    pytest.importorskip("onnxscript")
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield trained_run("detection")
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def lacks(format: str) -> Callable[[str, str], None]:
    """An environment that cannot write a format."""

    def check(name: str, precision: str) -> None:
        if name == format:
            raise ValueError(f"format={name} needs pens: pip install pens")

    return check


@pytest.mark.slow
def test_files_are_written_measured_and_used_again(
    run: Path, tmp_path: Path, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = composed(f"run={run}", "formats=[onnx:fp32]", "raw=true", "optimize=true", f"output={tmp_path}")
    found = benchmark(asked)
    assert isinstance(found, FormatTable)
    assert [row.name for row in found.rows] == ["PyTorch", "PyTorch optimize", "ONNX Runtime fp32"]
    evaluated = evaluate(compose(f"run={run}", "workers=0", f"output={tmp_path / 'e.json'}", config_name="evaluate"))
    assert found.rows[0].accuracy == pytest.approx(evaluated["AP"], abs=1e-6)
    assert [found.loss(row) for row in found.rows] == pytest.approx([0, 0, 0], abs=0.02)
    assert {(len(row.times.whole), len(row.network or [])) for row in found.rows} == {(2, 2)}
    written = sorted((tmp_path / "files").iterdir())
    assert [path.name for path in written] == ["onnx-fp32-network.onnx", "onnx-fp32.onnx"]
    told = json.loads((tmp_path / "results.json").read_text())
    row = told["formats"]["rows"][2]
    assert row["sizes"] == {".onnx": written[1].stat().st_size}
    assert (row["size_fp32"], row["faster_than_fp32"], row["network_faster_than_fp32"]) == (1, 1, 1)
    assert row["spread"]["low"] <= row["spread"]["median"] <= row["spread"]["high"]
    assert told["machine"]["threads"] == 1
    assert cv2.imread(str(tmp_path / "formats.png")).shape[0] > 100

    times = [path.stat().st_mtime_ns for path in written]
    monkeypatch.setattr(files, "check_installed", lacks("onnx"))  # the files come from another environment
    asked.formats = "all"
    monkeypatch.setattr("pocketvision.tools.benchmarking.format_choice.MEASURED", ("onnx",))
    assert [row.name for row in benchmark(asked).rows] == ["PyTorch", "PyTorch optimize", "ONNX Runtime fp32"]
    assert [path.stat().st_mtime_ns for path in written] == times
    assert "left out: format=onnx needs pens: pip install pens" in logged.text  # int8, once
    assert f"2 files of {tmp_path / 'files'}" in logged.text


@pytest.fixture
def onnx_target(run: Path, tmp_path: Path) -> files.Target:
    loaded = load_run(run)
    config = load_checkpoint(loaded.path)["config"]
    target = files.make_target(loaded, tmp_path, "onnx", "fp32", size=None, config=config, source="run")
    files.write_files(loaded, [target])
    return target


def test_only_a_file_of_the_same_weights_and_kind_is_used_again(
    onnx_target: files.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert onnx_target.is_there()
    about = dict(onnx_target.about)
    for key, value in (("weights_sha256", "0"), ("precision", "int8"), ("postprocess", {"min_score": 0.9})):
        onnx_target.about[key] = value
        assert not onnx_target.is_there()
        onnx_target.about[key] = about[key]
    monkeypatch.setattr(files, "check_installed", lacks("onnx"))
    assert onnx_target.is_there()
    onnx_target.about["weights_sha256"] = "0"
    with pytest.raises(
        OtherRunError, match=r"onnx-fp32.onnx is of another run .*: remove it, or choose another output"
    ):
        onnx_target.is_there()


def test_a_damaged_file_is_written_again_where_it_can_be(
    onnx_target: files.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_target.path.write_bytes(onnx_target.path.read_bytes()[:1000])
    assert not onnx_target.is_there()
    monkeypatch.setattr(files, "check_installed", lacks("onnx"))
    with pytest.raises(ValueError, match="cannot be opened"):
        onnx_target.is_there()
    onnx_target.path.unlink()
    with pytest.raises(ValueError, match="format=onnx needs pens"):
        onnx_target.is_there()


def test_files_of_another_run_stop_also_all(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def other(target: Any) -> bool:
        raise OtherRunError("of another run")

    monkeypatch.setattr(files.Target, "is_there", other)
    with pytest.raises(OtherRunError):
        benchmark(composed(f"run={run}", "formats=all", f"output={tmp_path}"))


def test_what_was_asked_for_by_name_is_not_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "check_installed", lacks("onnx"))
    with pytest.raises(ValueError, match="format=onnx needs pens"):
        benchmark(composed(f"run={run}", "formats=[onnx]", "output=null"))


def test_without_splits(
    run: Path, tmp_path: Path, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no such folder: gone")

    monkeypatch.setattr(build, "build_source", unreadable)
    keys = f"run={run}", "photo_size=[48,64]"
    with pytest.raises(ValueError, match=r"int8 is calibrated .* Remedy: export .*onnx-int8.onnx with calibration="):
        benchmark(composed(*keys, "formats=[onnx:int8]", "output=null"))
    found = benchmark(composed(*keys, "formats=[onnx:fp32]", f"output={tmp_path}"))
    assert {row.accuracy for row in found.rows} == {None}
    assert "no validation split, so no accuracy (no such folder: gone)" in logged.text
    assert "timing synthetic photographs" in logged.text
    assert not (tmp_path / "formats.png").exists()
    text = format_results.table(found)
    assert "loss" not in text
    assert "no accuracy; times of 2 photographs" in text


def whole_images() -> Any:
    config = compose(
        "experiment=lraspp_cityscapes", "backbone=mobilenet_v3_small", "backbone.width=0.35", "data.root=nowhere"
    )
    task = build.build_task(config)
    task.model.eval()
    return LoadedRun(task=task, config=config, folder=Path("."), path=Path("a.pt"), step=0)


def test_whole_images_need_one_size_where_the_format_does(tmp_path: Path) -> None:
    loaded = whole_images()
    about: dict[str, Any] = {"config": {}, "source": "a"}
    for format in ("torch_export", "litert"):
        with pytest.raises(ValueError, match=f"format={format} needs photographs of one size, and those .* differ"):
            files.make_target(loaded, tmp_path, format, "fp32", size=None, **about)
    for raw in (False, True):
        assert (
            files.make_target(loaded, tmp_path, "onnx", "fp32", size=None, raw=raw, **about).interface.input == "photo"
        )
        found = files.make_target(loaded, tmp_path, "torch_export", "fp32", size=(64, 96), raw=raw, **about)
        assert found.interface.input == ("network" if raw else "photo")
        assert found.interface.network_size == (64, 96)


@pytest.mark.parametrize(
    ("sizes", "photo", "expected"),
    [([], (64, 96), (64, 96)), ([(64, 96)], (64, 96), (64, 96)), ([(64, 96), (64, 80)], (64, 96), None),
     ([(64, 96)], (32, 96), None)],
)  # fmt: skip
def test_one_size(
    sizes: list[tuple[int, int]], photo: tuple[int, int], expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", np.zeros((*photo, 3), np.uint8))
    samples = [SimpleNamespace(image=np.zeros((*size, 3), np.uint8)) for size in sizes]
    source = SimpleSource(samples) if samples else None
    assert formats._one_size(whole_images(), source, [tmp_path / "a.png"]) == expected


class SimpleSource(list[Any]):
    def read(self, index: int) -> Any:
        return self[index]


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_every_format_that_is_installed(kind: str, trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    asked = composed(f"run={trained_run(kind)}", "formats=all", "raw=true", f"output={tmp_path}", "memory=true")
    found = benchmark(asked)
    assert isinstance(found, FormatTable)
    assert len(found.rows) > 1
    assert all(row.accuracy is not None and row.memory_mb for row in found.rows)


# ---- what is reported ------------------------------------------------------------------------------------


def row_of(name: str, accuracy: float | None, seconds: float, sizes: dict[str, int]) -> FormatRow:
    format, _, precision = name.rpartition(" ")
    return FormatRow(name, format, precision, sizes, Times([seconds] * 3), [seconds / 2], accuracy, 12.0)


ROWS = [
    row_of("PyTorch", 0.5, 0.02, {".pt": 4_000_000}),
    row_of("OpenVINO fp32", 0.5, 0.01, {".xml": 800_000, ".bin": 4_000_000}),
    row_of("OpenVINO int8", 0.485, 0.008, {".xml": 1_700_000, ".bin": 1_000_000}),
    row_of("LiteRT int8", 0.4951, 0.005, {".tflite": 1_400_000}),
]
TABLE = FormatTable("runs/a", 7, "AP", 72, 5, "CPU ms", ROWS)


def test_ratios_are_to_pytorch_and_to_fp32_of_the_same_format() -> None:
    assert format_results.ratios(TABLE, ROWS[2]) == pytest.approx(
        {
            "size_fp32": 0.25, "faster_than_pytorch": 2.5, "faster_than_fp32": 1.25,
            "network_faster_than_pytorch": 2.5, "network_faster_than_fp32": 1.25,
        }
    )  # fmt: skip
    assert format_results.ratios(TABLE, ROWS[3])["faster_than_fp32"] is None  # was not measured
    assert format_results.ratios(TABLE, ROWS[0])["size_fp32"] is None


def test_a_loss_above_the_limit_is_marked() -> None:
    lines = format_results.table(TABLE).splitlines()
    assert [line for line in lines if "!" in line] == [lines[4], lines[-1]]
    assert lines[4].split() == [
        "OpenVINO", "int8", "0.4850", "!0.0150", "1.00", "1.70", "0.25", "8.00", "8.00", "to", "8.00", "2.50", "1.25",
        "4.00", "2.50", "1.25", "12",
    ]  # fmt: skip
    assert lines[-1] == "AP on 72 validation images; times of 5 photographs; ! loses more than 0.01"


def test_the_picture_has_a_point_for_every_row() -> None:
    chart = format_results.draw(TABLE)
    texts = {text.get_text() for text in chart.figure.axes[0].texts}
    named = {"PyTorch, 4.0 MB", "fp32, 4.0 MB", "int8, 1.0 MB", "int8, 1.4 MB", "0.01 below PyTorch"}
    assert named <= texts
    (legend,) = chart.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["PyTorch", "OpenVINO", "LiteRT"]
    points = [line for line in chart.figure.axes[0].lines if line.get_marker() == "o"]
    found = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in points]  # pyright: ignore
    assert np.array(found) == pytest.approx(np.array([(20, 0.5), (10, 0.5), (8, 0.485), (5, 0.4951)]))
    assert len({line.get_color() for line in points}) == 3


@pytest.mark.parametrize(("threads", "resolution", "name"), [(1, 1e-9, "CPU ms"), (2, 1e-9, "ms"), (1, 1 / 64, "ms")])
def test_one_thread_is_timed_in_cpu_time(
    threads: int, resolution: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SimpleNamespace(resolution=resolution)
    monkeypatch.setattr(timing.time, "get_clock_info", lambda _: told)
    expected = time.process_time if name == "CPU ms" else time.perf_counter
    assert timing.clock_of(threads) == (name, expected)
