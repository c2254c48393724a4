"""Reports on disk: a folder for each evaluated run, and pages that combine several runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...absent import Results
from ...datasets.annotations.sample import Source
from ...files import whole_folder, write_text
from ..drawing.figure import Chart
from ..drawing.pictures import write_image
from ..evaluating.scores import Evaluation
from ..runs.keys import plain
from ..runs.loaded import LoadedRun
from ..system.console import log
from . import classification, detection, segmentation
from .checked import read_summary
from .drawn import CHARTS, class_chart, matrix_of
from .facts import command, environment, facts, settings, training_rows
from .gallery import Gallery
from .page import page
from .summary import FILE, IMAGES, Summary

FOLDER, PAGE = "report", "report.html"
_PARTS = {"detection": detection, "segmentation": segmentation, "classification": classification}


def write_report(
    run: LoadedRun, evaluation: Evaluation, results: Results, source: Source, *, split: str, images: int
) -> Path:
    """Write an evaluation's report to `report/` in the run folder, replacing an earlier one; returns the page's path.

    Args:
        evaluation: of the whole dataset.
        results: the evaluation's, completed.
        images: the maximum number of photos on the page.

    Raises:
        ValueError: see `check_place`.
    """
    folder, part = check_place(run.folder), _PARTS[evaluation.kind]
    with whole_folder(folder) as fresh:
        summary = Summary(
            kind=evaluation.kind,
            name=str(run.folder.resolve().name),
            facts=facts(run, source, split),
            results=dict(results),
            environment=environment(next(run.task.model.parameters()).device),
            command=command(),
            config=settings(evaluation.about.get("config") or plain(run.config)),
            training=training_rows(run.folder),
        )
        part.describe(summary, evaluation)
        part.pictures(summary, evaluation, Gallery(fresh / IMAGES, run, source, images))
        summary.save(fresh)
        summary = read_summary(fresh)  # a later page is drawn from the same file
        html, charts = page([(summary, fresh)])
        (fresh / PAGE).write_text(html, encoding="utf-8")
        _write_charts(fresh, charts | {"classes": class_chart(summary), "confusion": matrix_of(summary)})
    return folder / PAGE


def check_place(run_folder: Path) -> Path:
    """The report's folder in a run folder. What is left of a report may be replaced, too.

    Raises:
        ValueError: something that is not a report has its name.
    """
    folder = run_folder / FOLDER
    try:
        found = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return folder
    except NotADirectoryError:
        found = {""}
    if FILE not in found and not found <= {PAGE, IMAGES, *(f"{name}.png" for name in CHARTS)}:
        raise ValueError(f"{folder} is not a report and will not be replaced (it has no {FILE}): move it away")
    return folder


def write_page(runs: Sequence[str | Path], output: Path) -> Path:
    """Write one page for evaluated runs, and their shared charts beside it as `NAME.CHART.png`.

    Raises:
        FileNotFoundError: a run has no report yet; the message names the command that writes it.
        ValueError: fewer than one run, the same run twice, or runs of different tasks.
    """
    folders = [Path(run) / FOLDER for run in runs]
    if not folders:
        raise ValueError("name the folders of evaluated runs: pocketvision compare runs/A runs/B page=FILE.html")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"a run is given twice: {', '.join(map(str, runs))}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"page={output}: expected a file that ends in .html")
    summaries = [read_summary(folder) for folder in folders]
    if len(kinds := {summary.kind for summary in summaries}) > 1:
        raise ValueError(
            f"only runs of the same task can be combined; these are for {' and '.join(sorted(kinds))}: "
            f"{', '.join(map(str, runs))}"
        )
    if len({summary.facts["data hash"] for summary in summaries}) > 1:
        log.warning("these runs were evaluated on different data: their metrics are not comparable")
    _tell_apart(summaries, runs)
    html, charts = page(list(zip(summaries, folders, strict=True)))
    write_text(output, html)
    _write_charts(output.parent, charts, prefix=f"{output.stem}.")
    return output


def _tell_apart(summaries: Sequence[Summary], runs: Sequence[str | Path]) -> None:
    """Runs with the same name are shown with their paths."""
    names = [summary.name for summary in summaries]
    for summary, run in zip(summaries, runs, strict=True):
        if names.count(summary.name) > 1:
            summary.name = str(run)


def _write_charts(folder: Path, charts: Mapping[str, Chart], prefix: str = "") -> None:
    for name, chart in charts.items():
        write_image(folder / f"{prefix}{name}.png", chart.picture())
