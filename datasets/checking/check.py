"""Checks a whole dataset: reads it leniently, examines every file, compares the splits."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..annotations.faults import KINDS, Fault, Report, Severity
from .boxes import check_boxes
from .classes import ClassCounts, check_classes, count_classes
from .contents import Contents, Picture
from .copies import check_copies
from .examine import Examined, examine
from .names import check_names, unlisted
from .workers import run

Reader = Callable[[Report, "Contents | None"], Contents]  # reads a split, given the training split if that was read
Progress = Callable[[str, int, int], None]  # split, images examined, images in total

_OF_FOLDERS = ("left_out", "spare_annotation", "near_name")


@dataclass(frozen=True)
class Finding:
    """A fault and its split; empty if it concerns the whole dataset."""

    split: str
    fault: Fault


@dataclass
class Checked:
    """The findings of a check, the worst first, and what was checked."""

    findings: list[Finding] = field(default_factory=list)
    contents: dict[str, Contents] = field(default_factory=dict)
    examined: dict[str, list[Examined]] = field(default_factory=dict)
    counts: dict[str, ClassCounts] = field(default_factory=dict)

    def add(self, split: str, faults: Iterable[Fault]) -> None:
        self.findings += [Finding(split, fault) for fault in faults]

    def settle(self, ignore: Sequence[str] = ()) -> None:
        """Order the findings: by severity, by kind in the order of `KINDS`, by place; without the kinds in `ignore`.

        Raises:
            ValueError: a kind that does not exist.
        """
        if unknown := [kind for kind in ignore if kind not in KINDS]:
            raise ValueError(f"ignore={unknown}: not a kind of fault; choose from {', '.join(KINDS)}")
        severities, kinds = list(Severity), list(KINDS)
        self.findings = [finding for finding in self.findings if finding.fault.kind not in ignore]
        self.findings.sort(
            key=lambda f: (severities.index(f.fault.severity), kinds.index(f.fault.kind), f.split != "train")
        )

    def by_kind(self) -> dict[str, list[Finding]]:
        """The findings by kind, for the kinds that occur."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.fault.kind, []).append(finding)
        return found

    def number(self, severity: Severity) -> int:
        return sum(finding.fault.severity is severity for finding in self.findings)


def check_data(
    readers: Mapping[str, Reader],
    *,
    input_size: tuple[int, int] | None = None,
    letterbox: bool = False,
    workers: int | None = None,
    progress: Progress = lambda split, done, total: None,
) -> Checked:
    """Check the splits `train` and `val`, or one of them.

    Args:
        input_size: (h, w) that images are resized to; without it, tiny boxes are not reported.
        letterbox: whether that resize keeps the aspect ratio.
        workers: processes; None: one per core, 0: only this process. The findings do not depend on it.

    Raises:
        OSError: a file or folder that the dataset starts from does not exist.
    """
    checked = Checked()
    for split, read in readers.items():
        _read(checked, split, read)
    number = available_cores() if workers is None else workers
    for split, contents in checked.contents.items():
        checked.examined[split] = _examine(split, contents, number, progress)
        checked.add(split, (fault for one in checked.examined[split] for fault in one.faults))
        checked.add(split, check_names(contents))
        if contents.boxes is not None and input_size:
            checked.add(split, check_boxes(contents.boxes, input_size, letterbox=letterbox))
        checked.counts[split] = count_classes(contents, checked.examined[split])
    checked.add("", _across(checked, complete=set(readers) == set(checked.contents) == {"train", "val"}))
    checked.settle()
    return checked


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(checked: Checked, split: str, read: Reader) -> None:
    faults: list[Fault] = []
    try:
        checked.contents[split] = read(faults.append, checked.contents.get("train"))
    except ValueError as error:
        faults.append(Fault("format", "", str(error)))
    # Splits that share a folder see the same files there.
    known = {finding.fault for finding in checked.findings if finding.fault.kind in _OF_FOLDERS}
    checked.add(split, (fault for fault in faults if fault not in known))


def _examine(split: str, contents: Contents, workers: int, progress: Progress) -> list[Examined]:
    total = len(contents.pictures)
    job = partial(examine, values=contents.values, colors=contents.colors, instance_values=contents.instance_values)
    return run(job, contents.pictures, workers=workers, lost=_lost, progress=lambda done: progress(split, done, total))


def _lost(picture: Picture, why: str) -> Examined:
    message = f"{picture.path} (or its masks) cannot be decoded: {why}"
    return Examined([Fault("crash", picture.path, message, image=picture.name)])


def _across(checked: Checked, *, complete: bool) -> Iterator[Fault]:
    if not checked.contents:
        return
    first = next(iter(checked.contents.values()))
    if complete:
        yield from unlisted(checked.contents)
    yield from check_classes(first.labels, checked.counts, str(first.folder))
    yield from check_copies(checked.contents, checked.examined)
