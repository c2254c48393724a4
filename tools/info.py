"""Print a model's layers, shapes, parameters and multiply-adds; no data is needed.

pocketvision info experiment=ssdlite_coco
pocketvision info experiment=ssdlite_coco backbone.width=0.5
pocketvision info experiment=paper/table7/row8 input_size=[1025,2049]
"""

from typing import Any

import torch
from omegaconf import DictConfig
from pocketvision.backbones.counting import count, layer_table
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command
from pocketvision.tools.system.console import columns, log
from pocketvision.words import counted

LARGE = 512 * 512  # pixels: computing fewer is faster than importing the compiler


def info(config: DictConfig) -> None:
    """Print the layer table and the counts at one input size."""
    torch.set_num_threads(config.threads or 1)  # a network as small as this only waits for more of them
    labels = None
    if build.data_tells_classes(config.data):
        if "datasets.shapes." not in config.data.train._target_:
            raise ValueError("this data group reads its classes from files: set data.num_classes=N")
        labels = build.build_source(config, "train").labels
    task = build.build_task(config, labels=labels)
    model = task.model
    size = config.input_size or config.data.eval_size or config.data.input_size
    # Shapes only. The meta device computes nothing, but using it makes torch import its compiler (two seconds).
    device = "meta" if size[0] * size[1] > LARGE else "cpu"
    model = model.to(device).eval()
    images = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
    rows = [
        (row.name, row.type, "x".join(map(str, row.output_shape)), f"{row.params:,}", f"{row.madds:,}")
        for row in layer_table(model, images)
    ]
    heads = ("layer", "type", "output", "parameters", "MAdds")
    log.info("%s", "\n".join(columns([heads, *rows], left=(0, 1, 2))))
    counts = count(model, images)
    log.info("")
    if build.takes_backbone(config.model):
        backbone: Any = model.backbone
        taps = backbone.feature_specs.items()
        log.info("backbone features: %s", ", ".join(f"{k} {v.channels}ch /{v.stride}" for k, v in taps))
    log.info("input %dx%d (h x w), %s", *size, counted(task.labels.num_classes, "class"))
    log.info("parameters            %14s", f"{counts.params:,}")
    log.info("  without batch norm  %14s   (as the paper's Table 6 counts)", f"{counts.conv_params:,}")
    log.info(
        "MAdds, paper's count  %14s   (convolutions + 2 per squeeze-and-excite and h-swish element)",
        f"{counts.madds:,}",
    )
    log.info("  convolutions only   %14s", f"{counts.conv_madds:,}")


main = command("info", info, needs_data=False)

if __name__ == "__main__":
    main()
