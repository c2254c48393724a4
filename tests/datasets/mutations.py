"""Damaged inputs by the thousand, made by a seed: what may happen is a good sample or one line that names the file.

python tests/datasets/mutations.py [COUNT [SEED]]

A family is a function that writes a small data set into an empty folder, damages one file of it by `rng`, and returns
that file and what reads the set. To try another format, add one to FAMILIES.
"""

import collections
import copy
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pocketvision.datasets.augmentation.policy import Transform
from pocketvision.datasets.checking.check import check_data
from pocketvision.datasets.checking.reading import read_split
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.image_folder import ImageFolder
from pocketvision.datasets.images.decode import decode_instances
from pocketvision.datasets.loading.augmented import AugmentedDataset
from pocketvision.datasets.loading.batches import make_loader
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.datasets.voc import VocDetection
from pocketvision.datasets.yolo import YoloDetection
from torch.utils.data import DataLoader, Dataset

Rng = np.random.Generator
Made = tuple[Path, Callable[[], Any]]
SIZE = (48, 64)  # h, w
TIME_LIMIT = 20.0  # seconds, of one input
MEMORY_LIMIT = 3000  # megabytes, of one input: a picture within the limit of pixels may need that
ODD = (None, True, -1, 0, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**70, "", "x", "\0", "../x",
       "a" * 5000, "\ud800", [], [[]], {}, {"id": 1}, [1] * 9, "日本")  # fmt: skip


# ---- damage ----------------------------------------------------------------------------------------------


def damage(data: bytes, rng: Rng) -> bytes:
    """Cut, flipped, overwritten, left out, doubled, or put in: up to three times."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # Headers are where most goes wrong: half of all damage is done in the first hundred bytes.
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 100)
        start = int(rng.integers(end)) if end else 0
        length = int(rng.integers(1, 17))
        part = slice(start, start + length)
        match rng.integers(8):
            case 0:
                del changed[start:]
            case 1:
                for place in rng.integers(start, len(changed), 4) if start < len(changed) else ():
                    changed[place] ^= 1 << int(rng.integers(8))
            case 2:
                changed[part] = rng.bytes(length)
            case 3:
                del changed[part]
            case 4:
                changed[start:start] = changed[part]
            case 5:
                changed[start:start] = rng.bytes(length * 10)
            case 6:
                changed[part] = b"\xff" * len(changed[part])
            case 7:
                changed[part] = b"\0" * len(changed[part])
    return _with_valid_sums(changed) if rng.random() < 0.5 else bytes(changed)


def _with_valid_sums(data: bytearray) -> bytes:
    """A PNG's chunks with the checksums of what is in them now: otherwise a decoder looks no further."""
    position = 8
    while data.startswith(b"\x89PNG") and position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big") if end + 4 <= len(data) else b""
        position = end + 4
    return bytes(data)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a json value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in pairs for found in [(value, key), *places(inner)]]


