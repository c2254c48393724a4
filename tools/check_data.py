"""Find faults in a dataset: files, boxes, masks, splits, classes.

pocketvision check-data data=coco_json data.train_json=train.json data.val_json=val.json data.images=photos
pocketvision check-data experiment=ssdlite_coco data.root=/data/coco workers=8 output=coco-check
pocketvision check-data data=cityscapes data.root=/data/cityscapes split=val "ignore=[class_rare,near_duplicate]"

Writes check.json, check.html and pictures to the folder `output`. `data` selects the dataset; boxes are compared with
data.input_size and model.network.anchors. Exit status: 0 without faults, 3 with warnings only, 1 with errors, 2 if
the check could not run.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import CheckDataConfig
from pocketvision.datasets.checking.check import Checked, check_data
from pocketvision.datasets.checking.statistics import of_contents
from pocketvision.tools.checking.anchors import check_anchors, unreached
from pocketvision.tools.checking.charts import charts_of
from pocketvision.tools.checking.pictures import fault_grids
from pocketvision.tools.checking.sources import check_num_classes, input_of, matched, readers_of
from pocketvision.tools.checking.written import exit_status, summary, write_check, write_page
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.drawing.pictures import write_image
from pocketvision.tools.system.console import log, printable, progress
from tqdm import tqdm


def check(config: DictConfig) -> None:
    """Check the configured splits, write and print what was found, and exit with a status if there are faults."""
    settings = settings_of(config, CheckDataConfig)
    Checked().settle(settings.ignore)  # report a mistyped kind before the work starts
    readers = readers_of(settings.data, [settings.split] if settings.split else ["train", "val"])
    input_size, letterbox = input_of(settings.data)
    with progress_bars() as show:
        checked = check_data(
            readers, input_size=input_size, letterbox=letterbox, workers=settings.workers, progress=show
        )
    check_num_classes(settings.data.num_classes, checked)
    statistics = {
        split: of_contents(contents, checked.counts[split], input_size, letterbox=letterbox)
        for split, contents in checked.contents.items()
    }
    anchors, matches = matched(config, statistics)
    if anchors and matches:
        first = next(iter(matches))
        classes = unreached(statistics[first], matches[first])
        checked.add(first, check_anchors(classes, anchors, str(checked.contents[first].folder)))
    checked.settle(settings.ignore)
    for line in summary(checked, statistics, matches):
        log.info(printable(line))
    output = Path(settings.output)
    write_check(output / "check.json", checked, statistics, matches)
    charts = charts_of(statistics, anchors, matches) if statistics else {}
    grids = fault_grids(checked, examples=settings.examples)
    for name, chart in charts.items():
        write_image(output / f"{name}.png", chart.picture())
    for kind, grid in grids.items():
        write_image(output / f"fault_{kind}.jpg", grid)
    write_page(output / "check.html", checked, charts, grids)
    log.info("full report: %s", output / "check.html")
    if status := exit_status(checked):
        sys.exit(status)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """One progress bar per split, which replaces that of the split before."""
    bars: dict[str, tqdm] = {}

    def show(split: str, done: int, total: int) -> None:
        if split not in bars:
            close()
            bars[split] = progress([], total=total, title=split, unit=" images")
        bars[split].update(done - bars[split].n)

    def close() -> None:
        for bar in bars.values():
            bar.close()

    try:
        yield show
    finally:
        close()


main = command("check_data", check)

if __name__ == "__main__":
    main()
