"""Compare runs: a table, an HTML page, or a loss beside a reference curve.

pocketvision compare runs/first runs/second
pocketvision compare runs/first runs/second page=all.html
pocketvision compare runs/demo_detection curve=docs/curves/demo_detection.json

RUN RUN ...: metrics, settings that differ, and which differences are significant. All runs must have been evaluated
on the same data; the others are compared with the first. A difference is significant if its 95 % confidence interval
excludes 0. The intervals come from a paired bootstrap: images drawn with replacement, the same ones for both runs.
They cover the choice of images, not the variation between training runs. A results.json that pocketvision evaluate
wrote can replace its run folder (keep results.npz next to it).

page=FILE.html: one self-contained HTML page about runs of one task: metrics side by side, overlaid curves, then each
run's own report. First run pocketvision evaluate run=FOLDER report=true. The charts are written next to the page as
NAME.CHART.png.

curve=REFERENCE.json: a run's loss, epoch by epoch, beside a reference curve from other seeds. The run may still be in
progress; only complete epochs count. Prints a table and a verdict and draws curve.png. The last complete epoch
decides: the run departs if its loss lies above the band around the reference's mean (four standard deviations between
the reference's seeds, at least 8 %, twice as wide in the first epoch). A lower loss is normally fine. See
docs/curves.md. Exit status: 0 if sound so far or too early to judge, 1 if the run departs, 2 for an error in the
command or a file. write=REFERENCE.json writes a reference from finished runs of one configuration with different
seeds.

  pocketvision compare runs/first/results.json detections.results.json output=comparison.json
  pocketvision compare runs/* page=all.html
  pocketvision compare runs/first runs/second runs/third write=curve.json
"""

import sys
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import CompareConfig
from pocketvision.files import write_json
from pocketvision.tools.comparing import band
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.comparing.evaluations import compare_evaluations, lines, load_evaluations
from pocketvision.tools.comparing.output import chart, described
from pocketvision.tools.comparing.output import lines as curve_lines
from pocketvision.tools.comparing.reference import read_reference, summarise, write_reference
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.reporting.writing import write_page
from pocketvision.tools.system.console import log, printable


def compare(config: DictConfig) -> None:
    """Do what `page`, `curve` or `write` asks for; otherwise compare the evaluations."""
    settings = settings_of(config, CompareConfig)
    asked = [f"{key}={getattr(settings, key)}" for key in ("page", "curve", "write") if getattr(settings, key)]
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)} exclude each other: set only one of them")
    if settings.output and (settings.page or settings.write):
        raise ValueError(
            f"output={settings.output} is for a comparison or a run's picture, and {asked[0]} makes neither: drop one"
        )
    if settings.page:
        page = write_page(list(settings.runs), Path(settings.page))
        log.info("written: %s (%.1f MB)", page, page.stat().st_size / 1e6)
    elif settings.write:
        reference = summarise([read_run(Path(folder)) for folder in settings.runs], name=settings.write)
        write_reference(reference, Path(settings.write))
        log.info("written: %s (%s)", settings.write, described(reference))
    elif settings.curve:
        if status := compare_curve(settings):
            sys.exit(status)
    else:
        compare_runs(settings)


def compare_runs(settings: CompareConfig) -> dict:
    """Compare evaluations: the first with each other one."""
    evaluations = load_evaluations(list(settings.runs))
    found = compare_evaluations(evaluations, samples=settings.samples, seed=settings.seed)
    log.info("%s", "\n".join(lines(found)))
    if settings.output:
        write_json(Path(settings.output), found)
        log.info("written: %s", settings.output)
    return found


def compare_curve(settings: CompareConfig) -> int:
    """Compare a run with a reference curve; returns the exit status: 0 if the run is sound so far, 1 if it departs."""
    assert settings.curve
    if len(settings.runs) != 1:
        raise ValueError(
            f"curve={settings.curve} needs one run folder, got {list(settings.runs)}: pocketvision compare runs/NAME "
            "curve=REFERENCE.json; or several run folders and write=REFERENCE.json"
        )
    folder = Path(settings.runs[0])
    run = read_run(folder)
    found = band.compare(run, read_reference(Path(settings.curve)))
    departs, told = band.verdict(found)
    picture = Path(settings.output) if settings.output else folder / "curve.png"
    for line in curve_lines(found, departs=departs):
        log.info("%s", printable(line))
    write_image(picture, chart(found).picture())
    log.info("picture: %s", picture)
    log.info("%s", printable(told))
    return int(departs)


main = command("compare", compare, positional="runs")

if __name__ == "__main__":
    main()
