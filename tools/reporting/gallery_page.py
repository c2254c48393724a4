"""The gallery of a page: photos with boxes that answer the pointer, masks over photos, mistaken photos."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..drawing.canvas import css
from ..drawing.html import Markup, element
from .drawn import color_of
from .summary import IMAGES, Summary

GROUPS = {"worst": "worst images", "best": "best images", "more": "more examples"}
KINDS = {
    "classification": "in the right place, but of another class",
    "localisation": "of the right class, but too far off (IoU 0.1 to 0.5)",
    "both": "of another class and too far off",
    "duplicate": "an object that a better detection had found already",
    "background": "where no object is",
    "missed": "an object that nothing found",
    "ignored": "inside of a crowd region: does not count",
}


def gallery(summary: Summary, folder: Path, number: int) -> Markup | None:
    """All pictures of a run with their filters; None where there are none."""
    if not summary.gallery:
        return None
    figures = [_figure(entry, summary, folder, f"p{number}-{i}") for i, entry in enumerate(summary.gallery)]
    title = "Mistakes, the surest first" if summary.kind == "classification" else "Images, truth beside prediction"
    return element(
        "section", element("h3", title), _filters(summary), _meaning(summary),
        element("p", class_="shown muted", role="status"),
        element("div", figures, class_=f"gallery {summary.kind}"), class_="pictures",
    )  # fmt: skip


def _filters(summary: Summary) -> Markup:
    shown = sorted({i for entry in summary.gallery for i in _classes(entry)})
    classes = [(str(i), summary.classes[i]["name"]) for i in shown]
    groups = [group for group in GROUPS if any(entry["group"] == group for entry in summary.gallery)]
    kinds = {kind for entry in summary.gallery for kind in _kinds(entry)}
    boxes = [_select("group", "images", [(group, GROUPS[group]) for group in groups])] if len(groups) > 1 else []
    boxes.append(_select("class", "class", classes))
    if kinds:
        boxes.append(_select("kind", "error", [(kind, kind) for kind in KINDS if kind in kinds]))
    if summary.kind == "detection":
        box = element("input", type="checkbox", class_="names-switch")
        boxes.append(element("label", box, " names on boxes", class_="switch"))
    return element("div", boxes, class_="filters")


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> Markup:
    rows = [element("option", "all", value=""), *(element("option", text, value=value) for value, text in options)]
    return element("label", label, " ", element("select", rows, data_filter=name))


def _meaning(summary: Summary) -> Markup | None:
    if summary.kind != "detection":
        return None
    threshold = summary.curves["threshold"]
    rows = [(element("dt", kind), element("dd", text)) for kind, text in KINDS.items()]
    how = (
        f"Detections with a score of {threshold:.2f} or more. A dashed frame is an error: on the left an object that "
        "was missed, on the right a wrong detection. Point at a box, tap it, or walk through them with the arrow keys."
    )
    return element(
        "div", element("p", how, class_="muted"),
        element("details", element("summary", "what the kinds of error mean"), element("dl", rows)),
    )  # fmt: skip


def _figure(entry: dict[str, Any], summary: Summary, folder: Path, name: str) -> Markup:
    draw = {"detection": _boxes_panels, "segmentation": _mask_panels, "classification": _photo_panel}[summary.kind]
    panels, caption = draw(entry, summary, folder, name)
    enlarge = element("button", "enlarge", type="button", class_="enlarge", aria_pressed="false")
    heading = element("div", element("span", entry["id"], class_="file"), enlarge, class_="row")
    return element(
        "figure", element("div", panels, class_="panels"),
        element("figcaption", heading, caption),
        data_group=entry["group"], data_class=" ".join(map(str, sorted(_classes(entry)))),
        data_kind=" ".join(sorted(_kinds(entry))), tabindex="0" if summary.kind == "detection" else None,
    )  # fmt: skip


def _classes(entry: dict[str, Any]) -> set[int]:
    """Indices of the classes that a picture shows or that were seen in it."""
    boxes = {row["class"] for key in ("truth", "found") for row in entry.get(key, []) if row["class"] is not None}
    masks = {slot for slot, _ in entry.get("classes", [])}
    return boxes | masks | {entry[key] for key in ("label", "first") if key in entry}


def _kinds(entry: dict[str, Any]) -> set[str]:
    return {row["kind"] for key in ("truth", "found") for row in entry.get(key, [])} & KINDS.keys()


def inlined(path: Path) -> str:
    """A picture's file as a data URI.

    Raises:
        ValueError: there is none.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: pocketvision evaluate run=... report=true makes the report again")
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _panel(entry: dict[str, Any], title: str, *content: Any, label: str, role: str = "img") -> Markup:
    view = f"0 0 {int(entry['width'])} {int(entry['height'])}"
    picture = element("svg", content, viewBox=view, role=role, aria_label=label)
    return element("div", element("div", title, class_="panel-title"), picture, class_="panel")


