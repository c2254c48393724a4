"""Evaluations side by side, and the paired bootstrap that separates significant differences from chance."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...absent import written
from ...backbones.image_metric import draw_weights
from ...detection.metric import CocoMetric
from ...words import counted
from ..evaluating.scores import Evaluation, fingerprint_of_truth, load, state_path
from ..runs.keys import flat_json, is_compared
from ..system.console import columns

_TOLD = ("step", "params")
FEWEST_IMAGES = 10  # with fewer, bootstrap samples hardly differ, and every difference seems significant


def load_evaluations(paths: Sequence[str]) -> dict[str, Evaluation]:
    """The evaluations by name, in the given order.

    Raises:
        ValueError: there are fewer than two, one occurs twice, or one was not evaluated.
    """
    if len(paths) < 2 or len({_state(Path(path)).resolve() for path in paths}) < len(paths):
        raise ValueError(
            f"compare needs two or more different runs, got {list(paths)}: pocketvision compare runs/A runs/B"
        )
    return {path: load(_state(Path(path))) for path in paths}


def _state(path: Path) -> Path:
    if not path.exists():
        raise ValueError(
            f"{path} does not exist: expected a run folder, or a results.json written by pocketvision evaluate"
        )
    results = path / "results.json" if path.is_dir() else path
    if not state_path(results).is_file():
        command = (
            f"pocketvision evaluate run={path}" if path.is_dir() else "pocketvision evaluate ... output=" + str(path)
        )
        raise ValueError(
            f"{path} was not evaluated ({state_path(results)} is missing): run {command}. Runs for classification have "
            "no such file: compare them with page=FILE.html"
        )
    return state_path(results)


def compare_evaluations(evaluations: Mapping[str, Evaluation], *, samples: int, seed: int) -> dict[str, Any]:
    """Plain JSON: `runs` (figures, settings), `config` (keys that differ), `differences` (of the first and each other).

    Raises:
        ValueError: their tasks, classes or data differ.
    """
    if samples < 20:
        raise ValueError(f"samples={samples}: a 95 % interval needs at least 20")
    names = list(evaluations)
    first = evaluations[names[0]]
    others = {name: evaluations[name] for name in names[1:]}
    for name, other in others.items():
        _check_same(names[0], first, name, other)
    return {
        "runs": {name: _told(evaluation) for name, evaluation in evaluations.items()},
        "config": _config_differences(evaluations),
        "shared": {name: len(_shared(first, other)) for name, other in others.items()},
        "differences": {name: _differences(first, other, samples, seed) for name, other in others.items()},
    }


def _check_same(name: str, first: Evaluation, other_name: str, other: Evaluation) -> None:
    if first.kind != other.kind:
        raise ValueError(
            f"{name} is for {first.kind} and {other_name} for {other.kind}: only runs of the same task can be compared"
        )
    own, others = list(first.labels.names.values()), list(other.labels.names.values())
    if own != others:
        raise ValueError(f"{name} and {other_name} have different classes: {own[:5]} and {others[:5]}")
    if first.about["data"] != other.about["data"]:
        shared = _shared(first, other)
        detectors = [metric for metric in (first.metric, other.metric) if isinstance(metric, CocoMetric)]
        if shared and len({fingerprint_of_truth(metric, shared) for metric in detectors}) == 1:
            return  # one of them saw a few more images
        raise ValueError(
            f"{name} and {other_name} were evaluated on different data (fingerprints {first.about['data']} and "
            f"{other.about['data']}): evaluate both on the same split of the same data"
        )


def _shared(first: Evaluation, other: Evaluation) -> set[int | str]:
    """The images of both."""
    return set(first.metric.state()) & set(other.metric.state())


def _told(evaluation: Evaluation) -> dict[str, Any]:
    heads = {key: value for key, value in evaluation.results.items() if "/" not in key}
    return {"images": len(evaluation.metric.state()), **{k: evaluation.about.get(k) for k in _TOLD}, "figures": heads}


def _config_differences(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, str]]:
    known = {name: evaluation.about.get("config") for name, evaluation in evaluations.items()}
    configs = {name: flat_json(config) for name, config in known.items() if config}  # predictions from files have none
    keys = sorted({key for config in configs.values() for key in config})
    rows = {key: {name: config.get(key, "-") for name, config in configs.items()} for key in keys}
    return {key: row for key, row in rows.items() if len(set(row.values())) > 1 and is_compared(key)}


def _differences(first: Evaluation, other: Evaluation, samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """By metric: the difference, its 95 % interval and whether it is significant; both use the same samples."""
    shared = _shared(first, other)
    weights = draw_weights(len(shared), samples, seed)
    weights = np.concatenate([np.ones_like(weights[:1]), weights])  # the first row: the original images
    before, after = (_drawn(evaluation, shared, weights) for evaluation in (first, other))
    enough = len(shared) >= FEWEST_IMAGES
    return {key: _difference(before[key], after[key], enough=enough) for key in before if key in after}


def _drawn(evaluation: Evaluation, images: set[int | str], weights: np.ndarray) -> dict[str, np.ndarray]:
    metric: Any = copy.copy(evaluation.metric)  # the next evaluation may share other images with it
    metric.merge([{image: content for image, content in metric.state().items() if image in images}])
    return metric.bootstrap(len(weights), weights=weights)


def _difference(before: np.ndarray, after: np.ndarray, *, enough: bool) -> dict[str, Any]:
    known = np.isfinite(before) & np.isfinite(after)  # a bootstrap sample may lack a class
    if not known[0]:
        return {"difference": None, "low": None, "high": None, "real": False}
    change = after - before
    low, high = np.percentile(change[1:][known[1:]], [2.5, 97.5]) if known[1:].any() else (change[0], change[0])
    real = enough and bool(low > 0 or high < 0)
    return {"difference": float(change[0]), "low": float(low), "high": float(high), "real": real}


# ---- text ------------------------------------------------------------------------------------------------


def lines(found: Mapping[str, Any]) -> list[str]:
    names = list(found["runs"])
    marks = [chr(ord("A") + i) if i < 26 else str(i) for i in range(len(names))]
    page = [f"{mark}  {name}" for mark, name in zip(marks, names, strict=True)]
    rows = [(key, [found["runs"][name][key] for name in names]) for key in ("images", *_TOLD)]
    figures = list(dict.fromkeys(key for name in names for key in found["runs"][name]["figures"]))
    rows += [(key, [found["runs"][name]["figures"].get(key) for name in names]) for key in figures]
    cells = [[key, *map(_text, values)] for key, values in rows]
    page += ["", *columns([["", *marks], *cells], indent="  ")]
    if found["config"]:
        page += ["", "settings that differ"]
        for key, row in found["config"].items():
            page.append(
                f"  {key}: " + ", ".join(f"{m} {row.get(n, '-'):.60}" for m, n in zip(marks, names, strict=True))
            )
    for mark, (name, differences) in zip(marks[1:], found["differences"].items(), strict=True):
        shared = found["shared"][name]
        few = f"; fewer than {FEWEST_IMAGES} are too few for significance" if shared < FEWEST_IMAGES else ""
        page += ["", f"{mark} against {marks[0]} ({name}) on their {shared} common images{few}; 95 % intervals"]
        page += _difference_lines(differences)
    return page


def _difference_lines(differences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Overall metrics, then classes: those that differ significantly, and how many do not."""
    heads = [key for key in differences if "/" not in key]
    classes = {key: row for key, row in differences.items() if "/" in key}
    real = sorted((key for key, row in classes.items() if row["real"]), key=lambda key: -classes[key]["difference"])
    same = [key for key, row in classes.items() if not row["real"] and row["difference"] is not None]
    told = [*heads, *real, *(same if len(same) <= 20 else [])]
    page = columns([_difference_cells(key, differences[key]) for key in told], left=(0, 2, 3), indent="  ")
    if len(same) > 20:
        page.append(f"  {counted(len(same), 'class')} without a significant difference")
    unknown = [key for key, row in classes.items() if row["difference"] is None]
    return page + ([f"  classes without ground truth: {len(unknown)}"] if unknown else [])


def _difference_cells(key: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["difference"] is None:
        return key, written(None), "no ground truth, or unknown in one of the runs", ""
    verdict = "" if row["real"] else "not significant"
    return key, f"{row['difference']:+.3f}", f"[{row['low']:+.3f}, {row['high']:+.3f}]", verdict


def _text(value: Any) -> str:
    return written(value, ".4f" if isinstance(value, float) else ",")
