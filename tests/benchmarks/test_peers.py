"""The comparison beside torchvision: what it measures, its summary and what it refuses."""

from dataclasses import replace
from pathlib import Path

import peers
import pytest
from pocketvision.tools.benchmarking import timing
from pocketvision.tools.benchmarking.case import Case, Row
from pocketvision.tools.config.build import compose


def test_what_is_measured_and_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(names: tuple[str, ...], *, installs: str, need: str) -> None:
        raise ValueError(f"{need} needs {names[-1]}: pip install '{installs}'")

    said: list[str] = []
    monkeypatch.setattr(peers, "require", lacking)
    monkeypatch.setattr(peers, "compiler", lambda: None)
    monkeypatch.setattr(peers.log, "info", lambda text, *values: said.append(text % values))
    found = list(peers.entries(compose("rounds=7", config_name="benchmark"), 1, tmp_path))
    assert [title for title, _ in found] == [
        "SSDLite 320, 480x640 photograph, batch 1",
        "SSDLite 320, 480x640 photograph, batch 8",
        "SSDLite 320, training step, batch 16 at 320x320",
        "LR-ASPP, 512x1024 photograph, batch 1",
        "LR-ASPP, 512x1024 photograph, batch 8",
        "LR-ASPP, training step, batch 4 at 480x480",
    ]
    assert {setup.settings.rounds for _, setup in found} == {7}
    assert [spec.name for spec in found[0][1].specs] == ["torchvision", "as loaded", "optimize", "optimize + bf16"]
    assert any("onnxruntime" in line for line in said)
    assert any("openvino" in line for line in said)
    assert any("compiler" in line for line in said)


def test_a_summary_has_a_dash_where_nothing_was_measured() -> None:
    times = timing.Times([1.0], {"network": [1.0]})
    rows = [Row(name, "fp32", times, ratio, None, None, None) for name, ratio in (("torchvision", 1.0), ("a", 2.5))]
    other = [rows[0], replace(rows[1], name="b", ratio=3.0)]
    text = peers.summary([Case("one", "training", 1, rows), Case("two", "training", 1, other)])
    assert [line.split() for line in text.splitlines()[1:]] == [["one", "2.50", "-"], ["two", "-", "3.00"]]


def test_networks_of_the_users_own_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["model=ssdlite_torchvision", "peer=torchvision", "output=null"])
    assert "leave model, peer out" in capsys.readouterr().err
