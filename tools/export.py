"""Write a run as one file for ONNX Runtime, OpenVINO or torch.export, compared with PyTorch at once.

pocketvision export run=runs/first format=onnx
pocketvision export run=runs/first format=openvino precision=bf16 output=phone/detector.xml
pocketvision export model=ssdlite_torchvision weights=torchvision format=onnx output=detector.onnx

Pre- and post-processing are inside. The file gets its name only after it was found to say what PyTorch says. More:

  pocketvision export run=runs/first format=onnx input=network batch=dynamic outputs=raw
"""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from pocketvision.conf.schema import ExportConfig
from pocketvision.datasets.images.decode import decode_image
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.tools.config import build
from pocketvision.tools.config.command import command, explain
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.exporting.metadata import describe_file, write_files
from pocketvision.tools.exporting.onnx_file import network_proto
from pocketvision.tools.exporting.verify import Comparison, compare
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.predicting.interface import FORMATS, PRECISIONS, Interface, make_interface
from pocketvision.tools.predicting.runtimes import PACKAGES, require
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import LoadedRun, load_published, load_run
from pocketvision.tools.system.console import log


def export(config: DictConfig) -> Path:
    """The file of a run, written only after it was found to say what PyTorch says."""
    settings = settings_of(config, ExportConfig)
    check(settings)
    run, source, plain = _run(config, settings)
    interface = make_interface(
        run, input=settings.input, outputs=settings.outputs, input_size=settings.input_size, batch=settings.batch,
        candidates=settings.candidates,
    )  # fmt: skip
    if settings.format == "torch_export" and interface.network_size is None:
        raise ValueError("format=torch_export needs the size of the photographs: give input_size=[h,w], or format=onnx")
    output = _output(settings, run)
    photos = read_photos(settings, run)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, so that moving it there is one step and a file of that name is always whole.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.stem}-") as folder:
        about = partial(
            describe_file, run, config=plain, format=settings.format, precision=settings.precision, source=source
        )
        log.info("exporting %s (step %d), %s in, %s", source, run.step, _shape(interface), settings.format)
        paths = write_all(run, interface, Path(folder), about)
        models = {outputs: load_file(files[0], threads=settings.threads) for outputs, files in paths.items()}
        comparison = compare(run, models, photos, precision=settings.precision)
        log.info("compared with PyTorch on %d photographs:\n%s", len(photos), comparison.table())
        check_same(comparison, settings)
        del models
        _move(paths[interface.outputs], output, about(interface) | {"comparison": comparison.to_json()})
    log.info("written: %s, %s", output, output.with_suffix(".json").name)
    return output


def check(settings: ExportConfig) -> None:
    """Raise ValueError for a format, precision or package that there is not."""
    if settings.format not in FORMATS:
        raise ValueError(f"format={settings.format}: expected {', '.join(FORMATS)}")
    if settings.precision not in PRECISIONS[settings.format]:
        choices = " or ".join(PRECISIONS[settings.format])
        raise ValueError(f"precision={settings.precision}: format={settings.format} is written as {choices}")
    if settings.num_photos < 1:
        raise ValueError(f"num_photos={settings.num_photos}: expected 1 or more")
    require(PACKAGES.get(settings.format, ()), extra=settings.format, need=f"format={settings.format}")


def _run(config: DictConfig, settings: ExportConfig) -> tuple[LoadedRun, str, Any]:
    """The network on the CPU, what the user calls it, and its plain configuration."""
    if settings.run and (settings.weights or settings.model):
        raise ValueError("run= brings its model and weights along: leave model= and weights= out, or run=")
    if settings.run:
        run = load_run(settings.run, which=settings.checkpoint)
        return run, str(settings.run), load_checkpoint(run.path)["config"]
    if not settings.weights:
        raise ValueError("give run=FOLDER of a training run, or model=ssdlite_torchvision weights=torchvision")
    return load_published(config), str(settings.weights), portable(config)


def _output(settings: ExportConfig, run: LoadedRun) -> Path:
    ending = FORMATS[settings.format]
    output = Path(settings.output) if settings.output else run.folder / f"model{ending}"
    if output.suffix != ending:
        raise ValueError(f"output={output}: a file of format={settings.format} ends with {ending}")
    return output


def _shape(interface: Interface) -> str:
    return f"{interface.name} uint8 [{', '.join(map(str, interface.shape))}]"


def read_photos(settings: ExportConfig, run: LoadedRun) -> list[np.ndarray]:
    """`num_photos` photographs, evenly from those that were named, the validation split or generated scenes."""
    if settings.photos:
        files = find_images(list(settings.photos))
        return [decode_image(files[i]) for i in _spread(len(files), settings.num_photos)]
    try:
        source = build.build_source(run.config, "val", labels=run.task.labels)
    except (OSError, ValueError, InstantiationException) as error:
        told = explain(error)
        log.info("no validation split here (%s): compared on generated scenes; photos=FOLDER takes yours", told)
        source = ShapesDetection(length=settings.num_photos, size=(240, 320), preset="hard", seed=3)
    return [source.read(i).image for i in _spread(len(source), settings.num_photos)]


def _spread(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [i * total // count for i in range(count)]


def write_all(
    run: LoadedRun, interface: Interface, folder: Path, about: Callable[[Interface], dict[str, Any]]
) -> dict[str, list[Path]]:
    """The file, and one with raw outputs, by its `outputs`: what differs is seen best before post-processing."""
    told = about(interface)
    network = None if told["format"] == "torch_export" else network_proto(run, interface)
    written = {}
    for outputs in dict.fromkeys(("raw", interface.outputs)):
        path = folder / outputs / f"model{FORMATS[told['format']]}"
        path.parent.mkdir()
        one = replace(interface, outputs=outputs)
        written[outputs] = write_files(run, network, one, path, about(one))
    return written


def check_same(comparison: Comparison, settings: ExportConfig) -> None:
    """Raise ValueError if a figure is above its limit."""
    if not comparison.wrong:
        return
    hint = ""
    if settings.outputs == "final" and not any(name.endswith("deviation") for name in comparison.wrong):
        hint = (
            ": the network is the same, what follows is not; for a detector try more candidates= (an untrained one has "
            "equal scores, which have no order)"
        )
    elif settings.precision != "fp32":
        hint = f": this network may not bear precision={settings.precision}"
    raise ValueError(f"the file differs from PyTorch in {', '.join(comparison.wrong)}{hint}; nothing was written")


def _move(files: list[Path], output: Path, about: dict[str, Any]) -> None:
    for file in files[::-1]:
        os.replace(file, output.with_suffix(file.suffix))
    output.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


main = command("export", export, positional="run", needs_data=False)

if __name__ == "__main__":
    main()
