"""A run's loss curve beside a reference's: the band that a sound run stays in, and the verdict in one line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .curves import FIGURES, Curve, Spread
from .reference import Reference, different, short

LEAST_TOLERANCE = 0.08  # in natural logarithms of a loss; the measured deviation between seeds is 0.015 to 0.02
MOST_TOLERANCE = 1.0  # seeds that differ by more than a factor of e are no useful reference
DEVIATIONS = 4  # standard deviations between seeds, if that is more
RANGE_OF = {2: 1.128, 3: 1.693, 4: 2.059, 5: 2.326, 6: 2.534, 7: 2.704, 8: 2.847}  # range / deviation, n normal numbers
FALL_SHARE, FALL_SLACK = 0.25, 0.05  # on different data: of the reference's fall in logarithms, and for noise
ALIKE = 0.1  # numbers of images within a tenth count as equal
FIGURE_SHARE, FIGURE_SLACK = 0.5, 0.02  # of the reference's lowest AP or mIoU, which varies a lot early in a run
VANISHED = 0.01  # of the reference: a loss term this small teaches nothing
NO_FIGURE, CLEAR_FIGURE = 0.001, 0.1  # an AP or mIoU that is practically zero, where the reference's is clearly above
_FIRST_KEYS = ("batch_size", "optimizer", "lr_batch_size", "schedule", "epochs", "weights", "data", "augment")


# ---- the band -------------------------------------------------------------------------------------------


def tolerance(reference: Reference) -> float:
    """How far a sound run's epoch may lie from the reference's mean, as a difference of natural logarithms of losses.

    Four standard deviations between seeds, at least 8 %: the range of two or three seeds is too narrow, and the
    deviation in a single epoch too uncertain, so it is pooled over all epochs except the first. The square root
    accounts for the uncertainty of a mean of n seeds: the fewer, the wider (11 % for a single seed).
    """
    seeds = len(reference.seeds)
    ranges = [math.log(c["loss"].high / c["loss"].low) for epoch, c in reference.losses.items() if epoch > 1]
    deviation = 0.0
    if seeds > 1 and ranges:
        pooled = math.sqrt(sum(one * one for one in ranges) / len(ranges))
        deviation = pooled / RANGE_OF[min(seeds, max(RANGE_OF))]
    return min(MOST_TOLERANCE, max(LEAST_TOLERANCE, DEVIATIONS * deviation) * math.sqrt(1 + 1 / seeds))


def band(reference: Reference, place: float) -> Spread:
    """The losses of sound runs at a position in the reference's epochs, from 1 to their number: mean, lowest, highest.

    Between two epochs it is interpolated, in logarithms. In the first epoch, where the loss falls fastest and
    depends most on the initial weights, the band is twice as wide; from the second on it has its normal width. It is
    never narrower than the range of the reference's own runs.
    """
    before = min(int(place), max(1, reference.epochs - 1))
    after, share = min(before + 1, reference.epochs), place - before
    lower, upper = reference.losses[before]["loss"], reference.losses[after]["loss"]
    mean, low, high = (a * (b / a) ** share for a, b in zip(lower, upper, strict=True))
    factor = math.exp(tolerance(reference) * (2 - min(1.0, place - 1)))
    return Spread(mean, min(low, mean / factor), max(high, mean * factor))


def elapsed(run: Curve, reference: Reference, epochs: float) -> float:
    """Epochs of the reference to compare `epochs` of the run with.

    As many images seen, or the same point of the schedule, whichever is earlier: the loss falls with the steps and with
    the decay of the learning rate, so a longer run lags behind at the same number of images, a shorter one (or one with
    fewer images) at the same point of its schedule. With the reference's epochs and images, both are `epochs`.
    """
    return min(epochs * _images_ratio(run, reference), epochs * reference.epochs / run.epochs)


def _images_ratio(run: Curve, reference: Reference) -> float:
    ratio = (run.images_per_epoch or 0) / reference.images_per_epoch
    return 1.0 if 1 - ALIKE < ratio < 1 + ALIKE else ratio


def place_of(run: Curve, reference: Reference, epoch: int) -> float | None:
    """Where the mean of a run's epoch lies among the reference's, from 1 to their number; None if it is too early.

    A mean stands for the middle of its epoch.
    """
    if (epoch - 0.5) * _images_ratio(run, reference) < 0.5:
        return None  # the reference's first mean is over more images
    return min(max(1.0, elapsed(run, reference, epoch - 0.5) + 0.5), float(reference.epochs))


# ---- the comparison -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """An epoch of the run that can be compared with the reference."""

    epoch: int
    place: float  # in the reference's epochs
    loss: float | None  # None: not finite
    band: Spread
    parts: dict[str, float]  # loss terms, as multiples of the reference's means

    @property
    def state(self) -> str:
        """within, above or below."""
        if self.loss is None or self.loss > self.band.high:
            return "above"
        return "below" if self.loss < self.band.low else "within"


@dataclass(frozen=True)
class Comparison:
    run: Curve
    reference: Reference
    rows: list[Row]  # the run's complete epochs, without those too early to compare
    expected: dict[int, Spread]  # the band at every epoch of the run's schedule that can be compared
    figures: dict[int, dict[str, tuple[float, Spread]]]  # after epochs that both evaluated
    unlike: list[str]  # why only the fall of the loss can be compared, not its level
    differing: dict[str, tuple[Any, Any]]  # settings: the run's value and the reference's

    @property
    def other_data(self) -> bool:
        """Whether the training splits are known to differ, in images or annotations."""
        return None not in (self.run.data, self.reference.data) and self.run.data != self.reference.data


def compare(run: Curve, reference: Reference) -> Comparison:
    """Compare the run with the reference.

    Raises:
        ValueError: they are for different tasks.
    """
    if run.task != reference.task:
        raise ValueError(
            f"{run.name} is for {run.task} and {reference.name} for {reference.task}: choose a reference for the same "
            "task"
        )
    unlike = _unlike(run, reference)
    wanted = {epoch: place_of(run, reference, epoch) for epoch in range(1, run.epochs + 1)}
    places = {epoch: place for epoch, place in wanted.items() if place is not None}
    expected = {epoch: band(reference, place) for epoch, place in places.items()}
    if unlike:
        known = {epoch: loss for epoch in expected if (loss := run.losses.get(epoch, {}).get("loss"))}
        warm = run.settings.get("weights") is not None and reference.settings.get("weights") is None
        means = {epoch: spread.mean for epoch, spread in expected.items()}
        expected = _falling(means, known, share=0.0 if warm else FALL_SHARE)
    rows = [
        Row(epoch, places[epoch], run.losses[epoch]["loss"], expected[epoch],
            {} if unlike else _parts(run.losses[epoch], reference, places[epoch]))
        for epoch in sorted(run.losses) if epoch in expected
    ]  # fmt: skip
    return Comparison(
        run=run,
        reference=reference,
        rows=rows,
        expected=expected,
        figures=_shared_figures(run, reference),
        unlike=unlike,
        differing=different(run.settings, reference.settings),
    )


def _unlike(run: Curve, reference: Reference) -> list[str]:
    """Differences that alone make a loss higher or lower. Unknown classes count as equal."""
    found = []
    if run.classes and reference.classes and run.classes != reference.classes:
        found.append(f"classes {_names(run.classes)} against {_names(reference.classes)}")
    criteria = [{k: v for k, v in one.settings.items() if k.startswith("model.criterion.")} for one in (run, reference)]
    return found + [f"{key} {short(a)} against {short(b)}" for key, (a, b) in different(*criteria).items()]


def _names(classes: Sequence[str]) -> str:
    told = ", ".join(short(name) for name in classes[:4])
    return f"{len(classes)} ({told}{', ...' if len(classes) > 4 else ''})"


def _falling(means: Mapping[int, float], losses: Mapping[int, float], *, share: float) -> dict[int, Spread]:
    """Bands on different data: the reference's curve through the run's own first epoch, and a share of its fall.

    With pretrained weights, most of the fall may already be over: a share of 0 only requires that the loss not rise.
    """
    if not losses:
        return {}
    start = min(losses)
    found = {}
    for epoch in (one for one in means if one >= start):
        fall = max(0.0, math.log(means[start] / means[epoch]))
        high = losses[start] * math.exp(FALL_SLACK - share * fall)
        mean = losses[start] * means[epoch] / means[start]
        found[epoch] = Spread(mean, 0.0, max(mean, high))
    return found


def _parts(losses: Mapping[str, float | None], reference: Reference, place: float) -> dict[str, float]:
    """Each loss term, divided by the reference's mean at the nearest epoch."""
    means = reference.losses[min(round(place), reference.epochs)]
    shared = [key for key in losses if key != "loss" and key in means]
    return {key: value / means[key].mean for key in shared if (value := losses[key]) is not None}


