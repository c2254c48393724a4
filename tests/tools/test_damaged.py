"""Damaged files that commands read back: some always, 5,000 by `make test-fuzz` (tests/tools/damaged.py)."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.comparing.reference import summarise, write_reference
from pocketvision.tools.config.build import compose
from pocketvision.tools.drawing.figure import Chart
from pocketvision.tools.evaluate import evaluate
from pocketvision.tools.exporting.metadata import describe_file
from pocketvision.tools.exporting.writers import make_writer
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.predicting.interface import make_interface
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import load_run

TF = ("cls_v3_small_mini", Path(__file__).parents[1] / "assets" / "tf")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No log, and no drawing of charts, which would take most of the time."""
    monkeypatch.setattr(Chart, "picture", lambda chart: np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(Chart, "svg", lambda chart, name: "")
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def good(
    trained_run: Callable[[str], Path], training_keys: Callable[[str], tuple[str, ...]], tmp_path: Path,
    tf_rule: ModuleType, quiet: None,
) -> Callable[..., Path]:  # fmt: skip
    """Runs of some kinds as training, evaluate and export leave them, and what else is read."""

    def make(kinds: tuple[str, ...], *, formats: tuple[str, ...]) -> Path:
        for kind in kinds:
            folder = Path(shutil.copytree(trained_run(kind), tmp_path / "good" / kind))
            evaluate(compose(f"run={folder}", "workers=0", "device=cpu", "report=true", config_name="evaluate"))
            run = load_run(folder)
            (folder / "train.json").write_text(json.dumps(training_keys(kind)))
            for format in formats:
                interface = make_interface(run, format=format, input="network")
                about = describe_file(
                    run, interface, config=portable(run.config), format=format, precision="fp32", source="good"
                )
                writer = make_writer(format, run, interface)
                writer.write(interface, folder / f"model{FORMATS[format].ending}", about)
        first = tmp_path / "good" / kinds[0]
        write_reference(summarise([read_run(first)], name="good"), first / "curve.json")
        np.savez(tmp_path / "good" / "tf.npz", **tf_rule.weights(str(TF[1]), TF[0]))
        return tmp_path / "good"

    return make


@pytest.mark.parametrize(
    ("count", "kinds", "formats"),
    [
        (50, ("detection",), ()),  # to export takes longer than everything else
        pytest.param(5000, ("detection", "segmentation", "classification"), ("onnx", "openvino", "torch_export"),
                     marks=[pytest.mark.slow, pytest.mark.by_hand]),
    ],
)  # fmt: skip
def test_damaged_files_are_read_or_refused(
    count: int, kinds: tuple[str, ...], formats: tuple[str, ...], good: Any, mutations: Any, damaged: Any
) -> None:
    """POCKETVISION_FUZZ=SEED takes another seed; SEED:INDEX,INDEX repeats single files."""
    seed, _, only = os.environ.get("POCKETVISION_FUZZ", str(count)).partition(":")
    trial = mutations.Trial(count, int(seed), damaged.families(good(kinds, formats=formats)), memory_limit=2000)
    found = [trial[int(index)] for index in only.split(",")] if only else mutations.run(trial, workers=count > 1000)
    print(*(f"{name:26} {mutations.tally(found, name)}" for name in trial.families), sep="\n")
    wrong = [f"{seed}:{row['index']} {row['family']}: {row['problem']}" for row in found if row["problem"]]
    assert not wrong, "\n".join(wrong)
