"""Files that commands read back, damaged by a seed: what may happen is a result or one line that names the file.

A family takes a folder with a good run, a folder for the damaged copy, and a generator, and returns the damaged file
and what reads it, through the functions that the commands use. The trial itself is tests/datasets/mutations.py.
"""

import copy
import io
import json
import shutil
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import OmegaConf
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.datasets.preparing.preparation import RECORD, Record
from pocketvision.tools.comparing import band
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.comparing.evaluations import compare_evaluations, lines, load_evaluations
from pocketvision.tools.comparing.output import chart
from pocketvision.tools.comparing.output import lines as curve_lines
from pocketvision.tools.comparing.reference import read_reference
from pocketvision.tools.config.build import compose
from pocketvision.tools.engine import loop
from pocketvision.tools.engine.report import Report
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.paper import read_results
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.predictor import Predictor
from pocketvision.tools.reporting.facts import training_rows
from pocketvision.tools.reporting.writing import write_page
from pocketvision.tools.runs.folder import check_same_run
from pocketvision.tools.runs.loaded import load_run
from pocketvision.tools.train import train
from pocketvision.tools.weights.load import load_weights
from safetensors.torch import save_file
from torch import nn

mutations: Any = sys.modules["mutations"]  # tests/conftest.py loads it
Rng = np.random.Generator
Made = tuple[Path, Callable[[], Any]]
PHOTO = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
DEEP, DIGITS = "@deep", "@digits"  # stand for what no Python value can be written as
ODD = (*mutations.ODD, 10**400, 1e99, -(2**63), [[[]]], {"": None}, "${oc.env:HOME}", "${data}", DEEP, DIGITS)
TENSORS = (
    *(torch.zeros(0), torch.full((3,), torch.nan), torch.ones((), dtype=torch.int64), torch.zeros(2, 2, 2) > 0),
    *(torch.zeros(1).expand(30_000, 30_000), torch.ones(4, dtype=torch.complex64), torch.zeros(3).to_sparse()),
)


# ---- damage ----------------------------------------------------------------------------------------------


def changed(value: Any, rng: Rng, odd: Sequence[Any] = ODD) -> Any:
    """Up to three parts of a tree replaced by odd values, left out or doubled; few are at its leaves."""
    value = copy.deepcopy(value)
    for _ in range(rng.integers(1, 4)):
        node: Any = value
        while isinstance(node, dict | list) and node:
            keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[int(rng.integers(len(keys)))]
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.75:
                node = node[key]
                continue
            mutations.damage_part(node, key, rng, odd=odd, actions=5)
            break
    return value


def json_text(value: Any, rng: Rng, indent: int | None = None) -> bytes:
    """The text of a changed JSON; now and then it is damaged itself."""
    text = json.dumps(changed(value, rng), indent=indent)
    text = text.replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000).replace(f'"{DIGITS}"', "9" * 5000)
    return mutations.damage(text.encode(), rng) if rng.random() < 0.25 else text.encode()


def rows_text(rows: list[Any], rng: Rng) -> bytes:
    return b"".join(json_text(row, rng) + b"\n" if rng.random() < 0.3 else json.dumps(row).encode() + b"\n"
                    for row in rows)  # fmt: skip


def arrays_bytes(arrays: dict[str, np.ndarray], rng: Rng) -> bytes:
    """A .npz with one of its arrays changed; or its bytes damaged."""
    arrays, file = dict(arrays), io.BytesIO()
    name = list(arrays)[rng.integers(len(arrays))]
    array = arrays.pop(name)
    whole = rng.random() < 0.6
    if whole:
        other: list[Any] = [
            array.astype(np.float64) * np.nan, array.astype(np.float32), array.astype(np.int8), array[..., None],
            array[:-1], array.ravel(), np.concatenate([array, array]) if array.ndim else array, np.array("x"),
            np.zeros((0, 7)), -array.astype(np.int64) - 1, array.astype(np.complex64), np.full(array.shape, 2**62),
            array.astype(np.float64) * 1e300, np.zeros(3, [("a", "f4"), ("b", "i2")]), np.array(5, "M8[s]"),
        ]  # fmt: skip
        if (choice := int(rng.integers(len(other) + 1))) < len(other):
            arrays[name if rng.random() < 0.9 else f"{name}x"] = other[choice]
    else:
        arrays[name] = array
    save: Any = np.savez_compressed if rng.random() < 0.5 else np.savez
    save(file, **arrays)
    return file.getvalue() if whole else mutations.damage(file.getvalue(), rng)


