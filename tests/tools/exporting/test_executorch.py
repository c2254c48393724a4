"""ExecuTorch files beside PyTorch, in both precisions, and that damaged ones never reach the runtime."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.tools.config.build import compose
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.export import export
from pocketvision.tools.predicting.attached import METADATA, attach
from pocketvision.tools.predicting.exported import load_file

pytest.importorskip("executorch", reason="needs pip install 'pocketvision[executorch]'")
pytestmark = [pytest.mark.slow, pytest.mark.by_hand]


@pytest.fixture(scope="module")
def exported(trained_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run's file, exported once for each choice of keys."""

    @functools.cache
    def make(kind: str, **keys: Any) -> Path:
        path = tmp_path_factory.mktemp("exported") / "model.pte"
        given = [f"{key}={value}" for key, value in keys.items()]
        fixed = (f"run={trained_run(kind)}", "format=executorch", f"output={path}", "threads=1", "num_photos=2")
        return export(compose(*fixed, *given, config_name="export"))  # which compares

    return make


FILES = {
    "boxes": ("detection", {"input": "float"}, ["boxes", "scores", "labels", "counts"]),
    "logits": ("segmentation", {"input": "float", "outputs": "raw"}, ["logits"]),
    "a photograph's label map": ("segmentation", {"input": "photo", "input_size": "[50,70]"}, ["label_map"]),
    "classes": ("classification", {"batch": 2}, ["labels", "scores"]),
}


@pytest.mark.parametrize("name", FILES)
def test_outputs(name: str, exported: Callable) -> None:
    kind, keys, names = FILES[name]
    about = load_file(exported(kind, **keys), threads=1).file.about
    beside = json.loads(exported(kind, **keys).with_suffix(".json").read_text())
    assert {key: value for key, value in beside.items() if key != "comparison"} == about
    assert list(about["outputs"]) == names
    assert {output["dtype"] for output in about["outputs"].values()} <= {"float32", "uint8"}


@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_int8(kind: str, exported: Callable) -> None:
    path = exported(kind, precision="int8", calibration=2, max_drop=1.0)
    quantization = json.loads(path.with_suffix(".json").read_text())["quantization"]
    assert quantization["int8_bytes"] < quantization["float32_bytes"]
    found = evaluate(compose(f"file={path}", "threads=1", "workers=0", config_name="evaluate"))
    assert found[quantization["metric"]] == quantization["int8"]


def test_the_layout_of_an_array_does_not_matter(exported: Callable) -> None:
    model = load_file(exported("detection", input="float"), threads=1)
    shape = model.file.about["input"]["shape"]
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    channels_last = image.to(memory_format=torch.channels_last).numpy()
    assert not channels_last.flags.c_contiguous
    expected, found = model.file.run(image.numpy()), model.file.run(channels_last)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_threads_of_a_file_in_use_stay(exported: Callable) -> None:
    model = load_file(exported("detection", input="float"), threads=1)
    with pytest.raises(ValueError, match=r"^threads=3: the process has other ExecuTorch files in use.* set threads=1"):
        load_file(exported("detection", input="float"), threads=3)
    del model
    for threads in (2, 1):
        load_file(exported("detection", input="float"), threads=threads)


def damages(whole: bytes) -> dict[str, tuple[bytes, str]]:
    """Contents by name, and what is reported; the runtime aborts the process for some of them."""
    noise = np.random.default_rng(0).bytes(5000)
    content = whole[: whole.rfind(b"PK\x03\x04", 0, whole.find(METADATA.encode()))]
    flipped = {f"bit at {i}": whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in (0, 5, 40, len(content) // 2)}
    return {
        "nothing": (b"", "no metadata"),
        "noise": (noise, "no metadata"),
        "a foreign file": (content, "no metadata"),
        "cut": (whole[:-100], "no metadata"),
        "a part is missing": (whole[:3000] + whole[4000:], "checksum is wrong"),
        "other content": (noise + whole[len(content) :], "checksum is wrong"),
        **{name: (flip, "checksum is wrong") for name, flip in flipped.items()},
    }


def test_damaged_files_are_one_line(exported: Callable, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    for name, (content, message) in damages(exported("detection", input="float").read_bytes()).items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            load_file(path)
        assert "\n" not in str(caught.value), name
    path.write_bytes(b"")
    attach(path, {METADATA: json.dumps({"outputs": {}})})  # a checksum that is right
    with pytest.raises(ValueError, match=r"cannot be opened .*: corrupt, or not an exported file"):
        load_file(path)
