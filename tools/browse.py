"""A grid of augmented samples with their truth drawn: look at the data before training on it.

pocketvision browse experiment=ssdlite_coco data.root=/data/coco
"""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from pocketvision.datasets.sample import log_summary
from pocketvision.tools import build, drawing
from pocketvision.tools.cli import command, log
from pocketvision.tools.pictures import draw_truth, write_image


def browse(config: DictConfig) -> None:
    """Draw `count` samples of a split as training sees them in epoch `epoch`; those of validation are not augmented."""
    source = build.build_source(config, config.split)
    log_summary(source)
    dataset = build.build_dataset(config, source, training=config.split == "train")
    labels = source.labels
    pictures = []
    for i in range(min(config.count, len(source))):
        image, target, _ = dataset[config.epoch, i]
        picture = np.ascontiguousarray(image.round().byte().permute(1, 2, 0).numpy())
        pictures.append(draw_truth(picture, target, labels))
    output = Path(config.output)
    write_image(output, drawing.grid(pictures, config.columns))
    log.info("%d samples: %s", len(pictures), output)


main = command("browse", browse)

if __name__ == "__main__":
    main()