def saved(content: Any, rng: Rng) -> bytes:
    """What torch.save writes of a changed tree; or of the tree, damaged."""
    file, whole = io.BytesIO(), rng.random() < 0.75
    torch.save(changed(content, rng, (*ODD, *TENSORS)) if whole else content, file)
    return file.getvalue() if whole else mutations.damage(file.getvalue(), rng)


# ---- what a run leaves behind ----------------------------------------------------------------------------


def copied(run: Path, folder: Path, *names: str) -> Path:
    """Some files and folders of a run."""
    for name in names:
        target = folder / run.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, target)
    return folder / run.name


def summary(run: Path, folder: Path, rng: Rng) -> Made:
    path = copied(run, folder, "report") / "report/summary.json"
    path.write_bytes(json_text(json.loads(path.read_bytes()), rng))
    return path, lambda: write_page([path.parent.parent], folder / "page.html")


def evaluation(run: Path, folder: Path, rng: Rng) -> Made:
    path = copied(run, folder, "results.json", "results.npz") / "results.npz"
    with np.load(path) as file:
        arrays = dict(file)
    if rng.random() < 0.5:
        text = json_text(json.loads(arrays["header"].tobytes()), rng)
        arrays["header"] = np.frombuffer(text, np.uint8)
        np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    else:
        path.write_bytes(arrays_bytes(arrays, rng))

    def compare() -> None:
        order = [str(run), str(path.parent)] if rng.random() < 0.5 else [str(path.parent), str(run)]
        lines(compare_evaluations(load_evaluations(order), samples=20, seed=0))

    return path, compare


def results(run: Path, folder: Path, rng: Rng) -> Made:
    path = copied(run, folder, "results.json", "config.yaml") / "results.json"
    path.write_bytes(json_text(json.loads(path.read_bytes()), rng))
    config = path.with_name("config.yaml")
    config.write_text(config.read_text().replace("name: ", "name: imagenet_v3_small\nformerly: "))
    return path, lambda: read_results([str(path)])


def curve(run: Path, reference: Path) -> None:
    found = band.compare(read_run(run), read_reference(reference))
    departs, _ = band.verdict(found)
    curve_lines(found, departs=departs)
    chart(found)


def reference(run: Path, folder: Path, rng: Rng) -> Made:
    path = folder / "reference.json"
    path.write_bytes(json_text(json.loads((run / "curve.json").read_bytes()), rng, indent=1))
    return path, lambda: curve(run, path)


def configuration(run: Path, folder: Path, rng: Rng) -> Made:
    path = copied(run, folder, "config.yaml", "metrics.jsonl", "checkpoints") / "config.yaml"
    content = yaml.safe_load(path.read_text())
    text = yaml.safe_dump(changed(content, rng)).replace(f"'{DEEP}'", "[" * 5000 + "]" * 5000)
    path.write_bytes(mutations.damage(path.read_bytes(), rng) if rng.random() < 0.5 else text.encode(errors="replace"))
    if rng.random() < 0.5:
        return path, lambda: curve(path.parent, run / "curve.json")
    config: Any = OmegaConf.create(content)
    return path, lambda: check_same_run(path.parent, config)


def metrics(run: Path, folder: Path, rng: Rng) -> Made:
    path = copied(run, folder, "config.yaml", "metrics.jsonl") / "metrics.jsonl"
    text = path.read_bytes()
    rows = [json.loads(line) for line in text.splitlines()]
    path.write_bytes(rows_text(rows, rng) if rng.random() < 0.7 else mutations.damage(text, rng))
    step = max(row["step"] for row in rows)
    readers: list[Callable[[], Any]] = [
        lambda: curve(path.parent, run / "curve.json"),
        lambda: Report(path.parent, step=step, evaluated=step).close(),
        lambda: training_rows(path.parent),
    ]
    return path, readers[rng.integers(3)]