def damaged_value(value: Any, rng: Rng) -> Any:
    """Values of a json replaced by odd ones, keys left out, entries doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.integers(1, 4)):
        if not (found := places(value)):
            break
        container, key = found[rng.integers(len(found))]
        damage_part(container, key, rng)
    return value


def damage_part(container: Any, key: Any, rng: Rng, *, odd: Sequence[Any] = ODD, actions: int = 4) -> None:
    """Leave a part out, double it, or (all other actions) replace it by an odd value."""
    match rng.integers(actions):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        case _:
            container[key] = copy.deepcopy(odd[int(rng.integers(len(odd)))])  # else one could come into itself


def damaged_json(value: Any, rng: Rng) -> bytes:
    """The text of a `damaged_value`; now and then it is damaged itself."""
    text = json.dumps(damaged_value(value, rng)).encode()
    return damage(text, rng) if rng.random() < 0.3 else text


# ---- what is read ----------------------------------------------------------------------------------------


def picture(kind: str, rng: Rng) -> bytes:
    """A photograph-like picture in one of the formats, with one of its options."""
    image = Image.fromarray(cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), SIZE[::-1]))
    options: dict[str, Any] = {}
    choice = int(rng.integers(4))
    if kind == "JPEG":
        exif = Image.Exif()
        exif[0x0112] = 6 if choice == 3 else 1
        options = {"progressive": choice == 1, "exif": exif}
        image = image.transpose(Image.Transpose.ROTATE_90) if choice == 3 else image
        image = image.convert("CMYK") if choice == 2 else image
    elif kind in ("PNG", "TIFF", "WEBP"):
        image = (image, image.convert("RGBA"), image.convert("L"), image.quantize(16))[choice]
        options = {"compression": ("raw", "tiff_lzw", "packbits", "tiff_deflate")[choice]} if kind == "TIFF" else {}
        if kind == "WEBP" and image.mode == "P":
            image = image.convert("RGB")
    return encoded(image, kind, **options)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    with tempfile.SpooledTemporaryFile() as file:
        image.save(file, kind, **options)
        file.seek(0)
        return file.read()


def annotations(name: str) -> dict[str, Any]:
    box = {"image_id": 1, "category_id": 3, "bbox": [2, 3.5, 10, 8], "area": 80.0, "iscrowd": 0, "id": 1}
    return {
        "info": {},
        "images": [{"id": 1, "file_name": name, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [box, {**box, "id": 2, "iscrowd": 1, "segmentation": {"counts": [1], "size": [2, 3]}}],
        "categories": [{"id": 3, "name": "car", "supercategory": "vehicle"}, {"id": 5, "name": "b"}],
    }


def read_all(source: Any, *, size: tuple[int, int] | None) -> None:
    """Every sample, through the loader, as training and as evaluation have it."""
    resize = "none" if size is None else "stretch"
    for truth in (False, True):
        transform = Transform(input_size=size, resize=resize, exact=truth)
        for batch in make_loader(AugmentedDataset(source, transform=transform, ground_truth=truth), batch_size=1):
            assert len(batch) == 1
    source.fingerprint()


def read_or_check(
    source: type, rng: Rng, *, size: tuple[int, int] | None = (32, 32), **arguments: Any
) -> Callable[[], Any]:
    """What training and evaluation do with a data set, or what `check-data` does."""

    def check() -> None:
        given = {"train": lambda report, train: read_split(source, arguments, labels=None, report=report)}
        check_data(given, workers=0, input_size=SIZE)

    return check if rng.random() < 0.5 else lambda: read_all(source(**arguments), size=size)


def images_of(kind: str) -> Callable[[Path, Rng], Made]:
    def family(folder: Path, rng: Rng) -> Made:
        path = folder / f"images/a.{kind.lower()}"
        path.parent.mkdir()
        path.write_bytes(damage(picture(kind, rng), rng))
        (folder / "a.json").write_text(json.dumps(annotations(path.name)))
        return path, read_or_check(CocoDetection, rng, annotations=folder / "a.json", images=path.parent)

    return family


def coco(folder: Path, rng: Rng) -> Made:
    (folder / "images").mkdir()
    (folder / "images/a.png").write_bytes(picture("PNG", rng))
    path = folder / "mangled.json"
    path.write_bytes(damaged_json(annotations("a.png"), rng))
    return path, read_or_check(CocoDetection, rng, annotations=path, images=folder / "images")


def mask_data(folder: Path, mask: bytes, rng: Rng) -> Path:
    for name in ("images", "labels"):
        (folder / "train" / name).mkdir(parents=True)
    (folder / "train/images/a.jpg").write_bytes(encoded(Image.new("RGB", SIZE[::-1]), "JPEG"))
    path = folder / "train/labels/a.png"
    path.write_bytes(mask)
    return path


def masks(folder: Path, rng: Rng) -> Made:
    """Class numbers in all kinds of PNG, damaged; or whole, but of a type that no mask is."""
    values = rng.integers(0, 3, SIZE, np.uint8)
    grey = Image.fromarray(values)
    palette = grey.copy()
    palette.putpalette([0, 0, 0, 9, 9, 9, 20, 20, 20])
    colours = Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8))
    floats = Image.fromarray(rng.random(SIZE, np.float32) * 3)
    wide = Image.fromarray(rng.integers(0, 4 if rng.random() < 0.5 else 60_000, SIZE, np.uint16))
    good = [encoded(image, "PNG") for image in (grey, palette, grey.convert("1"), grey.convert("RGB"), wide)]
    good += [encoded(palette, "PNG", bits=2), encoded(palette, "GIF"), encoded(grey, "TIFF"), encoded(wide, "TIFF")]
    odd = [encoded(colours, "PNG"), encoded(floats, "TIFF"), encoded(grey.convert("LA"), "PNG"), b"", b"text"]
    odd += [encoded(colours, "JPEG"), encoded(grey.resize((9, 9)), "PNG"), encoded(colours.convert("RGBA"), "PNG")]
    data = damage(good[rng.integers(len(good))], rng) if rng.random() < 0.7 else odd[rng.integers(len(odd))]
    path = mask_data(folder, data, rng)
    return path, read_or_check(MaskFolder, rng, size=None, root=folder, classes=["a", "b", "c"])


def instances(folder: Path, rng: Rng) -> Made:
    path = folder / "instances.png"
    ids = Image.fromarray(rng.integers(0, 34_000, SIZE, np.uint16))
    path.write_bytes(damage(encoded(ids, "PNG"), rng))
    return path, lambda: decode_instances(path)


def class_files(folder: Path, rng: Rng) -> Made:
    mask_data(folder, encoded(Image.fromarray(rng.integers(0, 3, SIZE, np.uint8)), "PNG"), rng)
    rows = [{"id": i, "name": name, "color": [i, 2, 3]} for i, name in enumerate(("a", "b", "c"))]
    csv_text = "id,name,r,g,b\n0,a,1,2,3\n1,b,1,2,3\n2,c,1,2,3\n"
    ending, data = [
        (".json", damaged_json(rows, rng)),
        (".json", damaged_json({"0": "a", "1": "b", "2": "c"}, rng)),
        (".csv", damage(csv_text.encode(), rng)),
        (".txt", damage(b"a\nb\nc\n", rng)),
    ][rng.integers(4)]
    path = folder / f"classes{ending}"
    path.write_bytes(data)
    return path, read_or_check(MaskFolder, rng, size=None, root=folder, classes=path)


def class_folders(folder: Path, rng: Rng) -> Made:
    path = folder / "train/cat/a.webp"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage(picture("WEBP", rng), rng))
    return path, read_or_check(ImageFolder, rng, root=folder)


def voc(folder: Path, rng: Rng) -> Made:
    things = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>3</ymin>"
        f"<xmax>{x + 9}</xmax><ymax>20</ymax></bndbox></object>"
        for name, x in (("cat", 2), ("dog", 30))
    )
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    path = folder / "a.xml"
    path.write_bytes(damage(f"<annotation><filename>a.png</filename>{size}{things}</annotation>".encode(), rng))
    path.with_suffix(".png").write_bytes(picture("PNG", rng))
    return path, read_or_check(VocDetection, rng, root=folder)


def yolo(folder: Path, rng: Rng) -> Made:
    """A label file or a data.yaml."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    (folder / "images/a.png").write_bytes(picture("PNG", rng))
    labels, table = b"0 0.5 0.5 0.25 0.5\n1 0.3 0.3 0.1 0.2\n1 0.1 0.1 0.4 0.1 0.4 0.6\n", b"names: [cat, dog]\n"
    table = b"path: .\ntrain: images\nval: images\nnc: 2\n" + table
    path = folder / ("data.yaml" if rng.random() < 0.4 else "labels/a.txt")
    (folder / "data.yaml").write_bytes(table)
    (folder / "labels/a.txt").write_bytes(labels)
    path.write_bytes(damage(path.read_bytes(), rng))
    root = folder / "data.yaml"
    return path, read_or_check(YoloDetection, rng, root=root)