def _photo(entry: dict[str, Any], folder: Path, name: str) -> Markup:
    href = inlined(folder / IMAGES / Path(entry["photo"]).name)
    return element("image", id=name, href=href, width=int(entry["width"]), height=int(entry["height"]))


def _again(name: str, class_: str | None = None) -> Markup:
    return element("use", href=f"#{name}", class_=class_)


# ---- detection -------------------------------------------------------------------------------------------


def _boxes_panels(entry: dict[str, Any], summary: Summary, folder: Path, name: str) -> tuple[list[Markup], Markup]:
    counts = Counter(row["kind"] for row in entry["found"])
    counts["missed"] = sum(row["kind"] == "missed" for row in entry["truth"])
    told = (
        ", ".join(f"{counts[kind]} {kind}" for kind in ("correct", *KINDS) if counts[kind])
        or "nothing there, nothing found"
    )
    truth, found = (_boxes(entry, summary, key) for key in ("truth", "found"))
    size = f"{entry['id']}, {{}} boxes"
    panels = [
        _panel(
            entry,
            "truth",
            _photo(entry, folder, name),
            truth,
            label="truth of " + size.format(len(truth)),
            role="group",
        ),
        _panel(
            entry, "prediction", _again(name), found, label="prediction of " + size.format(len(found)), role="group"
        ),
    ]
    return panels, element("div", f"F1 {entry['score']:.2f}: {told}")


def _boxes(entry: dict[str, Any], summary: Summary, key: str) -> list[Markup]:
    """The smallest on top, where the pointer reaches it."""
    size = max(entry["width"], entry["height"]) / 26
    rows = sorted(entry[key], key=lambda row: -row["box"][2] * row["box"][3])
    return [_box(row, summary, size) for row in rows]


def _box(row: dict[str, Any], summary: Summary, size: float) -> Markup:
    known = row["class"] is not None
    label = summary.classes[row["class"]]["name"] if known else "no class of the list"
    color = css(color_of(summary.classes[row["class"]])) if known else "var(--muted)"
    score = f" {row['score']:.2f}" if "score" in row else ""
    tip = f"{label}{score}" + ("" if row["kind"] == "correct" and not score else f": {row['kind']}")
    x, y, w, h = (float(value) for value in row["box"])
    frame = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{max(w, 0):.1f}", "height": f"{max(h, 0):.1f}"}
    words = element(
        "text", f"{label}{score}", x=f"{x + size / 6:.1f}", y=f"{y + size * 0.9:.1f}", font_size=f"{size:.1f}"
    )
    return element(
        "g", element("title", tip),
        element("rect", class_="seam", **frame), element("rect", class_="edge", **frame), words,
        class_="box" if row["kind"] == "correct" else f"box wrong {row['kind']}", style=f"color:{color}",
        data_class=row["class"], tabindex="-1",
    )  # fmt: skip


# ---- segmentation and classification ---------------------------------------------------------------------


def _mask_panels(entry: dict[str, Any], summary: Summary, folder: Path, name: str) -> tuple[list[Markup], Markup]:
    panels = []
    for title, file in entry["layers"].items():
        photo = _again(name, "dim" if title == "wrong" else None) if panels else _photo(entry, folder, name)
        href = inlined(folder / IMAGES / Path(file).name)
        layer = element("image", href=href, width=int(entry["width"]), height=int(entry["height"]), class_="mask")
        panels.append(_panel(entry, title, photo, layer, label=f"{title} of {entry['id']}"))
    rows = [_chip(summary.classes[slot], iou) for slot, iou in sorted(entry["classes"], key=lambda pair: pair[1])]
    told = f"mean IoU {entry['score']:.2f}, {100 * entry['wrong_share']:.1f} % of the pixels wrong"
    return panels, element("div", told, element("ul", rows, class_="chips"))


def _chip(row: dict[str, Any], iou: float) -> Markup:
    return element("li", swatch(row), f"{row['name']} {iou:.2f}")


def swatch(row: dict[str, Any]) -> Markup:
    return element("span", class_="swatch", style=f"background:{css(color_of(row))}")


def _photo_panel(entry: dict[str, Any], summary: Summary, folder: Path, name: str) -> tuple[list[Markup], Markup]:
    found, truth = (summary.classes[entry[key]]["name"] for key in ("first", "label"))
    href = inlined(folder / IMAGES / Path(entry["photo"]).name)
    picture = element("img", src=href, alt=f"{entry['id']}: taken for {found}, is {truth}", id=name)
    told = f"taken for {found} ({entry['probability']:.2f}), is {truth} (place {entry['place'] + 1})"
    return [picture], element("div", told)
