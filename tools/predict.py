"""Boxes, masks or classes for photographs and folders of them: drawn pictures and predictions.json.

pocketvision predict run=runs/first photo.jpg holiday/
"""

import json
from itertools import islice
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.datasets.mask_folder import IMAGE_ENDINGS
from pocketvision.tools.cli import command, log
from pocketvision.tools.engine.distributed import pick_device
from pocketvision.tools.engine.report import progress
from pocketvision.tools.exported import load_file
from pocketvision.tools.inference import Predictor
from pocketvision.tools.pictures import write_image
from pocketvision.tools.runs import check_optimize, load_published, load_run


def find_images(inputs: list[str]) -> list[Path]:
    """Files as they are named, folders searched for images.

    Raises:
        FileNotFoundError: an input does not exist, or a folder holds no image.
    """
    if not inputs:
        raise ValueError("give photographs or folders, e.g. pocketvision predict run=runs/first photo.jpg")
    files: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS)
            if not found:
                raise FileNotFoundError(f"no images in {path} (looked for {' '.join(sorted(IMAGE_ENDINGS))})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"no such file or folder: {path}")
    return files


def predict(config: DictConfig) -> int:
    """Number of files that could not be read; they are named, the others are predicted."""
    files = find_images(list(config.inputs))
    if config.batch_size < 1:
        raise ValueError(f"batch_size={config.batch_size}: expected 1 or more")
    model = _model(config)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    names = picture_names(files)
    entries, failed = [], 0
    remaining = iter(progress(files, total=len(files), title="predicting"))
    while batch := list(islice(remaining, config.batch_size)):
        images = []
        for path in batch:
            try:
                images.append((path, model.read(path)))
            except (OSError, ValueError) as error:
                log.error("skipped: %s", error)
                failed += 1
        entries += _write(model, images, names, output, config)
    (output / "predictions.json").write_text(json.dumps(entries, indent=1) + "\n")
    log.info("%d predictions, %d unreadable: %s", len(entries), failed, output / "predictions.json")
    if failed:
        raise SystemExit(1)
    return failed


def _model(config: DictConfig) -> Predictor:
    """A run's, an exported file's, or others' weights in a published network.

    Raises:
        ValueError: neither or both are given.
    """
    device = str(pick_device(config.device))
    if config.file:
        if config.run or config.weights or config.model:
            raise ValueError("file= is all of a model: leave run=, model= and weights= out, or file=")
        check_optimize(config.optimize, config.precision.value, config.compile, file=f"file={config.file}")
        return load_file(config.file, threads=config.threads)
    if config.run and (config.weights or config.model):
        raise ValueError("run= brings its model and weights along: leave model= and weights= out, or run=")
    if config.run:
        return Predictor(load_run(config.run, which=config.checkpoint, device=device).as_asked(config))
    if not config.weights:
        raise ValueError(
            "give run=FOLDER of a training run, file=MODEL.onnx, or model=ssdlite_torchvision weights=torchvision"
        )
    return Predictor(load_published(config, device=device).as_asked(config))


def _write(model: Predictor, images: list, names: dict[Path, str], output: Path, config: DictConfig) -> list[dict]:
    entries = []
    for (path, _), result in zip(images, model([image for _, image in images]), strict=True):
        entries.append(result.to_json(score_threshold=config.score_threshold) | {"file": str(path)})
        if config.pictures:
            write_image(output / names[path], result.draw(score_threshold=config.score_threshold))
        if result.mask is not None:
            write_image(output / f"{Path(names[path]).stem}_mask.png", result.mask)
    return entries


def picture_names(files: list[Path]) -> dict[Path, str]:
    """A file name in the output folder for each input; inputs of the same name get a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        stem, number = path.stem, 2
        while taken & {stem, f"{stem}_mask"}:  # a segmenter writes both
            stem, number = f"{path.stem}_{number}", number + 1
        names[path] = f"{stem}.png"
        taken |= {stem, f"{stem}_mask"}
    return names


main = command("predict", predict, positional="inputs", needs_data=False)

if __name__ == "__main__":
    main()
