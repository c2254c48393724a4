"""Counts agree in number, wherever they are told: `1 image`, `2 images`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pocketvision.words import counted, listed

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("backbones", "detection", "segmentation", "datasets", "conf", "tools")
NOUNS = (
    "annotations|boxes|classes|crowd regions|detections|entries|epochs|evaluations|files|images|labels?maps|masks|"
    "photographs|pictures|polygons|processes|ranks|runs|samples|scenes|slots|steps|tensors|videos"
)
AFTER_A_NUMBER = re.compile(rf" ({NOUNS})\b")
# A word, and numbers above one.
_EXCEPT = {
    "split",
    "len(summaries)",
    "count",
    "len(labels.labels)",
    "num_classes",
}
LOGGED = re.compile(rf"(?<!of )(?<!of the )%d ({NOUNS})\b")


@pytest.mark.parametrize(
    ("number", "one", "many", "told"),
    [
        (1, "image", "", "1 image"),
        (0, "box", "", "0 boxes"),
        (2000, "class", "", "2,000 classes"),
        (3, "entry", "", "3 entries"),
        (1, "box lies", "boxes lie", "1 box lies"),
        (2, "box lies", "boxes lie", "2 boxes lie"),
        (2, "key", "", "2 keys"),
        (2, "training image", "", "2 training images"),
    ],
)
def test_a_noun_follows_its_number(number: int, one: str, many: str, told: str) -> None:
    assert counted(number, one, many) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, ""), (2, "0, 1"), (3, "0, 1 and 1 more class"), (5, "0, 1 and 3 more classes")],
)
def test_long_lists_of_classes_are_cut(count: int, told: str) -> None:
    assert listed([str(i) for i in range(count)], most=2) == told


def test_no_text_has_a_number_of_its_own_before_a_plural() -> None:
    """Except after "of", where the whole is meant, and after limits, which are constants."""
    found = [f"{path.relative_to(ROOT)}: {text}" for path in _files() for text in _plurals(ast.parse(path.read_text()))]
    assert not found


def _files() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _plurals(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and LOGGED.search(node.value):
            yield node.value
        if not isinstance(node, ast.JoinedStr):
            continue
        parts = ["", *(part.value if isinstance(part, ast.Constant) else part for part in node.values)]
        for before, value, after in zip(parts, parts[1:], parts[2:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not AFTER_A_NUMBER.match(str(after)):
                continue
            text = ast.unparse(value.value)
            whole = isinstance(before, str) and re.search(r"(\bof|\bof its|\bof the|more than|\bat most) $", before)
            if not (whole or text in _EXCEPT or text.isupper() or text.startswith(("counted(", "told"))):
                yield f"{{{text}}}{after}"
