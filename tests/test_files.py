"""Files and folders that are written whole or not at all."""

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from pocketvision.files import (
    flat_names,
    read_text,
    remove_leftovers,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)


def fail(writing: AbstractContextManager[Path], write: Callable[[Path], int]) -> None:
    with writing as unfinished:
        write(unfinished)
        raise OSError("full")


def test_what_other_processes_write_stays_in_a_shared_folder(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for number in (process.pid, os.getppid(), os.getpid()):
        (tmp_path / f".a.{number}.tmp.jpg").touch()
    remove_leftovers(tmp_path, shared=True)
    assert [path.name for path in tmp_path.iterdir()] == [f".a.{os.getppid()}.tmp.jpg"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_when_it_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "model.onnx"
    with whole_file(path, durable=durable) as unfinished:
        assert unfinished.suffix == ".onnx"
        unfinished.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("durable", [False, True])
def test_an_error_leaves_the_old_file(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(OSError, match="full"):
        fail(whole_file(path, durable=durable), lambda unfinished: unfinished.write_text("half"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report"
    for content in ("old", "new"):
        with whole_folder(path) as unfinished:
            (unfinished / content).write_text(content)
    assert [found.name for found in path.iterdir()] == ["new"]
    with pytest.raises(OSError, match="full"):
        fail(whole_folder(path), lambda unfinished: (unfinished / "half").write_text(""))
    assert [found.name for found in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing")
    kept = tmp_path / "last.pt"
    kept.write_text("whole")
    (tmp_path / ".last.1.tmp.pt").write_text("half")
    (tmp_path / ".last.pt.1.tmp").write_text("half, of an earlier release")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize("durable", [False, True])
def test_a_full_disk_names_the_file(tmp_path: Path, durable: bool) -> None:
    """Writing to an open file gives an error without a name, opening one the temporary name."""
    path = tmp_path / "results.json"
    for name in (None, "temporary"):
        with pytest.raises(OSError, match="No space left") as found, whole_file(path, durable=durable) as unfinished:
            raise OSError(errno.ENOSPC, "No space left on device", str(unfinished) if name else None)
        assert found.value.filename == str(path)
    with pytest.raises(FileNotFoundError, match="other") as found, whole_file(path):
        raise FileNotFoundError(errno.ENOENT, "No such file", "other")
    assert found.value.filename == "other"


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    with whole_file(path) as unfinished:
        unfinished.write_text("whole")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("link", [False, True])
def test_several_processes_replace_one_folder(tmp_path: Path, link: bool) -> None:
    path = tmp_path / "report"
    if link:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "mine").touch()
        path.symlink_to(tmp_path / "elsewhere")
    code = (
        "import sys; from pathlib import Path; from pocketvision.files import whole_folder\n"
        "for i in range(60):\n"
        "    with whole_folder(Path(sys.argv[1])) as made:\n"
        "        for name in 'abc': (made / name).write_text(sys.argv[2])\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)]) for i in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len({(path / name).read_text() for name in "abc"}) == 1
    assert not path.is_symlink()
    assert [found.name for found in tmp_path.iterdir() if found.name.startswith(".")] == []
    assert not link or (tmp_path / "elsewhere" / "mine").is_file()


def test_folders_of_killed_processes_go_with_the_next(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for number in (process.pid, os.getppid()):
        (tmp_path / f".report.{platform.node()}-{number}.tmp" / "half").mkdir(parents=True)
    with whole_folder(tmp_path / "report"):
        pass
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        f".report.{platform.node()}-{os.getppid()}.tmp",
        "report",
    ]
    remove_leftovers(tmp_path)


def test_a_move_that_fails_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename = tmp_path / "report", Path.rename
    (path / "old").mkdir(parents=True)

    def fails(source: Path, target: Path) -> Path:
        if source.name.endswith(f"{os.getpid()}.tmp"):
            raise OSError(errno.EIO, "Input/output error", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="Input/output") as found, whole_folder(path):
        pass
    assert found.value.filename == str(path)
    assert [one.name for one in tmp_path.iterdir()] == ["report"]
    assert (path / "old").is_dir()


@pytest.mark.parametrize(("write", "content"), [(write_text, "new"), (write_json, {"new": 1})])
def test_texts_are_written_whole(
    write: Callable[[Path, Any], None], content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "check.json"
    path.write_text("old")

    def full(self: Path, *_: Any, **__: Any) -> None:
        self.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space") as found:
            write(path, content)
    assert found.value.filename == str(path)
    assert path.read_text() == "old"
    write(path, content)
    assert "new" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_paths_become_names_of_their_own() -> None:
    assert flat_names(["a/b", "a_b", "A_b", "c", "a\\b"]) == ["a_b", "a_b_2", "A_b_3", "c", "a_b_4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_text_is_read_as_windows_writes_it(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / "a.txt").write_bytes(f"{mark}K\u00e4se\r\nb".encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 text: .*0xe4.*Remedy: save it as UTF-8"):
            read_text(tmp_path / "a.txt")
    else:
        assert read_text(tmp_path / "a.txt") == "K\u00e4se\nb"
        assert read_text(tmp_path / "a.txt", first=6).startswith("K")