def colored_masks(folder: Path, rng: Rng) -> Made:
    colors = np.array([[1, 2, 3], [200, 0, 0], [0, 9, 0]], np.uint8)
    data = damage(encoded(Image.fromarray(colors[rng.integers(0, 3, SIZE)]), "PNG"), rng)
    path = mask_data(folder, data, rng)
    (folder / "classes.csv").write_text("name,r,g,b\na,1,2,3\nb,200,0,0\nc,0,9,0\n")
    classes = folder / "classes.csv"
    return path, read_or_check(MaskFolder, rng, size=None, root=folder, classes=classes)


FAMILIES: dict[str, Callable[[Path, Rng], Made]] = {
    **{f"image {kind}": images_of(kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")},
    "coco json": coco,
    "mask": masks,
    "instances": instances,
    "class file": class_files,
    "class folder": class_folders,
    "voc xml": voc,
    "yolo": yolo,
    "coloured mask": colored_masks,
}


# ---- the trial -------------------------------------------------------------------------------------------


def high_water(*, restart: bool = False) -> float:
    """The most megabytes this process had, since the last restart on Linux."""
    if restart and Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    if not (status := Path("/proc/self/status")).exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


class Trial(Dataset[dict[str, Any]]):
    """Input number i of a seed: made, read, and what came of it."""

    def __init__(
        self, count: int, seed: int = 0, families: dict[str, Callable[[Path, Rng], Made]] = FAMILIES, *,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:  # fmt: skip
        self.count, self.seed, self.families, self.memory_limit = count, seed, families, memory_limit

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = list(self.families)[index % len(self.families)]
        folder = Path(tempfile.mkdtemp(prefix=f"mutation-{index}-"))
        try:
            path, read = self.families[name](folder, np.random.default_rng((self.seed, index)))
            start, before = time.perf_counter(), high_water(restart=True)
            result, problem = _outcome(path, read)
            seconds, memory = time.perf_counter() - start, high_water() - before
            if seconds > TIME_LIMIT or memory > self.memory_limit:
                problem = problem or f"{seconds:.1f} s, {memory:.0f} MB"
            return {"index": index, "family": name, "result": result, "problem": problem, "seconds": seconds,
                    "memory": memory}  # fmt: skip
        finally:
            shutil.rmtree(folder)


def _outcome(path: Path, read: Callable[[], Any]) -> tuple[str, str]:
    """ "read" or "refused", and what is wrong with that."""
    with warnings.catch_warnings(record=True) as noise:
        warnings.simplefilter("always")
        try:
            read()
            result, problem = "read", ""
        except (ValueError, OSError) as error:
            text = str(error)
            result, problem = "refused", ""
            if str(path) not in text and str(path.parent) not in text:  # or another file, which does not go with it
                problem = f"does not name the file: {type(error).__name__}: {text}"
            elif "\n" in text.strip():
                problem = f"more than a line: {text}"
        except Exception as error:
            result, problem = "traceback", f"{type(error).__name__}: {error}"
    told = {f"{w.category.__name__}: {w.message}" for w in noise if not issubclass(w.category, DeprecationWarning)}
    return result, problem or (f"warns: {sorted(told)[0]}" if told else "")


def run(trial: Trial, workers: int = 2) -> list[dict[str, Any]]:
    """All inputs, read in loader processes, whose death or silence ends the trial with an error."""
    loader = DataLoader(trial, batch_size=None, num_workers=workers, timeout=3 * TIME_LIMIT if workers else 0)
    found: list[dict[str, Any]] = []
    try:
        for row in loader:
            found.append(row)
            if row["problem"]:
                print(f"{trial.seed}:{row['index']} {row['family']}: {row['problem'][:300]}", flush=True)
    except RuntimeError as error:
        raise RuntimeError(f"input {len(found)} or one soon after it: {error}") from error
    return found


def tally(found: list[dict[str, Any]], family: str) -> str:
    """How many inputs of a family were read, or refused, and how long that took."""
    rows = [row for row in found if row["family"] == family]
    counts = collections.Counter(row["result"] for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    return "  ".join(f"{result} {n:4}" for result, n in sorted(counts.items())) + f"  {seconds:.0f} s"


def main(count: int = 5000, seed: int = 0) -> None:
    """Try so many and print what came of them; exit status 1 where something was wrong."""
    start = time.perf_counter()
    found = run(Trial(count, seed), workers=multiprocessing.cpu_count())
    for family in FAMILIES:
        print(f"{family:14}", tally(found, family))
    seconds, memory = (max(row[key] for row in found) for key in ("seconds", "memory"))
    print(f"slowest {seconds:.2f} s, most memory {memory:.0f} MB, {time.perf_counter() - start:.0f} s in all")
    wrong = [row for row in found if row["problem"]]
    for row in sorted(found, key=lambda row: row["memory"])[-3:]:
        print(f"{row['index']:5} {row['family']}: {row['seconds']:.2f} s, {row['memory']:.0f} MB")
    print(f"{len(wrong)} of {count} went wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
