"""input=float: every format takes numbers from 0 to 1 and computes what the network does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pocketvision.tools.config.build import compose
from pocketvision.tools.export import export
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.runs.loaded import load_run

pytestmark = pytest.mark.usefixtures("traced_once")
SLOW = [pytest.mark.slow, pytest.mark.by_hand]


@pytest.mark.parametrize(
    "format", [pytest.param(name, marks=SLOW if format.portable else []) for name, format in FORMATS.items()]
)
def test_numbers_from_0_to_1(format: str, trained_run: Callable[[str], Path], tmp_path: Path) -> None:
    for package in {*FORMATS[format].writing, *FORMATS[format].runtime}:
        pytest.importorskip(package, reason=f"needs pip install 'pocketvision[{format}]'")
    run, path = trained_run("segmentation"), tmp_path / f"model{FORMATS[format].ending}"
    keys = (f"run={run}", f"format={format}", f"output={path}", "input=float", "outputs=raw", "threads=1")
    export(compose(*keys, "num_photos=2", config_name="export"))
    model = load_file(path, threads=1)
    about: Any = model.file.about["input"]
    assert (about["name"], about["dtype"], about["channels"]) == ("images", "float32", "RGB, 0 to 1")
    height, width = model.interface.input_size or ()
    image = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
    array = image.transpose(0, 2, 3, 1) if FORMATS[format].channels_last else image
    assert about["shape"] == list(array.shape)
    with torch.inference_mode():
        expected = load_run(run).task.model(torch.from_numpy(image))["logits"].numpy()
    found = model.file.run(np.ascontiguousarray(array, dtype=np.float32) / 255)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())
    np.testing.assert_allclose(model.arrange(torch.from_numpy(image)), array / np.float32(255))