def record(run: Path, folder: Path, rng: Rng) -> Made:
    path = folder / RECORD
    Record("voc", {"a.tar": {"images/a.jpg": 7, "images/b.jpg": 9}}).save(folder)
    path.write_bytes(json_text(json.loads(path.read_bytes()), rng))

    def read() -> None:
        found = Record.load(folder, "voc")
        for part in found.parts:
            found.lost(folder, part)
        found.save(folder)

    return path, read


# ---- weights ---------------------------------------------------------------------------------------------


def checkpoint(run: Path, folder: Path, rng: Rng) -> Made:
    """best.pt as `predict` and `weights=` read it; or last.pt as a resume does, or the report of a bad step."""
    names = ("best.pt", "best.pt", "last.pt", "replay.pt")
    path = folder / run.name / "checkpoints" / names[rng.integers(4)]
    path.parent.mkdir(parents=True)
    content = load_checkpoint(run / "checkpoints/last.pt")
    if path.name == "replay.pt":
        content |= {"samples": [[[[0, i, "a"] for i in range(4)]]], "losses": {"loss": 1.0}, "grad_norm": 2.0}
    path.write_bytes(saved(content, rng))
    if path.name == "best.pt" and rng.random() < 0.7:
        return path, lambda: Predictor(load_run(path))(PHOTO)
    changes: dict[str, Any] = {"run_dir": str(path.parent.parent), "replay": path.name == "replay.pt"}
    if path.name == "best.pt":
        path.rename(moved := path.with_name("moved.pt"))
        return moved, lambda: trained(run, changes | {"weights": str(moved), "weights_new_predictors": True})
    return path.parent, lambda: trained(run, changes)  # or the run's folder is named


@cache
def training_config(run: Path) -> Any:
    return compose(*json.loads((run / "train.json").read_text()))


def trained(run: Path, changes: dict[str, Any]) -> None:
    """`train`, without a step: all that is read is read before."""
    config: Any = OmegaConf.merge(training_config(run), changes)
    fit, loop.fit = loop.fit, lambda run, train, val: loop.resume(run) or {}
    try:
        with first_line():
            train(config)
    finally:
        loop.fit = fit


def variables(run: Path, folder: Path, rng: Rng) -> Made:
    path = folder / "w.npz"
    with np.load(run.parent / "tf.npz") as file:
        path.write_bytes(arrays_bytes(dict(file), rng))
    options: dict[str, Any] = {"minimalistic": True, "padding": "same"}
    model = MobileNetV3("small", **options)
    return path, lambda: loaded(model, path, source="tf")


@contextmanager
def first_line() -> Iterator[None]:
    """Weights that are whole but do not fit are an error of several lines, of which the first counts."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).partition("match this model:\n")[0]) from error


def loaded(model: nn.Module, path: Path, source: str = "pocketvision") -> None:
    with first_line():
        load_weights(model, path, source=source)


def tensors(run: Path, folder: Path, rng: Rng) -> Made:
    """A state dict of others, as safetensors or as torch saves it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    path = folder / ("w.safetensors" if rng.random() < 0.6 else "w.pth")
    if path.suffix == ".pth":
        path.write_bytes(saved({"model": dict(model.state_dict())}, rng))
    else:
        save_file(model.state_dict(), path)
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        text = json_text(json.loads(content[8:end]), rng)
        path.write_bytes(
            len(text).to_bytes(8, "little") + text + content[end:]
            if rng.random() < 0.6
            else mutations.damage(content, rng)
        )
    return path, lambda: loaded(model, path)


# ---- exported files --------------------------------------------------------------------------------------


def exported(run: Path, folder: Path, rng: Rng, *, ending: str) -> Made:
    """An exported file with another part, other metadata or damaged bytes."""
    path = copied(run, folder, *(file.name for file in run.glob(f"model{ending}"))) / f"model{ending}"
    other = shutil.copy(run / "model.bin", path.with_suffix(".bin")) if ending == ".xml" else path
    if rng.random() < 0.3:
        damaged = Path(other) if rng.random() < 0.5 else path
        damaged.write_bytes(mutations.damage(damaged.read_bytes(), rng))
    else:
        {".onnx": _change_onnx, ".xml": _change_xml, ".pt2": _change_program}[ending](path, rng)
    return path, lambda: load_file(path, threads=1)(PHOTO)


