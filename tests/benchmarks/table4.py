"""The networks of the paper's Table 4 as classifiers of a small set, in float and in eight bits.

    python tests/benchmarks/table4.py CAMVID OUTPUT [RESULT]

The set are patches of CamVid (`pocketvision prepare camvid`), each of the class that most of its pixels have. Trains
the four networks where OUTPUT has no finished runs (an hour on two cores), then measures them, and writes the figures
to RESULT (OUTPUT/table4.json). `pocketvision paper` prints those in conf/paper_table4.json.
"""

import json
import os
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pocketvision.datasets.images.decode import decode_image
from pocketvision.files import write_json
from pocketvision.tools.benchmark import benchmark
from pocketvision.tools.config.build import compose
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.train import train

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
SIDE, STEP, SHARE = 96, 48, 0.6  # pixels, pixels, of the pixels of a patch that show its class
FORMATS = "formats=[openvino:fp32,openvino:int8]"
MOST, LEAST = {"train": 400, "val": 80}, 10  # patches of a class
EPOCHS, SEED = 20, 0
ISA = "ONEDNN_MAX_CPU_ISA"  # the instructions that OpenVINO may use
NETWORKS = {
    "V3-Large 1.0": ("backbone=mobilenet_v3_large",),
    "V2 1.0": ("backbone=mobilenet_v2",),
    "V3-Small 1.0": ("backbone=mobilenet_v3_small",),
    "V2 0.35": ("backbone=mobilenet_v2", "backbone.width=0.35"),
}


def write_patches(camvid: Path, folder: Path) -> Counter[str]:
    """Square patches as class folders, evenly over the photographs; how many there are of each split and class."""
    total: Counter[str] = Counter()
    found = {split: find_patches(camvid / split) for split in MOST}
    for split, most in MOST.items():
        for label, places in found[split].items():
            if min(len(patches.get(label, ())) for patches in found.values()) < LEAST:
                continue
            target = folder / split / CLASSES[label]
            target.mkdir(parents=True)
            for i in np.linspace(0, len(places) - 1, min(most, len(places))).astype(int):
                stem, top, left = places[i]
                photo = decode_image(next((camvid / split / "images").glob(f"{stem}.*")))
                patch = photo[top : top + SIDE, left : left + SIDE]
                write_image(target / f"{stem}_{top}_{left}.png", np.ascontiguousarray(patch))
            total[f"{split} {CLASSES[label]}"] = min(most, len(places))
    return total


def find_patches(split: Path) -> dict[int, list[tuple[str, int, int]]]:
    """Photograph, top and left of every patch that mostly shows one class, by class."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    for path in sorted((split / "labels").glob("*.png")):
        mask = np.asarray(Image.open(path))
        for top in range(0, mask.shape[0] - SIDE + 1, STEP):
            for left in range(0, mask.shape[1] - SIDE + 1, STEP):
                counts = np.bincount(mask[top : top + SIDE, left : left + SIDE].ravel(), minlength=256)
                best = int(counts.argmax())
                if best < len(CLASSES) and counts[best] >= SHARE * SIDE**2:
                    found.setdefault(best, []).append((path.stem, top, left))
    return found


def run_of(name: str, output: Path) -> Path:
    return output / "runs" / name.replace(" ", "_").lower()


def train_all(output: Path) -> None:
    """Train the networks that have no finished run."""
    for name, keys in NETWORKS.items():
        train(
            compose(
                "experiment=small_classification", *keys, f"data.root={output / 'patches'}",
                f"data.input_size=[{SIDE},{SIDE}]", f"epochs={EPOCHS}", f"seed={SEED}",
                f"run_dir={run_of(name, output)}", "workers=1", "threads=1",
            )
        )  # fmt: skip


def measure(output: Path) -> None:
    """Measure every network in OpenVINO, in both precisions."""
    for run in (run_of(name, output) for name in NETWORKS):
        keys = (f"run={run}", f"output={output / 'formats' / run.name}", "memory=false", "rounds=20")
        benchmark(compose(*keys, FORMATS, config_name="benchmark"))


def summary(output: Path) -> dict[str, Any]:
    """Accuracy, milliseconds and megabytes of every network by precision, and how they came about."""
    found = {
        name: json.loads((output / "formats" / run_of(name, output).name / "results.json").read_text())
        for name in NETWORKS
    }
    last = list(found.values())[-1]
    images = {split: [path.parent for path in (output / "patches" / split).glob("*/*.png")] for split in MOST}
    return {
        "command": "make benchmark-table4",
        "date": last["date"][:10],
        "machine": {
            **{key: last["machine"][key] for key in ("processor", "threads", "python", "torch")},
            **{package: version(package) for package in ("openvino", "nncf")},
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[1], 1),  # of the last five minutes: 1 and less is this script alone
        },
        "environment": {ISA: os.environ[ISA]},
        "data": {
            "name": f"patches of CamVid of {SIDE}x{SIDE} pixels",
            "classes": len(set(images["train"])),
            **{split: len(folders) for split, folders in images.items()},
        },
        "epochs": EPOCHS,
        "seed": SEED,
        "clock": last["formats"]["clock"],
        "networks": {
            name: {row["precision"]: figures(row) for row in results["formats"]["rows"] if row["format"]}
            for name, results in found.items()
        },
    }


def figures(row: dict[str, Any]) -> dict[str, float]:
    """Top-1, the median and the quartiles of the times, megabytes of weights."""
    ms, low, high = (round(1e3 * row["spread"][name], 3) for name in ("median", "low", "high"))
    mb = round(row["sizes"][".bin"] / 1e6, 3)
    return {"top1": round(row["accuracy"], 4), "ms": ms, "low": low, "high": high, "mb": mb}


def main(camvid: Path, output: Path, result: Path) -> None:
    # Read once, when OpenVINO computes first: with AMX, int8 is slower than float32.
    os.environ.setdefault(ISA, "AVX512_CORE_VNNI")
    if not (output / "patches").exists():
        print(dict(write_patches(camvid, output / "patches")))
    train_all(output)
    measure(output)
    write_json(result, summary(output))
    print(result.read_text())


if __name__ == "__main__":
    camvid, output, *rest = map(Path, sys.argv[1:])
    main(camvid, output, rest[0] if rest else output / "table4.json")
