"""Files and folders that are written whole or not at all."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from pocketvision.files import remove_leftovers, whole_file, whole_folder


def fail(writing: AbstractContextManager[Path], write: Callable[[Path], int]) -> None:
    with writing as unfinished:
        write(unfinished)
        raise OSError("full")


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