def _about(text: str, rng: Rng) -> str:
    return json_text(json.loads(text), rng).decode(errors="replace")


def _change_onnx(path: Path, rng: Rng) -> None:
    import onnx

    model: Any = onnx.load(path)
    graph = model.graph
    node, weight = (parts[rng.integers(len(parts))] for parts in (graph.node, graph.initializer))
    entry = next(entry for entry in model.metadata_props if entry.key == "pocketvision")
    others = [other.output[0] for other in graph.node]
    changes: list[Callable[[], Any]] = [
        *[lambda: setattr(entry, "value", _about(entry.value, rng))] * 6,
        lambda: weight.dims.append(3),
        lambda: setattr(weight, "data_type", int(rng.integers(20))),
        lambda: setattr(weight, "raw_data", weight.raw_data[:-1]),
        lambda: graph.node.remove(node),
        lambda: setattr(node, "op_type", graph.node[rng.integers(len(graph.node))].op_type),
        lambda: node.input and node.input.__setitem__(0, others[rng.integers(len(others))]),
        lambda: node.attribute and node.attribute.pop(),
        lambda: [setattr(one, "i", int(rng.integers(-9, 9))) or one.ints.append(2) for one in node.attribute],
        lambda: graph.input[0].type.tensor_type.shape.dim.pop(),
        lambda: setattr(graph.output[0], "name", "x"),
        lambda: graph.output.pop(),
        lambda: setattr(model.opset_import[0], "version", int(rng.integers(1, 40))),
    ]
    changes[rng.integers(len(changes))]()
    path.write_bytes(model.SerializeToString())


def _change_xml(path: Path, rng: Rng) -> None:
    tree = ET.parse(path)
    abouts = [one for one in tree.iter() if "value" in one.attrib and "interface" in one.attrib["value"]]
    if rng.random() < 0.5:
        abouts[0].attrib["value"] = _about(abouts[0].attrib["value"], rng).replace("\0", "")
    else:
        parts = [one for one in tree.iter() if one.attrib]
        part = parts[rng.integers(len(parts))]
        name = list(part.attrib)[rng.integers(len(part.attrib))]
        part.attrib[name] = ("-1", "", "x", str(2**40), "1,1", "i64", "Add", "nan")[rng.integers(8)]
    tree.write(path)


def _change_program(path: Path, rng: Rng) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    named = [name for name in members if name.endswith((".json", "weight_0")) and members[name]]
    name = named[rng.integers(len(named))]
    members[name] = (
        json_text(json.loads(members[name]), rng) if name.endswith("json") else mutations.damage(members[name], rng)
    )
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


KINDS = ("detection", "segmentation", "classification")
FAMILIES: dict[str, tuple[Callable[..., Made], Sequence[str]]] = {
    "summary": (summary, KINDS),
    "results.npz": (evaluation, KINDS[:2]),
    "results.json": (results, KINDS[2:]),
    "reference": (reference, KINDS[:1]),
    "config.yaml": (configuration, KINDS[:1]),
    "metrics.jsonl": (metrics, KINDS[:1]),
    "record": (record, KINDS[:1]),
    "checkpoint": (checkpoint, KINDS),
    "variables": (variables, KINDS[:1]),
    "tensors": (tensors, KINDS[:1]),
    **{f"model{ending}": (partial(exported, ending=ending), KINDS) for ending in (".onnx", ".xml", ".pt2")},
}


def families(good: Path) -> dict[str, Callable[[Path, Rng], Made]]:
    """Every family by name, for those kinds whose run is in `good`."""
    return {
        f"{name} {kind}": partial(make, good / kind)
        for name, (make, kinds) in FAMILIES.items()
        for kind in kinds
        if (good / kind).is_dir() and (not name.startswith("model.") or (good / kind / name).is_file())
    }
