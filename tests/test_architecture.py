"""The arrows between the packages (see the README's map of the house), and the budgets of files and functions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("backbones", "detection", "segmentation", "datasets", "conf", "tools")
ALLOWED = {
    "backbones": set(),
    "detection": {"backbones"},
    "segmentation": {"backbones"},
    "datasets": set(),
    "conf": set(),
    "tools": set(FOLDERS),
}
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]


def imports(path: Path) -> list[tuple[str, int]]:
    """(module, level) of every import in a file, functions included; `from .. import x` counts as `..x`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(module, node.level) for module in modules]
    return found


def own_package(path: Path, module: str, level: int) -> str | None:
    """Which of our packages an import reaches, or None."""
    if level == 0:
        parts = module.split(".")
        return parts[1] if parts[0] == "pocketvision" and len(parts) > 1 else None
    base = path.relative_to(ROOT).parts[:-1]
    target = (*base[: len(base) - level + 1], *module.split("."))
    return target[0]


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_arrows_point_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    reached = {own_package(path, module, level) for module, level in imports(path)} - {None, folder}
    assert reached <= ALLOWED[folder], f"{path.name} imports {reached - ALLOWED[folder]}"


@pytest.mark.parametrize("path", [p for p in SOURCES if "engine" in p.parts], ids=str)
def test_the_engine_knows_a_task_and_no_package_of_networks_or_data(path: Path) -> None:
    reached = {own_package(path, module, level) for module, level in imports(path)}
    assert not reached & {"backbones", "detection", "segmentation", "datasets"}


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_hydra_stays_in_tools_and_the_library_imports_relatively(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    modules = imports(path)
    if folder not in ("tools", "conf"):
        assert not [m for m, _ in modules if m.split(".")[0] in ("hydra", "omegaconf")]
        assert not [m for m, level in modules if level == 0 and m.split(".")[0] in ("pocketvision", *FOLDERS)]


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_files_and_functions_keep_their_budget(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long


def test_datasets_is_a_namespace_folder() -> None:
    """With an __init__.py, running from the root would shadow Hugging Face's `datasets` for all that import it."""
    assert not (ROOT / "datasets" / "__init__.py").exists()
