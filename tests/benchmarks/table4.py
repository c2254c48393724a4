"""The networks of the paper's Table 4 as classifiers of a small set, in float and in eight bits.

    python tests/benchmarks/table4.py CAMVID OUTPUT

The set are patches of CamVid (`pocketvision prepare camvid`), each of the class that most of its pixels have. Trains
the four networks where OUTPUT has no finished runs (an hour on two cores), then measures them.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from pocketvision.datasets.images.decode import decode_image
from pocketvision.files import write_json
from pocketvision.tools.benchmark import benchmark
from pocketvision.tools.benchmarking.formats import FormatTable
from pocketvision.tools.benchmarking.timing import Spread
from pocketvision.tools.config.build import compose
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.train import train

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
SIDE, STEP, SHARE = 96, 48, 0.6  # pixels, pixels, of the pixels of a patch that show its class
FORMATS = "formats=[openvino:fp32,openvino:int8]"
MOST, LEAST = {"train": 400, "val": 80}, 10  # patches of a class
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


def train_all(data: Path, folder: Path, epochs: int = 20) -> dict[str, Path]:
    """Finished runs by network."""
    runs = {}
    for name, keys in NETWORKS.items():
        runs[name] = folder / name.replace(" ", "_").lower()
        train(
            compose(
                "experiment=small_classification", *keys, f"data.root={data}", f"data.input_size=[{SIDE},{SIDE}]",
                f"epochs={epochs}", f"run_dir={runs[name]}", "workers=1", "threads=1",
            )
        )  # fmt: skip
    return runs


def measure(runs: dict[str, Path], folder: Path) -> dict[str, dict[str, dict[str, float | None]]]:
    """Accuracy, milliseconds and megabytes of every network in OpenVINO, by precision."""
    found = {}
    for name, run in runs.items():
        output = f"output={folder / run.name}"
        table = benchmark(compose(f"run={run}", FORMATS, output, "memory=false", "rounds=20", config_name="benchmark"))
        assert isinstance(table, FormatTable)
        found[name] = {
            row.precision: {
                "top1": row.accuracy, "ms": 1e3 * Spread.of(row.times.whole).median, "mb": row.size / 1e6
            } for row in table.rows if row.format
        }  # fmt: skip
    return found


if __name__ == "__main__":
    camvid, output = map(Path, sys.argv[1:3])
    # Read once, when OpenVINO computes first: with AMX, int8 is slower than float32.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    if not (output / "patches").exists():
        print(dict(write_patches(camvid, output / "patches")))
    runs = train_all(output / "patches", output / "runs")
    write_json(output / "table4.json", measure(runs, output / "formats"))
    print((output / "table4.json").read_text())
