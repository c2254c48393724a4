"""Unpacking: hostile and damaged archives are refused before anything is written, and no file appears half."""

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pocketvision.datasets.preparing import archives
from pocketvision.datasets.preparing import targets as targets_module
from pocketvision.datasets.preparing.archives import ArchiveError, check_collisions, list_members, safe_name, unpack
from pocketvision.datasets.preparing.targets import Target

FILES = {"a/1.txt": b"one" * 100, "a/2.txt": b"", "b.bin": bytes(range(256)) * 8}


def write_zip(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], *, mode: str = "w", kind: bytes = tarfile.REGTYPE, link: str = "",
              form: int = tarfile.GNU_FORMAT) -> Path:  # fmt: skip
    with tarfile.open(path, mode, format=form) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content), kind, link
            archive.addfile(entry, io.BytesIO(content))
    return path


WRITERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "zip": write_zip,
    "stored.zip": lambda path, files: write_zip(path, files, method=zipfile.ZIP_STORED),
    "tar": write_tar,
    "tar.gz": lambda path, files: write_tar(path, files, mode="w:gz"),
    "pax.tgz": lambda path, files: write_tar(path, files, mode="w:gz", form=tarfile.PAX_FORMAT),
}


def all_of(path: Path, output: Path, **options: Callable[[int], None]) -> dict[str, int]:
    members = list_members(path)
    return unpack(path, members, {m.index: Target(m.name) for m in members}, output, **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("ending", "files"), [*((e, FILES) for e in WRITERS), ("zip", {}), ("tar.gz", {})])
def test_what_was_packed_comes_out(ending: str, files: dict[str, bytes], tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"x.{ending}", files)
    seen: list[int] = []
    for _ in range(2):  # the second time over what is there
        assert all_of(path, tmp_path / "out", advance=seen.append) == {name: len(c) for name, c in files.items()}
        assert tree(tmp_path / "out") == files
    assert sum(seen) == 2 * sum(map(len, files.values()))


def test_folders_and_dots_in_names_are_taken_as_they_are_meant(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in (".", "./a"):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        archive.addfile(tarfile.TarInfo("./a//b.txt"))
    assert [m.name for m in list_members(tmp_path / "x.tar")] == ["a/b.txt"]


HOSTILE_NAMES = {
    "../up.txt": "points outside",
    "a/../../up.txt": "points outside",
    "/etc/x": "absolute",
    "C:/x": "colon",
    "a\\..\\b": "backslash",
    "x" * 256: "too long",
    "/".join(["d" * 100] * 11): "too long",
    "new\nline": "control",
    "aux.txt": "Windows",
    "dot.": "Windows",
}


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(("name", "said"), HOSTILE_NAMES.items(), ids=lambda text: ascii(text)[:20])
def test_no_name_leads_anywhere_else(name: str, said: str, ending: str, tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"x.{ending}", {"fine.txt": b"1", name: b"2"})
    with pytest.raises(ArchiveError, match=said) as error:
        all_of(path, tmp_path / "out")
    assert str(path) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_name_behind_a_nul_is_seen(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"good.txtX.exe": b"1"})
    path.write_bytes(path.read_bytes().replace(b"good.txtX.exe", b"good.txt\0.exe"))
    with pytest.raises(ArchiveError, match="control"):
        list_members(path)


