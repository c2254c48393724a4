"""Draw a grid of augmented samples with their annotations.

pocketvision browse experiment=demo_detection
pocketvision browse experiment=ssdlite_coco data.root=/data/coco count=9 columns=3 output=coco.png
pocketvision browse experiment=lraspp_cityscapes data.root=/data/cityscapes split=val

Look at the data before you train on it. Charts of classes, sizes and anchors:

  pocketvision browse experiment=ssdlite_coco data.root=/data/coco statistics=5000
"""

from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import BrowseConfig
from pocketvision.datasets.annotations.sample import log_summary
from pocketvision.tools.checking.charts import charts_of
from pocketvision.tools.checking.sources import count_samples, matched
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.drawing import annotate
from pocketvision.tools.drawing.pictures import draw_truth, to_picture, write_image
from pocketvision.tools.system.console import log
from pocketvision.words import counted


def browse(config: DictConfig) -> None:
    """Draw `count` samples of a split as training sees them in epoch `epoch`; validation samples are not augmented.

    With `statistics`, also draw charts of classes, sizes and anchors, counted on that many images of each split.
    """
    settings = settings_of(config, BrowseConfig)
    source = build.build_source(config, settings.split)
    log_summary(source)
    dataset = build.build_dataset(config, source, training=settings.split == "train")
    pictures = []
    count = min(settings.count, len(source))
    if settings.data.task == "classification":  # its images are ordered by class
        indices = [i * len(source) // count for i in range(count)]
    else:
        indices = list(range(count))
    for i in indices:
        image, target, _ = dataset[settings.epoch, i]
        pictures.append(draw_truth(to_picture(image), target, source.labels))
    output = Path(settings.output)
    write_image(output, annotate.grid(pictures, settings.columns))
    log.info("%s: %s", counted(len(pictures), "sample"), output)
    if settings.statistics:
        statistics = count_samples(config, settings.statistics)
        charts = charts_of(statistics, *matched(config, statistics))
        path = output.with_name(f"{output.stem}_statistics{output.suffix}")
        write_image(path, annotate.grid([chart.picture() for chart in charts.values()], 4))
        numbers = ", ".join(f"{of_split.num_images} of {split}" for split, of_split in statistics.items())
        log.info("statistics of the images, %s: %s", numbers, path)


main = command("browse", browse)

if __name__ == "__main__":
    main()
