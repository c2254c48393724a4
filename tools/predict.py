"""Run a model on photographs and videos; writes pictures, JSON and CSV.

pocketvision predict run=runs/first photo.jpg
pocketvision predict file=model.onnx holiday/ "trip/**/*.png" output=found score_threshold=0.7
pocketvision predict model=ssdlite_torchvision weights=torchvision photo.jpg

An input is a photograph, a video, a folder (searched recursively) or a quoted glob. Photographs are rotated by EXIF;
gray, 16-bit, palette and CMYK pictures become RGB, transparency becomes white. A file that cannot be read is named and
skipped; the exit status is then 1. After Ctrl-C, everything written so far is valid. Files of an earlier prediction in
the output folder are replaced; inputs are never overwritten.

Choices of write=:
  pictures  NAME.png, annotated; NAME.mp4 (or .avi) with the video's size and frame rate, without sound
  json      predictions.json: one line per image or frame: boxes (xywh) with class and score, the share of each class,
            or the top-5 classes
  csv       predictions.csv: one row per box (corners), class in a mask, or top-5 class
  coco      coco_results.json: COCO's results format, for pycocotools' loadRes and evaluation servers
  masks     NAME_mask.png, the dataset's class ids (Cityscapes: labelIds); for frames NAME_masks/000123.png
  colors    NAME_color.png, the classes' colors; for frames NAME_colors/000123.png

  pocketvision predict run=runs/first holiday/ "IMG (1).jpg"
  pocketvision predict run=runs/first film.mp4 "classes=[person,traffic light]" every=5
  pocketvision predict run=runs/first val2017/ annotations=instances_val2017.json write=[coco]
  pocketvision predict model=lraspp_torchvision weights=lraspp.pth weights_source=torchvision photo.jpg
  pocketvision predict model=classifier weights=torchvision photo.jpg
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pocketvision.conf.schema import PredictConfig
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.distributed import pick_device
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.inputs import Shot, count_shots, find_images, is_video, read_shots
from pocketvision.tools.predicting.outputs import Found, check_writes, make_writers
from pocketvision.tools.predicting.predictor import Predictor
from pocketvision.tools.predicting.result import Result, find_slots
from pocketvision.tools.runs.loaded import check_optimize, run_or_published
from pocketvision.tools.system.console import log, progress
from pocketvision.words import counted


def predict(config: DictConfig) -> int:
    """Predict all inputs; files that cannot be read completely are named and make the exit status 1."""
    settings = settings_of(config, PredictConfig)
    output = Path(settings.output)
    files = find_images(list(settings.inputs), videos=True, outside=output)
    names, ids = output_names(files), image_ids(files, settings.annotations)
    keep_inputs(files, names, output)
    model = _model(config, settings)
    writes = check_writes(model.task.kind, _listed(settings.write))
    classes = _listed(settings.classes)
    if classes is not None:
        find_slots(model.labels, classes)
    output.mkdir(parents=True, exist_ok=True)
    writers = make_writers(output, model.task.kind, writes, all_masks=settings.write is not None)
    failed: list[Path] = []
    total, number, start = sum(count_shots(path, every=settings.every) for path in files), 0, time.perf_counter()
    try:
        with ExitStack() as stack:
            for writer in writers:
                stack.callback(writer.close)
            shots = progress(_readable(files, settings.every, failed), total=total, title="predicting")
            for number, (shot, result) in enumerate(_results(model, shots, settings.batch_size), start=1):
                kept = result if classes is None else result.only(classes)
                shown, image_id = kept.above(settings.score_threshold), ids[shot.path] if ids else number
                found = Found(shot, kept, shown, names[shot.path], image_id)
                for writer in writers:
                    writer.write(found)
    finally:  # after an interruption too: the files are complete
        seconds, done = time.perf_counter() - start, ", ".join(writes)
        log.info(
            "%s in %.1f s (%.1f images/s): %s in %s", counted(number, "image"), seconds, number / seconds, done, output
        )
    if failed:
        log.error("%d of %s could not be read completely", len(failed), counted(len(files), "file"))
        raise SystemExit(1)
    return 0


def _readable(files: Sequence[Path], every: int, failed: list[Path]) -> Iterator[Shot]:
    for path in files:
        try:
            yield from read_shots(path, every=every)
        except (OSError, ValueError) as error:
            log.error("not read: %s", error)
            failed.append(path)


def _results(model: Predictor, shots: Iterable[Shot], batch_size: int) -> Iterator[tuple[Shot, Result]]:
    """Results one by one; only one batch of images is in memory."""
    remaining = iter(shots)
    while batch := list(islice(remaining, batch_size)):
        yield from zip(batch, model.stream((shot.image for shot in batch), batch_size=batch_size), strict=True)


def _listed(value: str | int | list[Any] | None) -> list[str] | None:
    """A list of names; a single name becomes a list."""
    return None if value is None else [str(value)] if isinstance(value, str | int) else [str(name) for name in value]


def _model(config: DictConfig, settings: PredictConfig) -> Predictor:
    """The model of a run, of an exported file, or of published weights.

    Raises:
        ValueError: none of them is set, or more than one.
    """
    device = str(pick_device(settings.device))
    if settings.file:
        if settings.run or settings.weights or settings.model:
            raise ValueError("file= contains the whole model: drop run=, model= and weights=, or drop file=")
        check_optimize(settings.optimize, settings.precision.value, settings.compile, file=f"file={settings.file}")
        return load_file(settings.file, threads=settings.threads)
    run = run_or_published(config, device=device, otherwise="file=MODEL.onnx, or ")
    return Predictor(run.as_asked(settings))


def output_names(files: Sequence[Path]) -> dict[Path, str]:
    """An output name without extension for each input; inputs with the same name get a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        stem, number = path.stem, 2
        while taken & (wanted := _family(stem)):
            stem, number = f"{path.stem}_{number}", number + 1
        names[path] = stem
        taken |= wanted
    return names