@pytest.mark.parametrize("name", ["", ".", "./", "a\udc80"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="the name"):
        safe_name(name)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.txt", "a.txt"], "twice"),
        (["A/x.txt", "a/X.txt"], "case"),
        (["caf\u00e9", "cafe\u0301"], "case"),
        (["a/b", "a/b/c/d"], "a file and a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_one(names: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        check_collisions(names)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"1")
    with pytest.raises(ArchiveError, match=said):
        list_members(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "inside"),
        (tarfile.LNKTYPE, "../../outside"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.GNUTYPE_SPARSE, ""),
    ],
)
def test_tar_links_and_devices_are_refused(kind: bytes, link: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"n": b""}, kind=kind, link=link)
    with pytest.raises(ArchiveError, match=r"link, a device"):
        list_members(path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_zip_links_and_devices_are_refused(mode: int, tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link or a device"):
        list_members(tmp_path / "x.zip")


def test_encrypted_and_strangely_packed_zips_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="encrypted"):
        list_members(path)
    with pytest.raises(ArchiveError, match="deflate"):
        list_members(write_zip(tmp_path / "y.zip", {"a": b"1"}, method=zipfile.ZIP_LZMA))


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_bombs_are_refused_before_they_are_unpacked(ending: str, tmp_path: Path) -> None:
    zeros = {f"{i}.bin": bytes(1 << 24) for i in range(5)}
    path = WRITERS[ending](tmp_path / f"x.{ending}", zeros)
    with pytest.raises(ArchiveError, match="bomb"):
        all_of(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("limit", "most", "said"), [("MAX_MEMBERS", 2, "more than 2"), ("MAX_TOTAL", 2000, "bomb")])
def test_limits(limit: str, most: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, limit, most)
    for ending, write in WRITERS.items():
        with pytest.raises(ArchiveError, match=said):
            list_members(write(tmp_path / f"x.{ending}", FILES))
    folders = write_tar(tmp_path / "y.tgz", {f"{i}/": b"" for i in range(3)}, mode="w:gz", kind=tarfile.DIRTYPE)
    if limit == "MAX_MEMBERS":  # folders without end are too many, too
        with pytest.raises(ArchiveError, match=said):
            list_members(folders)
    else:
        assert list_members(folders) == []


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_an_archive_that_is_exchanged_after_it_was_checked(ending: str, tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / "x", FILES)
    members = list_members(path)
    WRITERS[ending](path, {"a/1.txt": b"other", **{name: FILES[name] for name in ("a/2.txt", "b.bin")}})
    with pytest.raises(ArchiveError, match="it changed after"):
        unpack(path, members, {m.index: Target(m.name) for m in members}, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_of_gigabytes_is_not_read(kind: bytes, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("header")
    entry.type, entry.size = kind, 8 << 30
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 21))
    with pytest.raises(ArchiveError, match="header of"):
        list_members(tmp_path / "x.tar.gz")


def test_a_zip_that_delivers_more_than_it_told(tmp_path: Path) -> None:
    """Sizes in the table of contents are lowered: the content is cut there, and its checksum then differs."""
    path = write_zip(tmp_path / "x.zip", {"a.bin": bytes(5000)})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 24 : data.index(b"PK\x01\x02") + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="corrupt"):
        all_of(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {}


def test_a_wrong_checksum_leaves_no_file(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES, method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(FILES["b.bin"], FILES["b.bin"][::-1]))
    with pytest.raises(ArchiveError, match="corrupt"):
        all_of(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {name: FILES[name] for name in ("a/1.txt", "a/2.txt")}


@pytest.mark.parametrize("ending", WRITERS)
def test_an_archive_cut_anywhere_is_refused(ending: str, tmp_path: Path) -> None:
    whole = WRITERS[ending](tmp_path / f"x.{ending}", FILES).read_bytes()
    end = 4096 if ending == "tar" else len(whole) - 1  # of a tar, what follows is padding
    assert not whole[end:].strip(b"\0") or ending != "tar"
    path = tmp_path / f"cut.{ending}"
    for length in [*range(0, end, 97), end]:
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"truncated|corrupt|expected a zip"):
            all_of(path, tmp_path / "out")
    for name, content in tree(tmp_path / "out").items():
        assert FILES[name] == content


@pytest.mark.parametrize("where", ["header", "zeros"])
def test_a_tar_damaged_in_the_middle_is_not_taken_for_a_short_one(where: str, tmp_path: Path) -> None:
    data = bytearray(write_tar(tmp_path / "x.tar", FILES).read_bytes())
    start = data.index(b"b.bin")
    data[start : start + 512] = b"\xff" * 512 if where == "header" else bytes(512)
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(ArchiveError, match="after 2 entries"):
        list_members(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (bytes(10240), "another kind of file"),
        (b"<!DOCTYPE html>" * 99, "web page"),
        (b"\x89PNG" * 300, "another kind of file"),
    ],
)
def test_what_is_no_archive(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match=said):
        list_members(tmp_path / "x.zip")


@pytest.mark.parametrize("ending", WRITERS)
def test_mutated_archives_give_one_error_or_what_was_packed(ending: str, tmp_path: Path) -> None:
    """A tar has no checksum of contents: there only names and sizes are compared."""
    whole = WRITERS[ending](tmp_path / f"x.{ending}", FILES).read_bytes()
    whole = whole[:6144] if ending == "tar" else whole
    path, draw, refused = tmp_path / f"m.{ending}", random.Random(1), 0
    for i in range(60):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        output = tmp_path / f"out{i}"
        try:
            all_of(path, output)
        except ArchiveError:
            refused += 1
        assert all(p.is_file() or p.is_dir() for p in output.rglob("*")) or not output.exists()
        assert not list(output.glob(".*"))
    assert refused > 5


# ---- what is there already -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("mine", [b"two" * 100, b"another length"])
def test_a_file_that_differs_is_left_alone(mine: bytes, ending: str, tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"x.{ending}", FILES)
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "1.txt").write_bytes(mine)
    with pytest.raises(FileExistsError, match=r"1\.txt exists and differs"):
        all_of(path, tmp_path / "out")
    assert tree(tmp_path / "out")["a/1.txt"] == mine


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="is a link"):
        all_of(path, tmp_path / "out")
    assert tree(tmp_path / "elsewhere") == {}


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)
    monkeypatch.setattr(targets_module, "free_bytes", lambda _: 1000)
    with pytest.raises(OSError, match="GB free"):
        all_of(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_whole_files_only(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)

    def interrupt(size: int) -> None:
        if size == len(FILES["b.bin"]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        all_of(path, tmp_path / "out", advance=interrupt)
    assert set(tree(tmp_path / "out")) == {"a/1.txt", "a/2.txt"}
    all_of(path, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".b.99999999.tmp.bin").write_bytes(b"half")
    all_of(path, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert os.listdir(tmp_path / "out").count(".b.99999999.tmp.bin") == 0