def _shared_figures(run: Curve, reference: Reference) -> dict[int, dict[str, tuple[float, Spread]]]:
    found = {}
    for epoch, figures in sorted(run.figures.items()):
        place = elapsed(run, reference, epoch)
        others = reference.figures.get(round(place), {}) if abs(place - round(place)) < 1e-6 else {}
        if shared := {name: (value, others[name]) for name, value in figures.items() if name in others}:
            found[epoch] = shared
    return found


# ---- the verdict ----------------------------------------------------------------------------------------


def verdict(found: Comparison) -> tuple[bool, str]:
    """Whether the run departs from the reference, and a verdict in one line.

    The last complete epoch decides: an earlier epoch outside the band from which the run recovered is only mentioned. A
    lower loss is not a problem.
    """
    last = max(found.run.losses, default=0)
    if last and found.run.losses[last]["loss"] is None:
        return True, f"epoch {last}: the loss is not finite. {_advice(found)}"
    if not found.rows or (found.unlike and len(found.rows) < 2):
        return False, f"too early to judge: {_too_early(found)}"
    if found.rows[-1].state == "above":
        return True, _departure(found)
    if told := _vanished_part(found) or _poor_figure(found):
        return True, told
    return False, _sound(found)


def _too_early(found: Comparison) -> str:
    run, reference = found.run, found.reference
    if not run.losses:
        return f"no epoch of {run.name} is complete; try again after the first one"
    if found.rows:
        return "with different classes or a different criterion, two epochs are needed to see whether the loss falls"
    return (
        f"{run.name} has seen fewer images (epochs {spans(sorted(run.losses))} of {run.epochs}, each of "
        f"{run.images_per_epoch:,}) than the first epoch of {reference.name} has ({reference.images_per_epoch:,})"
    )


