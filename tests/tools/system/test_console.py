"""Text in columns; progress as a bar that moves on a terminal, as whole lines everywhere else."""

import errno
import io
import sys

import pytest
from pocketvision.tools.system import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(60, 0), (0, 4)],  # a line a minute: none of what is over before; without a pause one of each drawing
)
def test_a_file_gets_whole_lines(seconds: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_SECONDS_OF_A_LINE", seconds)
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    with console.progress(range(3), total=3, title="epoch 1/6") as bar:
        for i in bar:
            bar.set_postfix(loss=i)
    text = out.getvalue()
    assert "\r" not in text
    assert len(text.splitlines()) == expected
    assert all(line.startswith("epoch 1/6: ") for line in text.splitlines())
    assert text.endswith("\n") == bool(expected)


def test_a_terminal_gets_a_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", out := Terminal())
    with console.progress(range(3), total=3, title="epoch 1/6") as bar:
        for i in bar:
            bar.set_postfix(loss=i)
    assert out.getvalue().count("\repoch 1/6: ") >= 3


def test_who_is_quiet_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_SECONDS_OF_A_LINE", 0)
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    assert list(console.progress(range(3), total=3, title="epoch 1/6", quiet=True)) == [0, 1, 2]
    assert not out.getvalue()


@pytest.mark.parametrize(
    ("rows", "left", "expected"),
    [
        ([], (0,), []),
        ([["a", "1"], ["bcd", "23"]], (0,), ["a     1", "bcd  23"]),
        ([["a", "1"], ["bcd", "23"]], (), ["  a   1", "bcd  23"]),
        ([["a", "b", ""], ["", "bcd", "c"]], (0, 1, 2), ["a  b", "   bcd  c"]),
    ],
)
def test_columns(rows: list[list[str]], left: tuple[int, ...], expected: list[str]) -> None:
    assert console.columns(rows, left=left) == expected
    assert console.columns(rows, left=left, indent="  ") == [f"  {line}" for line in expected]


def test_a_table_of_nothing_and_of_classes() -> None:
    assert console.table({}) == ""
    assert "road" in console.table({"mIoU": 0.5, "IoU/road": 0.5})


NAMES = [
    ("\x1b]0;title\x07cat", " ]0;title cat"),
    ("\u202egnp.exe", " gnp.exe"),
    ("\x9b31mcat\rdog", " 31mcat dog"),
    ("\udcff.png", " .png"),
    ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ("Katze, 猫", "Katze, 猫"),
]


@pytest.mark.parametrize(("name", "shown"), NAMES, ids=[ascii(name) for name, _ in NAMES])
def test_names_reach_the_terminal_printable(
    name: str, shown: str, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lines and in tables of any length, whatever part of the program logs them."""
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    console.configure_logging()
    console.log.info("not read: %s", name)
    console.log.info("%s", "\n".join([console.table({f"AP/{name}": 0.5}), *console.columns([[name, "1"]] * 2000)]))
    lines = out.getvalue().split("\n")
    assert lines[0] == f"not read: {shown}"
    assert lines[2].startswith(f"    {shown}")
    assert len(lines) == 2004


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "full")])  # `| head`, `> FILE`
def test_a_stream_that_takes_no_more_does_not_end_the_work(
    error: OSError, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise error

    monkeypatch.setattr(console, "_SECONDS_OF_A_LINE", 0)
    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Closed())
    console.configure_logging()
    console.log.info("once")
    console.log.info("again")
    assert list(console.progress(range(3), total=3, title="epoch 1/6")) == [0, 1, 2]
