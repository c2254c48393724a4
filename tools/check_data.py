"""Find faults in a dataset: files, boxes, masks, splits, classes.

pocketvision check-data data=coco_json data.train_json=train.json data.val_json=val.json data.images=photos
pocketvision check-data experiment=ssdlite_coco data.root=/data/coco workers=8 output=coco-check
pocketvision check-data data=cityscapes data.root=/data/cityscapes split=val "ignore=[class_rare,near_duplicate]"

Writes check.json, check.html and pictures to the folder `output`. `data` selects the dataset; boxes are compared with
data.input_size and model.network.anchors. Exit status: 0 without faults, 3 with warnings only, 1 with errors, 2 if
the check could not run.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.datasets.checking.check import Checked, check_data
from pocketvision.datasets.checking.statistics import of_contents
from pocketvision.tools.checking.anchors import check_anchors, unreached
from pocketvision.tools.checking.charts import charts_of
from pocketvision.tools.checking.counted import input_size_of, is_letterbox, matched
from pocketvision.tools.checking.page import write_page
from pocketvision.tools.checking.pictures import fault_grids
from pocketvision.tools.checking.sources import check_num_classes, readers_of
from pocketvision.tools.checking.written import exit_status, summary, write_json
from pocketvision.tools.config.command import command
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.system.console import log, printable, progress


def run_check(config: DictConfig) -> int:
    """Check the configured splits; returns the exit status: 0 without faults, 3 with warnings only, 1 with errors."""
    Checked().settle(config.ignore)  # report a mistyped kind before the work starts
    splits = [config.split] if config.split else ["train", "val"]
    input_size, letterbox = input_size_of(config), is_letterbox(config)
    with Progress() as bars:
        checked = check_data(
            readers_of(config, splits),
            input_size=input_size,
            letterbox=letterbox,
            workers=config.workers,
            progress=bars.show,
        )
    check_num_classes(config, checked)
    statistics = {
        split: of_contents(contents, checked.counts[split], input_size, letterbox=letterbox)
        for split, contents in checked.contents.items()
    }
    anchors, matches = matched(config, statistics)
    if anchors and matches:
        first = next(iter(matches))
        classes = unreached(statistics[first], matches[first])
        checked.add(first, check_anchors(classes, anchors, str(checked.contents[first].folder)))
    checked.settle(config.ignore)
    for line in summary(checked, statistics, matches):
        log.info(printable(line))
    output = Path(config.output)
    write_json(output / "check.json", checked, statistics, matches)
    charts = charts_of(statistics, anchors, matches) if statistics else {}
    grids = fault_grids(checked, examples=config.examples)
    for name, chart in charts.items():
        write_image(output / f"{name}.png", chart.picture())
    for kind, grid in grids.items():
        write_image(output / f"fault_{kind}.jpg", grid)
    write_page(output / "check.html", checked, charts, grids)
    log.info("full report: %s", output / "check.html")
    return exit_status(checked)


class Progress:
    """One progress bar per split."""

    def __init__(self) -> None:
        self._split, self._bar = "", None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, split: str, done: int, total: int) -> None:
        if self._bar is None or split != self._split:
            self.__exit__()
            self._split, self._bar = split, progress([], total=total, title=split, unit=" images")
        self._bar.update(done - self._bar.n)


def check(config: DictConfig) -> None:
    """Run `run_check` and exit with its status."""
    if status := run_check(config):
        sys.exit(status)


main = command("check_data", check)

if __name__ == "__main__":
    main()
