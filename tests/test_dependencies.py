"""A package that is missing, or that does not load, is one line with the remedy, for every way to start a command."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from pocketvision.dependencies import explained
from pocketvision.tools.config.command import command

ROOT = Path(__file__).resolve().parent.parent
LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], BaseException]:
    """The error that importing a package raises if its file holds this statement."""

    def broken(package: str, statement: str) -> BaseException:
        folder = tmp_path / "site-packages"
        folder.mkdir(exist_ok=True)
        (folder / f"{package}.py").write_text(statement)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, package, raising=False)
        try:
            __import__(package)
        except Exception as error:
            return error
        raise AssertionError(package)

    return broken


@pytest.mark.parametrize(
    ("package", "statement", "told"),
    [
        ("cv2", f"raise ImportError('{LIBGL}')", "OpenCV needs libGL.so.1, which this system does not have: .*libgl1"),
        ("cv2", f"raise ImportError('{LIBGL.replace('GL.so.1', 'gthread-2.0.so.0')}')", "pip install opencv-python-h"),
        ("pycocotools", f"raise ImportError('{LIBGL.replace('GL', 'c')}')", "pycocotools .*: this system has no libc"),
        (
            "torchvision",
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "pip install .* torch torchv",
        ),
        (
            "pycocotools",
            "raise ValueError('numpy.dtype size changed, may indicate')",
            "pycocotools.* NumPy; pip install",
        ),
        ("albumentations", "from math import no_such", "the package albumentations cannot be loaded .*2.1'$"),
        ("albumentations", "import scipy.no_such", "the package scipy cannot be loaded"),
        ("albumentations", "import no_such", "the package no_such is not installed, which albumentations needs"),
    ],
)
def test_what_does_not_load(stub: Callable[[str, str], BaseException], package: str, statement: str, told: str) -> None:
    found = explained(stub(package, statement))
    assert found
    assert re.search(told, found), found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ModuleNotFoundError("No module named 'hydra'", name="hydra"),
            "hydra is not installed: pip install 'hydra-core",
        ),
        (ModuleNotFoundError("No module named 'mine'", name="mine"), None),  # a user's own class
        (ImportError("cannot import name 'x' from 'pocketvision'"), None),
        (ValueError("x"), None),
    ],
)
def test_what_is_missing(error: Exception, told: str | None) -> None:
    found = explained(error)
    assert (found is None) == (told is None)
    assert told is None or told in str(found)


def test_a_class_of_the_users_own_that_hydra_does_not_find(stub: Callable[[str, str], BaseException]) -> None:
    assert explained(stub("hydra", "import mine")) is None


def test_what_a_command_imports_late(
    in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(config: object) -> None:
        raise InstantiationException("Error in call") from RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys, "argv", ["pocketvision"])
    with pytest.raises(SystemExit):
        command("info", job, needs_data=False)([])
    assert capsys.readouterr().err.startswith("pocketvision info: error: torchvision was built for another version")


@pytest.mark.parametrize(
    "start", [["-m", "pocketvision", "train"], [str(ROOT / "tools" / "train.py")], ["-m", "pocketvision.tools.train"]]
)
def test_every_way_in(start: list[str], tmp_path: Path) -> None:
    """torch stands for any of them: nothing else takes as long to import."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "cv2.py").write_text(f"raise ImportError('{LIBGL}')")
    (folder / "torch.py").write_text(f"raise ImportError('{LIBGL}')")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *start, "name=x"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "error: OpenCV needs libGL.so.1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_errors_in_a_circle_end() -> None:
    error, other = ValueError("x"), ValueError("y")
    error.__cause__, other.__cause__ = other, error
    assert explained(error) is None
