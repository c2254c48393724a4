"""The images that a report shows, stored small enough to send the page by email."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...datasets.annotations.sample import Sample
from ..drawing.pictures import shrink
from ..runs.loaded import LoadedRun

SIDE = 640  # pixels of the longer side at most
_QUALITY = 80


@dataclass(frozen=True)
class Candidate:
    """An image that may be shown: how good its prediction is (0..1), and what it shows."""

    image_id: int | str
    score: float
    weight: int = 0  # of two images with the same score, the heavier is the better example
    tags: frozenset[str] = field(default_factory=frozenset)  # classes and kinds of error that a reader may look for


def choose(candidates: Iterable[Candidate], count: int) -> list[tuple[Candidate, str]]:
    """At most `count` images, each once: `worst` first, then `best`, then `more`, which show what the others don't.

    Three eighths are the worst, a quarter the best. The rest cycles through the tags, starting with the rarest on the
    page, and takes the worst image for each.
    """
    pool = sorted(candidates, key=lambda c: (c.score, -c.weight, str(c.image_id)))
    if len(pool) <= 1:
        return [(candidate, "worst" if candidate.score < 1 else "best") for candidate in pool[:count]]
    count = min(count, len(pool))
    num_worst, num_best = max(min(1, count), 3 * count // 8), count // 4
    worst, rest = pool[:num_worst], pool[num_worst:]
    best = sorted(rest, key=lambda c: (-c.score, -c.weight, str(c.image_id)))[:num_best]
    taken = {c.image_id for c in best}
    rest = [c for c in rest if c.image_id not in taken]
    return [(c, "worst") for c in worst] + [(c, "best") for c in best] + [
        (c, "more") for c in _varied(rest, [*worst, *best], count - len(worst) - len(best))
    ]  # fmt: skip


def _varied(pool: list[Candidate], shown: list[Candidate], count: int) -> list[Candidate]:
    seen = Counter(tag for candidate in shown for tag in candidate.tags)
    left, found = dict.fromkeys(pool), []
    while left and len(found) < count:
        open_tags = {tag for candidate in left for tag in candidate.tags}
        rarest = min(open_tags, key=lambda tag: (seen[tag], tag), default=None)
        candidate = next(c for c in left if rarest is None or rarest in c.tags)
        found.append(candidate)
        del left[candidate]
        seen.update(candidate.tags)
    return found


class Gallery:
    """The images that a report of a run shows, written to a folder from which a page reads them again."""

    def __init__(self, folder: Path, run: LoadedRun, source: Any, count: int) -> None:
        self.folder, self.run, self.source, self.count = folder, run, source, count
        folder.mkdir(parents=True, exist_ok=True)
        self._number = 0

    def photos(
        self, chosen: Sequence[tuple[Candidate, str]], *, side: int = SIDE
    ) -> Iterator[tuple[Candidate, Sample, dict[str, Any]]]:
        """Each chosen image, its sample, and its entry in the summary: a small JPEG and the original's size."""
        index = indices_by_id(self.source, [candidate.image_id for candidate, _ in chosen])
        for candidate, group in chosen:
            sample = self.source.read(index[candidate.image_id])
            self._number += 1
            height, width = sample.image.shape[:2]
            photo = self._write("jpg", shrink(sample.image, side)[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
            entry = {"photo": photo, "width": width, "height": height, "id": str(candidate.image_id)}
            yield candidate, sample, entry | {"group": group, "score": candidate.score}

    def layer(self, name: str, colors: np.ndarray) -> str:
        """Store uint8 RGBA [H, W, 4], an overlay for the last photo."""
        small = shrink(colors, SIDE, cv2.INTER_NEAREST)
        return self._write(f"{name}.png", small[..., [2, 1, 0, 3]], cv2.IMWRITE_PNG_COMPRESSION, 9)

    def _write(self, ending: str, image: np.ndarray, *options: int) -> str:
        name = f"{self._number:04d}.{ending}"
        ok, data = cv2.imencode(f".{ending.rpartition('.')[2]}", np.ascontiguousarray(image), options)
        assert ok
        (self.folder / name).write_bytes(data.data)
        return name


def indices_by_id(source: Any, wanted: Iterable[Hashable]) -> Mapping[Hashable, int]:
    """The indices of the images with these ids in a source; images are decoded only where necessary."""
    wanted, found = set(wanted), {}
    ids = getattr(source, "image_ids", None)
    for index in range(len(source)):
        image_id = ids[index] if ids is not None else source.read(index).image_id
        image_id = image_id.item() if hasattr(image_id, "item") else image_id
        if image_id in wanted:
            found.setdefault(image_id, index)
    return found
