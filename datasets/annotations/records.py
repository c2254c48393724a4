"""The tables of a COCO JSON, read record by record: its text or objects are never in memory as a whole."""

import codecs
import json
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = ("images", "annotations", "categories")
_CHUNK = 1 << 20  # bytes
_NUMBER_GOES_ON = ("", ".", "e", "E", "+", "-")
_BLANK = " \t\n\r"
_NO_ID = -(2**63)
_IMAGE_KEYS = ("id", "height", "width", "file_name")


class Images(list[Any]):
    """Records of `images`, with only the keys that are read."""

    def append(self, record: Any) -> None:
        if isinstance(record, dict):
            record = {key: record[key] for key in _IMAGE_KEYS if key in record}
        super().append(record)


class Annotations:
    """Records of `annotations` without segmentations, in 65 bytes each; records of unusual types as they are."""

    def __init__(self) -> None:
        self._integers, self._numbers, self._crowd = array("q"), array("d"), array("b")
        self._unusual: dict[int, Any] = {}

    def append(self, record: Any) -> None:
        row = _usual(record)
        if row is None:
            if isinstance(record, dict):
                record.pop("segmentation", None)
            self._unusual[len(self._crowd)] = record
            row = (0, 0, 0), (0, 0, 0, 0, 0), 0
        integers, numbers, crowd = row
        self._integers.extend(integers)
        self._numbers.extend(numbers)
        self._crowd.append(crowd)

    def __len__(self) -> int:
        return len(self._crowd)

    def __iter__(self) -> Iterator[Any]:
        for i, crowd in enumerate(self._crowd):
            if i in self._unusual:
                yield self._unusual[i]
                continue
            number, image, category = self._integers[3 * i : 3 * i + 3]
            *bbox, area = self._numbers[5 * i : 5 * i + 5]
            record = {"image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd}
            record |= {} if area != area else {"area": area}
            yield record if number == _NO_ID else {"id": number, **record}


def _usual(record: Any) -> tuple[tuple[int, ...], tuple[float, ...], int] | None:
    """Three integers (id, image, category), five numbers (box and area), and whether it is a crowd; or None."""
    try:
        integers = record.get("id", _NO_ID), record["image_id"], record["category_id"]
        area, crowd, box = record.get("area"), record.get("iscrowd", 0), record["bbox"]
    except (KeyError, TypeError, AttributeError):
        return None
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_exact, box)) and all(map(_is_integer, integers))):
        return None
    if (
        type(crowd) not in (int, bool)
        or crowd not in (0, 1)
        or not (area is None or (_is_exact(area) and area == area))
    ):
        return None
    return integers, (*box, math.nan if area is None else area), int(crowd)


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_exact(value: Any) -> bool:
    """A number that fits a float."""
    return type(value) is float or (type(value) is int and -(2**53) <= value <= 2**53)


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a JSON file in COCO's format; their records can be iterated repeatedly.

    Besides the result it needs memory for the longest record and one chunk of the file.

    Raises:
        ValueError: the file is not JSON, or lacks a table.
    """
    try:
        with open(path, "rb") as file:
            tables = _Text(file).tables()
    except (ValueError, RecursionError) as error:
        remedy = ". Remedy: save it as UTF-8" if isinstance(error, UnicodeError) else ""
        raise ValueError(f"{path} is not valid JSON: {error}{remedy}") from error
    if not isinstance(tables, dict):
        raise ValueError(
            f"{path}: expected an object with images, annotations, categories, found a {type(tables).__name__}"
        )
    for key in TABLES:
        if not hasattr(tables.get(key), "append"):
            raise ValueError(
                f"{path} lacks the list {key!r}: expected COCO's instances format (found {sorted(tables)})"
            )
    return tables


class _Text:
    """JSON text that is read chunk by chunk; `place` is the parser's position in the current chunk."""

    def __init__(self, file: Any) -> None:
        head = file.read(4)
        self._file = file
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(head))("surrogatepass")
        self._parse = json.JSONDecoder().raw_decode
        self._piece, self._passed, self.place, self._ended = self._decoder.decode(head), 0, 0, False

    def tables(self) -> Any:
        """The outermost object, with None for all that are no tables; or another type of content."""
        if self._next() != "{":
            return self._whole()
        found: dict[str, Any] = {}
        while True:
            self.place += 1  # past the brace, or the comma
            if self._next() == "}" and not found:
                break
            key = self._value()
            if not isinstance(key, str) or self._next() != ":":
                raise self._error("expected a key and a colon")
            self.place += 1
            found[key] = self._table(key)
            if self._next() != ",":
                break
        self._expect("}")
        if self._next():
            raise self._error("unexpected text after the end")
        return found

    def _table(self, key: str) -> Any:
        if key not in TABLES or self._next() != "[":
            value = self._value()
            return value if key in TABLES else None
        records: Any = {"images": Images, "annotations": Annotations, "categories": list}[key]()
        while True:
            self.place += 1
            if self._next() == "]" and not len(records):
                break
            records.append(self._value())
            if self._next() != ",":
                break
        self._expect("]")
        return records

    def _whole(self) -> Any:
        while self._more():
            pass
        return json.loads(self._piece)

    def _expect(self, sign: str) -> None:
        if self._next() != sign:
            raise self._error(f"expected a comma or {sign}")
        self.place += 1

    def _next(self) -> str:
        """Move to the next character that is not a blank and return it; "" at the end."""
        while True:
            while self.place < len(self._piece):
                if (sign := self._piece[self.place]) not in _BLANK:
                    return sign
                self.place += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        """Parse one value and move past it."""
        self._next()
        while True:
            try:
                value, end = self._parse(self._piece, self.place)
            except json.JSONDecodeError as error:
                if not self._more():  # the value is complete and wrong, or the file is truncated
                    raise self._error(error.msg, error.pos) from error
                continue
            could_go_on = self._piece[end : end + 1] in _NUMBER_GOES_ON  # 1.5e|3, also at the end of the chunk
            if not could_go_on or not self._more():
                self.place = end
                return value

    def _more(self) -> bool:
        """Read at least as much again: a long value is then parsed again a few times, not a thousand."""
        if self._ended:
            return False
        self._passed += self.place
        rest = self._piece[self.place :]
        data = self._file.read(max(_CHUNK, len(rest)))
        self._ended = not data
        self._piece, self.place = rest + self._decoder.decode(data, final=self._ended), 0
        return True

    def _error(self, problem: str, place: int | None = None) -> ValueError:
        return ValueError(
            f"{problem.removesuffix(' at')} at character {self._passed + (self.place if place is None else place)}"
        )
