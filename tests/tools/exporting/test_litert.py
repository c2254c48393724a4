"""LiteRT files: every precision beside PyTorch, what they consist of, and what is refused before the work."""

import json
import subprocess
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import check_partitions, export
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.runs.loaded import load_run

DOCS = Path(__file__).resolve().parents[3] / "docs"
KINDS = ("detection", "segmentation", "classification")


def config_of(run: Path, output: Path, *keys: str) -> Any:
    return compose(
        f"run={run}", f"output={output}", "format=litert", "threads=1", "calibration=4", "max_drop=1.0", "num_photos=2",
        *keys, config_name="export",
    )  # fmt: skip


@pytest.fixture(scope="module")
def converted_once() -> Iterator[None]:
    """Conversion takes most of an export's time, whatever the precision."""
    pytest.importorskip("litert_torch", reason="needs pip install 'pocketvision[litert]'")
    from pocketvision.tools.exporting import litert_file

    convert = litert_file.convert
    known: dict[tuple[str, Any], bytes] = {}

    def once(run: Any, interface: Any) -> bytes:
        key = str(run.path), interface
        if key not in known:
            known[key] = convert(run, interface)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litert_file, "convert", once)
        yield


REFUSED = {
    "photographs of any size": ({"input": "photo"}, r"format=litert input=photo needs .*: set input_size=\[h,w\]"),
    "a batch of any size": ({"batch": "dynamic"}, "batch=dynamic: format=litert takes a fixed number of images"),
    "boxes in a batch": ({"batch": 2}, "batch=2: format=litert takes a fixed number of images, and finds boxes in one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_the_work(name: str, trained_run: Callable[[str], Path]) -> None:
    keys, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make_interface(load_run(trained_run("detection")), format="litert", **keys)


def test_a_precision_that_a_format_lacks_names_those_that_it_has(trained_run: Callable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="precision=bf16: format=litert supports fp32 or fp16 or int8 or int8_weights"):
        export(config_of(trained_run("detection"), tmp_path / "m.tflite", "precision=bf16"))


def test_a_raw_network_in_many_parts_is_refused() -> None:
    settings = compose("format=litert", "outputs=raw", config_name="export")
    check_partitions({}, settings)  # other formats have none
    check_partitions({"partitions": 2}, settings)
    check_partitions({"partitions": 19}, compose("format=litert", config_name="export"))  # post-processing is slow
    with pytest.raises(ValueError, match="falls into 3 parts of XNNPACK"):
        check_partitions({"partitions": 3}, settings)


@pytest.mark.parametrize("precision", FORMATS["litert"].precisions)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.usefixtures("converted_once")
def test_a_file_of_every_precision(kind: str, precision: str, trained_run: Callable, tmp_path: Path) -> None:
    """The export compares it with PyTorch by itself."""
    path = tmp_path / "model.tflite"
    export(config_of(trained_run(kind), path, f"precision={precision}"))
    about = json.loads(path.with_suffix(".json").read_text())
    found = evaluate(compose(f"file={path}", "threads=1", "workers=0", config_name="evaluate"))
    assert about["input"]["shape"][-1] == 3  # the photograph as cameras give it
    if precision.startswith("int8"):
        quantization = about["quantization"]
        assert found[quantization["metric"]] == quantization["int8"]
        assert (quantization["calibration"] is None) == (precision == "int8_weights")
    names = [item["dtype"] for item in about["outputs"].values()]
    assert set(names) <= {"float32", "uint8"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.usefixtures("converted_once")
def test_a_raw_network_and_a_photograph_with_its_resize(precision: str, trained_run: Callable, tmp_path: Path) -> None:
    run, raw, photo = trained_run("detection"), tmp_path / "raw.tflite", tmp_path / "photo.tflite"
    export(config_of(run, raw, "outputs=raw", f"precision={precision}"))
    export(config_of(run, photo, "input=photo", "input_size=[50,70]", f"precision={precision}", "max_drop=null"))
    about = json.loads(raw.with_suffix(".json").read_text())
    assert about["partitions"] <= 2
    assert [*about["outputs"]] == ["class_logits", "box_deltas"]
    assert len(about["anchors"]) == about["outputs"]["box_deltas"]["shape"][1]
    with zipfile.ZipFile(raw) as attached:
        assert json.loads(attached.read("pocketvision.json"))["task"] == "detection"
    found = evaluate(compose(f"file={raw}", "threads=1", "workers=0", config_name="evaluate"))
    assert 0 <= found["AP"] <= 1


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.usefixtures("converted_once")
def test_the_example_needs_only_the_runtime(trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    from PIL import Image

    photo, path = ShapesDetection(length=1, size=(50, 70), seed=5).read(0).image, tmp_path / "model.tflite"
    Image.fromarray(photo).save(tmp_path / "photo.png")
    export(config_of(trained_run("detection"), path))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "ai-edge-litert", "pillow"], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    done = subprocess.run(
        [python, DOCS / "examples/litert_photo.py", path, tmp_path / "photo.png", "0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "ms" in done.stdout
    assert len(done.stdout.splitlines()) > 1


def test_arrays_are_given_as_the_file_takes_them() -> None:
    from pocketvision.tools.exporting.litert_file import as_input
    from pocketvision.tools.predicting.interface import Interface

    interface = Interface(
        kind="segmentation", input="photo", outputs="final", resize="stretch", input_size=(4, 6), network_size=(2, 3),
        batch=1, candidates=1, channels_last=True, portable=True,
    )  # fmt: skip
    batch = np.full((1, 3, 2, 3), 200, np.float32)
    assert as_input(batch, interface).shape == (1, 4, 6, 3)  # the file itself makes it smaller again
    assert (as_input(batch, interface) == 200).all()
