"""A matplotlib figure as SVG for a page, in the page's colors, and as a picture for a file."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from .html import clean

if TYPE_CHECKING:  # matplotlib is imported only to draw a chart: most commands draw none
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

INK, MUTED, LINE = "#212529", "#606870", "#dee2e6"  # in a page these are variables, with other values in dark mode
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)"}
_BAR = 28  # units above the chart for its title, which a page shows separately
_HIDDEN = ("paper", "heading")
# For scripts missing in matplotlib's own font, if the machine has one of these fonts.
_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Hiragino Sans", "Microsoft YaHei", "Arial")
_STYLE = {
    "svg.hashsalt": "pocketvision", "svg.fonttype": "none", "path.simplify": False, "image.composite_image": False,
    "text.parse_math": False, "text.color": INK, "font.size": 11, "axes.unicode_minus": False,
    "axes.facecolor": "none", "axes.labelcolor": MUTED, "axes.labelsize": 11, "axes.axisbelow": True,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": LINE, "grid.linewidth": 1,
    "xtick.bottom": False, "xtick.labelcolor": MUTED, "xtick.labelsize": 11, "ytick.left": False,
    "ytick.labelcolor": MUTED, "ytick.labelsize": 11, "lines.solid_joinstyle": "round",
    "legend.frameon": False, "legend.borderpad": 0, "legend.borderaxespad": 0, "legend.handlelength": 1.6,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """The style of our charts, independent of the user's matplotlib settings; also a decorator."""
    from matplotlib import font_manager
    from matplotlib import style as styles

    known = font_manager.fontManager.get_font_names()
    family = ["DejaVu Sans", *(font for font in _FONTS if font in known)]
    with styles.context(["default", {**_STYLE, "font.family": family}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


class Chart:
    """A figure whose lengths are given in units (pixels of a page), from the upper left corner."""

    def __init__(self, title: str, width: float, height: float, *, summary: str = "") -> None:
        from matplotlib.figure import Figure

        self.title, self.width, self.height, self.summary = clean(title), width, height, summary
        self.figure = Figure((width / 72, (height + _BAR) / 72))
        self.figure.patch.set_gid("paper")
        self.figure.text(12 / width, 1 - 19 / (height + _BAR), self.title, size=13).set_gid("heading")
        self._marks: dict[str, tuple[str, str]] = {}

    @property
    def _whole(self) -> float:
        return self.height + _BAR

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        place = left / self.width, (self.height - top - height) / self._whole
        return self.figure.add_axes((*place, width / self.width, height / self._whole))

    def write(self, x: float, y: float, words: str, *, align: str = "left", size: float = 11) -> None:
        """Muted text with its baseline at (x, y)."""
        place = x / self.width, (self.height - y) / self._whole
        self.figure.text(*place, words, ha=align, color=MUTED, size=size)

    def legend(self, handles: list[Any], names: list[str], *, left: float, top: float, columns: int = 2) -> None:
        place = left / self.width, (self.height - top) / self._whole
        self.figure.legend(handles, [shorten(name, 24) for name in names], loc="upper left", bbox_to_anchor=place,
                           ncols=columns, columnspacing=1.5, labelspacing=0.4)  # fmt: skip

    def mark(self, artist: "Artist", tip: str, *, kind: str = "mark") -> None:
        """Set a shape's tooltip and its class in the page."""
        name = f"mark-{len(self._marks)}"
        artist.set_gid(name)
        self._marks[name] = clean(tip), kind

    def nothing(self) -> "Chart":
        self.write(self.width / 2, self.height / 2, "no data", align="center", size=13)
        return self

    @style()
    def picture(self) -> np.ndarray:
        """uint8 RGB, in light-mode colors, below its title."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self.figure.dpi = 144  # a unit is two pixels
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]

    @style()
    def svg(self, name: str) -> Markup:
        """The chart as an element of a page; `name` is its id, and the prefix of the ids inside."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        buffer = io.StringIO()
        FigureCanvasSVG(self.figure).print_svg(buffer, metadata={"Date": None})
        root = ElementTree.fromstring(buffer.getvalue())
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', buffer.getvalue()))
        self._adapt(root, used, f"{name}-")
        label = f"{self.title}: {self.summary}" if self.summary else self.title
        root.attrib = {"id": name, "class": "chart", "role": "img", "aria-label": label,
                       "viewBox": f"0 {_BAR} {self.width:g} {self.height:g}"}  # fmt: skip
        return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))

    def _adapt(self, element: ElementTree.Element, used: set[str], prefix: str) -> None:
        """Shorten the SVG, and give it the page's colors and fonts, tooltips, and unique ids."""
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _adapted(_local(key), value) for key, value in element.items()}
        for key, value in element.items():
            element.set(key, re.sub(r"^#|url\(#", lambda found: found[0] + prefix, value) if "#" in value else value)
        element.tail = None
        element.text = element.text if element.text and element.text.strip() else None
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if (name := element.attrib.pop("id", "")) in used:
            element.set("id", prefix + name)
        children = []
        for child in element:
            if _local(child.tag) not in ("metadata", "style") and child.get("id") not in _HIDDEN:
                self._adapt(child, used, prefix)
                children += child if child.tag == "g" and not child.attrib else [child]
        element[:] = children
        if name in self._marks:
            tip, element.attrib["class"] = self._marks[name]
            title = ElementTree.Element("title")
            title.text = tip
            element.insert(0, title)


def shorten(name: str, length: int) -> str:
    name = " ".join(clean(name).split())
    return name if len(name) <= length else f"{name[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def _local(name: str) -> str:
    """A tag or attribute without its namespace, which is implicit in a page."""
    return name.rpartition("}")[2]


def _adapted(key: str, value: str) -> str:
    if key == "style":
        value = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", value)  # as written by matplotlib before 3.11
        value = re.sub(r"font-family: [^;]*;? ?", "", value).replace(": ", ":").replace("; ", ";")
        return re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0]], value)
    if key in ("d", "x", "y"):
        value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
        return re.sub(r" *([A-Za-z]) *", r"\1", value.strip())
    return value.replace(" ", "") if key == "href" else value
