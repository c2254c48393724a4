"""The page of a report: whole, closed to the network, and nothing in the data becomes markup."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pocketvision.tools.reporting.checked import read_summary
from pocketvision.tools.reporting.drawn import matrix_of
from pocketvision.tools.reporting.page import _pairs
from pocketvision.tools.reporting.summary import Summary
from pocketvision.tools.reporting.writing import write_page

KINDS = ("detection", "segmentation", "classification")
VOID = {"meta", "input", "img", "br"}


class Page(HTMLParser):
    """Elements as (name, attributes), the texts, and complaints about what does not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.complaints: list[str] = []
        self.feed(text)
        self.close()
        self.complaints += [f"<{name}> is never closed" for name in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.complaints.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        return [a for name, a in self.elements if name == tag and class_ in ("", *(a.get("class") or "").split())]


def read(folder: Path) -> Page:
    return Page((folder / "report" / "report.html").read_text(encoding="utf-8"))


def check_whole(page: Page) -> None:
    """Well-formed, described, and nothing comes from elsewhere."""
    assert page.complaints == []
    for name, attributes in page.elements:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            link = attributes.get(key)
            assert link is None or link.startswith(("#", "data:image/")), (name, link)
        assert name not in ("link", "iframe", "object", "base", "form")
        assert not [key for key in attributes if key.startswith("on")]
        if name == "img":
            assert attributes["alt"]
        if name == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for _, a in page.elements if (a.get("href") or "").startswith("#")]
    assert {str(target)[1:] for target in targets} <= set(ids)
    texts = "".join(text for texts in page.texts.values() for text in texts)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\((?!\"#)", texts)


EMPTY = [
    {"images": 0},
    {"images": 1, "count": 1},
    {"found": False},
    {"truths": False},
    {"truths": False, "found": False, "trained": False},
    {"trained": False},
    {"shown": 0},
]


@pytest.mark.parametrize("options", EMPTY, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_pages_of_little_are_whole(kind: str, options: dict[str, Any], evaluated: Any) -> None:
    page = read(evaluated(kind, **options))
    check_whole(page)
    assert page.all("section", "run")
    assert not page.all("input", "row-search")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_needs_nothing_and_nothing_in_the_data_is_markup(kind: str, evaluated: Any) -> None:
    evil = "</script><script>alert(1)</script>"
    folder = evaluated(kind, first=evil, charts=True)
    page = read(folder)
    check_whole(page)
    assert len(page.all("script")) == 2  # the numbers of the matrix, and the page's own
    assert not page.all("b")
    assert evil in "".join(page.texts["th"])
    assert any(evil in text for text in page.texts["option"])
    island = json.loads("".join(t for t in page.texts["script"] if t.startswith("{")))
    assert island["rows"][0] == evil
    if kind != "classification":  # its first image is right, and shown are mistakes
        assert "<b>&0</b>" in page.texts["span"]
    pictures = [a for name, a in page.elements if name in ("image", "img") and "transform" not in a]  # no matrix
    links = [a.get("href") or a.get("src") for a in pictures]
    assert links
    for link in links:
        data = base64.b64decode(str(link).partition(",")[2])
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2] == (96, 128)
    wanted = {"classes", "confusion", "training_loss", "training_figure", "training_lr"}
    detector = {"precision_recall", "f1_confidence", "errors", "object_sizes"}
    charts = {path.stem: cv2.imread(str(path)) for path in (folder / "report").glob("*.png")}
    assert charts.keys() == wanted | (detector if kind == "detection" else set())
    for picture in charts.values():
        assert (picture < 128).any(axis=2).sum() > 50  # something is drawn


def test_many_classes_can_be_searched_and_stay_small(evaluated: Any) -> None:
    folder = evaluated("detection", count=150, shown=1)
    page = read(folder)
    check_whole(page)
    assert page.all("input", "row-search")
    assert (folder / "report" / "report.html").stat().st_size < 600_000


def test_the_check_of_pages_can_fail(evaluated: Any) -> None:
    text = (evaluated("detection") / "report" / "report.html").read_text()
    for broken in (
        text.replace("</main>", ""),
        text.replace("data:image/jpeg", "https://example.org/"),
        text.replace("<main>", "<main><b onclick='x'></b>"),
    ):
        with pytest.raises(AssertionError):
            check_whole(Page(broken))


def test_boxes_lie_where_they_are_and_say_what_they_are(evaluated: Any) -> None:
    page = read(evaluated("detection", images=1, first="cat"))
    boxes = page.all("g", "box")
    assert [box["class"] for box in boxes] == [
        *("box wrong missed", "box wrong missed", "box"),  # the largest first, which lies below
        *("box wrong classification", "box", "box wrong background"),
    ]
    edges = page.all("rect", "edge")
    assert [edges[2][key] for key in ("x", "y", "width", "height")] == ["4.0", "4.0", "20.0", "20.0"]
    titles = [text for text in page.texts["title"] if "0." in text]
    assert "cat 0.90: correct" in titles
    assert "class 2 0.70: classification" in titles
    (figure,) = [a for a in page.all("figure") if "data-group" in a]
    assert figure["data-kind"] == "background classification missed"
    assert figure["data-class"] == "0 1 2"


def test_masks_tell_classes_wrong_and_ignored_pixels(evaluated: Any) -> None:
    folder = evaluated("segmentation", images=1) / "report" / "images"
    truth, prediction, wrong = (
        cv2.imread(str(folder / f"0001.{name}.png"), cv2.IMREAD_UNCHANGED) for name in ("truth", "prediction", "wrong")
    )
    assert (truth[20, 20] == prediction[20, 20]).all()
    assert (truth[20, 100] != prediction[20, 100]).any()
    assert wrong[20, 20, 3] == 0
    assert wrong[20, 100].tolist() == [0, 94, 213, 230]
    assert len(np.unique(truth[:8, :8].reshape(-1, 4), axis=0)) == 2  # stripes
    assert (wrong[:8, :8] == truth[:8, :8]).all()


def test_intervals_stand_below_their_figures_and_unknown_ones_are_no_minus_one(evaluated: Any) -> None:
    page = read(evaluated("detection", **{"AP": 0.5, "AP/low": 0.41, "AP/high": 0.59, "APs": -1.0}))
    assert "0.410 to 0.590" in page.texts["div"]
    assert "no ground truth" in page.texts["div"]
    assert not [text for text in page.texts["div"] if "-1" in text]


def test_a_summary_of_an_earlier_version_is_read(evaluated: Any) -> None:
    """Its absent metrics are -1."""
    folder = evaluated("detection", truths=False) / "report"
    content = json.loads((folder / "summary.json").read_text())
    assert {row["AP"] for row in content["classes"]} == set(content["errors"].values()) == {None}
    content["classes"] = [{**row, "AP": -1.0, "at score": -1.0} for row in content["classes"]]
    content["training"] = [{"kind": "val", "step": 1, "AP": -1.0}]
    (folder / "summary.json").write_text(json.dumps(content))
    summary = read_summary(folder)
    assert {row[key] for row in summary.classes for key in ("AP", "at score")} == {summary.training[0]["AP"]} == {None}


def test_what_the_data_lacks_is_said(evaluated: Any) -> None:
    notes = read(evaluated("detection", truths=False, found=False)).texts["p"]
    assert any("no ground truth" in note for note in notes)
    assert any("detected nothing" in note for note in notes)


def test_an_earlier_report_is_replaced_and_nothing_else(evaluated: Any) -> None:
    folder = evaluated("detection", images=6)
    (folder / "report" / "old.png").touch()
    evaluated("detection", images=2)
    assert not (folder / "report" / "old.png").exists()
    assert len(list((folder / "report" / "images").iterdir())) == 2
    assert not list(folder.glob(".report*"))


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_report_is_replaced_but_no_other_folder(kind: str, evaluated: Any) -> None:
    folder = evaluated(kind)
    (folder / "report" / "summary.json").unlink()
    evaluated(kind)
    assert (folder / "report" / "summary.json").is_file()
    (folder / "report" / "summary.json").unlink()
    (folder / "report" / "mine.png").touch()
    with pytest.raises(ValueError, match=r"report is not a report and will not be replaced \(it has no summary.json\)"):
        evaluated(kind)
    shutil.rmtree(folder / "report")
    (folder / "report").touch()
    with pytest.raises(ValueError, match="is not a report"):
        evaluated(kind)


# ---- several runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_several_runs_in_one_page(kind: str, evaluated: Any, tmp_path: Path) -> None:
    runs = [evaluated(kind, name="a"), evaluated(kind, name="longer", found=False)]
    output = write_page(runs, tmp_path / "deep" / "both.html")
    page = Page(output.read_text(encoding="utf-8"))
    check_whole(page)
    assert len(page.all("section", "run")) == 2
    assert [a["href"] for a in page.all("a")] == ["#compared", "#run-0", "#run-1"]
    assert {"a", "longer", "last - first"} <= set(page.texts["th"] + page.texts["button"])
    assert "lr" in page.texts["th"]  # the key of the configuration that differs
    assert any(path.name.startswith("both.compared_training") for path in output.parent.glob("*.png"))


def test_one_run_alone_and_runs_of_one_name_on_other_data(evaluated: Any, tmp_path: Path) -> None:
    first, second = evaluated("classification", name="x/run"), evaluated("classification", name="y/run", images=5)
    alone = Page(write_page([first], tmp_path / "alone.html").read_text())
    assert not [a for a in alone.all("section") if a.get("id") == "compared"]
    both = Page(write_page([first, second], tmp_path / "both.html").read_text())
    assert {str(first), str(second)} <= set(both.texts["h2"])
    assert any("different data" in text for text in both.texts["p"])


@pytest.mark.parametrize(
    ("runs", "output", "message"),
    [
        ([], "x.html", "name the folders of evaluated runs"),
        (["a", "a/../a"], "x.html", "given twice"),
        (["a"], "x.png", r"x\.png: expected a file that ends in \.html"),
        (["a", "nowhere"], "x.html", r"nowhere/report/summary\.json does not exist: write it with .* report=true"),
        (["a", "b"], "x.html", "these are for classification and detection"),
        (["old"], "x.html", "written by another version"),
        (["broken"], "x.html", "is not an evaluation summary"),
    ],
)
def test_what_cannot_be_put_together(
    runs: list[str], output: str, message: str, evaluated: Any, tmp_path: Path
) -> None:
    for name, kind in (("a", "detection"), ("b", "classification")):
        evaluated(kind, name=name, images=1)
    for name, text in (("old", '{"format": 99}'), ("broken", '["')):
        (tmp_path / name / "report").mkdir(parents=True)
        (tmp_path / name / "report" / "summary.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_page([tmp_path / run for run in runs], tmp_path / output)
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize("place", ["images/0001.jpg", "images", "."])
def test_no_page_contains_what_a_link_points_to(place: str, evaluated: Any, tmp_path: Path) -> None:
    report = evaluated("detection") / "report"
    path, moved = report / place, tmp_path / "private"
    path.resolve().rename(moved)
    (report if place == "." else path).symlink_to(moved)
    with pytest.raises(ValueError, match=r"0001\.jpg is missing, or is a link or no picture"):
        write_page([report.parent], tmp_path / "page.html")


@pytest.mark.parametrize("content", [b"root:x:0:0", b"", b"GIF89a", b"\xff\xd8\xff" + b"0" * (17 << 20)], ids=len)
def test_no_page_contains_what_is_no_picture(content: bytes, evaluated: Any, tmp_path: Path) -> None:
    run = evaluated("segmentation")
    (run / "report" / "images" / "0001.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"0001\.jpg is missing, or is a link or no picture"):
        write_page([run], tmp_path / "page.html")


def test_very_many_classes_have_no_matrix_picture() -> None:
    names = [f"class {i}" for i in range(5000)]
    cells = {"rows": names, "columns": names, "cells": [[0, 1, 2], [0, 0, 2]], "background": False}
    summary = Summary("classification", "a", {}, {}, {}, "", {}, [], confusion=cells)
    assert "too many classes" in matrix_of(summary).title
    assert _pairs(cells) == [("class 0", "class 1", "2", "50.0 %")]


def test_a_summary_survives_its_file(evaluated: Any) -> None:
    folder = evaluated("detection", loss=float("nan")) / "report"
    summary = Summary.load(folder)
    assert summary.results["loss"] is None
    before = (folder / "summary.json").read_text()
    summary.save(folder)
    assert (folder / "summary.json").read_text() == before
