"""The paper's tables: printed as in the paper, counted as the networks are."""

import json
from pathlib import Path

import pytest
from pocketvision.conf.paper_tables import TABLES, Row, prints
from pocketvision.tools.config.build import compose
from pocketvision.tools.paper import _run_name, compare, paper, read_results

ROWS = [(table, row) for table in TABLES.values() for row in table.rows]
OURS = [(table, row) for table, row in ROWS if row.experiment]


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


@pytest.mark.parametrize(("table", "row"), OURS, ids=[row.experiment for _, row in OURS])
def test_every_row_is_an_experiment_that_is_named_after_it(table: object, row: Row) -> None:
    assert compose(f"experiment=paper/{row.experiment}").name == _run_name(row)


def test_all_numbers_of_the_tables_are_the_papers(data_root: Path) -> None:
    path = data_root.parent / "paper_tables.json"
    if not path.is_file():
        pytest.skip("no transcript of the paper's tables beside the data")
    transcript = json.loads(path.read_text())
    names = {3: "table3_imagenet", 6: "table6_ssdlite_coco", 7: "table7_cityscapes_val", 8: "table8_cityscapes_test"}
    for number, name in names.items():
        assert len(transcript[name]) == len(TABLES[number].rows)
        for found, row in zip(transcript[name], TABLES[number].rows, strict=True):
            accuracy = next(found[key] for key in ("top1", "mAP", "mIoU") if key in found)
            assert float(row.accuracy) == accuracy
            if row.params:
                assert float(row.params) == found["params_M"]
            printed = row.madds if isinstance(row.madds, str) else row.madds.get("full", "")
            if printed:
                assert float(printed) == next(v for k, v in found.items() if k in ("madds_M", "madds_B", "madds_f_B"))
            if not isinstance(row.madds, str):
                assert float(row.madds["half"]) == found["madds_h_B"]


def test_a_table_is_printed_with_marks_and_footnotes(logged: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    paper(compose("table=8", "format=markdown", f"output={tmp_path}/new/t.md", config_name="paper"))
    text = (tmp_path / "new" / "t.md").read_text()
    assert logged.messages == [text.rstrip("\n")]
    lines = text.splitlines()
    assert "| V3 OS16 | 72.6 | 9.74 | 9.741 / 9.533 = | 2.48 | 2.478 / 2.425 = | yes |" in lines
    assert "| CCC2 | 62.0 |  |  | 3.15 | 3.051 / 3.051 ! | no (1) |" in lines
    assert any(line.startswith("(1) CCC2 is the first version") for line in lines)
    assert sum(line.startswith("|") for line in lines) == 2 + len(TABLES[8].rows)


def test_times_and_accuracies_stand_beside_the_printed_ones(logged: pytest.LogCaptureFixture, tmp_path: Path) -> None:
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


def test_the_page_in_the_documentation_is_true(tmp_path: Path) -> None:
    """And every row that does not match has its likely cause in a footnote."""
    paper(compose("format=markdown", f"output={tmp_path}/paper.md", config_name="paper"))
    written = Path(__file__).parents[2] / "docs" / "paper.md"
    assert (tmp_path / "paper.md").read_text() == written.read_text(), (
        "pocketvision paper format=markdown output=docs/paper.md"
    )
    verdicts = [line.split("|")[-2].strip() for line in written.read_text().splitlines() if line.startswith("|")]
    assert "no" not in verdicts
    assert any(verdict.startswith("no (") for verdict in verdicts)
