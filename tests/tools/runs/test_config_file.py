"""A run's config.yaml: ours as it was written, anybody else's as one line."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from pocketvision.datasets.annotations.guarded_yaml import Guarded
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.config.build import compose
from pocketvision.tools.paper import read_results
from pocketvision.tools.runs.config_file import read_config
from pocketvision.tools.runs.keys import plain

BROKEN = {
    "empty": "",
    "text": "hello",
    "list": "- 1",
    "cut": "data: {root: [",
    "tab": "data:\n\t- 1",
    "nul": "a: \0",
    "object": "a: !!python/object/apply:os.system [exit]",
    "name": "a: !!python/name:os.system",
    "tag": "a: !other {}",
    "twice": "a: 1\na: 2",
    "key": "{[1]: 2}",
    "deep": "a: " + "[" * 3000,
    "bomb": "a: &a [x, x]\n" + "\n".join(f"k{i}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]" for i in range(24)),
    "latin": "a: \xff",
    "large": "a: " + "x" * (9 << 20),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_runs_configuration_is_told_by_all_who_read_it(name: str, tmp_path: Path) -> None:
    for file in ("metrics.jsonl", "results.json"):
        (tmp_path / file).write_text("{}")
    path = tmp_path / "config.yaml"
    path.write_bytes(BROKEN[name].encode("latin-1"))
    readers: list[Callable[[], Any]] = [
        lambda: read_config(path),
        lambda: read_run(tmp_path),
        lambda: read_results([str(tmp_path / "results.json")]),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=r"config\.yaml is not a run's configuration"):
            read()


def test_ours_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    values = plain(compose("experiment=demo_detection")) | {
        "small": 1e-5, "large": 1e20, "infinite": math.inf, "yes": "yes", "no": None, "text": "1e3",
        "other": "${oc.env:SECRET}",
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert read_config(tmp_path / "config.yaml") == values


def test_very_many_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guarded, "max_nodes", 1000)
    (tmp_path / "config.yaml").write_text("a: [" + "1," * 998 + "]")
    with pytest.raises(ValueError, match=r"config\.yaml is not a run's configuration: it has more than 1,000 keys"):
        read_config(tmp_path / "config.yaml")
