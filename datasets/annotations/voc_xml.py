"""Reads one PASCAL VOC XML file. Entities are rejected, so that no file can expand or access other files."""

import math
import os
import re
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import InputSource

from defusedxml.common import DTDForbidden
from defusedxml.sax import make_parser

_MAX_BYTES, _MAX_DEPTH = 8 << 20, 32  # VOC's largest file has 20 kB and five levels
_KNOWN = ("utf-8", "utf8", "utf-16", "utf16", "iso-8859-1", "us-ascii", "ascii")  # to expat itself
_DECLARED = re.compile(rb"""^<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._:-]+)["'][^>]*\?>""")


class VocObject(NamedTuple):
    """One object as the file has it: corners xmin, ymin, xmax, ymax, counted from 0 or from 1."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass
class VocXml:
    """What detection needs from an XML file."""

    filename: str = ""
    size: tuple[int, int] | None = None  # h, w; None if missing or not positive, as some tools write it
    objects: list[VocObject] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # objects that were skipped, and why


def parse_voc(path: Path) -> VocXml:
    """Read a file. `truncated`, `occluded`, `pose` and the `part`s of a person are ignored.

    Raises:
        ValueError: it is not a VOC annotation file.
        FileNotFoundError: it does not exist.
    """
    if (size := os.path.getsize(path)) > _MAX_BYTES:
        raise ValueError(
            f"{path} has {size >> 20} MB: expected the annotation of one image, at most {_MAX_BYTES >> 20} MB"
        )
    root = _tree(path.read_bytes(), path)
    if root.tag != "annotation":
        raise ValueError(f"{path} begins with <{root.tag}>: expected <annotation>, as in PASCAL VOC's XML")
    result = VocXml(filename=_text(root, "filename"), size=_size(root))
    for number, node in enumerate(root.findall("object"), start=1):
        try:
            result.objects.append(_object(node))
        except ValueError as error:
            result.problems.append(f"object {number} {error}")
    return result


def _object(node: Element) -> VocObject:
    name, box = _text(node, "name"), node.find("bndbox")
    if not name:
        raise ValueError("has no <name>: expected the class of the object")
    if box is None:
        raise ValueError(f"({name}) has no <bndbox>: expected xmin, ymin, xmax, ymax")
    texts = [_text(box, key) for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
    except ValueError:
        xmin = ymin = xmax = ymax = math.nan
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        raise ValueError(f"({name}) has the box {texts}: expected four finite numbers xmin, ymin, xmax, ymax")
    difficult = _text(node, "difficult").lower()
    if difficult not in ("", "0", "1", "true", "false"):
        raise ValueError(f"({name}) has difficult {difficult[:20]!r}: expected 0 or 1")
    return VocObject(name, (xmin, ymin, xmax, ymax), difficult in ("1", "true"))


def _size(root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    try:
        height, width = (int(float(_text(size, key))) for key in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if 0 < height < 1 << 31 and 0 < width < 1 << 31 else None


def _text(node: Element, key: str) -> str:
    return (node.findtext(key) or "").strip()


class _Handler(ContentHandler):
    """Builds a tree of limited depth, without attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.builder, self._path, self._depth = TreeBuilder(), path, 0

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"{self._path} is more than {_MAX_DEPTH} levels deep: expected PASCAL VOC's XML")
        self.builder.start(name, {})

    def endElement(self, name: str) -> None:  # noqa: N802
        self._depth -= 1
        self.builder.end(name)

    def characters(self, content: str) -> None:
        self.builder.data(content)


def _tree(data: bytes, path: Path) -> Element:
    data, encoding = _decoded(data.lstrip(b" \t\r\n") if data[:1].isspace() else data, path)
    source = InputSource()
    source.setByteStream(BytesIO(data))
    source.setEncoding(encoding)
    # Not defusedxml.ElementTree, which rejects prefixes without a namespace.
    parser, handler = make_parser(), _Handler(path)
    parser.forbid_dtd = True
    parser.setContentHandler(handler)
    try:
        parser.parse(source)
    except DTDForbidden as error:
        raise ValueError(
            f"{path} has a DOCTYPE: rejected, because entities can expand without limit. Remedy: remove it"
        ) from error
    except SAXParseException as error:
        place = f"line {error.getLineNumber()}, column {error.getColumnNumber()}"
        raise ValueError(f"{path} is not valid XML: {error.getMessage()}: {place}{_encoding_hint(data)}") from error
    return handler.builder.close()


def _encoding_hint(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeError:
        return ". Remedy: save it as UTF-8, or declare its encoding in the first line"
    return ""


def _decoded(data: bytes, path: Path) -> tuple[bytes, str | None]:
    """The bytes, and their encoding if the parser cannot read it: it knows no multi-byte encoding such as GBK."""
    declared = _DECLARED.match(data)
    if declared is None or (name := declared[1].decode("ascii")).lower() in _KNOWN:
        return data, None
    try:
        return data.decode(name).encode("utf-8"), "utf-8"
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"{path} declares the encoding {name}, but: {error}. Remedy: save it as UTF-8") from error
