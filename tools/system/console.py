"""Terminal output: log lines, progress bars, tables of numbers."""

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from ...absent import written

log = logging.getLogger("pocketvision")


_MAX_MESSAGE = 3000  # characters
_SECONDS_OF_A_LINE = 60
_KEPT = "\n\u200c\u200d"  # line ends, and what joins letters in several scripts


def configure_logging() -> None:
    """Plain lines on standard output, on the main rank only, written around progress bars."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = "\n".join(map(printable, self.format(record).split("\n")))
            try:
                tqdm.write(text, file=sys.stdout)
                sys.stdout.flush()
            except BrokenPipeError:  # `| head` has seen enough; the work goes on
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            except OSError:  # a full disk behind `> train.txt`; the work goes on
                pass

    log.handlers = [Handler()]
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    log.propagate = False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what third-party packages print and log."""
    with (
        warnings.catch_warnings(), open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere),
    ):  # fmt: skip
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def logged_to(path: Path, *, once: Path) -> Iterator[None]:
    """Append the lines of the log to a file, with their time, from when the file `once` exists; nothing before that.

    Runs that share a terminal, such as those of a sweep, have their own lines there.
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            waiting.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(self.format(record))}\n")
            if once.is_file():
                with contextlib.suppress(OSError):  # a full disk: the line is kept for the next one
                    with open(path, "a", encoding="utf-8", errors="replace") as file:
                        file.writelines(waiting)
                    waiting.clear()

    waiting: list[str] = []
    handler = Handler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def printable(text: str) -> str:
    """Text that is safe to print, though parts of it may come from a file: no control characters, limited length."""
    text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} ..."
    return text if text.isprintable() else "".join(c if c.isprintable() or c in _KEPT else " " for c in text)


def progress(
    items: Iterable[Any],
    *,
    total: int | None,
    title: str,
    quiet: bool = False,
    initial: int = 0,
    unit: str = "it",
) -> tqdm:
    """A progress bar on a terminal; one line per minute in a file or pipe. The `unit` B counts in kB, MB, GB."""
    on_terminal = sys.stderr.isatty()
    return tqdm(
        items,
        total=total,
        desc=title,
        disable=quiet,
        initial=initial,
        unit=unit,
        unit_scale=unit == "B",
        file=sys.stderr if on_terminal else _Lines(sys.stderr),
        bar_format=None if on_terminal else "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        dynamic_ncols=on_terminal,
        mininterval=0.5,
        leave=False,
    )


class _Lines:
    """Output for tqdm without a terminal: prints its current state as a line once per minute."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._next = stream, time.monotonic() + _SECONDS_OF_A_LINE

    def write(self, drawn: str) -> None:
        line = drawn.strip()
        if line and time.monotonic() >= self._next:
            with contextlib.suppress(OSError):
                self._stream.write(f"{line}\n")
            self._next = time.monotonic() + _SECONDS_OF_A_LINE

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def table(results: Mapping[str, float | None]) -> str:
    """Results as aligned text, headline results first, per-class ones (`name/class`) below."""
    cells = {key: f"{written(value, '.4f'):>7}" for key, value in results.items()}
    heads = [(key, cell) for key, cell in cells.items() if "/" not in key]
    lines = ["  " + "   ".join(f"{k:>8} {cell}" for k, cell in chunk) for chunk in _chunks(heads, 4)]
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, cell in cells.items():
        if "/" in key:
            group, name = key.split("/", 1)
            groups.setdefault(group, []).append((name, cell))
    for group, rows in groups.items():
        width = max(len(name) for name, _ in rows)
        lines.append(f"  {group} per class:")
        lines += ["    " + "   ".join(f"{name:<{width}} {cell}" for name, cell in chunk) for chunk in _chunks(rows, 3)]
    return "\n".join(lines)


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def thinned(rows: Sequence[Any], most: int) -> list[Any]:
    """At most `most` rows, evenly spaced, including the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def columns(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), indent: str = "") -> list[str]:
    """Rows of cells as lines with aligned columns: those in `left` left-aligned, all others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in pairs]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
