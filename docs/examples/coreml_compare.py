"""Compare a Core ML file with the run that it comes from, on a Mac; needs pocketvision.

    pip install 'pocketvision[coreml]'
    python coreml_compare.py model.mlpackage runs/mine photos/

Prints the differences between Core ML's results and PyTorch's on the photographs. It ends with 1 if one is above its
limit, which is that of `pocketvision export` for the file's precision.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pocketvision.datasets.images.decode import decode_image
from pocketvision.tools.exporting.verify import Comparison, compare
from pocketvision.tools.predicting.exported import ExportedPredictor
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.predicting.runtimes import ExportedFile
from pocketvision.tools.runs.loaded import load_run

Predict = Callable[[dict[str, Any]], Mapping[str, Any]]  # of coremltools' MLModel


def as_predictor(path: str, about: dict[str, Any], predict: Predict) -> ExportedPredictor:
    """The file as pocketvision's other files: arrays in, arrays out."""
    takes_images = about["input"]["dtype"] == "uint8"

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        found = predict({about["input"]["name"]: as_image(array) if takes_images else array})
        arrays = {name: np.asarray(found[name]) for name in about["outputs"]}
        return {name: array.astype(np.uint8) if name == "label_map" else array for name, array in arrays.items()}

    return ExportedPredictor(ExportedFile(Path(path), about, run))


def as_image(array: np.ndarray) -> Any:
    """A Pillow image of uint8 RGB [1, 3, h, w] or [1, h, w, 3]."""
    from PIL import Image

    image = array[0]
    return Image.fromarray(np.ascontiguousarray(image if image.shape[-1] == 3 else image.transpose(1, 2, 0)))


def compare_file(path: str, about: dict[str, Any], predict: Predict, run: str, photos: str) -> Comparison:
    """The differences from the run on a photograph or a folder of them."""
    model = as_predictor(path, about, predict)
    images = [decode_image(file) for file in find_images([photos])]
    return compare(load_run(run), {model.interface.outputs: model}, images, precision=about["precision"])


def main(path: str, run: str, photos: str) -> int:
    import coremltools  # pyright: ignore[reportMissingImports]

    model = coremltools.models.MLModel(path)
    comparison = compare_file(path, json.loads(model.user_defined_metadata["pocketvision"]), model.predict, run, photos)
    print(comparison.table())
    return 1 if comparison.wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
