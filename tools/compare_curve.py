"""Whether a training goes as it should: its loss beside a reference curve of other seeds.

pocketvision compare-curve runs/demo_detection docs/curves/demo_detection.json
pocketvision compare-curve runs/first runs/second write=curve.json
"""

import sys
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.tools.comparing.band import compare, verdict
from pocketvision.tools.comparing.curves import read_run
from pocketvision.tools.comparing.output import chart, described, lines
from pocketvision.tools.comparing.reference import read_reference, summarise, write_reference
from pocketvision.tools.config.command import command
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.system.console import log, printable


def run_compare_curve(config: DictConfig) -> int:
    """Compare a run, or write a reference; the exit status: 0 where the run is sound so far, 1 where it departs."""
    paths = [Path(path) for path in config.runs]
    if config.write:
        if config.output:
            raise ValueError(f"output={config.output} is for a run's picture, write= draws none: leave one of them out")
        write(paths, Path(config.write))
        return 0
    if len(paths) != 2:
        raise ValueError(
            f"compare-curve needs a run folder and a reference, got {list(config.runs)}: pocketvision compare-curve "
            "runs/NAME REFERENCE.json; or run folders alone and write=REFERENCE.json"
        )
    run = read_run(paths[0])
    found = compare(run, read_reference(paths[1]))
    departs, told = verdict(found)
    picture = Path(config.output) if config.output else paths[0] / "curve.png"
    for line in lines(found, departs=departs):
        log.info("%s", printable(line))
    write_image(picture, chart(found).picture())
    log.info("picture: %s", picture)
    log.info("%s", printable(told))
    return int(departs)


def write(folders: list[Path], path: Path) -> None:
    """A reference of finished runs."""
    reference = summarise([read_run(folder) for folder in folders], name=str(path))
    write_reference(reference, path)
    log.info("written: %s (%s)", path, described(reference))


def compare_curve(config: DictConfig) -> None:
    """`run_compare_curve`, ending the process with its status."""
    if status := run_compare_curve(config):
        sys.exit(status)


main = command("compare_curve", compare_curve, positional="runs")

if __name__ == "__main__":
    main()
