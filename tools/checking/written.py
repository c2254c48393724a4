"""The output of a check: a summary for people, check.json for programs, and a self-contained page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...datasets.annotations.faults import KINDS, Severity
from ...datasets.checking.check import Checked, Finding
from ...datasets.checking.remedies import REMEDIES
from ...datasets.checking.statistics import Statistics
from ...files import write_json, write_text
from ...words import counted
from ..drawing.figure import Chart
from ..drawing.html import data_uri, render
from .anchors import Matches, unreached

FORMAT = 1  # version of the check.json schema
ERRORS, WARNINGS = 1, 3  # exit status; 2 is every command's status for an error in the command
_EXAMPLES = 3  # findings per kind in the summary
_WORST = 5  # classes
_ROWS = 200  # findings per kind on the page; check.json has all


def exit_status(checked: Checked) -> int:
    """1 with errors, 3 with warnings only, otherwise 0: notes are not faults."""
    if checked.number(Severity.error):
        return ERRORS
    return WARNINGS if checked.number(Severity.warning) else 0


def summary(checked: Checked, statistics: Mapping[str, Statistics], matches: Mapping[str, Matches]) -> Iterator[str]:
    """Lines for people: the contents, then the faults by kind, the worst first."""
    for split, of_split in statistics.items():
        yield f"{split}: {_told(of_split)} ({checked.contents[split].folder})"
    for split, found in matches.items():
        yield f"{split}: {_reach(statistics[split], found)}"
    yield ""
    for kind, findings in checked.by_kind().items():
        yield f"{KINDS[kind].value}: {kind}, {len(findings):,} found. Remedy: {REMEDIES[kind]}"
        yield from (f"    {_line(finding)}" for finding in findings[:_EXAMPLES])
        if len(findings) > _EXAMPLES:
            yield f"    and {len(findings) - _EXAMPLES:,} more"
    numbers = [(checked.number(severity), severity.value) for severity in Severity]
    yield ", ".join(f"{number:,} {name}{'' if number == 1 else 's'}" for number, name in numbers)


def _line(finding: Finding) -> str:
    return f"{finding.split}: {finding.fault.message}" if finding.split else finding.fault.message


def _told(statistics: Statistics) -> str:
    counts, classes = statistics.counts, len(statistics.labels.labels)
    there = sum(number > 0 for number in counts.images.values())
    parts = [counted(statistics.num_images, "image")]
    if counts.what == "boxes":
        parts.append(counted(sum(counts.examples.values()), "box"))
    return f"{', '.join(parts)}, {there} of {counted(classes, 'class')}"


def _reach(statistics: Statistics, matches: Matches) -> str:
    missed, total = int((~matches.reached).sum()), len(matches.overlaps)
    if not total:
        return "no boxes to match with anchors"
    share = f"{missed:,} of {counted(total, 'box')} ({100 * missed / total:.1f} %)"
    line = f"{share} match no anchor at IoU {matches.threshold:g}"
    classes = [(m / n, name, m, n) for name, (m, n) in unreached(statistics, matches).items() if m]
    worst = sorted(classes, key=lambda row: (-row[2], row[1]))[:_WORST]
    return line + "".join(f"{', ' if i else ': '}{name} {m:,} of {n:,}" for i, (_, name, m, n) in enumerate(worst))


def write_check(
    path: Path, checked: Checked, statistics: Mapping[str, Statistics], matches: Mapping[str, Matches]
) -> None:
    """All findings and counts; docs/check-data.md describes the schema."""
    content = {
        "format": FORMAT,
        "exit_status": exit_status(checked),
        **{f"{severity.value}s": checked.number(severity) for severity in Severity},
        "splits": {split: _split(of_split, matches.get(split)) for split, of_split in statistics.items()},
        "kinds": {
            kind: {"severity": KINDS[kind].value, "count": len(findings), "remedy": REMEDIES[kind]}
            for kind, findings in checked.by_kind().items()
        },
        "findings": [_finding(finding) for finding in checked.findings],
    }
    write_json(path, content)


def _finding(finding: Finding) -> dict[str, Any]:
    fault = finding.fault
    box = None if fault.box is None else [value if np.isfinite(value) else None for value in fault.box]
    return {
        "kind": fault.kind,
        "severity": fault.severity.value,
        "split": finding.split,
        "path": fault.path,
        "image": fault.image,
        "other": fault.other,
        "box": box,
        "message": fault.message,
    }


def _split(statistics: Statistics, matches: Matches | None) -> dict[str, Any]:
    counts, names = statistics.counts, statistics.labels.names
    missed = {} if matches is None else unreached(statistics, matches)
    rows = []
    for slot, name in names.items():
        row: dict[str, Any] = {"name": name, counts.what: counts.examples[slot], "images": counts.images[slot]}
        if matches is not None:
            row["unreached"] = missed.get(name, (0, 0))[0]
        rows.append(row)
    whole: dict[str, Any] = {"images": statistics.num_images, counts.what: sum(counts.examples.values())}
    if matches is not None:
        whole["unreached"] = int((~matches.reached).sum())
    return {**whole, "classes": rows}


# ---- the page ---------------------------------------------------------------------------------------------


def write_page(path: Path, checked: Checked, charts: Mapping[str, Chart], grids: Mapping[str, np.ndarray]) -> None:
    """Write counts, charts, and the findings of each kind with their picture."""
    numbers = {f"{severity.value}s": checked.number(severity) for severity in Severity}
    numbers |= {f"{split} images": len(contents.pictures) for split, contents in checked.contents.items()}
    folders = sorted({str(contents.folder) for contents in checked.contents.values()})
    values = {
        "title": f"Check of {', '.join(folders)}", "cards": [(name, f"{n:,}", "") for name, n in numbers.items()],
        "charts": charts, "kinds": checked.by_kind(), "severities": {kind: s.value for kind, s in KINDS.items()},
        "remedies": REMEDIES, "pictures": {kind: _inlined(grid) for kind, grid in grids.items()}, "most": _ROWS,
    }  # fmt: skip
    write_text(path, render(Path(__file__).with_name("check.html.jinja"), values))


def _inlined(picture: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data_uri(data.tobytes(), kind="jpeg")
