"""Compare runs: which differences are real, one HTML page of them, or a loss beside a reference curve.

pocketvision compare runs/first runs/second
pocketvision compare runs/first runs/second page=all.html
pocketvision compare runs/demo_detection curve=docs/curves/demo_detection.json

RUN RUN ...: figures and settings that differ. All runs must have been evaluated on the same data; the first is what
the others are compared with. A difference is real where its 95 % interval does not hold 0. The intervals come from
data sets drawn with replacement from the images, the same ones for both runs (paired bootstrap). They tell how much
hangs on the choice of images, not what another training of the same configuration would give. A results.json that
pocketvision evaluate wrote stands for its run (results.npz lies beside it).

page=FILE.html: one HTML page that needs no network, no server and no file beside it, of runs of one task: figures
side by side, curves over each other, then each run's own report. pocketvision evaluate run=FOLDER report=true comes
before. The charts are written beside the page as NAME.CHART.png.

curve=REFERENCE.json: whether a training goes as it should: its loss, epoch by epoch, beside a reference curve of
other seeds. The run may still be in progress; only whole epochs count. Prints a table and one line of verdict, draws
curve.png. The last whole epoch decides. It departs where its loss lies above the band around the reference's mean:
four standard deviations between the reference's seeds, at least 8 %, twice as wide in the first epoch. A lower loss
is no fault. See docs/curves.md. Exit status: 0 sound so far, or nothing to judge yet; 1 the run departs; 2 a mistake
in the command or a file. write=REFERENCE.json makes a reference, of runs that are finished, of one configuration and
with other seeds.

  pocketvision compare runs/first/results.json detections.results.json output=comparison.json
  pocketvision compare runs/* page=all.html
  pocketvision compare runs/first runs/second runs/third write=curve.json
"""

import sys
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import CompareConfig
from pocketvision.tools.comparing import band
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.comparing.evaluations import compare_evaluations, lines, load_evaluations, write
from pocketvision.tools.comparing.output import chart, described
from pocketvision.tools.comparing.output import lines as curve_lines
from pocketvision.tools.comparing.reference import read_reference, summarise, write_reference
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.reporting.writing import write_page
from pocketvision.tools.system.console import log, printable


def compare(config: DictConfig) -> None:
    """What `page`, `curve` or `write` asks for, or the evaluations side by side."""
    settings = settings_of(config, CompareConfig)
    asked = [f"{key}={getattr(settings, key)}" for key in ("page", "curve", "write") if getattr(settings, key)]
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)} do not go together: leave all but one of them out")
    if settings.output and (settings.page or settings.write):
        raise ValueError(
            f"output={settings.output} is for a comparison or a run's picture, {asked[0]} makes neither: leave one out"
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
        write(found, settings.output)
        log.info("written: %s", settings.output)
    return found


def compare_curve(settings: CompareConfig) -> int:
    """A run beside a reference curve; the exit status: 0 where the run is sound so far, 1 where it departs."""
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
