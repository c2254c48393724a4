"""The gallery of a page: photos with boxes, photos with masks, and misclassified photos."""

from collections import Counter
from pathlib import Path
from typing import Any

from ..drawing.html import data_uri
from .summary import IMAGES, Summary

_SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
_MAX_BYTES = 16 << 20  # of a picture of at most 640 pixels
GROUPS = {"worst": "worst images", "best": "best images", "more": "more examples"}
KINDS = {
    "classification": "well localized, but the wrong class",
    "localisation": "the right class, but poorly localized (IoU 0.1 to 0.5)",
    "both": "the wrong class, and poorly localized",
    "duplicate": "an object that a better detection already matched",
    "background": "background, no object there",
    "missed": "a missed object",
    "ignored": "inside a crowd region: does not count",
}


def gallery(summary: Summary, folder: Path, name: str) -> dict[str, Any]:
    """All pictures of a run and their filters: label -> value -> text."""
    figures = [_figure(entry, summary, folder, f"{name}-{i}") for i, entry in enumerate(summary.gallery)]
    groups = {group: told for group, told in GROUPS.items() if any(figure["group"] == group for figure in figures)}
    shown = sorted({number for figure in figures for number in figure["classes"]})
    kinds = [kind for kind in KINDS if any(kind in figure["kinds"] for figure in figures)]
    filters = {
        "group": ("images", groups if len(groups) > 1 else {}),
        "class": ("class", {number: summary.classes[number]["name"] for number in shown}),
        "kind": ("error", dict(zip(kinds, kinds, strict=True))),
    }
    return {
        "figures": figures,
        "filters": {key: found for key, found in filters.items() if key == "class" or found[1]},
        "kinds": KINDS,
    }


def _figure(entry: dict[str, Any], summary: Summary, folder: Path, name: str) -> dict[str, Any]:
    """An entry of a summary, with the content of its files, the indices of its classes, and text."""
    found: dict[str, Any] = {**entry, "name": name, "photo": _inlined(folder, entry["photo"]), "kinds": []}
    if summary.kind == "detection":
        # The smallest last, so that it is on top and the pointer can reach it.
        boxes = {
            key: [_box(row, summary) for row in sorted(entry[key], key=lambda row: -row["box"][2] * row["box"][3])]
            for key in ("truth", "found")
        }
        rows = [*entry["truth"], *entry["found"]]
        classes = {row["class"] for row in rows if row["class"] is not None}
        return {**found, "boxes": boxes, "classes": sorted(classes), "told": _told(entry),
                "kinds": sorted({row["kind"] for row in rows} & KINDS.keys())}  # fmt: skip
    if summary.kind == "segmentation":
        layers = {title: _inlined(folder, file) for title, file in entry["layers"].items()}
        chips = [(summary.classes[slot], iou) for slot, iou in sorted(entry["classes"], key=lambda pair: pair[1])]
        return {**found, "layers": layers, "chips": chips, "classes": sorted({slot for slot, _ in entry["classes"]})}
    return {**found, "classes": sorted({entry["label"], entry["first"]})}


def _told(entry: dict[str, Any]) -> str:
    counts = Counter(row["kind"] for row in entry["found"])
    counts["missed"] = sum(row["kind"] == "missed" for row in entry["truth"])
    told = [f"{counts[kind]} {kind}" for kind in ("correct", *KINDS) if counts[kind]]
    return ", ".join(told) or "no objects, no detections"


def _box(row: dict[str, Any], summary: Summary) -> dict[str, Any]:
    known = row["class"] is not None
    label = summary.classes[row["class"]]["name"] if known else "unknown class"
    label += f" {row['score']:.2f}" if "score" in row else ""
    tip = label if row["kind"] == "correct" and "score" not in row else f"{label}: {row['kind']}"
    color = summary.classes[row["class"]]["color"] if known else None
    return {**row, "label": label, "tip": tip, "color": color}


def _inlined(folder: Path, name: str) -> str:
    """A picture's file as a data URI. Pages are passed on: a link to another file, or another kind of file, is refused.

    Raises:
        ValueError: there is no such picture.
    """
    path = folder / IMAGES / Path(name).name
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    content = b""
    if path.resolve() == folder.parent.resolve() / folder.name / IMAGES / path.name and path.is_file():
        content = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    if not content.startswith(_SIGNATURES[kind]):
        raise ValueError(
            f"{path} is missing, or is a link or no picture: write the report again with pocketvision evaluate run=... "
            "report=true"
        )
    return data_uri(content, kind=kind)
