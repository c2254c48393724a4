"""Convert boxes between COCO JSON, PASCAL VOC and YOLO.

pocketvision convert data=voc data.root=mine format=coco output=mine_coco
pocketvision convert data=yolo data.root=mine/data.yaml format=voc output=mine_voc images=copy
pocketvision convert data=coco_json data.train_json=all.json data.images=photos format=yolo output=mine_yolo

Reports, with counts, what the new format cannot represent.
"""

import mmap
import re
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import ConvertConfig
from pocketvision.datasets.annotations.boxes import BoxSource
from pocketvision.datasets.annotations.sample import log_summary
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.coco_json import CocoJson
from pocketvision.datasets.writing.box_writing import IMAGES, write_boxes
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.system.console import log, progress
from pocketvision.words import counted

NEXT = {
    "coco": "data=coco_json data.train_json={0}/annotations/instances_train.json "
    "data.val_json={0}/annotations/instances_val.json data.images={1} data.val_images={2}",
    "voc": "data=voc data.root={0}",
    "yolo": "data=yolo data.root={0}/data.yaml",
}


def convert(config: DictConfig) -> None:
    """Write the splits of a data group in another format and report what that format cannot represent."""
    settings = settings_of(config, ConvertConfig)
    if settings.format not in NEXT:
        raise ValueError(f"format={settings.format}: expected one of {', '.join(NEXT)}")
    if settings.images not in IMAGES:
        raise ValueError(f"images={settings.images}: expected one of {', '.join(IMAGES)}")
    sources = read_splits(config)
    for split, source in sources.items():
        if isinstance(source, CocoDetection | CocoJson) and (outlines := count_outlines(Path(source.annotations))):
            log.info(
                "%s: %s not converted",
                split,
                counted(outlines, "polygon (segmentation) is", "polygons (segmentation) are"),
            )
    output = Path(settings.output)
    with progress([], total=sum(map(len, sources.values())), title="writing") as bar:
        lost = write_boxes(sources, output, layout=settings.format, images=settings.images, advance=bar.update)
    for line in lost:
        log.info("%s", line)
    if settings.images == "none" and settings.format != "coco":
        folder = "JPEGImages" if settings.format == "voc" else "images/SPLIT"
        log.info("annotations only: put the images into %s", output / folder)
    counts = ", ".join(f"{counted(len(source), 'image')} of {split}" for split, source in sources.items())
    if set(sources) != {"train", "val"}:
        log.info("%s written to %s", counts, output)
        return
    here = [source.images if settings.images == "none" else output / split for split, source in sources.items()]
    log.info("%s written to %s; train on them with %s", counts, output, NEXT[settings.format].format(output, *here))


def read_splits(config: DictConfig) -> dict[str, BoxSource]:
    """The splits named in `splits`, all with the classes of the first.

    Raises:
        ValueError: no split is named, or the data is not images with boxes in files.
    """
    sources: dict[str, BoxSource] = {}
    if not config.splits or len(set(config.splits)) != len(config.splits):
        raise ValueError(f"splits={list(config.splits)}: expected train, val or both")
    if config.data.task != "detection":
        raise ValueError(
            f"data is for {config.data.task}, but convert is for boxes: choose data=coco_json, voc or yolo"
        )
    for split in config.splits:
        labels = next(iter(sources.values())).labels if sources else None
        source = build.build_source(config, split, labels=labels)
        if not isinstance(source, BoxSource):
            raise ValueError(f"{type(source).__name__} has no files: choose data=coco_json, coco, voc or yolo")
        log_summary(source)
        sources[split] = source
    return sources


def count_outlines(path: Path) -> int:
    """The number of polygons in a COCO JSON, without parsing it again."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return sum(1 for _ in re.finditer(rb'"segmentation"\s*:\s*(?!\[\s*\]|null|\s)', content))


main = command("convert", convert)

if __name__ == "__main__":
    main()
