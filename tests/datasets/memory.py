"""What annotations of COCO's size cost in memory, over those of 10 images; run as a script (Linux).

python tests/datasets/memory.py START_METHOD WORKERS     the loaders' processes, after two epochs
python tests/datasets/memory.py json MEGABYTES           the peak while a json with polygons is read
"""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COCO = 118_287, 860_001  # images and boxes of train2017
SIDE = 32  # of the pictures: what is decoded is the same in both cases


def write_coco(folder: Path, num_images: int, num_boxes: int, *, polygon_points: int = 0, seed: int = 0) -> Path:
    """A json of so many images, which are all links to one picture, and boxes."""
    import cv2

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    picture = cv2.imencode(".jpg", rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8))[1].tobytes()
    path = folder.parent / f"{folder.name}.json"
    with open(path, "w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for i in range(num_images):
            name = f"{i:012d}.jpg"
            if i % 10_000 == 0:  # file systems limit the links to one file
                (folder / f"{i}.x").write_bytes(picture)
            os.link(folder / f"{i - i % 10_000}.x", folder / name)
            record = {"license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                      "height": SIDE, "width": SIDE, "date_captured": "2013-11-14 11:18:45", "id": i}  # fmt: skip
            file.write(("," if i else "") + json.dumps(record))
        file.write('], "annotations": [')
        images = np.sort(rng.integers(num_images, size=num_boxes)).tolist()
        boxes = np.round(rng.uniform(0, SIDE / 2, (num_boxes, 4)) + 1, 2).tolist()
        for i, (image, box) in enumerate(zip(images, boxes, strict=True)):
            polygon = np.round(rng.uniform(0, SIDE, 2 * polygon_points), 2).tolist() if polygon_points else []
            record = {"segmentation": [polygon], "area": 123.25, "iscrowd": 0, "image_id": image, "bbox": box,
                      "category_id": 1 + i % 80, "id": i}  # fmt: skip
            file.write(("," if i else "") + json.dumps(record))
        categories = [{"supercategory": "x", "id": i, "name": f"class {i}"} for i in range(1, 81)]
        file.write('], "categories": ' + json.dumps(categories) + "}")
    return path


class Spread:
    """So many samples, evenly over a source: work costs memory, so that sets of any size have to be read as often."""

    def __init__(self, source: Any, count: int) -> None:
        self.source, self.count, self.labels = source, count, source.labels

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Any:
        return self.source.read(index * len(self.source) // self.count)


def proportional(pid: int) -> float:
    """Megabytes of a process, each page divided by the number of processes that have it.

    Without files, such as libraries: their share depends on the other processes of the machine.
    """
    lines = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(lines[kind].split()[0]) for kind in ("Pss_Anon", "Pss_Shmem")) / 1024


def loaders_memory(json_path: Path, folder: Path, method: str, workers: int, count: int) -> dict[str, float]:
    """Megabytes of this process and of its loader processes after two epochs of `count` samples."""
    from pocketvision.datasets.augmentation.policy import Transform
    from pocketvision.datasets.coco import CocoDetection
    from pocketvision.datasets.loading.augmented import AugmentedDataset
    from pocketvision.datasets.loading.batches import EpochSampler, make_loader

    if method != "default":
        multiprocessing.set_start_method(method)
    source: Any = Spread(CocoDetection(json_path, folder), count)
    dataset = AugmentedDataset(source, transform=Transform(input_size=(SIDE, SIDE), resize="stretch"))
    sampler = EpochSampler(len(dataset), batch_size=64, last="drop")
    loader = make_loader(dataset, batch_size=64, sampler=sampler, workers=workers)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for _ in loader:
            pass
    gc.collect()
    pids = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
    of_workers = [proportional(pid) for pid in pids]
    own = proportional(os.getpid())
    return {"parent": own, "worker": max(of_workers), "workers": sum(of_workers), "all": own + sum(of_workers)}


def json_peak(path: Path) -> dict[str, float]:
    """Megabytes that reading takes beyond what the process had, at most, and what is left of it."""
    from pocketvision.datasets.coco import read_coco

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _high_water()
    start = time.perf_counter()
    table = read_coco(path)
    seconds = time.perf_counter() - start
    peak = _high_water() - before
    return {"boxes": len(table.slots), "file": path.stat().st_size / 2**20, "peak": peak, "seconds": seconds}


def _high_water() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _in_a_process(*arguments: object) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "measure", *map(str, arguments)], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def compare(
    method: str, workers: int, sizes: tuple[int, int] = COCO, *, count: int | None = None
) -> dict[str, dict[str, float]]:
    """Megabytes of this process and of its loader processes, of both sets; and the increase.

    `count` samples are read in an epoch of either (None: as many as the large one has images).
    """
    with tempfile.TemporaryDirectory() as root:
        found = {}
        for name, (num_images, num_boxes) in {"small": (10, 73), "large": sizes}.items():
            path = write_coco(Path(root, name), num_images, num_boxes)
            found[name] = _in_a_process("loaders", path, Path(root, name), method, workers, count or sizes[0])
    found["increase"] = {key: found["large"][key] - found["small"][key] for key in found["small"]}
    return found


def measure_json(megabytes: int) -> dict[str, float]:
    """`json_peak` of a made-up file in which polygons have the points that COCO's have."""
    with tempfile.TemporaryDirectory() as root:
        num_boxes = megabytes * 1900
        path = write_coco(Path(root, "x"), num_boxes // 7, num_boxes, polygon_points=23)
        return _in_a_process("json", path)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", "loaders", path, folder, method, workers, count]:
            print(json.dumps(loaders_memory(Path(path), Path(folder), method, int(workers), int(count))))
        case ["measure", "json", path]:
            print(json.dumps(json_peak(Path(path))))
        case ["json", megabytes]:
            print(measure_json(int(megabytes)))
        case [method, workers]:
            for name, row in compare(method, int(workers)).items():
                print(f"{name:10}", "  ".join(f"{key} {value:8.1f} MB" for key, value in row.items()))
        case _:
            print(__doc__)
