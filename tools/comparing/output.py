"""A loss curve beside its reference, as text and as a picture."""

from pathlib import Path

from ...words import counted
from ..drawing.charts import RIGHT_COLOR, WRONG_COLOR, Series, line_chart
from ..drawing.figure import Chart, shorten
from ..system.console import columns, thinned
from .band import Comparison, Row, number, told_differences, tolerance
from .reference import Reference

MOST_ROWS = 12
_GREY = (96, 104, 112)
_HEADROOM = 2.0  # height of the chart relative to the band: an exploding loss is clipped, to keep the rest visible


def lines(found: Comparison, *, departs: bool) -> list[str]:
    """Everything but the verdict: the comparison, the loss by epoch, evaluations, settings.

    Args:
        departs: the verdict itself lists the settings that differ.
    """
    page = [_head(found), *_notes(found)]
    if found.rows:
        moved = any(row.place != row.epoch for row in found.rows)
        heads = ["epoch", "loss", *["at epoch"] * moved, "reference", "band", ""]
        cells = [_cells(row, moved=moved) for row in thinned(found.rows, MOST_ROWS)]
        page += ["", *columns([heads, *cells], left=(len(heads) - 2, len(heads) - 1), indent="  ")]
    if found.figures:
        page += ["", "  evaluations, with the reference's mean and range"]
        for epoch in thinned(list(found.figures), MOST_ROWS):
            cells = [f"{name} {value:.3f} ({other.mean:.3f}, {other.low:.3f} to {other.high:.3f})"
                     for name, (value, other) in found.figures[epoch].items()]  # fmt: skip
            page.append(f"  {epoch:>5}   " + "   ".join(cells))
    if found.differing and not departs:
        page += ["", f"settings that differ: {told_differences(found.differing)}"]
    return [*page, ""]


def _head(found: Comparison) -> str:
    run, reference = found.run, found.reference
    done = len(run.losses)
    return f"{run.name} ({done} of {counted(run.epochs, 'epoch')}) beside {reference.name} ({described(reference)})"


def described(reference: Reference) -> str:
    """Seeds, epochs and the width of the band."""
    seeds = f"seed{'s' if len(reference.seeds) > 1 else ''} {', '.join(map(str, reference.seeds))}"
    wide = 100 * tolerance(reference)
    length = counted(reference.epochs, "epoch")
    return f"{seeds}; {length}; band: {wide:.0f} % around the mean, twice that in the first epoch"


def _notes(found: Comparison) -> list[str]:
    run, reference, notes = found.run, found.reference, []
    if any(row.place != row.epoch for row in found.rows):
        ours = f"{counted(run.epochs, 'epoch')} of {counted(run.images_per_epoch or 0, 'image')}"
        notes.append(
            f"{ours} against {reference.epochs} of "
            f"{reference.images_per_epoch:,}: each epoch is compared with the reference after as many images, or at "
            "the same point of its schedule if that was earlier"
        )
    if found.unlike:
        notes.append(
            f"different data, or a different loss ({'; '.join(found.unlike)}): neither the level of the loss nor the "
            "evaluations are comparable. What still is: the loss must fall, by a quarter of the reference's fall "
            "or more (in logarithms); the reference is scaled to this run's first epoch"
        )
    elif found.other_data:  # different classes are reported above
        notes.append(
            "different training data of the same classes (images, annotations or their order): easier data has a lower "
            "loss, harder data a higher one"
        )
    return notes


def _cells(row: Row, *, moved: bool) -> list[str]:
    low, high = row.band.low, row.band.high
    told = f"{number(low)} to {number(high)}" if low else f"up to {number(high)}"
    place = [f"{row.place:.1f}"] if moved else []
    return [str(row.epoch), number(row.loss), *place, number(row.band.mean), told, row.state]


def chart(found: Comparison) -> Chart:
    """Draw the reference's band and mean over the run's whole schedule, and the run so far."""
    expected, losses = found.expected, {epoch: means["loss"] for epoch, means in found.run.losses.items()}
    known = [loss for loss in losses.values() if loss is not None]
    highest = max((band.high for band in expected.values()), default=max(known, default=1.0))
    top = min(_HEADROOM * highest, max([highest, *known]))
    lines = [
        Series("reference, mean", list(expected), [band.mean for band in expected.values()], _GREY, dashed=True),
        Series("this run", list(losses), [None if y is None else min(y, top) for y in losses.values()],
               WRONG_COLOR if found.rows and found.rows[-1].state == "above" else RIGHT_COLOR),
    ]  # fmt: skip
    return line_chart(
        f"{shorten(Path(found.run.name).resolve().name, 28)}, shaded: the band",
        lines,
        axes=("epoch", "loss"),
        x_range=(1, max(2, found.run.epochs)),
        y_range=(0, 1.05 * top),
        band=[(epoch, band.low, band.high) for epoch, band in expected.items()],
    )
