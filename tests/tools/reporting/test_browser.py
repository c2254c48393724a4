"""The page in a real browser: what the pointer, the keyboard and the filters do, and that it fits a phone."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest
from pocketvision.tools.reporting.writing import write_page

NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a Chromium that runs without a screen: none of {', '.join(NAMES)} is on the PATH")
    return found


def run(browser: str, page: Path, *flags: str) -> str:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *flags, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def ask(browser: str, page: Path, script: str, *, width: int = 1280) -> Any:
    """What a script answers at the end of the page; an error in the page's own script is one of this."""
    probe = page.with_name("probe.html")
    watch = "<script>var errors = []; addEventListener('error', (e) => errors.push(e.message));</script>"
    end = f"<script>document.body.dataset.answer = JSON.stringify([errors, (() => {{ {script} }})()]);</script>"
    text = page.read_text().replace("<style>", f"{watch}<style>", 1).replace("</body>", f"{end}</body>")
    probe.write_text(text)
    dom = run(browser, probe, f"--window-size={width},1000", "--dump-dom")
    answer = re.search(r'data-answer="([^"]*)"', dom)
    assert answer, "the page's script did not come to its end"
    errors, value = json.loads(answer[1].replace("&quot;", '"').replace("&lt;", "<").replace("&amp;", "&"))
    assert errors == []
    return value


HELPERS = """
const one = (s) => document.querySelector(s);
const shown = () => [...document.querySelectorAll('.gallery figure')].filter((f) => !f.hidden).length;
const pick = (name, value) => {
  const select = one(`select[data-filter="${name}"]`);
  select.value = value;
  select.dispatchEvent(new Event('change'));
  return shown();
};
const move = { bubbles: true, clientX: 9, clientY: 9 };
const point = (shape) => shape.dispatchEvent(new PointerEvent('pointermove', move));
const key = (element, name) => element.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true }));
"""


def test_filters_show_the_pictures_that_were_asked_for(browser: str, evaluated: Any) -> None:
    page = evaluated("detection", count=6, images=6, first="cat") / "report" / "report.html"
    script = """
      const all = shown();
      const of_kind = pick('kind', 'classification');
      const faded = document.querySelectorAll('.box.other').length;
      pick('kind', '');
      const of_class = pick('class', '0');
      const told = one('.shown').textContent;
      pick('class', '');
      return [all, of_kind, faded > 0, of_class, told, shown(), document.querySelectorAll('.box.other').length];
    """
    # Class 0 is an object of images 0, 4, 5 (which is empty), and the false alarm of every image but the empty one.
    assert ask(browser, page, HELPERS + script) == [6, 5, True, 5, "5 of 6 pictures", 6, 0]


def test_boxes_and_cells_answer_pointer_and_keyboard(browser: str, evaluated: Any) -> None:
    page = evaluated("detection", images=1, first="cat") / "report" / "report.html"
    script = """
      const tip = one('#tip');
      const box = one('.box.classification');
      point(box);
      const found = [tip.textContent, getComputedStyle(tip).visibility];
      const figure = one('.gallery figure');
      figure.focus();
      key(figure, 'ArrowRight');
      found.push(document.activeElement.getAttribute('aria-label'));
      key(document.activeElement, 'ArrowLeft');
      found.push(document.activeElement.getAttribute('aria-label'));
      const matrix = one('.matrix');
      matrix.focus();
      key(matrix, 'ArrowRight');
      found.push(tip.textContent);
      point(one('.chart .mark path'));
      found.push(tip.textContent);
      one('.sortable tbody tr').dispatchEvent(new MouseEvent('mouseover', { bubbles: true }));
      found.push([...document.querySelectorAll('.line.chosen')].map((line) => line.dataset.tip).join());
      return found;
    """
    assert ask(browser, page, HELPERS + script) == [
        "class 2 0.70: classification",
        "visible",
        "class 1: missed",
        "cat 0.60: background",
        "cat predicted as class 1: 1 of 3 (33.3 %)",
        "classification: 0.100",
        "cat,cat",
    ]


def test_tables_sort_and_search(browser: str, evaluated: Any) -> None:
    page = evaluated("detection", count=30, first="cat") / "report" / "report.html"
    script = """
      const first = () => one('.sortable tbody tr:not([hidden])').cells[0].textContent;
      const found = [first()];
      const buttons = document.querySelectorAll('.sortable thead button');
      buttons[1].click();
      found.push(first(), buttons[1].parentElement.getAttribute('aria-sort'));
      buttons[1].click();
      found.push(first());
      buttons[0].click();
      found.push(first());
      const field = one('.row-search');
      field.value = 'CLASS 2';
      field.dispatchEvent(new Event('input'));
      found.push(document.querySelectorAll('.sortable tbody tr:not([hidden])').length);
      return found;
    """
    # AP rises with the number of the class.
    assert ask(browser, page, HELPERS + script) == ["cat", "class 29", "descending", "cat", "cat", 11]


@pytest.mark.parametrize("kind", ["detection", "segmentation", "classification"])
def test_pages_fit_their_window_and_show_something(kind: str, browser: str, evaluated: Any) -> None:
    runs = [evaluated(kind, name="a", count=30), evaluated(kind, name="b" * 60, count=30, found=False)]
    page = write_page(runs, runs[0].parent / "both.html")
    for width in (1280, 390)[
        kind != "detection" :
    ]:  # a Chromium with a window of its own makes it no narrower than 500
        wide, window = ask(browser, page, "return [document.documentElement.scrollWidth, innerWidth];", width=width)
        assert wide <= window <= max(width, 500)
    shot = page.with_suffix(".shot.png")
    run(browser, page, "--window-size=390,2000", f"--screenshot={shot}")
    picture = cv2.imread(str(shot))
    assert picture.shape == (2000, 390, 3)
    for part in (picture[:1000], picture[1000:]):
        assert part.std() > 5
