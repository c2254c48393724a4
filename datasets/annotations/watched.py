"""Progress in the log while thousands of small files are read."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
_SECONDS = 5.0  # between two lines; anything faster logs nothing


def watched(items: Sequence[T], what: str) -> Iterator[T]:
    """Yields the items; every few seconds the log shows how many of `what` are done."""
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last > _SECONDS:
            last = time.monotonic()
            logging.getLogger(__name__).info("%d of %d %s", done, len(items), what)
        yield item
