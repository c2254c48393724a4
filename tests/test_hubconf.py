"""torch.hub from a bare clone, whose folder has any name, in a process that has no pocketvision installed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# An editable install sits in the finders, a common one or PYTHONPATH in the path: neither may help.
ALONE = """
import importlib.util, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in repr(hook).lower()]
assert importlib.util.find_spec("pocketvision") is None, "pocketvision is installed: this proves nothing"
import torch
REPO = sys.argv[1]
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, as they stand here."""
    folder = tmp_path_factory.mktemp("clone") / "another name"
    listed = subprocess.run(["git", "ls-files", "*.py", "*.yaml"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def run_alone(clone: Path, code: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-E", "-c", ALONE + code, str(clone)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_entry_points_from_a_bare_clone(clone: Path, tmp_path: Path) -> None:
    code = """
first = torch.hub.load(REPO, "mobilenet_v3_small", source="local", options={"width": 0.35})
assert first(torch.zeros(1, 3, 32, 32))["c5"].shape[2:] == (1, 1)
path = "backbone.pth"
torch.save({f"backbone.{name}": value for name, value in first.state_dict().items()}, path)
again = torch.hub.load(REPO, "mobilenet_v3_small", source="local", options={"width": 0.35}, weights=path)
other = torch.hub.load(REPO, "mobilenet_v3_small", source="local", options={"width": 0.35})
same = [[torch.equal(a, b) for a, b in zip(m.state_dict().values(), first.state_dict().values())]
        for m in (again, other)]
assert all(same[0]) and not all(same[1])

from torchvision.models.detection import ssdlite320_mobilenet_v3_large
torch.save(ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict(), "ssdlite.pth")
model = torch.hub.load(REPO, "ssdlite_torchvision", source="local", weights="ssdlite.pth")
result = model(torch.zeros(3, 40, 50, dtype=torch.uint8))
assert result.boxes.shape[1:] == (4,), result
assert "person" in model.labels.names.values()

import pocketvision
from pathlib import Path
assert Path(pocketvision.__file__).parent == Path(REPO), pocketvision.__file__
assert not any(Path(p) == Path(REPO) for p in sys.path)
print("done")
"""
    done = run_alone(clone, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")


MISTAKES = {
    'torch.hub.load(REPO, "load", "nowhere", source="local")': "does not exist",
    'torch.hub.load(REPO, "mobilenet_v2", source="local", options={"widht": 1})': "widht",
    'torch.hub.load(REPO, "mobilenet_v2", source="local", weights="none.pth")': "no such file",
    'torch.hub.load(REPO, "ssdlight", source="local")': "Cannot find callable ssdlight",
    # another copy is not mistaken for the clone
    'sys.modules["pocketvision"].__file__ = "/elsewhere/pocketvision/__init__.py"; '
    'torch.hub.load(REPO, "mobilenet_v2", source="local")': "already loaded from /elsewhere/pocketvision",
}


def test_mistakes(clone: Path, tmp_path: Path) -> None:
    tries = (f"try: {code}\nexcept Exception as e: print(e)" for code in MISTAKES)
    done = run_alone(clone, "\nprint('----')\n".join(tries), tmp_path)
    for told, message in zip(done.stdout.split("----"), MISTAKES.values(), strict=True):
        assert message in told
