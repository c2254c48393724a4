"""Reading a COCO json piece by piece finds what reading it at once finds, wherever the pieces end."""

import json

import pytest
from pocketvision.datasets.annotations import records
from pocketvision.datasets.annotations.records import Annotations, read_tables

USUAL = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [1.5, 2.0, 3.25, 4.0], "area": 12.5, "iscrowd": 1}
UNUSUAL = [
    5, None, "text", [1, 2], {}, {**USUAL, "bbox": [1, 2, 3]}, {**USUAL, "bbox": "1234"}, {**USUAL, "bbox": {"x": 1}},
    {**USUAL, "image_id": 2**63}, {**USUAL, "image_id": True}, {**USUAL, "image_id": 1.0}, {**USUAL, "id": "a"},
    {**USUAL, "bbox": [1, 2, 3, 10**400]}, {**USUAL, "bbox": [True, 2, 3, 4]}, {**USUAL, "area": "big"},
    {**USUAL, "iscrowd": 2}, {**USUAL, "iscrowd": 1.0}, {**USUAL, "iscrowd": "0"}, {**USUAL, "bbox": None},
]  # fmt: skip


@pytest.mark.parametrize("record", [USUAL, *UNUSUAL, {k: v for k, v in USUAL.items() if k not in ("id", "area")},
                                    {**USUAL, "bbox": [1, 2, 3, float("inf")]}])  # fmt: skip
def test_annotations_come_back_as_they_were(record):
    found = Annotations()
    assert list(found) == []
    for one in (USUAL, record, USUAL):
        found.append(one)
    assert (list(found), list(found), len(found)) == ([USUAL, record, USUAL], [USUAL, record, USUAL], 3)


def test_only_segmentations_are_forgotten():
    found = Annotations()
    found.append({**USUAL, "segmentation": [[1, 2]]})
    found.append({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": {}})
    found.append({"image_id": "x", "segmentation": [[1, 2]], "more": 1})
    assert list(found) == [
        USUAL, {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}, {"image_id": "x", "more": 1},
    ]  # fmt: skip


DATA = {
    "info": {"year": 2017, "images": [1]},
    "images": [{"id": 12345, "file_name": 'ü"\\ \U0001f600.jpg', "height": 5, "width": 7, "url": "x"}, 12, -1.5e3],
    "licenses": [],
    "annotations": [USUAL, {**USUAL, "segmentation": [[0.5] * 40]}, *UNUSUAL],
    "categories": [{"id": 1, "name": "a", "keypoints": []}, True],
}


def _expected(data):
    images = [{k: v for k, v in i.items() if k != "url"} if isinstance(i, dict) else i for i in data["images"]]
    annotations = [{k: v for k, v in a.items() if k != "segmentation"} if isinstance(a, dict) else a
                   for a in data["annotations"]]  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": data["categories"]}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_pieces_may_end_anywhere(tmp_path, monkeypatch, chunk, encoding):
    monkeypatch.setattr(records, "_CHUNK", chunk)
    for options in ({}, {"indent": 1}, {"separators": (",", ":"), "ensure_ascii": False}):
        (tmp_path / "a.json").write_bytes(json.dumps(DATA, **options).encode(encoding, "surrogatepass"))
        found = read_tables(tmp_path / "a.json")
        assert {key: list(found[key]) for key in records.TABLES} == _expected(DATA)
        assert list(found) == list(DATA)


def test_empty_tables(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [ ], "annotations": [], "categories": []} \n')
    tables = read_tables(tmp_path / "a.json")
    assert [list(tables[key]) for key in records.TABLES] == [[], [], []]


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_what_json_refuses_is_refused(tmp_path, monkeypatch, chunk):
    """At every place where a text can be cut, and with every sign put there that matters to json."""
    monkeypatch.setattr(records, "_CHUNK", chunk)
    whole = '{"images": [{"id": 1}, 2], "x": {"y": [1e5, "\\u00e4"]}, "annotations": [], "categories": [null]}'
    texts = {whole[:end] for end in range(len(whole))}
    texts |= {whole[:place] + sign + whole[place:] for place in range(len(whole) + 1) for sign in '{}[],:" 0\\'}
    agreed = 0
    for text in sorted(texts):
        (tmp_path / "a.json").write_text(text)
        try:
            expected = json.loads(text)
        except ValueError:
            with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
                read_tables(tmp_path / "a.json")
            continue
        if isinstance(expected, dict) and all(isinstance(expected.get(key), list) for key in records.TABLES):
            found = read_tables(tmp_path / "a.json")
            assert list(found) == list(expected)
            agreed += 1
        else:
            with pytest.raises(ValueError, match=r"a\.json(: expected| lacks)"):
                read_tables(tmp_path / "a.json")
    assert agreed > 100


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\xff\xfe", b"\xff", b'{"a": "\xff"}', b"[" * 99_999, b'{"images": [' + b"[" * 99_999,
     b'{"images": [' + b"9" * 5000 + b"]}", b'{"images": [] "x"}', b"{1: 2}", b'{"images": [1,]}'],
)  # fmt: skip
def test_other_content(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON: "):
        read_tables(tmp_path / "a.json")
    if not content.startswith(b"["):
        (tmp_path / "a.json").write_bytes(b'{"images": [1, 2' + b" " * 50 + b"x]}")
        with pytest.raises(ValueError, match="expected a comma or ] at character 66"):
            read_tables(tmp_path / "a.json")
