"""What gets installed is what stands in the tree."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_INSTALLED = {"tests", "docs", "build", "dist", "runs"}


def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> set[str]:
    found = {"pocketvision"}
    for path in ROOT.glob("[a-z]*/**/*.py"):
        parts = path.relative_to(ROOT).parts[:-1]
        if parts[0] not in NOT_INSTALLED and not any(p.startswith((".", "_")) for p in parts):
            found.add(".".join(("pocketvision", *parts)))
    return found


def test_the_package_list_is_complete() -> None:
    assert set(settings()["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_commands_have_their_modules_and_configurations() -> None:
    from pocketvision.conf.schema import CONFIGS

    assert {path.stem for path in ROOT.glob("tools/*.py")} - {"__init__"} == set(CONFIGS)
    assert {path.stem for path in ROOT.glob("conf/*.yaml")} - {"groups", "shared"} == set(CONFIGS)


@pytest.mark.slow
@pytest.mark.by_hand
def test_a_wheel_holds_every_module_and_configuration_and_nothing_at_the_top(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=copy, check=True, capture_output=True, text=True).stdout.split()
    endings = (".py", ".yaml", ".json", "py.typed", ".css", ".js", ".jinja")
    wanted = {
        f"pocketvision/{name}"
        for name in tracked
        if name.endswith(endings) and not name.startswith(("tests/", ".")) and "docs/" not in name
    }
    assert wanted <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pocketvision"}
