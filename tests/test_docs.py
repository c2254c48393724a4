"""What the documentation says: every command composes and runs, every link leads somewhere, the reference is true."""

import importlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from pocketvision.backbones.classifier import Classifier
from pocketvision.backbones.mobilenet_v3 import MobileNetV3
from pocketvision.conf.reference import reference
from pocketvision.conf.schema import CONFIGS
from pocketvision.datasets.annotations.faults import KINDS
from pocketvision.tools.system.console import log
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

# What makes a command short enough to be tried, by its name.
SHORT = {
    "train": [
        *("epochs=5", "max_steps=12", "batch_size=2", "lr_batch_size=2", "eval_every=5", "workers=0", "device=cpu"),
        *("threads=1", "data.input_size=[96,96]"),
    ],
    "browse": ["count=4", "data.input_size=[96,96]"],
    "evaluate": ["workers=0", "device=cpu", "threads=1"],
    "predict": ["device=cpu", "threads=1"],
    "export": ["num_photos=1", "threads=1"],
    "benchmark": [
        *("rounds=1", "batch_size=2"),
        "repeats=1",
        "warmup=0",
        "memory=false",
        "threads=1",
        "device=cpu",
    ],
    # The pages' data are so few that all else would be wrong about them.
    "check-data": [
        "workers=0",
        "ignore=[class_absent,class_rare,class_untrained,class_unevaluated,no_anchor,unlisted]",
    ],
}
# Composed only: these take minutes, whole trainings, a network, several GPUs, packages that are
# not in dev, or files that others released.
NOT_TRIED = (
    r"torchrun|weights=|weights_source=|latency=true|import-weights|vision paper\b|imagenet"
    r"|curve=|write=curve|results=\[|photo_size=|paper/|info |downloads/|data.root=/data/voc"
    r"|data.root=/data/camvid|format=(executorch|coreml|litert)|formats="
)


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Every `pocketvision` line of a page's shell blocks, and its arguments."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = [word for word in shlex.split(line, comments=True) if word != "..."]
            if "pocketvision" in words[:5] and "install" not in words:
                found.append((line, words[words.index("pocketvision") + 1 :]))
    return [(line, words) for line, words in found if words]


WITH_COMMANDS = [(page, name) for page, name in zip(PAGES, NAMES, strict=True) if commands(page)]


def run(words: list[str]) -> None:
    module = importlib.import_module(f"pocketvision.tools.{words[0].replace('-', '_')}")
    module.main(words[1:])


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    """Commands set up the log of their process, which other tests share."""
    before = log.handlers, log.level, log.propagate
    yield
    log.handlers, log.level, log.propagate = before


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages speak of, made of generated scenes."""
    folder = tmp_path_factory.mktemp("docs")
    for layout in ("coco", "cityscapes"):
        size = "size=[96,96]" if layout == "coco" else "size=[96,192]"
        run(
            [
                "prepare",
                "shapes",
                f"output={folder}/data/{layout}",
                f"layout={layout}",
                "num_train=6",
                "num_val=2",
                size,
            ]
        )
    coco = folder / "data" / "coco"
    (folder / "photos").mkdir()
    (folder / "holiday").mkdir()
    for path in sorted(coco.glob("*2017/*.jpg")):
        (folder / "photos" / path.name).write_bytes(path.read_bytes())
    for name in ("photo.jpg", "street.jpg", "holiday/1.jpg", "photos/1.jpg"):
        (folder / name).write_bytes(path.read_bytes())
    shutil.copytree(coco / "val2017", folder / "val2017")
    shutil.copy(coco / "annotations" / "instances_val2017.json", folder)
    film = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 96))
    for path in sorted((folder / "photos").iterdir()):
        film.write(cv2.imread(str(path)))
    film.release()
    for split in ("train", "val"):
        (folder / f"{split}.json").write_bytes((coco / f"annotations/instances_{split}2017.json").read_bytes())
        for kind in ("images", "labels"):
            (folder / "mine" / split / kind).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / "mine" / split / "images" / f"{i}.jpg"), np.full((96, 96, 3), 80 * i, np.uint8))
            cv2.imwrite(str(folder / "mine" / split / "labels" / f"{i}.png"), np.full((96, 96), i, np.uint8))
    templates = {
        "boxes": ["experiment=small_detection", "data=coco", f"data.root={coco}"],
        "masks": ["experiment=lraspp_cityscapes", f"data.root={folder}/data/cityscapes"],
    }
    for name, keys in templates.items():
        run(["train", f"name={name}", f"run_dir={folder}/templates/{name}", *keys, *SHORT["train"]])
    return folder


def test_there_are_commands_of_every_kind() -> None:
    assert {words[0] for page in PAGES for _, words in commands(page)} == {name.replace("_", "-") for name in CONFIGS}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_composes(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pocketvision"])
    for _, words in commands(page):
        run([*words, "--cfg", "job"])
        assert "hydra" not in capsys.readouterr().err


def test_the_configuration_reference_is_true() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), (
        "python -m pocketvision.conf.reference docs/configuration.md"
    )


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.parametrize("page", [page for page, _ in WITH_COMMANDS], ids=[name for _, name in WITH_COMMANDS])
def test_every_command_runs(
    page: Path, workspace: Path, traced_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the page, on generated scenes, and short."""
    shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pocketvision"])
    for line, words in commands(page):
        if re.search(NOT_TRIED, line):
            continue
        for name in re.findall(r"(?:run=| )runs/(\w+)", " ".join(words)):
            if not Path("runs", name).exists():  # a page that begins with a run that is there
                kind = "masks" if re.search("lraspp|city|espnet|masks", name) else "boxes"
                shutil.copytree(Path("templates", kind), Path("runs", name))
        short = ["num_train=6", "num_val=2"] if words[1:2] == ["shapes"] else SHORT.get(words[0], [])
        keys = {key.partition("=")[0] for key in short}
        given = [word for word in words if word.partition("=")[0] not in keys]
        run(
            [
                word.replace("=/data/", f"={tmp_path}/data/")
                .replace("=ROOT", "=mine")
                .replace("[person,dog]", "[circle]")
                for word in given
            ]
            + short
        )


