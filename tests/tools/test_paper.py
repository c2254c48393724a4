"""The paper's tables: printed as in the paper, counted as the networks are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig
from pocketvision.conf.paper_tables import TABLES, prints
from pocketvision.tools.config import build
from pocketvision.tools.config.build import compose
from pocketvision.tools.paper import _run_name, _score, compare, paper, read_results


@pytest.mark.parametrize(
    ("values", "printed", "mark"),
    [
        ([], "1.0", ""),
        ([1.0], None, ""),
        ([None], "5.4", ""),
        ([5.46], "5.4", "="),  # truncated
        ([5.46], "5.5", "="),  # rounded
        ([5.46], "5.6", "!"),
        ([2.889], "2.90", "~"),
        ([2.86, 2.889], "2.90", "~"),  # the closer one
        ([2.86], "2.90", "!"),
        ([2.9, 3.5], "2.90", "="),
        ([300.77], "300", "="),
    ],
)
def test_agreement(values: list[float | None], printed: str | None, mark: str) -> None:
    assert compare(values, printed, 0.01) == mark


def test_prints_does_not_cut_below_what_stands_there() -> None:
    assert prints(1.159, "1.15")
    assert prints(1.159, "1.16")
    assert not prints(1.16, "1.15")


def test_all_numbers_of_the_tables_are_the_papers(data_root: Path) -> None:
    path = data_root.parent / "paper_tables.json"
    if not path.is_file():
        pytest.skip("no transcript of the paper's tables beside the data")
    transcript = json.loads(path.read_text())
    names = {
        **{3: "table3_imagenet", 4: "table4_quantized", 6: "table6_ssdlite_coco"},
        **{7: "table7_cityscapes_val", 8: "table8_cityscapes_test"},
    }
    for number, name in names.items():
        assert len(transcript[name]) == len(TABLES[number].rows)
        for found, row in zip(transcript[name], TABLES[number].rows, strict=True):
            accuracy = next(found[key] for key in ("top1", "mAP", "mIoU") if key in found)
            assert float(row.accuracy) == accuracy
            if "p1_ms" in found:
                assert float(row.times[0]) == found["p1_ms"]
            if row.params:
                assert float(row.params) == found["params_M"]
            printed = row.madds if isinstance(row.madds, str) else row.madds.get("full", "")
            if printed:
                assert float(printed) == next(v for k, v in found.items() if k in ("madds_M", "madds_B", "madds_f_B"))
            if not isinstance(row.madds, str):
                assert float(row.madds["half"]) == found["madds_h_B"]


def test_times_and_accuracies_stand_beside_the_printed_ones(
    logged: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple(row for row in TABLES[3].rows if row.name in ("V3-Small 1.0", "Proxyless"))
    monkeypatch.setitem(TABLES, 3, replace(TABLES[3], rows=rows))
    (tmp_path / "config.yaml").write_text("name: table3_v3_small")
    (tmp_path / "results.json").write_text(json.dumps({"top1": 0.5, "top5": 0.75}))
    config = compose("table=3", "latency=true", "repeats=1", f"results=[{tmp_path}/results.json]", config_name="paper")
    paper(config)
    (line,) = [line for line in logged.messages[0].splitlines() if line.startswith("V3-Small 1.0")]
    _, _, accuracy, ours, *_, first, second, third, here, matches = line.split()
    assert (accuracy, ours, matches) == ("67.4", "50.00", "yes")
    assert (first, second, third) == ("15.8", "19.4", "14.4")
    assert 0.1 < float(here) < 1000
    assert "Proxyless" in logged.messages[0]


@pytest.mark.parametrize("absent", [None, -1.0])  # an earlier version wrote -1
def test_an_absent_accuracy_is_a_dash(absent: float | None, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: table3_v3_small")
    (tmp_path / "results.json").write_text(json.dumps({"top1": absent}))
    (found,) = read_results([str(tmp_path / "results.json")]).values()
    assert _score(found, TABLES[3]) == "-"


def test_results_that_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"AP": 0.2}')
    for config, message in (
        (None, "must be in its run folder"),
        ("name: mine", "name=mine, which matches no row"),
        ("name: table3_v3_small", r"results\.json has no top1: run pocketvision evaluate run=.* again"),
    ):
        if config:
            (tmp_path / "config.yaml").write_text(config)
        with pytest.raises(ValueError, match=message):
            read_results([str(tmp_path / "results.json")])


@pytest.mark.parametrize("override", ["table=5", "format=pdf", "repeats=0"])
def test_a_wrong_value_is_named(override: str) -> None:
    with pytest.raises(ValueError, match=override):
        paper(compose(override, config_name="paper"))


def test_the_page_in_the_documentation_is_true(
    logged: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row is an experiment that is named after it; if it does not match, a footnote has the likely cause."""
    names = {}

    def named(*overrides: str) -> DictConfig:
        config = compose(*overrides)
        names[overrides[0]] = config.name
        return config

    monkeypatch.setattr(build, "compose", named)
    paper(compose("format=markdown", f"output={tmp_path}/new/paper.md", config_name="paper"))
    rows = [row for table in TABLES.values() for row in table.rows if row.experiment]
    assert names == {f"experiment=paper/{row.experiment}": _run_name(row) for row in rows}
    text, written = (tmp_path / "new" / "paper.md").read_text(), Path(__file__).parents[2] / "docs" / "paper.md"
    assert logged.messages == [text.rstrip("\n")]
    assert text == written.read_text(), "pocketvision paper format=markdown output=docs/paper.md"
    lines = text.splitlines()
    assert "| V3 OS16 | 72.6 | 9.74 | 9.741 / 9.533 = | 2.48 | 2.478 / 2.425 = | yes |" in lines
    assert "| CCC2 | 62.0 |  |  | 3.15 | 3.051 / 3.051 ! | no (1) |" in lines
    assert any(line.startswith("(1) CCC2 is the first version") for line in lines)
    body = [line for line in lines if line.startswith("|")]
    assert len(body) == sum(2 + len(table.rows) for table in TABLES.values())
    assert "no" not in [line.split("|")[-2].strip() for line in body]
