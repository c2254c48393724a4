"""Table 4's networks on small images: which patches those are, and what is kept of the measurements."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import table4
from pocketvision.conf.paper_tables import TABLE4, TABLES
from pocketvision.tools.paper import as_measured

SKY, CAR, VOID = table4.CLASSES.index("sky"), table4.CLASSES.index("car"), 255
SIDE, STEP = table4.SIDE, table4.STEP


def mask(*columns: tuple[int, int], height: int = SIDE) -> np.ndarray:
    """Columns of (class, width)."""
    return np.concatenate([np.full((height, width), label, np.uint8) for label, width in columns], axis=1)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, {}),  # no photograph
        (mask((SKY, SIDE - 1)), {}),  # smaller than a patch
        (mask((VOID, SIDE)), {}),
        (mask((SKY, SIDE // 2), (CAR, SIDE // 2)), {}),  # half each is not enough
        (mask((SKY, SIDE)), {SKY: [("a", 0, 0)]}),
        (mask((SKY, SIDE), (CAR, SIDE)), {SKY: [("a", 0, 0)], CAR: [("a", 0, SIDE)]}),
        (mask((CAR, SIDE), height=SIDE + STEP), {CAR: [("a", 0, 0), ("a", STEP, 0)]}),
    ],
)
def test_patches_mostly_show_one_class(labels: np.ndarray | None, expected: dict, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    if labels is not None:
        cv2.imwrite(str(tmp_path / "labels" / "a.png"), labels)
    assert table4.find_patches(tmp_path) == expected


def test_what_is_stored_is_what_the_benchmark_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(table4.ISA, "AVX2")
    monkeypatch.setattr(table4, "version", lambda package: f"{package} 1.2")
    for split, counts in {"train": {"car": 3, "sky": 2}, "val": {"car": 1, "sky": 3}}.items():
        for label, count in counts.items():
            (tmp_path / "patches" / split / label).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "patches" / split / label / f"{i}.png").touch()
    for number, name in enumerate(table4.NETWORKS, start=1):
        rows = [
            {
                "format": file,
                "precision": precision,
                "accuracy": top1,
                "sizes": sizes,
                "spread": {"median": ms / 1e3, "low": 0.75 * ms / 1e3, "high": 1.125 * ms / 1e3},
            }
            for file, precision, top1, ms, sizes in (
                ("", "fp32", 1.0, 9.0, {".pt": 1}),
                ("openvino", "fp32", 0.5, 2.0 * number, {".xml": 7, ".bin": 4_000_000}),
                ("openvino", "int8", 0.25, 1.0 * number, {".xml": 9, ".bin": 1_500_000}),
            )
        ]
        machine = {"processor": "Z80", "threads": 1, "system": "CP/M", "python": "1", "torch": "2"}
        results = {"machine": machine, "date": "2001-02-03 04:05:06", "formats": {"clock": "CPU ms", "rows": rows}}
        folder = tmp_path / "formats" / table4.run_of(name, tmp_path).name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(results))
    stored = table4.summary(tmp_path)
    assert stored["networks"]["V2 1.0"] == {
        "fp32": {"top1": 0.5, "ms": 4.0, "low": 3.0, "high": 4.5, "mb": 4.0},
        "int8": {"top1": 0.25, "ms": 2.0, "low": 1.5, "high": 2.25, "mb": 1.5},
    }
    assert (stored["data"]["classes"], stored["data"]["train"], stored["data"]["val"]) == (2, 5, 4)
    text = as_measured(TABLES[4], stored, markdown=True)
    assert "| V2 1.0 | 70.9 | 52 | 48.3 | 37.0 | 50.0 | 25.0 | 4.00 | 2.00 | 4.00 | 1.50 |" in text.splitlines()
    for told in ("error of up to 25.0", "up to 25 % away", "openvino 1.2 on Z80, threads: 1, ONEDNN_MAX_CPU_ISA=AVX2"):
        assert told in text


def test_the_stored_figures_are_of_the_table_and_of_this_script() -> None:
    stored = json.loads(TABLE4.read_text())
    assert list(stored["networks"]) == list(table4.NETWORKS) == [row.name for row in TABLES[4].rows]
    assert (stored["epochs"], stored["seed"]) == (table4.EPOCHS, table4.SEED)