@pytest.mark.parametrize(
    ("page", "others", "figure"),
    [
        ("README.md", ["docs/results.md"], r"(?:AP|mIoU|after \d+ epochs,) (0\.\d+)"),
        ("README.md", ["docs/benchmark.md"], r"([\d.]+) ms|(\d\.\d)x"),
        ("docs/own-photographs.md", ["docs/results.md", "docs/recipes.md"], r"\b(0\.\d{2,3})\b"),
        ("docs/results.md", ["docs/recipes.md"], r"^\| (?:blood|streets|the same[^|]*).*?(?:AP|AP50|mIoU) (0\.\d+)"),
        ("README.md", ["docs/loading.md"], r"loading is ([\d.]+) times"),
        ("docs/own-photographs.md", ["docs/results.md"], r"(\d+) photographs, 11 classes"),
    ],
)  # fmt: skip
def test_a_figure_that_stands_twice_is_the_same(page: str, others: list[str], figure: str) -> None:
    there = " ".join((ROOT / other).read_text() for other in others)
    found = [
        value for match in re.finditer(figure, (ROOT / page).read_text(), re.M) for value in match.groups() if value
    ]
    assert found
    assert [value for value in found if not re.search(rf"(?<![\d.]){re.escape(value)}(?![\d])", there)] == []


def test_the_number_of_kinds_of_fault_is_told_as_it_is() -> None:
    told = re.findall(r"(\d+) kinds of fault", " ".join(page.read_text() for page in PAGES))
    assert told
    assert {*map(int, told)} == {len(KINDS)}
    listed = re.findall(r"`(\w+)`", (ROOT / "docs/check-data.md").read_text())
    assert KINDS.keys() <= {*listed}


def test_the_operators_of_simple_hardware_are_the_networks() -> None:
    lines = (ROOT / "docs" / "export.md").read_text().splitlines()
    networks = [Classifier(MobileNetV3("small", minimalistic=minimalistic)) for minimalistic in (False, True)]
    kinds = {"Conv": nn.Conv2d, "Relu": nn.ReLU, "HardSwish": nn.Hardswish, "HardSigmoid": nn.Hardsigmoid}
    for operator, kind in kinds.items():
        paper, minimalistic = (sum(isinstance(module, kind) for module in network.modules()) for network in networks)
        assert f"| {operator} | {paper} | {minimalistic} |" in lines
