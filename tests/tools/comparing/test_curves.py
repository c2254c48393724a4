"""Loss curves without any file: means of epochs, the band around a reference, places of other lengths, verdicts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pocketvision.tools.comparing.band import band, compare, place_of, spans, tolerance, verdict
from pocketvision.tools.comparing.curves import Curve, epoch_means, matters, read_run, whole_epochs
from pocketvision.tools.comparing.output import MOST_ROWS, chart, lines
from pocketvision.tools.comparing.reference import Reference, read_reference, summarise, write_reference
from pocketvision.tools.config.build import compose
from pocketvision.tools.runs.keys import flat, plain

FALLING = (3.3, 1.6, 1.36, 1.25, 1.18, 1.14)
# Measured: the experiments demo_detection and demo_segmentation with data.input_size=[64,64] backbone.width=0.35
# data.num_train=640, which makes six epochs of 40 steps.
SEEDS = {
    "detection": [(3.306, 1.605, 1.360, 1.256, 1.180, 1.141), (3.298, 1.566, 1.318, 1.220, 1.151, 1.116),
                  (3.350, 1.573, 1.328, 1.230, 1.167, 1.139)],
    "segmentation": [(0.956, 0.740, 0.708, 0.674, 0.646, 0.631), (1.062, 0.756, 0.717, 0.689, 0.670, 0.658),
                     (0.969, 0.752, 0.710, 0.678, 0.652, 0.637)],
}  # fmt: skip
OTHERS = [
    ("detection", "another seed", (3.319, 1.620, 1.365, 1.264, 1.201, 1.166), None),
    ("detection", "optimizer.lr=0.06, ten times", (2.377, 1.517, 1.376, 1.344, 1.318, 1.282), 5),
    ("detection", "optimizer.lr=0.0006, a tenth", (4.128, 3.619, 2.820, 2.322, 2.109, 2.056), 1),
    ("detection", "batch_norm=frozen: nothing normalises", (3.582, 1.505, 1.336, 1.306, 1.292, 1.281), 5),
    ("detection", "batch_size=8", (2.971, 1.509, 1.383, 1.302, 1.238, 1.209), None),
    # Pixels 0..255 in place of -1..1 are no departure where batch norms follow: they do not come out other at all.
    ("detection", "model.network.std=[0.0039,...]", (3.333, 1.584, 1.338, 1.253, 1.179, 1.157), None),
    # Nor are shuffled classes, as long as the network tells none apart (AP 0.03); later the part of the classes stays.
    ("detection", "data.shuffle_labels=true", (3.329, 1.585, 1.346, 1.248, 1.174, 1.144), None),
    ("detection", "made up: shuffled, where others tell classes apart", (3.329, 1.585, 1.46, 1.45, 1.44, 1.44), 4),
    ("segmentation", "another seed", (0.976, 0.746, 0.708, 0.680, 0.658, 0.640), None),
    ("segmentation", "optimizer.lr=0.0005, a tenth", (1.282, 0.916, 0.817, 0.772, 0.755, 0.750), 1),
    ("segmentation", "batch_norm=frozen", (1.098, 0.820, 0.793, 0.789, 0.789, 0.787), 3),
    ("segmentation", "optimizer.lr=0.05: better, with so few steps", (0.859, 0.717, 0.679, 0.629, 0.591, 0.570), None),
]


def curve(losses: Sequence[float | None], *, task: str = "detection", seed: int = 0, epochs: int | None = None,
          images: int = 320, figures: dict[int, dict[str, float]] | None = None, **keys: Any) -> Curve:  # fmt: skip
    settings = {"epochs": epochs or len(losses), "batch_size": 16, "model.criterion.alpha": 0.75}
    settings |= {key.replace("__", "."): value for key, value in keys.items()}
    by_epoch = {epoch: {"loss": loss, "loss_class": loss} for epoch, loss in enumerate(losses, 1)}
    return Curve(f"runs/{seed}", task, settings, seed, images // 16 if losses else None, None, None, {}, by_epoch,
                 figures or {})  # fmt: skip


def reference(*losses: Sequence[float], **keys: Any) -> Reference:
    curves = [curve(values, seed=seed, **keys) for seed, values in enumerate(losses or (FALLING,))]
    return summarise(curves, name="reference.json")


# ---- what is read of a run ------------------------------------------------------------------------------


def train_row(step: int, epoch: int, loss: float | None = 1.0, **parts: float) -> dict[str, Any]:
    return {"kind": "train", "step": step, "loss": loss, "epoch": epoch, **parts}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], {}),
        ([{"kind": "val", "step": 5, "AP": 0.1}], {}),
        ([train_row(10, 1, 4.0)], {1: {"loss": 4.0}}),
        # thirty steps at 4 and ten at 2: means are over steps, not over rows
        ([train_row(30, 1, 4.0), train_row(40, 1, 2.0)], {1: {"loss": 3.5}}),
        ([train_row(40, 1, 4.0, loss_box=1.0), train_row(80, 2, 2.0, loss_box=0.5)],
         {1: {"loss": 4.0, "loss_box": 1.0}, 2: {"loss": 2.0, "loss_box": 0.5}}),
        ([train_row(30, 1, 4.0), train_row(40, 1, None)], {1: {"loss": None}}),
    ],
)  # fmt: skip
def test_means_of_epochs(rows: list[dict[str, Any]], expected: dict[int, dict[str, float | None]]) -> None:
    assert epoch_means(rows) == expected


@pytest.mark.parametrize(
    ("rows", "log_every", "saved", "expected"),
    [
        ([], 50, None, {}),
        ([train_row(18, 1)], 50, None, {1: 18}),  # no multiple of log_every: the epoch's end
        ([train_row(50, 1)], 50, None, {}),  # perhaps in its midst
        ([train_row(50, 1)], 50, 0, {}),
        ([train_row(160, 1)], 160, 1, {1: 160}),  # the checkpoint has the epoch behind it
        ([train_row(50, 1), train_row(60, 1), train_row(100, 2)], 50, None, {1: 60}),
        ([train_row(50, 1), train_row(60, 1), train_row(100, 2), train_row(120, 2)], 50, None, {1: 60, 2: 120}),
        ([train_row(50, 1), train_row(100, 2)], 50, None, {1: 50, 2: 100}),  # as long as the first
        ([train_row(60, 3), train_row(80, 4)], 50, None, {3: 60, 4: 80}),  # the first rows were lost
    ],
)
def test_whole_epochs(rows: list[dict[str, Any]], log_every: int, saved: int | None, expected: dict[int, int]) -> None:
    assert whole_epochs(rows, log_every=log_every, saved=saved) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("optimizer.lr", True), ("batch_size", True), ("data.input_size", True), ("data.train._target_", True),
        ("threads", False), ("workers", False), ("name", False), ("seed", False), ("data.root", False),
        ("data.train.length", False), ("optimizer._partial_", False),
    ],
)  # fmt: skip
def test_settings_that_matter(key: str, expected: bool) -> None:
    assert matters(key) is expected


# ---- the band -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([FALLING], 0.08 * 2**0.5),  # one seed: wider, for its own chance
        ([FALLING, FALLING], 0.08 * 1.5**0.5),
        ([(3, 1.0), (3, 1.04)], 4 * 0.0392207 / 1.128 * 1.5**0.5),
        ([(3, 1.0), (9, 1.0)], 0.08 * 1.5**0.5),  # the first epoch tells nothing of the later ones
        ([(3.0,)], 0.08 * 2**0.5),
        ([(3, 1e-300), (3, 1e300)], 1.0),
    ],
)
def test_tolerance(losses: list[Sequence[float]], expected: float) -> None:
    assert tolerance(reference(*losses)) == pytest.approx(expected, rel=1e-4)


def test_the_band_is_wide_in_the_first_epoch_and_goes_over_smoothly() -> None:
    known = reference((4.0, 1.0, 0.5), (4.0, 1.0, 0.5))
    wide = tolerance(known)
    widths = []
    for place, mean in ((1, 4.0), (1.5, 2.0), (2, 1.0), (2.5, 0.5**0.5), (3, 0.5)):
        found = band(known, place)
        assert found.mean == pytest.approx(mean)
        assert found.high / found.mean == pytest.approx(found.mean / found.low)
        widths.append((found.high / found.mean) ** (1 / wide))
    assert widths == pytest.approx([2.71828**2, 2.71828**1.5, 2.71828, 2.71828, 2.71828], rel=1e-4)
    ragged = reference((4.0, 1.0), (4.0, 1.0), (4.0, 1.0), (4.0, 1.5))  # no narrower than the reference's own runs
    assert band(ragged, 2).high >= 1.5


@pytest.mark.parametrize(("task", "what", "losses", "since"), OTHERS, ids=[f"{o[0]} {o[1]}" for o in OTHERS])
def test_seeds_pass_and_broken_runs_fail(task: str, what: str, losses: Sequence[float], since: int | None) -> None:
    """`since`: the epoch after which the command tells; None where nothing is wrong."""
    known = reference(*SEEDS[task], task=task)
    told = [verdict(compare(curve(losses[:done], task=task, epochs=6), known))[0] for done in range(1, len(losses) + 1)]
    assert told == [since is not None and done >= since for done in range(1, len(losses) + 1)]


@pytest.mark.parametrize("task", list(SEEDS))
@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_each_seed_passes_beside_the_two_others_and_beside_one(task: str, left_out: int) -> None:
    others = [losses for i, losses in enumerate(SEEDS[task]) if i != left_out]
    for known in (reference(*others, task=task), *(reference(one, task=task) for one in others)):
        for done in range(1, 7):
            assert not verdict(compare(curve(SEEDS[task][left_out][:done], task=task, epochs=6), known))[0]


# ---- other lengths, other data --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "images", "expected"),
    [
        (6, 320, [1, 2, 3, 4, 5, 6]),
        (6, 310, [1, 2, 3, 4, 5, 6]),  # a few images less
        (3, 320, [1, 2, 3]),  # a shorter run: as many images
        (12, 320, [1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25, 5.75, 6]),  # a longer one: the schedule
        (6, 160, [None, 1.25, 1.75, 2.25, 2.75, 3.25]),  # fewer images: as many seen
        (6, 960, [1, 2, 3, 4, 5, 6]),  # more: the schedule
        (2, 32, [None, None]),
    ],
)
def test_places(epochs: int, images: int, expected: list[float | None]) -> None:
    run = curve([1.0], epochs=epochs, images=images)
    assert [place_of(run, reference(), epoch) for epoch in range(1, epochs + 1)] == expected


def test_other_lengths_are_compared_and_said_so() -> None:
    found = compare(curve((3.3, 1.62, 1.3), epochs=3), reference())
    assert [row.state for row in found.rows] == ["within"] * 3
    found = compare(curve((3.3, 2.6, 1.9), epochs=12), reference())
    departs, told = verdict(found)
    assert not departs
    assert told == "sound so far: epochs 1 to 3 of 12 lie within the reference's band"
    page = "\n".join(lines(found, departs=departs))
    assert "12 epochs of 320 images against 6 of 320: each epoch is compared with the reference after as many" in page
    assert "settings that differ: epochs 12 against 6" in page
    assert "      1.8" in page
    departs, told = verdict(compare(curve((3.3, 1.6), epochs=2, images=32), reference()))
    assert not departs
    assert told.startswith("too early to judge: runs/0 has seen fewer images (epochs 1 to 2 of 2, each of 32)")


def test_figures_are_shared_where_both_have_them() -> None:
    known = reference(figures={2: {"AP": 0.1}, 4: {"AP": 0.3, "AP50": 0.5}})
    for epochs, expected in ((6, {4: ["AP"]}), (12, {4: ["AP"], 8: ["AP"]}), (3, {})):
        run = curve(FALLING[:3], epochs=epochs, figures={4: {"AP": 0.3}, 5: {"AP": 0.3}, 8: {"AP": 0.3}} if epochs != 3
                    else {1: {"AP": 0.3}})  # fmt: skip
        found = compare(run, known).figures
        assert {epoch: list(figures) for epoch, figures in found.items() if epoch <= epochs} == expected
    seeds = [curve(FALLING, seed=i, figures={4: one}) for i, one in enumerate(({"AP": 0.3, "AP50": 0.5}, {"AP": 0.1}))]
    assert summarise(seeds, name="reference.json").figures == {4: {"AP": (0.2, 0.1, 0.3)}}


AS_FAR = "sound, as far as different classes or criteria allow: in epoch 3 of 6 the loss is"


@pytest.mark.parametrize(
    ("losses", "keys", "departs", "told"),
    [
        ([], {}, False, "too early to judge: no epoch of runs/0 is complete"),
        ((9.0,), {}, False, "too early to judge: with different classes or a different criterion, two epochs"),
        ((9.0, 7.0, 6.5), {}, False, f"{AS_FAR} 0.72 times"),
        ((9.0, 9.1, 9.0), {}, True, "epoch 3: loss 9 is above 7.581: it hardly falls, or rises, while"),
        ((9.0, None), {}, True, "epoch 2: the loss is not finite"),
        # It has the steepest part of a fall from scratch, by a factor of 2.9 here, behind it.
        ((1.4, 1.3, 1.25), {"weights": "runs/other"}, False, AS_FAR),
        ((1.4, 1.4, 1.4), {"weights": "runs/other"}, False, AS_FAR),
        ((1.4, 1.6), {"weights": "runs/other"}, True, "epoch 2: loss 1.6 is above"),
        ((9.0, 7.0, 6.0), {"figures": {3: {"AP": 0.0}}}, True, "after epoch 3 AP is 0.000, less than half"),
        ((9.0, 7.0, 6.0), {"figures": {3: {"AP": 0.01}}}, False, AS_FAR),
    ],
)
def test_on_other_data_only_the_fall_and_no_figure_at_all_count(
    losses: Sequence[float | None], keys: dict[str, Any], departs: bool, told: str
) -> None:
    known = reference(model__criterion__alpha=0.25, figures={3: {"AP": 0.3}})
    found = compare(curve(losses, epochs=6, **keys), known)
    assert verdict(found)[0] is departs
    assert verdict(found)[1].startswith(told)
    assert "a different loss (model.criterion.alpha 0.75 against 0.25)" in lines(found, departs=departs)[1]


def test_on_other_data_no_figure_is_no_departure_where_the_reference_hardly_has_one() -> None:
    known = reference(model__criterion__alpha=0.25, figures={3: {"AP": 0.05}})
    assert not verdict(compare(curve((9.0, 7.0, 6.0), epochs=6, figures={3: {"AP": 0.0}}), known))[0]


# ---- the verdict ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "figures", "departs", "told"),
    [
        ([], {}, False, "too early to judge: no epoch of runs/0 is complete; try again"),
        (FALLING[:1], {}, False, "sound so far: epoch 1 of 6 lies within the reference's band"),
        (FALLING[:3], {}, False, "sound so far: epochs 1 to 3 of 6 lie within the reference's band"),
        (FALLING, {}, False, "sound: epochs 1 to 6 of 6 lie within the reference's band"),
        ((3.3, 1.0), {}, False, "sound so far: epochs 1 to 2 of 6 lie within the reference's band or below it (2; "
         "a lower loss is not a problem: pretrained weights, a higher learning rate or easier data cause it)"),
        ((3.3, 2.0, 1.36), {}, False, "sound so far: epochs 1, 3 of 6 lie within the reference's band; 2 lay above, "
         "but the run recovered"),
        ((3.3, 1.6, 2.31), {}, True, "epoch 3: loss 2.31 is above the reference's 1.215 to 1.523. Check the "
         "data with pocketvision browse, the learning rate and the batch size (settings that differ: "
         "batch_size 8 against 16)"),
        ((3.3, 2.0, 2.31), {}, True, "epoch 3: loss 2.31 is above the reference's 1.215 to 1.523, as it has been since "
         "epoch 2"),
        ((3.3, None, 1.36), {}, False, "sound so far: epochs 1, 3 of 6 lie within the reference's band; 2 lay above"),
        ((3.3, None), {}, True, "epoch 2: the loss is not finite. Check the data"),
        (FALLING[:3], {3: {"AP": 0.2}}, False, "sound so far"),
        (FALLING[:3], {3: {"AP": 0.05}}, True, "after epoch 3 AP is 0.050, less than half of the reference's 0.300 to "
         "0.300, although the loss is not above its band. Check the validation split"),
    ],
)  # fmt: skip
def test_verdicts(
    losses: Sequence[float | None], figures: dict[int, dict[str, float]], departs: bool, told: str
) -> None:
    known = reference(figures={3: {"AP": 0.3}})
    run = curve(losses, epochs=6, figures=figures, batch_size=8, images=160)
    found = verdict(compare(replace(run, steps_per_epoch=40 if losses else None), known))
    assert found[0] is departs
    assert found[1].startswith(told)
    assert "\n" not in found[1]


@pytest.mark.parametrize(
    ("parts", "departs", "told"),
    [
        ((2.0, 0.4), True, "(mainly loss_class, 1.67 times the reference's)"),
        ((1.2, 0.01), False, "sound: epochs 1 to 2 of 2"),
        ((1.2, 0.003), True, "epoch 2: loss_box is 0.0075 times the reference's, far too low"),
        ((1.2, 0.0), True, "epoch 2: loss_box is 0 times the reference's, far too low"),
    ],
)
def test_a_part_that_departs_or_vanishes_is_named(parts: tuple[float, float], departs: bool, told: str) -> None:
    """A detector whose boxes overlap nothing has a small loss."""
    run, known = (
        replace(curve((3.3, a + b)), losses={
            1: {"loss": 3.3, "loss_class": 2.3, "loss_box": 1.0}, 2: {"loss": a + b, "loss_class": a, "loss_box": b},
        })
        for a, b in (parts, (1.2, 0.4))
    )  # fmt: skip
    found = verdict(compare(run, summarise([known], name="reference.json")))
    assert found[0] is departs
    assert told in found[1]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [([], ""), ([3], "3"), ([1, 2, 3], "1 to 3"), ([1, 2, 4, 6, 7], "1 to 2, 4, 6 to 7")],
)
def test_spans(epochs: list[int], expected: str) -> None:
    assert spans(epochs) == expected


def test_a_long_table_stays_short() -> None:
    losses = [3.0 * 0.99**epoch for epoch in range(300)]
    page = lines(compare(curve(losses), reference(losses)), departs=False)
    rows = [line.split() for line in page if line.startswith("  ")]
    assert len(rows) == 1 + MOST_ROWS
    assert (rows[1][0], rows[-1][0]) == ("1", "300")


@pytest.mark.parametrize("losses", [[], [3.3], FALLING, (3.3, 1e30, None)])
def test_the_picture_draws_whatever_there_is(losses: Sequence[float | None]) -> None:
    picture = chart(compare(curve(losses, epochs=6), reference())).picture()
    assert picture.shape[1] == 800
    shaded = (abs(picture.astype(int) - (215, 217, 219)) <= 1).all(-1)
    assert (shaded.mean() > 0.01) == bool(losses)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("demo_detection", ("experiment=demo_detection",)),
        ("demo_segmentation", ("experiment=demo_segmentation",)),
        ("bccd", ("experiment=small_detection", "epochs=30", "data.train_json=x", "data.images=x")),
        ("camvid", ("experiment=small_segmentation", "data=camvid", "epochs=13", "data.root=x")),
    ],
)
def test_the_references_in_the_documentation_are_of_todays_settings(name: str, overrides: Sequence[str]) -> None:
    """A recipe that changes needs its curve measured again."""
    found = read_reference(Path(__file__).resolve().parents[3] / "docs" / "curves" / f"{name}.json")
    config = flat(plain(compose(*overrides)))
    today = {key: value for key, value in config.items() if matters(key) and not key.startswith("data.")}
    assert {key: value for key, value in found.settings.items() if not key.startswith("data.")} == today
    assert found.seeds == [0, 1]


def test_a_damaged_reference_is_told(tmp_path: Path) -> None:
    """Any part may be of another kind or size: a comparison, or one ValueError."""
    path = tmp_path / "reference.json"
    write_reference(reference(*SEEDS["detection"], figures={2: {"AP": 0.1}, 6: {"AP": 0.2}}), path)
    content = json.loads(path.read_text())
    run = curve(FALLING, figures={6: {"AP": 0.2}})
    told = 0

    def parts(node: Any) -> Iterator[tuple[Any, Any]]:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node))[:6]:
            yield node, key
            if isinstance(value, dict | list):
                yield from parts(value)

    for node, key in list(parts(content)):
        for other in (None, [], {}, "x", -1, 0, 1e300, 10**400, True, {"mean": 1, "min": 1}, ["a"]):
            before, node[key] = node[key], other
            if other is None and isinstance(node, dict):
                del node[key]
            path.write_text(json.dumps(content))
            try:
                found = compare(run, read_reference(path))
                lines(found, departs=verdict(found)[0])
            except ValueError as error:
                assert "reference" in str(error)  # noqa: PT017
                told += 1
            node[key] = before
    assert told > 40


def test_a_schedule_without_end_is_no_runs(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "config.yaml").write_text(
        "{model: {task: detection}, epochs: 1000000000000, batch_size: 1, log_every: 1, seed: 0}"
    )
    with pytest.raises(ValueError, match=r"config\.yaml is not a training run's configuration"):
        read_run(tmp_path)
