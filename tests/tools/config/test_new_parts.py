"""One fact in one place: a new command and a new format are their own files, and all else follows from these."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("backbones", "conf", "datasets", "detection", "segmentation", "tools")
COMMAND = '''"""Count something; it needs no data.

pocketvision toy-count
pocketvision toy-count count=3
pocketvision toy-count count=5 word=box
"""

from omegaconf import DictConfig
from pocketvision.tools.config.command import command


def count(config: DictConfig) -> None:
    print(*range(config.count), config.word)


main = command("toy_count", count)
'''
SETTINGS = '''

@command("more", "count word")
@dataclass
class ToyCountConfig:
    """Keys of `pocketvision toy-count`."""

    count: int = 2  # how far
    word: str = "end"  # what is said behind the numbers,
    #   and nothing more
'''
READER = '''"""Boxes as a line each: photo.png class left top right bottom."""

from pathlib import Path

import cv2
import numpy as np

from .annotations.sample import Sample, digest
from .labels import Label, LabelMap


class ToyBoxes:
    def __init__(self, root: str, *, split: str, classes: list[str]) -> None:
        self.labels = LabelMap(tuple(Label(i, name, i) for i, name in enumerate(classes, 1)), len(classes))
        self.root, self.text, self.notes = Path(root), (Path(root) / f"{split}.txt").read_text(), ()
        self.rows = [line.split() for line in self.text.splitlines()]

    def __len__(self) -> int:
        return len(self.rows)

    def fingerprint(self) -> str:
        return digest(self.text)

    def read(self, index: int) -> Sample:
        name, label, *box = self.rows[index]
        image = cv2.imread(str(self.root / name))
        slot = next(row.slot for row in self.labels.labels if row.name == label)
        return Sample(image, index, boxes=np.array([box], np.float32), labels=np.array([slot]))
'''
DATA = """
# A line a box.
task: detection
root: ???
classes: [newt, toad]
num_classes: 2
input_size: [64, 64]
eval_size: ${data.input_size}
resize: stretch
labels: null
train: &train
  _target_: pocketvision.datasets.toy.ToyBoxes
  split: train
  root: ${data.root}
  classes: ${data.classes}
val: {<<: *train, split: val}
"""
RUN = """
from pathlib import Path

from pocketvision import load
from pocketvision.tools.config.build import build_source, build_task, compose
from pocketvision.tools.engine.state import save_checkpoint
from pocketvision.tools.runs.folder import run_header, save_config
from pocketvision.tools.toy_count import main

config = compose("data=toy", "data.root=.", "backbone.width=0.35", "name=x")
source = build_source(config, "train")
assert source.read(0).boxes.tolist() == [[1, 2, 30, 40]]
task = build_task(config, labels=source.labels)
header = run_header(config, task.labels, task.kind, {"train": source}, epochs=1)
state = {"model": task.model.state_dict(), "ema": None, "progress": {"step": 0, "epoch": 0}}
save_checkpoint(Path("runs/x/checkpoints/best.pt"), {**header, **state})
save_config(Path("runs/x"), config)
print(list(load("runs/x").labels.names.values()))
main(["count=3"])
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a toy command and a toy format, beside a folder of toy data."""
    folder = tmp_path_factory.mktemp("tree")
    copy = folder / "pocketvision"
    copy.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.py"):
        shutil.copy(path, copy)
    (copy / "tools" / "toy_count.py").write_text(COMMAND)
    (copy / "conf" / "toy_count.yaml").write_text("defaults:\n  - schema/toy_count\n  - shared\n  - _self_\n")
    with open(copy / "conf" / "schema.py", "a") as file:
        file.write(SETTINGS)
    (copy / "datasets" / "toy.py").write_text(READER)
    (copy / "conf" / "data" / "toy.yaml").write_text(DATA)
    cv2.imwrite(str(folder / "photo.png"), np.zeros((64, 64, 3), np.uint8))
    for split in ("train", "val"):
        (folder / f"{split}.txt").write_text("photo.png toad 1 2 30 40\n")
    return folder


def python(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), ["toy-count Count something; it needs no data"]),
        (("toy-count", "--help"), ["pocketvision toy-count count=3", "count=2", "said behind the numbers, and"]),
        (("train", "--help"), ["shapes_segmentation, toy, voc"]),
        (("completion", "bash"), ['toy-count) found="count= word= ', " data=toy "]),
    ],
)  # fmt: skip
def test_help_and_completion_know_them(arguments: tuple[str, ...], told: list[str], tree: Path) -> None:
    text = " ".join(python(tree, "-m", "pocketvision", *arguments).split())  # lines wrap anywhere
    assert not [line for line in told if line not in text]


def test_the_reference_page_has_them(tree: Path) -> None:
    text = python(tree, "-m", "pocketvision.conf.reference")
    assert "### toy-count\n\nCount something; it needs no data." in text
    assert "| `count` | int | `2` | how far |" in text
    assert "`data=toy`\n\n```yaml\n# A line a box." in text


def test_a_run_on_the_format_loads_and_the_command_runs(tree: Path) -> None:
    assert python(tree, "-c", RUN) == "['newt', 'toad']\n0 1 2 end\n"
