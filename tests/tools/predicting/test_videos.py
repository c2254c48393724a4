"""Videos: which files are, whether one is whole, and when its frames are shown."""

import struct
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from pocketvision.tools.predicting import outputs, videos
from pocketvision.tools.predicting.inputs import count_shots, is_video, read_shots


def _mp4(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write MPEG-4")
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 + 2 * number, np.uint8))
    writer.release()
    return path


def test_a_trimmed_mp4_is_whole_and_a_cut_one_is_not(tmp_path: Path) -> None:
    path = _mp4(tmp_path / "film.mp4", 60)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # the first edit: its duration in the movie's time scale, where it starts
    duration, start = struct.unpack_from(">Ii", data, at)
    middle, end = data.index(b"mdat") + 1000, data.index(b"moov") - 4
    path.write_bytes(data[:middle] + bytes(end - middle) + data[end:])  # frames that are gone
    with pytest.raises(ValueError, match=r"film\.mp4 ends early"):
        list(read_shots(path))
    struct.pack_into(">Ii", data, at, duration // 3, start)
    path.write_bytes(data)
    shots = list(read_shots(path))
    assert 0 < len(shots) <= 22
    assert count_shots(path) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("ending", [".ts", ".mts", ".m2ts", ".3gp", ".mpg", ".flv", ".avi", ".what"])
def test_endings_of_videos(tmp_path: Path, ending: str) -> None:
    codec = {".mpg": "MPG1", ".flv": "FLV1", ".ts": "MPG2", ".avi": "MJPG"}.get(ending, "mp4v")
    made = tmp_path / f"made{ending if ending not in ('.mts', '.what') else '.m2ts' if ending == '.mts' else '.mp4'}"
    codec = "MPG2" if made.suffix == ".m2ts" else codec
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec} in {made.suffix}")
    for number in range(30):
        writer.write(np.full((48, 64, 3), 20 + 5 * number, np.uint8))
    writer.release()
    film = made.rename(tmp_path / f"film{ending}")
    assert is_video(film)
    assert [shot.frame for shot in read_shots(film)] == list(range(30))


class _Capture:
    """Stands in for OpenCV's reader: frames at given times, and what the header says."""

    def __init__(self, times: list[float], *, rate: float, count: float) -> None:
        self.times, self.rate, self.count, self.at = times, rate, count, -1

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.times)

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((48, 64, 3), 20 + self.at, np.uint8)

    def get(self, which: int) -> float:
        known = {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: self.count}
        return known.get(which, 1000 * self.times[min(self.at, len(self.times) - 1)])

    def release(self) -> None:
        pass


STEADY = [number / 30 for number in range(90)]
PAUSE = [number / 30 for number in range(30)] + [4 + number / 30 for number in range(30)]


@pytest.mark.parametrize(
    ("times", "rate", "count", "expected", "written"),
    [
        (STEADY, 30, 90, 30, 90),
        ([round(time, 3) for time in STEADY], 30, 90, 30, 90),  # Matroska's milliseconds
        (PAUSE, 12, 60, 30, 150),  # the header has the mean rate
        (PAUSE, 30, 150, 30, 150),  # its count is the duration by the rate
        (PAUSE, 1000, -9e18, 30, 150),  # a browser's recording: no count, and the rate is the unit of time
        (PAUSE, float("nan"), float("nan"), 30, 150),
        ([0.0] * 20, 30, 20, 30, 20),  # no time stamps
        ([0.0, 0.033, 0.066, 9e5], 30, 4, 30, 18004),  # a wrong time stamp waits for ten minutes at most
    ],
)
def test_a_pause_stays_a_pause(
    times: list[float], rate: float, count: float, expected: float, written: int, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "film.webm").write_bytes(b"\x1a\x45\xdf\xa3")
    monkeypatch.setattr(videos, "quietly", lambda *_: _Capture(times, rate=rate, count=count))
    shots = list(read_shots(tmp_path / "film.webm"))
    assert [shot.time for shot in shots] == pytest.approx([time - times[0] for time in times])
    assert shots[0].rate == pytest.approx(expected, rel=0.02)

    class Counting:
        frames = 0

        def write(self, frame: np.ndarray) -> None:
            self.frames += 1

    film = outputs.VideoFile(tmp_path / "out", (48, 64), rate=float(shots[0].rate))
    real, film._writer = film._writer, Counting()
    for shot in shots:
        film.write(shot.image, time=shot.time)
    real.release()
    assert film._writer.frames == pytest.approx(written, rel=0.01)


@pytest.mark.parametrize(("head", "early"), [(b"\x1a\x45\xdf\xa3", True), (b"\0\0\1\xba", False)])
def test_a_video_that_ends_early(head: bytes, early: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "film.mpg").write_bytes(head)
    monkeypatch.setattr(videos, "quietly", lambda *_: _Capture(STEADY, rate=30, count=900))
    with pytest.raises(ValueError, match="ends early: 90 of 900") if early else nullcontext():
        assert len(list(read_shots(tmp_path / "film.mpg"))) == 90
