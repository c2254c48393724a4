"""What a person sees: log lines, progress, tables of numbers."""

import logging
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

log = logging.getLogger("pocketvision")


_MAX_MESSAGE = 3000  # characters


def configure_logging() -> None:
    """Plain lines on standard output, on the main rank only, written around progress bars."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()

    log.handlers = [Handler()]
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    log.propagate = False


def printable(text: str) -> str:
    """What a file holds may come into a message: no control characters but line ends, and no endless text."""
    text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} ..."
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def progress(
    items: Iterable[Any],
    *,
    total: int | None,
    title: str,
    quiet: bool = False,
    initial: int = 0,
    unit: str = "it",
) -> tqdm:
    """A progress bar on a terminal; in a file or a pipe a line every half minute. The `unit` B counts in kB, MB, GB."""
    seconds = 0.5 if sys.stderr.isatty() else 30
    return tqdm(
        items,
        total=total,
        desc=title,
        disable=quiet,
        initial=initial,
        unit=unit,
        unit_scale=unit == "B",
        dynamic_ncols=True,
        mininterval=seconds,
        leave=False,
    )


def table(results: Mapping[str, float], *, columns: int = 4) -> str:
    """Results as aligned text, headline figures first, per-class ones (`name/class`) below."""
    heads = {k: v for k, v in results.items() if "/" not in k}
    lines = ["  " + "   ".join(f"{k:>8} {v:7.4f}" for k, v in chunk) for chunk in _chunks(list(heads.items()), columns)]
    groups: dict[str, list[tuple[str, float]]] = {}
    for key, value in results.items():
        if "/" in key:
            group, name = key.split("/", 1)
            groups.setdefault(group, []).append((name, value))
    for group, rows in groups.items():
        width = max(len(name) for name, _ in rows)
        lines.append(f"  {group} of each class:")
        lines += ["    " + "   ".join(f"{n:<{width}} {v:7.4f}" for n, v in chunk) for chunk in _chunks(rows, 3)]
    return "\n".join(lines)


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def columns(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), indent: str = "") -> list[str]:
    """Rows of cells as lines in which the columns of these numbers begin alike, and all others end alike."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in pairs]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
