"""Boxes or classes in a photograph from an exported .tflite; needs neither pocketvision nor torch.

    pip install ai-edge-litert pillow
    python litert_photo.py model.tflite photo.jpg

Runs on a Raspberry Pi. Pillow only decodes and resizes the photograph: an array from a camera needs nothing more.
"""

import json
import sys
import time
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def main(model: str, path: str, least_score: float = 0.5) -> None:
    with zipfile.ZipFile(model) as attached:
        about = json.loads(attached.read("pocketvision.json"))
    classes, (_, height, width, _) = about["classes"], about["input"]["shape"]
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    resized = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR))[None]

    interpreter = Interpreter(model, num_threads=4)
    interpreter.allocate_tensors()
    network = interpreter.get_signature_runner()
    network(args_0=resized)  # the first call is slower
    start = time.perf_counter()
    found = network(args_0=resized)
    print(f"{1000 * (time.perf_counter() - start):.1f} ms")

    if about["task"] == "segmentation":
        labels, counts = np.unique(found["label_map"], return_counts=True)
        for label, count in zip(labels, counts, strict=True):
            print(f"{classes.get(str(label), 'none')} {count / found['label_map'].size:.1%}")
        return
    if about["task"] == "classification":
        for label, score in zip(found["labels"][0][:5], found["scores"][0], strict=False):
            print(f"{classes[str(int(label))]} {score:.3f}")
        return
    scale = np.array([photo.width / width, photo.height / height] * 2)
    for box, score, label in zip(found["boxes"][0] * scale, found["scores"][0], found["labels"][0], strict=True):
        if score >= least_score:
            x1, y1, x2, y2 = box
            print(f"{classes[str(int(label))]} {score:.3f} at x {x1:.1f} to {x2:.1f}, y {y1:.1f} to {y2:.1f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:4]))
