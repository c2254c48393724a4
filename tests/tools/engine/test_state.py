"""Checkpoint files: whole or not at all, never less than before."""

import os
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pocketvision.tools.engine.report import Report
from pocketvision.tools.engine.state import load_checkpoint, load_latest, save_checkpoint
from pocketvision.tools.runs.folder import logged_rows


def content(step: int) -> dict[str, Any]:
    return {"progress": {"step": step}, "model": {"w": torch.full((1000,), float(step))}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", "truncated", {"model": {}}])
def test_truncated_and_foreign_checkpoints_are_refused(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, content(1))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif isinstance(damage, dict):
        torch.save(damage, path)
    else:
        path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"x\.pt is not a"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "missing.pt")


@pytest.mark.parametrize("damage", [*range(0, 100, 4), "pickle", "name", "checksum"])
def test_a_flipped_bit_or_a_block_of_zeros_is_noticed(damage: int | str, tmp_path: Path) -> None:
    """Anywhere in the file: it is refused, and the one before it is used, or nothing of the content has changed."""
    path = tmp_path / "last.pt"
    for step in (1, 2):
        save_checkpoint(path, content(step), keep=2)
    whole, archive = path.read_bytes(), zipfile.ZipFile(path)
    places = {"pickle": whole.index(b"progress"), "name": whole.rindex(b"/data/"), "checksum": archive.start_dir + 16}
    at = damage * len(whole) // 100 if isinstance(damage, int) else places[damage]
    for harm in (bytes([whole[at] ^ 0x40]), bytes(64)):
        path.write_bytes(whole[:at] + harm + whole[at + len(harm) :])
        found = load_latest(path)
        assert found is not None
        step = found[1]["progress"]["step"]
        assert torch.equal(found[1]["model"]["w"], content(step)["model"]["w"])
        if isinstance(damage, str) or 30 < damage < 70:  # the tensor
            assert step == 1


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_last_k_are_kept(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for step in range(1, 7):
        save_checkpoint(path, content(step), keep=keep)
    expected = ["last.pt", *(f"last-{i}.pt" for i in range(1, keep))]
    assert names(tmp_path) == sorted(expected)
    assert [load_checkpoint(tmp_path / name)["progress"]["step"] for name in expected] == [*range(6, 6 - keep, -1)]


def test_the_youngest_that_can_be_read_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "last.pt"
    assert load_latest(path) is None
    for step in range(1, 13):
        save_checkpoint(path, content(step), keep=12)
    for damaged, step in (("", 12), ("last.pt", 11), ("last-1.pt", 10), ("last-3.pt", 10), ("last-2.pt", 8)):
        if damaged:
            (tmp_path / damaged).write_bytes(b"PK")
        found = load_latest(path)
        assert found is not None
        assert found[1]["progress"]["step"] == step
    path.unlink()  # gone altogether
    found = load_latest(path)
    assert found is not None
    for each in tmp_path.iterdir():
        each.write_bytes(b"PK")
    with pytest.raises(ValueError, match="No older checkpoint is readable either"):
        load_latest(path)


def test_what_cannot_be_saved_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1), keep=2)
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"step": lambda: 2}, keep=2)
    assert load_checkpoint(path)["progress"]["step"] == 1
    assert names(tmp_path) == ["last.pt"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for step in (1, 2):
        save_checkpoint(path, content(step), keep=2)
    with room_for(1000), pytest.raises(OSError, match="File too large"):
        save_checkpoint(path, content(3), keep=2)
    assert names(tmp_path) == ["last-1.pt", "last.pt"]
    assert load_checkpoint(path)["progress"]["step"] == 2
    assert load_checkpoint(tmp_path / "last-1.pt")["progress"]["step"] == 1


@pytest.mark.parametrize("call", ["os.fsync", "os.link", "os.replace"])
def test_a_crash_anywhere_in_a_save_leaves_a_checkpoint(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power goes at the n-th call, for every n: what is on the disk then can be resumed from."""

    class PowerCutError(BaseException):
        pass

    real, path = getattr(os, call.removeprefix("os.")), tmp_path / "last.pt"
    for n in range(4):
        for step in (1, 2):
            save_checkpoint(path, content(step), keep=3)
        calls = iter(range(100))

        def cut(*arguments: Any, n: int = n, calls: Iterator[int] = calls) -> Any:
            if next(calls) == n:
                raise PowerCutError
            return real(*arguments)

        monkeypatch.setattr(call, cut)
        with suppress(PowerCutError):
            save_checkpoint(path, content(3), keep=3)
        monkeypatch.setattr(call, real)
        found = load_latest(path)
        assert found is not None
        assert found[1]["progress"]["step"] in (2, 3)


def test_a_kill_between_the_two_moves_of_a_save_leaves_no_file(tmp_path: Path) -> None:
    """last.pt and last-1.pt are one file then: renaming one onto the other does nothing."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1))
    os.link(path, tmp_path / "last-1.pt")
    save_checkpoint(path, content(2), keep=2)
    assert names(tmp_path) == ["last-1.pt", "last.pt"]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_row_that_could_not_be_written_comes_with_the_next(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    report = Report(tmp_path)
    report.row("train", 1, {"loss": 1.0})
    with room_for((tmp_path / "metrics.jsonl").stat().st_size + 10):  # so that part of the row would fit
        report.row("train", 2, {"loss": 2.0})
        assert [row["step"] for row in logged_rows(tmp_path / "metrics.jsonl")] == [1]
        with pytest.raises(OSError, match="No space left on device"):
            report.flush()  # no checkpoint without its rows
    report.row("val", 2, {"AP": 0.5})
    report.close()
    rows = [(row["kind"], row["step"]) for row in logged_rows(tmp_path / "metrics.jsonl")]
    assert rows == [("train", 1), ("train", 2), ("val", 2)]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert "the next row tries again" in logged.text
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0)]


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    train, val = '{"kind": "train", "step": %d}\n', '{"kind": "val", "step": %d}\n'
    rows = train % 1 + train % 5 + val % 5 + train % 9 + '{"kind": "tra'
    for evaluated, kept in ((0, train % 1 + train % 5), (5, train % 1 + train % 5 + val % 5)):
        (tmp_path / "metrics.jsonl").write_text(rows)
        Report(tmp_path, step=5, evaluated=evaluated).close()
        assert (tmp_path / "metrics.jsonl").read_text() == kept


def test_tensorboard_shows_every_step_once(tmp_path: Path) -> None:
    for first, last, kept in ((1, 6, 0), (4, 8, 3), (1, 2, 0)):  # killed at 6, resumed from 3, killed, begun anew
        report = Report(tmp_path, step=kept)
        for step in range(first, last + 1):
            report.row("train", step, {"loss": float(10 * kept + step)})
        report.close()
        assert [step for step, _ in scalars(tmp_path, "train/loss")] == list(range(1, last + 1))


def test_tensorboard_holds_an_evaluation_once(tmp_path: Path) -> None:
    """Killed after an evaluation was reported, before it was saved: only its row is dropped."""
    for number, (step, evaluated) in enumerate([(0, 0), (4, 0), (4, 4)]):
        report = Report(tmp_path, step=step, evaluated=evaluated)
        for train in (2, 4) if not step else ():
            report.row("train", train, {"loss": float(train), "bad": float("nan")})
        if not evaluated:
            report.row("val", 4, {"AP": 0.5 + number})
        report.close()
    assert scalars(tmp_path, "train/loss") == [(2, 2.0), (4, 4.0)]
    assert scalars(tmp_path, "val/AP") == [(4, 1.5)]
    assert [step for step, _ in scalars(tmp_path, "train/bad")] == [2, 4]


def test_an_absent_metric_is_null_and_no_point(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.row("val", 1, {"AP": None, "AP50": 0.5})
    report.close()
    row = (tmp_path / "metrics.jsonl").read_text()
    assert '"AP": null' in row
    (tmp_path / "metrics.jsonl").write_text(row.replace("null", "-1.0"))  # as an earlier version wrote it
    assert logged_rows(tmp_path / "metrics.jsonl")[0]["AP"] is None
    Report(tmp_path, step=1, evaluated=1).close()  # writes the row again
    assert scalars(tmp_path, "val/AP50") == [(1, 0.5)]
    with pytest.raises(KeyError):
        scalars(tmp_path, "val/AP")


def test_rows_hold_no_nan(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.row("train", 1, {"loss": float("nan")})
    report.close()
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
