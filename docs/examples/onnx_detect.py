"""Boxes in a photograph from an exported detector; needs onnxruntime and numpy, and nothing of pocketvision.

    pip install onnxruntime numpy pillow
    python onnx_detect.py model.onnx photo.jpg

Pillow only decodes the photograph: an array from a camera or an .npy file needs nothing more.
"""

import json
import sys

import numpy as np
import onnxruntime


def read_photo(path: str) -> np.ndarray:
    """uint8 RGB [H, W, 3]."""
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def main(model: str, photo: str, least_score: float = 0.5) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"photo": read_photo(photo)[None]})
    for box, score, label in zip(boxes, scores, labels, strict=True):
        if score >= least_score:
            x1, y1, x2, y2 = box
            print(f"{classes[str(label)]} {score:.3f} at x {x1:.1f} to {x2:.1f}, y {y1:.1f} to {y2:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:4]))
