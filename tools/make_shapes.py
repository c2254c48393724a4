"""Write generated scenes to disk, as COCO json or in Cityscapes' layout.

pocketvision make-shapes output=shapes_coco
"""

from pathlib import Path

from omegaconf import DictConfig
from pocketvision.datasets.shapes import ShapesDetection, ShapesSegmentation
from pocketvision.datasets.writing.shapes_writer import write_cityscapes, write_coco
from pocketvision.tools.config.command import command
from pocketvision.tools.system.console import log, progress


def make_shapes(config: DictConfig) -> None:
    """Write `num_train` and `num_val` scenes; training and validation draw from different seeds."""
    layouts = {"coco": (ShapesDetection, write_coco), "cityscapes": (ShapesSegmentation, write_cityscapes)}
    if config.layout not in layouts:
        raise ValueError(f"layout={config.layout}: expected one of {', '.join(layouts)}")
    make_source, write = layouts[config.layout]
    splits = {
        split: make_source(length=length, size=list(config.size), preset=config.preset, seed=seed)
        for split, length, seed in (
            ("train", config.num_train, config.seed + 1),
            ("val", config.num_val, config.seed + 2),
        )
    }
    root = Path(config.output)
    with progress([], total=config.num_train + config.num_val, title="writing") as bar:
        write(root, splits, progress=lambda done, total: bar.update(done - bar.n) and None)
    data = "coco" if config.layout == "coco" else "cityscapes"
    log.info(
        "%d scenes in %s; train on them with data=%s data.root=%s", config.num_train + config.num_val, root, data, root
    )


main = command("make_shapes", make_shapes)

if __name__ == "__main__":
    main()
