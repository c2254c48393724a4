"""Class lists in files, as people and labeling tools write them."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_text

_CVAT_HEADER = re.compile(r"#\s*label\s*:\s*color_rgb", re.IGNORECASE)
_CVAT_ROW = re.compile(r"(.+?):(?:(\d+),(\d+),(\d+))?:([^:]*):([^:]*)")  # name:color:parts:actions
_NUMBERED = re.compile(r"(\d+)(?:\s*[:=,]\s*|\s+)(\S.*)")
_COLORED = (  # 0 0 0 road, as CamVid and Datumaro have it, or road 0 0 0
    re.compile(r"(?P<color>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)"),
    re.compile(r"(?P<name>\S.*?)\s+(?P<color>\d+\s+\d+\s+\d+)"),
)
_COLUMNS = {  # other tools' names of columns and keys
    "class": "name", "classes": "name", "class name": "name", "class_name": "name", "title": "name",
    "pixel value": "id", "class id": "id", "class_id": "id", "red": "r", "green": "g", "blue": "b",
}  # fmt: skip


def read_class_file(path: str | Path) -> list[dict[str, Any]]:
    """Rows with `name` and, if present in the file, `id`, `category` and `color`.

    txt, names: one name per line, or all lines numbered ("1: road") or with a color ("0 0 0 road"), or CVAT's
    labelmap.txt. csv: one name per line, or
    a header with `name` and any of id, category, r, g, b. json: a list of names or of objects with those keys, such a
    list as `classes`, `labels` or `categories`, or an object {number: name}, {name: number} or {name: color}. Lines
    that start with "# " are comments.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"class list not found: {path} (expected a .txt, .csv or .json file, or a list of names)"
        )
    text = read_text(path)
    try:
        match path.suffix.lower():
            case ".txt" | ".names":
                rows: list[Any] = _text_rows(text)
            case ".csv":
                rows = _csv_rows(text)
            case ".json":
                rows = _json_rows(json.loads(text))
            case other:
                raise ValueError(f"unknown extension {other!r}: expected .txt, .csv or .json")
        if not rows:
            raise ValueError("it lists no names")
        return [_class_row(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise ValueError(
            f"{path} is not a class list: {error if isinstance(error, ValueError) else repr(error)}. "
            "Remedy: write one name per line in a .txt file"
        ) from error


def _text_rows(text: str) -> list[Any]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [_CVAT_ROW.fullmatch(line) for line in lines if not line.startswith("#")]
    if any(map(_CVAT_HEADER.match, lines)) or (found and all(row and row[2] for row in found)):
        if not all(found):
            raise ValueError("it starts like CVAT's labelmap.txt, but not all lines are NAME:R,G,B:PARTS:ACTIONS")
        return [{"name": row[1], "color": row.group(2, 3, 4) if row[2] else None} for row in found if row]
    lines = _without_comments(lines)
    for pattern in _COLORED:
        colored = [row for row in map(pattern.fullmatch, lines) if row]
        if len(colored) == len(lines) > 0:
            return [{"name": row["name"], "color": row["color"].split()} for row in colored]
    if "\t" in "".join(lines):
        raise ValueError("it has several columns: save the table as .csv, with the header name,id")
    if len(lines) == 1 and "," in lines[0]:
        raise ValueError("it has one line with commas")
    numbered = [row for row in map(_NUMBERED.fullmatch, lines) if row]
    first = int(numbered[0][1]) if numbered else 0
    if len(numbered) == len(lines) > 1 and [int(row[1]) - first for row in numbered] == list(range(len(lines))):
        return [{"id": row[1], "name": row[2]} for row in numbered]
    return _numbered_by_labelme(lines)


def _without_comments(lines: list[str]) -> list[str]:
    if wrong := [line for line in lines if line.startswith("#") and line.strip("#") and line[1] not in " \t#"]:
        raise ValueError(f"{wrong[0]!r} may be a comment or a name: write '# ...' for a comment, or use a .json list")
    return [line for line in lines if not line.startswith("#")]


def _numbered_by_labelme(names: list[str]) -> list[Any]:
    """Without labelme's first line, which stands for pixels to ignore: its second line is number 0."""
    return names[1:] if names[:1] == ["__ignore__"] else list(names)


def _csv_rows(text: str) -> list[Any]:
    text = "\n".join(_without_comments([line.strip() for line in text.splitlines() if line.strip()]))
    rows = text.splitlines()
    sign = next((sign for sign in ",;\t" if all(sign in row for row in rows)), ",")  # some Excels write semicolons
    lines = list(csv.reader(rows, skipinitialspace=True, delimiter=sign))
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    header = header if "name" in header else [_COLUMNS.get(cell, cell) for cell in header]
    if "name" not in header:
        return _numbered_by_labelme([line[0].strip() for line in lines]) if all(len(x) == 1 for x in lines) else lines
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _json_rows(data: Any) -> list[Any]:
    if not isinstance(data, dict):
        return data
    data = data["id2label"] if isinstance(data.get("id2label"), dict) else data  # as Hugging Face has it
    for key in ("classes", "labels", "categories"):
        if isinstance(data.get(key), list):
            return data[key]
    if all(isinstance(value, list) for value in data.values()):
        return [{"name": name, "color": color} for name, color in data.items()]
    if all(type(value) is int for value in data.values()):
        return [{"name": name, "id": number} for name, number in sorted(data.items(), key=lambda item: item[1])]
    return [{"id": number, "name": name} for number, name in data.items()]


def _class_row(row: Any) -> dict[str, Any]:
    if isinstance(row, str):
        return {"name": class_name(row)}
    if not isinstance(row, Mapping):
        raise ValueError(f"{row!r} is neither a name nor a row with a `name` (several columns need a header)")
    if "title" in row and "name" not in row:  # Supervisely's ids are not those of pixels
        row = {key: value for key, value in row.items() if key != "id"}
    row = row if "name" in row else {_COLUMNS.get(key, key): value for key, value in row.items()}
    color = row.get("color") or tuple(row[channel] for channel in "rgb" if channel in row) or None
    if isinstance(color, str) and color.startswith("#"):
        color = tuple(bytes.fromhex(color[1:]))
    elif isinstance(color, str):  # rgb(0,0,0)
        color = tuple(re.findall(r"[\d.-]+", color))
    result = {"name": class_name(row["name"]), "category": row.get("category") or None}
    result["color"] = tuple(_whole(value, 0, 255) for value in color) if color else None
    if color and len(color) != 3:
        raise ValueError(f"a color has {len(color)} values: expected red, green and blue")
    return result | ({"id": _whole(row["id"], -(2**31), 2**31)} if row.get("id") not in (None, "") else {})


def class_name(value: Any) -> str:
    """A name as it was written.

    Raises:
        ValueError: it is empty, or no text: YAML reads on, off, yes, no and null as values.
    """
    if type(value) is int or (isinstance(value, str) and value.strip()):
        return str(value).strip()
    raise ValueError(f"a class is called {value!r}: expected a name. Remedy: quote words such as 'on', 'no' and 'null'")


def _whole(value: Any, least: int, most: int) -> int:
    if not (least <= (number := float(value)) <= most and number == int(number)):
        raise ValueError(f"{number:g} is not an integer from {least} to {most}")
    return int(number)
