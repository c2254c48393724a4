"""Create a run folder from pretrained weights, for evaluate, predict, load() and weights= of train.

pocketvision import-weights model=ssdlite_torchvision weights=torchvision output=runs/ssdlite
pocketvision import-weights model=lraspp_torchvision weights=FILE weights_source=torchvision output=runs/lraspp
pocketvision import-weights experiment=ssdlite_coco weights=FILE weights_source=timm partial=true output=runs/start

model=ssdlite_torchvision, lraspp_torchvision, classifier (ImageNet), espnet, espnetv2 and c3net set backbone and
classes with them, as published (public=NAME). An experiment with its own data also needs data.root=FOLDER.
"""

from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import ImportWeightsConfig
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import missing_keys, settings_of
from pocketvision.tools.engine.state import Progress, save_checkpoint
from pocketvision.tools.runs.folder import run_header, save_config
from pocketvision.tools.runs.loaded import task_of_weights
from pocketvision.tools.system.console import log


def import_weights(config: DictConfig) -> Path:
    """Write `checkpoints/best.pt` and `config.yaml`; returns the checkpoint's path.

    Raises:
        ValueError: the folder already contains a run, or the weights do not fit.
    """
    settings = settings_of(config, ImportWeightsConfig)
    folder = Path(settings.output)
    if (folder / "checkpoints").exists():
        raise ValueError(f"output={folder} already contains a run: choose another folder")
    if missing := missing_keys(config.data, "data"):
        raise ValueError(f"set {', '.join(f'{key}=...' for key in missing)}: the run will be evaluated on this data")
    task, report = task_of_weights(config, partial=settings.partial or settings.weights_new_predictors)
    path = folder / "checkpoints" / "best.pt"
    save_checkpoint(path, {
        **run_header(config, task.labels, task.kind, {}, epochs=0),
        "model": task.model.state_dict(),
        "ema": None,
        "progress": asdict(Progress(finished=True)),
    })  # fmt: skip
    save_config(folder, config)
    log.info("written: %s (%s)", path, report)
    return path


main = command("import_weights", import_weights, needs_data=False)

if __name__ == "__main__":
    main()
