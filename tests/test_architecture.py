"""The arrows between the rooms, no circle of imports among them, and the budgets of files and functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("backbones", "detection", "segmentation", "datasets", "conf", "tools")
_BELOW_TOOLS = {"backbones", "detection", "segmentation", "conf", "datasets/*"}
_RUN = {"tools/runs", "tools/quantizing", "tools/config", "tools/engine", "tools/system"}
_DATA = {"datasets/annotations", "datasets/images", "datasets/labels", "datasets/class_files"}
# The only arrows there are, from a room to the rooms that it may import. `datasets/*` is any room of datasets.
ARROWS: dict[str, set[str]] = {
    "backbones": set(),
    "detection": {"backbones"},
    "segmentation": {"backbones"},
    "conf": set(),
    "datasets/class_files": set(),
    "datasets/labels": {"datasets/class_files"},
    "datasets/images": {"datasets/labels"},
    "datasets/annotations": {"datasets/images", "datasets/labels"},
    "datasets/FORMAT": _DATA,
    "datasets/augmentation": {"datasets/annotations", "datasets/labels"},
    "datasets/loading": {"datasets/augmentation", *_DATA},
    "datasets/writing": {"datasets/shapes", *_DATA},
    "datasets/preparing": {"datasets/images", "datasets/labels"},
    "datasets/checking": {"datasets/FORMAT", *_DATA},
    "tools/command": {"tools/*"} | _BELOW_TOOLS,
    "tools/system": _BELOW_TOOLS,
    "tools/drawing": _BELOW_TOOLS,
    "tools/engine": {"tools/system", "conf"},  # it knows a Task, and no package of networks or data
    "tools/weights": {"tools/engine", "tools/system"} | _BELOW_TOOLS,
    "tools/config": {"tools/weights", "tools/engine", "tools/system"} | _BELOW_TOOLS,
    "tools/quantizing": {"tools/config", "tools/engine", "tools/system"} | _BELOW_TOOLS,
    "tools/runs": {"tools/quantizing", "tools/config", "tools/weights", "tools/engine", "tools/system"} | _BELOW_TOOLS,
    "tools/predicting": {"tools/drawing"} | _RUN | _BELOW_TOOLS,  # a Result draws itself
    "tools/evaluating": {"tools/predicting", "tools/drawing"} | _RUN | _BELOW_TOOLS,
    "tools/checking": {"tools/config", "tools/system", "tools/drawing"} | _BELOW_TOOLS,
    "tools/exporting": {"tools/evaluating", "tools/predicting"} | _RUN | _BELOW_TOOLS,
    "tools/reporting": {"tools/evaluating", "tools/predicting", "tools/drawing"} | _RUN | _BELOW_TOOLS,
    "tools/comparing": {"tools/evaluating", "tools/reporting", "tools/drawing"} | _RUN | _BELOW_TOOLS,
    "tools/benchmarking": {"tools/exporting", "tools/predicting", "tools/drawing"} | _RUN | _BELOW_TOOLS,
}
# A format that builds on another one.
FORMATS = {"coco_json": {"coco"}, "cityscapes": {"mask_folder"}, "image_folder": {"mask_folder"}}
Module = tuple[str, ...]
Sources = dict[Path, str]
SOURCES: Sources = {
    path.relative_to(ROOT): path.read_text() for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(path: Path, text: str) -> Iterator[tuple[Module, int]]:
    """(module, level) of every import in a file, functions included; one of ours counts from the root."""
    package = path.parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((tuple(alias.name.split(".")), 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = (*package[: len(package) - node.level + 1], *base)
            elif base[0] == "pocketvision":
                base = base[1:]
            else:
                yield base, 0
                continue
            yield from (((*base, alias.name), node.level) for alias in node.names)


def name_of(path: Path) -> Module:
    return path.parent.parts if path.stem == "__init__" else path.with_suffix("").parts


MODULES = {name_of(path) for path in SOURCES}


def reached(path: Path, text: str) -> set[Module]:
    """Which of our modules a file imports."""
    found = set()
    for name, _ in imports(path, text):
        found |= {name if name in MODULES else name[:-1]} & MODULES
    return found


def room_of(module: Module) -> str:
    """`datasets/images`; a format is a room of its own name, and every command is the room `tools/command`."""
    if module[0] not in ("datasets", "tools") or len(module) == 1:
        return module[0]
    is_room = (ROOT / module[0] / module[1]).is_dir() or len(module) > 2
    return f"tools/{module[1] if is_room else 'command'}" if module[0] == "tools" else f"datasets/{module[1]}"


def key_of(room: str) -> str:
    """The row of the table that a room stands in."""
    return room if room in ARROWS else "datasets/FORMAT"


def forbidden(sources: Sources) -> list[str]:
    """Every import that the table does not allow."""
    found = []
    for path, text in sources.items():
        source = room_of(path.with_suffix("").parts)
        allowed = ARROWS[key_of(source)] | {f"datasets/{name}" for name in FORMATS.get(path.stem, ())}
        for module in reached(path, text):
            target = room_of(module)
            matches = {target, key_of(target), f"{target.split('/')[0]}/*"}
            if (target != source or source == "tools/command") and not matches & allowed:
                found.append(f"{path} imports {'.'.join(module)}")
            if target == "tools/command" and (source != "tools/command" or module != path.with_suffix("").parts):
                found.append(f"{path} imports the command {'.'.join(module)}")
    return found


def circle(sources: Sources) -> list[Module]:
    """A circle of imports among our modules, those inside functions included; empty where there is none."""
    graph = {name_of(path): reached(path, text) - {name_of(path)} for path, text in sources.items()}
    done: set[Module] = set()

    def visit(module: Module, way: list[Module]) -> list[Module]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        found = next((c for after in sorted(graph[module]) if (c := visit(after, [*way, module]))), [])
        done.add(module)
        return found

    return next((c for module in sorted(graph) if (c := visit(module, []))), [])


def test_arrows_point_down() -> None:
    assert not forbidden(SOURCES)


def test_no_circle_of_imports() -> None:
    assert not circle(SOURCES)


@pytest.mark.parametrize("name", ["absent.py", "files.py", "retired.py"])
def test_what_every_room_may_use_uses_none(name: str) -> None:
    assert not reached(Path(name), (ROOT / name).read_text())


def test_every_room_says_what_it_is_for_and_stands_in_the_table() -> None:
    for folder in ("datasets", "tools"):
        for room in (path for path in (ROOT / folder).iterdir() if any(path.glob("*.py"))):
            assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room
            assert f"{folder}/{room.name}" in ARROWS


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("backbones/layers.py", "from ..detection import boxes"),
        ("detection/boxes.py", "from ..segmentation.metric import MeanIoU"),
        ("segmentation/metric.py", "from pocketvision.tools.config import build"),
        ("conf/schema.py", "from ..datasets.labels import LabelMap"),
        ("datasets/labels.py", "from .images.files import image_size"),
        ("datasets/images/files.py", "from ..annotations.sample import Sample"),
        ("datasets/annotations/boxes.py", "from ..coco import CocoDetection"),
        ("datasets/yolo.py", "from .mask_folder import MaskPairs"),
        ("datasets/augmentation/crops.py", "from ..images import decode"),
        ("datasets/loading/batches.py", "from ..coco import CocoDetection"),
        ("datasets/writing/box_writing.py", "from ..coco import CocoDetection"),
        ("datasets/preparing/targets.py", "from ..annotations.sample import Sample"),
        ("datasets/checking/check.py", "from ..loading.batches import collate"),
        ("tools/system/console.py", "from ..engine.task import Task"),
        ("tools/drawing/pictures.py", "from ..system.console import log"),
        ("tools/engine/loop.py", "from ...backbones import layers"),
        ("tools/weights/load.py", "from ..config import build"),
        ("tools/config/build.py", "def f():\n    from ..runs.keys import plain"),
        ("tools/runs/keys.py", "from ..evaluating.scores import load"),
        ("tools/predicting/load.py", "from ..exporting.metadata import describe_file"),
        ("tools/evaluating/scores.py", "from ..exporting.verify import verify"),
        ("tools/checking/written.py", "from ..reporting.page import page"),
        ("tools/exporting/verify.py", "from ..drawing import annotate"),
        ("tools/reporting/page.py", "from ..comparing.curves import read_curve"),
        ("tools/comparing/curves.py", "from ..exporting.metadata import describe_file"),
        ("tools/benchmarking/case.py", "from ..comparing.curves import read_curve"),
        ("tools/train.py", "from pocketvision.tools.evaluate import evaluate"),
        ("tools/runs/keys.py", "from pocketvision.tools.train import train"),
    ],
)
def test_a_forbidden_arrow_is_found(path: str, line: str) -> None:
    assert Path(path) in SOURCES
    assert forbidden({Path(path): line})


def test_a_circle_is_found() -> None:
    path = Path("tools/system/console.py")
    assert circle(SOURCES | {path: f"{SOURCES[path]}\ndef late():\n    from .caching import cached\n"})


def test_hydra_stays_in_its_room_and_only_commands_import_absolutely() -> None:
    for path, text in SOURCES.items():
        modules = list(imports(path, text))
        if path.parent != Path("tools/config"):
            assert not [name for name, _ in modules if name[0] == "hydra"], path
        if path.parts[0] != "tools":
            assert not [name for name, _ in modules if name[0] == "omegaconf"], path
        if path.parent != Path("tools"):
            absolute = [name for name, level in modules if level == 0 and name[0] in ("pocketvision", *FOLDERS)]
            assert not absolute, path


def test_files_and_functions_keep_their_budget() -> None:
    long = [f"{path} ({len(text.splitlines())} lines)" for path, text in SOURCES.items() if text.count("\n") > 400]
    for path, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            lines = (node.end_lineno or 0) - node.lineno + 1 if isinstance(node, ast.FunctionDef) else 0
            if lines > 60:
                long.append(f"{path}: {node.name} ({lines} lines)")
    assert not long


def test_datasets_is_a_namespace_folder() -> None:
    """With an __init__.py, running from the root would shadow Hugging Face's `datasets` for all that import it."""
    assert not (ROOT / "datasets" / "__init__.py").exists()
