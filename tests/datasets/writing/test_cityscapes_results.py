"""Files for Cityscapes' server: written, packed, read back, and refused where they are wrong."""

import zipfile

import cv2
import numpy as np
import pytest
from pocketvision.datasets.labels import CITYSCAPES, CITYSCAPES_TABLE
from pocketvision.datasets.writing.cityscapes_results import (
    Results,
    image_sizes,
    pack_results,
    result_tables,
    write_result,
)

SIZES = {"bonn_000000_000019": (3, 5), "bonn_000001_000019": (4, 2)}


@pytest.fixture
def folder(tmp_path):
    """Both pictures, as they are written."""
    (tmp_path / "made").mkdir()
    for image_id, size in SIZES.items():
        slots = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
        slots[0, 0] = 255
        write_result(tmp_path / "made", image_id, slots)
    return tmp_path / "made"


def encoded(array):
    return cv2.imencode(".png", array)[1].tobytes()


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def test_no_pictures(tmp_path):
    for path in (tmp_path, zipped(tmp_path / "a.zip", [("notes.txt", "")])):
        with pytest.raises(FileNotFoundError, match=r"no PNG in .*CITY_SEQUENCE_FRAME\*\.png"):
            Results(path, SIZES)


@pytest.mark.parametrize("archive", [False, True])
def test_written_and_read_back(folder, archive):
    path = folder
    if archive:
        path = folder.parent / "deep" / "results.zip"
        pack_results(folder, path)
        assert [p.name for p in path.parent.iterdir()] == ["results.zip"]
        assert zipfile.ZipFile(path).namelist() == [f"{image_id}_labelIds.png" for image_id in SIZES]
    found = Results(path, SIZES)
    found.check()
    expected = np.array([0, *(CITYSCAPES.source_ids[slot] for slot in range(1, 15))]).reshape(3, 5)
    np.testing.assert_array_equal(found.read("bonn_000000_000019"), expected)
    assert image_sizes(sorted(folder.iterdir())) == list(SIZES.values())


def test_tables():
    table, beyond = result_tables("label")
    assert beyond == {20: "vehicle", 21: "vehicle"}
    assert [int(table[value]) for value in (7, 33, 29, 30, 9, 0, 34, 255)] == [0, 18, 20, 21, 255, 255, 255, 255]
    table, beyond = result_tables("train")
    assert (table[:19].tolist(), set(table[19:].tolist()), beyond) == (list(range(19)), {255}, {})


def test_any_name_below_sub_folders_that_begins_with_the_image(tmp_path):
    files = [(f"a/b/{name}whatever.PNG", encoded(np.zeros(size, np.uint8))) for name, size in SIZES.items()]
    others = [("__MACOSX/bonn_000000_000019.png", b""), ("other.png", b"")]
    Results(zipped(tmp_path / "a.zip", [*files, *others]), SIZES).check()


def test_names_of_which_one_begins_another(tmp_path):
    sizes = {"a_0_1": (1, 1), "a_0_10": (1, 1)}
    for name in sizes:
        (tmp_path / f"{name}.png").write_bytes(encoded(np.zeros((1, 1), np.uint8)))
    Results(tmp_path, sizes).check()


def test_all_ids_of_the_table_may_be_predicted(tmp_path):
    ids = np.array([[row[1] for row in CITYSCAPES_TABLE if row[1] >= 0]], np.uint8)
    (tmp_path / "a.png").write_bytes(encoded(ids))
    Results(tmp_path, {"a": ids.shape}).check()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 5, 3), np.uint8), "not a PNG with one channel of 8 bits"),
        (np.zeros((3, 5), np.uint16), "not a PNG with one channel of 8 bits"),
        (np.zeros((5, 3), np.uint8), r"is 3x5 \(width x height\), but its image is 5x3"),
        (np.full((3, 5), 34, np.uint8), r"values \[34\], which are not label ids \(does it contain train ids\?\)"),
        (b"", "not a PNG"),
        (b"GIF89a", "not a PNG"),
        (encoded(np.zeros((3, 5), np.uint8))[:40], "cannot be decoded"),
        (bytes(2_000_000), "2000000 bytes, more than"),
    ],
)
def test_wrong_pictures(data, message, folder):
    (folder / "bonn_000000_000019_labelIds.png").write_bytes(data if isinstance(data, bytes) else encoded(data))
    for path in (folder, folder.parent / "a.zip"):
        if path is not folder:
            zipped(path, [(p.name, p.read_bytes()) for p in sorted(folder.iterdir())])
        found = Results(path, SIZES)
        found.check_files()
        with pytest.raises(
            ValueError, match=f"1 of 2 pictures are invalid, the first ones: bonn_000000_000019.*{message}"
        ):
            found.check()


def test_missing_and_several(folder):
    (folder / "bonn_000000_000019_labelIds.png").unlink()
    (folder / "bonn_000001_000019_copy.png").write_bytes(b"")
    expected = (
        "1 of 2 images have no picture, the first ones: bonn_000000_000019. "
        "1 of 2 images have several pictures, the first ones: "
        "bonn_000001_000019_copy.png and bonn_000001_000019_labelIds.png"
    )
    with pytest.raises(ValueError, match=expected.replace(".", r"\.")):
        Results(folder, SIZES).check()


def test_train_ids(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(np.array([[0, 18, 255]], np.uint8)))
    Results(tmp_path, {"a": (1, 3)}, prediction_ids="train").check()
    with pytest.raises(ValueError, match=r"values \[255\], which are not label ids"):
        Results(tmp_path, {"a": (1, 3)}).check()


def test_names_in_an_archive_write_nowhere(tmp_path):
    files = [("../../escaped/bonn_000000_000019.png", b"x"), ("/bonn_000001_000019.png", b"x")]
    before = sorted(tmp_path.parent.rglob("*"))
    found = Results(zipped(tmp_path / "a.zip", files), SIZES)
    with pytest.raises(ValueError, match="2 of 2 pictures are invalid"):
        found.check()
    assert set(tmp_path.parent.rglob("*")) - set(before) == {tmp_path / "a.zip"}


def test_a_bomb_is_not_decoded(tmp_path):
    """A small file of a huge picture: its header tells, before any pixel is made."""
    huge = bytearray(encoded(np.zeros((1, 1), np.uint8)))
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    found = Results(zipped(tmp_path / "a.zip", [("a.png", bytes(huge))]), {"a": (3, 5)})
    with pytest.raises(ValueError, match="is 60000x60000"):
        found.check()
    zeros = zipped(tmp_path / "b.zip", [("a.png", bytes(30_000_000))])
    with pytest.raises(ValueError, match="30000000 bytes, more than"):
        Results(zeros, {"a": (3, 5)}).check()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: Results(root / "none", SIZES), "neither a folder nor a zip archive: .*none"),
        (lambda root: Results(root / "text.zip", SIZES), "text.zip is neither a folder nor a zip archive"),
        (lambda root: Results(root, SIZES, prediction_ids="ids"), "prediction_ids=ids: choose label or train"),
        (lambda root: image_sizes([root / "text.zip"]), "text.zip is not a PNG"),
    ],
)
def test_errors(make, message, tmp_path):
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(tmp_path)