def _departure(found: Comparison) -> str:
    row, states = found.rows[-1], [one.state for one in found.rows]
    since = len(states) - 1
    while since > 0 and states[since - 1] == "above":
        since -= 1
    text = f"epoch {row.epoch}: loss {number(row.loss)} is above "
    if found.unlike:
        text += f"{number(row.band.high)}: it hardly falls, or rises, while the reference's falls"
    else:
        text += f"the reference's {number(row.band.low)} to {number(row.band.high)}"
    if since < len(states) - 1:
        text += f", as it has been since epoch {found.rows[since].epoch}"
    if len(row.parts) > 1:
        part = max(row.parts, key=lambda key: row.parts[key])
        text += f" (mainly {part}, {row.parts[part]:.2f} times the reference's)"
    return f"{text}. {_advice(found)}"


def _advice(found: Comparison) -> str:
    told = told_differences(found.differing)
    told = f"settings that differ: {told}" if told else "all settings equal the reference's"
    if found.other_data:
        told += "; the training data differs from the reference's"
    return f"Check the data with pocketvision browse, the learning rate and the batch size ({told})"


def _vanished_part(found: Comparison) -> str | None:
    """A loss term that is nearly zero: what it should teach never reaches it."""
    row = found.rows[-1]
    part, ratio = min(row.parts.items(), key=lambda item: item[1], default=("", 1.0))
    if ratio >= VANISHED:
        return None
    return (
        f"epoch {row.epoch}: {part} is {ratio:.2g} times the reference's, far too low to be the result of learning: "
        f"nothing is matched, or everything is ignored. {_advice(found)}"
    )


def _poor_figure(found: Comparison) -> str | None:
    """The last evaluation is far below the reference's, but the loss is fine: training and evaluation differ.

    With different classes or a different criterion, only a metric that is practically zero shows that.
    """
    if not found.figures:
        return None
    epoch, figures = max(found.figures.items())
    name = FIGURES[found.run.task][0]
    if name not in figures:
        return None
    value, spread = figures[name]
    least = FIGURE_SHARE * spread.low - FIGURE_SLACK
    if found.unlike:
        least = NO_FIGURE if spread.low >= CLEAR_FIGURE else 0.0
    if value >= least:
        return None
    return (
        f"after epoch {epoch} {name} is {value:.3f}, less than half of the reference's {spread.low:.3f} to "
        f"{spread.high:.3f}, although the loss is not above its band. Check the validation split with pocketvision "
        "browse split=val, ema_decay and the momentum of batch norm"
    )


def _sound(found: Comparison) -> str:
    rows, epochs = found.rows, found.run.epochs
    if found.unlike:
        first, last = rows[0], rows[-1]
        fall, other = (last.loss or 0) / (first.loss or 1), last.band.mean / (first.loss or 1)
        text = (
            f"sound, as far as different classes or criteria allow: in epoch {last.epoch} of {epochs} the loss is "
            f"{fall:.2f} times that of epoch {first.epoch}, the reference's {other:.2f} times"
        )
    else:
        within = spans([row.epoch for row in rows if row.state != "above"])
        done = len(found.run.losses) == epochs
        one = within.isdigit()
        text = (
            f"sound{'' if done else ' so far'}: epoch{'' if one else 's'} {within} of {epochs} lie{'s' if one else ''} "
            "within the reference's band"
        )
    if below := spans([row.epoch for row in rows if row.state == "below"]):
        text += (
            f" or below it ({below}; a lower loss is not a problem: pretrained weights, a higher learning rate or "
            "easier data cause it)"
        )
    if above := spans([row.epoch for row in rows if row.state == "above"]):
        text += f"; {above} lay above, but the run recovered"
    return text


# ---- text -----------------------------------------------------------------------------------------------


def spans(epochs: Sequence[int]) -> str:
    """`1 to 3, 5`."""
    found: list[list[int]] = []
    for epoch in epochs:
        if found and epoch == found[-1][1] + 1:
            found[-1][1] = epoch
        else:
            found.append([epoch, epoch])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in found)


def number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def told_differences(differing: Mapping[str, tuple[Any, Any]], *, most: int = 5) -> str:
    """`batch_size 8 against 16, ...`, the likely causes first; empty if none differ."""

    def rank(key: str) -> int:
        group = key.partition(".")[0]
        return _FIRST_KEYS.index(group) if group in _FIRST_KEYS else len(_FIRST_KEYS)

    keys = sorted(differing, key=rank)
    told = [f"{key} {short(differing[key][0])} against {short(differing[key][1])}" for key in keys[:most]]
    return ", ".join(told) + (f" and {len(keys) - most} more" if len(keys) > most else "")