def _family(stem: str) -> set[str]:
    """All output names that this name may lead to, in lower case: many file systems ignore case."""
    return {stem.lower(), f"{stem}_mask".lower(), f"{stem}_color".lower()}


def keep_inputs(files: Sequence[Path], names: dict[Path, str], output: Path) -> None:
    """Raise ValueError if a result would overwrite an input."""
    there = {os.path.realpath(path) for path in files}
    for path in files:
        for ending in (".png", "_mask.png", "_color.png", ".mp4", ".avi"):
            target = output / f"{names[path]}{ending}"
            if os.path.realpath(target) in there:
                raise ValueError(
                    f"output={output}: {target.name} would overwrite an input; choose another output folder"
                )


def image_ids(files: Sequence[Path], annotations: str | None) -> dict[Path, int] | None:
    """COCO image id of each photograph; None if there are videos: images are then numbered from 1.

    The ids come from the annotation file if there is one, else from numeric file names, else they are 1, 2, 3, ...

    Raises:
        ValueError: the annotation file is invalid, or does not list one of the files.
    """
    if annotations is not None:
        return _annotated_ids(files, Path(annotations))
    if any(is_video(path) for path in files):
        return None
    stems = [path.stem for path in files]
    if all(stem.isdecimal() and stem.isascii() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return {path: int(path.stem) for path in files}
    return dict(zip(files, count(1)))


def _annotated_ids(files: Sequence[Path], annotations: Path) -> dict[Path, int]:
    try:
        rows = json.loads(annotations.read_bytes())["images"]  # bytes may have a BOM
        images = [(str(row["file_name"]).replace("\\", "/"), row["id"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"annotations={annotations} is not a COCO annotation file: {error!r}") from error
    by_name: dict[str, list[tuple[str, int]]] = {}
    for name, image_id in images:
        by_name.setdefault(Path(name).name, []).append((name, image_id))
    ids: dict[Path, int] = {}
    for path in files:
        same = by_name.get(path.name, [])
        exact = [image_id for name, image_id in same if Path(os.path.realpath(path)).as_posix().endswith(f"/{name}")]
        fitting = exact or [image_id for _, image_id in same]
        if len(fitting) != 1:
            raise ValueError(
                f"annotations={annotations}: {len(fitting)} of its {len(images)} images are named {path.name}, "
                "expected exactly 1 per input"
            )
        ids[path] = fitting[0]
    return ids


main = command("predict", predict, positional="inputs", needs_data=False)

if __name__ == "__main__":
    main()
