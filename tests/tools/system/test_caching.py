"""Where a cache lies, how long it stays, and that a run with one learns the same."""

import collections
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pocketvision.datasets.images.decoder import Decoder, PictureFile
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.prepare import main as prepare
from pocketvision.tools.system import caching
from pocketvision.tools.system.caching import cached, ram_folder
from pocketvision.tools.train import main as train

USAGE = collections.namedtuple("USAGE", "free")


class Files:
    """A source of one file of 100x200 pixels."""

    def __init__(self, path: Path) -> None:
        self.path, self.decoder = path, Decoder()

    def __len__(self) -> int:
        return 1

    def files(self, index: int) -> list[PictureFile]:
        return [PictureFile(self.path, (100, 200))]


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the machine's own shared memory nothing is used."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(caching, "_SHARED_MEMORY", folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Files:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"x")
    return Files(path)


def test_without_a_cache_nothing_happens(source: Files, own_memory: Path) -> None:
    with cached(None, {"train": source}, run="runs/x"):
        assert type(source.decoder) is Decoder
    assert not list(own_memory.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_memory_is_given_back(source: Files, own_memory: Path, fails: bool) -> None:
    try:
        with cached("ram", {"train": source}, run="runs/x"):
            (place,) = own_memory.iterdir()
            assert place == ram_folder("runs/x") == source.decoder.folder
            assert place.stat().st_mode & 0o777 == 0o700
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not list(own_memory.iterdir())


def test_the_last_one_to_leave_takes_it_along(source: Files, own_memory: Path) -> None:
    outer = cached("ram", {"train": source}, run="runs/x")
    outer.__enter__()
    with cached("ram", {"train": source}, run="runs/x"):
        (source.decoder.folder / "kept").write_bytes(b"pixels")
    assert (ram_folder("runs/x") / "kept").exists()
    with cached("ram", {"train": source}, run="runs/y"):  # another run does not take it for a leftover
        assert len(list(own_memory.iterdir())) == 2
    outer.__exit__(None, None, None)
    assert not list(own_memory.iterdir())


def test_what_a_killed_run_left_is_removed_by_the_next(source: Files, own_memory: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from pocketvision.tools.system import caching\n"
        f"caching._SHARED_MEMORY = Path({str(own_memory)!r})\n"
        "held = caching._held(caching.ram_folder('runs/killed'), remove=True); held.__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert ram_folder("runs/killed").is_dir()
    with cached("ram", {"train": source}, run="runs/killed"):  # the same run finds it again
        assert ram_folder("runs/killed").is_dir()
    (own_memory / f"{caching._PREFIX}-{caching._user()}-other").mkdir()
    with cached("ram", {"train": source}, run="runs/x"):
        assert list(own_memory.iterdir()) == [ram_folder("runs/x")]


def test_disk_stays(source: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cached("disk", {"train": source}, run="runs/x", folder=tmp_path / "kept"):
        (source.decoder.folder / "a").write_bytes(b"pixels")
    assert (tmp_path / "kept" / "a").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with cached("disk", {"train": source}, run="runs/x"):
        assert source.decoder.folder == tmp_path / "xdg" / "pocketvision" / "decoded"


@pytest.mark.parametrize(
    ("cache", "disk", "memory", "message"),
    [
        (
            "ram",
            10_000,
            [1 << 40],
            r"cache=ram: 1 picture needs about 0\.1 MB when decoded.*--shm-size.* cache=disk, cache=null",
        ),
        ("ram", 1 << 40, [60_000], "cache=ram: 1 picture "),
        ("disk", 10_000, [1 << 40], r"cache=disk: 1 picture .* cache_folder=FOLDER on another disk"),
        ("disk", 1 << 40, [60_000], None),
        ("ram", 70_000, [70_000], None),
    ],
)
def test_too_little_room(source, tmp_path, own_memory, monkeypatch, cache, disk, memory, message) -> None:
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda _: USAGE(disk))
    monkeypatch.setattr(caching, "_free_memory", lambda: memory)
    opened = cached(cache, {"train": source}, run="runs/x", folder=tmp_path / "kept")
    if message is None:
        with opened:
            return
    with pytest.raises(ValueError, match=message), opened:
        pass
    assert type(source.decoder) is Decoder
    assert not list(own_memory.iterdir())


def _train(name: str, *keys: str) -> dict[str, torch.Tensor]:
    train(
        [
            "experiment=small_detection", "data=coco", "data.root=data", f"name={name}", "epochs=1", "batch_size=2",
            "lr_batch_size=2", "eval_every=1", "device=cpu", "threads=1", "data.input_size=[32,32]", "workers=0",
            "backbone.width=0.35", *keys,
        ]
    )  # fmt: skip
    return load_checkpoint(Path("runs", name, "checkpoints", "last.pt"))["model"]


def test_a_run_learns_the_same(own_memory: Path) -> None:
    prepare(["shapes", "output=data", "num_train=4", "num_val=2", "size=[96,96]"])
    plain = _train("plain")
    for name, keys in {"ram": ["cache=ram"], "disk": ["cache=disk", "cache_folder=kept"]}.items():
        found = _train(name, *keys)
        assert all(torch.equal(found[key], plain[key]) for key in plain)
    assert not list(own_memory.iterdir())
    assert len([file for file in Path("kept").iterdir() if not file.name.startswith(".")]) == 6
    reduced = _train("reduced", "reduced_decode=true")
    assert any(not torch.equal(reduced[key], plain[key]) for key in plain)


def test_what_reads_no_files_has_no_cache(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train(["experiment=demo_detection", "name=x", "device=cpu", "data.num_train=4", "data.num_val=2", "cache=ram"])
    assert "ShapesDetection reads no picture files" in " ".join(capsys.readouterr().err.split())
