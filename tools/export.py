"""Export a run to ONNX, OpenVINO, torch.export, LiteRT, ExecuTorch or Core ML, and verify it.

pocketvision export run=runs/first format=onnx
pocketvision export run=runs/first format=openvino precision=bf16 output=phone/detector.xml
pocketvision export model=ssdlite_torchvision weights=torchvision format=onnx output=detector.onnx

Writes one file that includes pre- and post-processing, and only if its results agree with PyTorch's; in int8, only if
its metric on the validation split is at most max_drop below the float file's. More examples:

  pocketvision export run=runs/first format=onnx precision=int8
  pocketvision export run=runs/first format=onnx input=network batch=dynamic outputs=raw
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from pocketvision.conf.schema import ExportConfig
from pocketvision.datasets.images.decode import decode_image
from pocketvision.datasets.shapes import ShapesDetection
from pocketvision.files import write_json
from pocketvision.tools.config import build
from pocketvision.tools.config.command import InstantiationException, command, explain
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.engine.state import load_checkpoint
from pocketvision.tools.exporting.files import check_installed, check_run, move
from pocketvision.tools.exporting.int8 import Int8
from pocketvision.tools.exporting.metadata import describe_file
from pocketvision.tools.exporting.verify import Comparison, compare
from pocketvision.tools.exporting.writers import Writer, make_writer
from pocketvision.tools.predicting.exported import load_file
from pocketvision.tools.predicting.formats import FORMATS
from pocketvision.tools.predicting.inputs import find_images
from pocketvision.tools.predicting.interface import Interface, make_interface
from pocketvision.tools.runs.keys import portable
from pocketvision.tools.runs.loaded import LoadedRun, run_or_published
from pocketvision.tools.system.console import log
from pocketvision.words import counted


def export(config: DictConfig) -> Path:
    """Export a run; the file is written only if its results agree with PyTorch's."""
    settings = settings_of(config, ExportConfig)
    check(settings)
    run = run_or_published(config, otherwise="or ")
    settings = replace(settings, precision=settings.precision or own_precision(settings, run))
    check_run(run, settings.format, str(settings.precision))
    interface = make_interface(
        run, format=settings.format, input=settings.input, outputs=settings.outputs, input_size=settings.input_size,
        batch=settings.batch, candidates=settings.candidates,
    )  # fmt: skip
    if settings.format == "torch_export" and interface.network_size is None:
        raise ValueError(
            "format=torch_export needs the size of the photographs: set input_size=[h,w], or use format=onnx"
        )
    output = _output(settings, run)
    system = FORMATS[settings.format].system
    photos = [] if system else read_photos(settings, run)
    int8 = Int8(run, interface, settings) if not system and str(settings.precision).startswith("int8") else None
    output.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder as the output, so that the move is atomic and a file with that name is always complete.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.stem}-") as folder:
        source = str(settings.run or settings.weights)
        plain = load_checkpoint(run.path)["config"] if settings.run else portable(config)
        abouts = {
            one.outputs: describe_file(
                run, one, config=plain, format=settings.format, precision=str(settings.precision), source=source
            )
            for one in (replace(interface, outputs="raw"), interface)
        }
        shape = f"{interface.name} {interface.dtype} [{', '.join(map(str, interface.shape))}]"
        log.info("exporting %s (step %d), input %s, %s", source, run.step, shape, settings.format)
        writer = make_writer(settings.format, run, interface)
        if system:
            about = abouts[interface.outputs] | {"comparison": "not compared"}
            files = writer.write(interface, Path(folder, output.name), about)
        else:
            files, about = write_compared(run, interface, writer, int8, photos, Path(folder), abouts, settings)
        move(files, output)
        write_json(output.with_suffix(".json"), about)
    log.info("written: %s, %s", output, output.with_suffix(".json").name)
    if system:
        script = f"docs/examples/{settings.format}_compare.py"
        log.info("not compared with PyTorch: it runs on %s only, where %s compares the two", system, script)
    return output


def write_compared(
    run: LoadedRun,
    interface: Interface,
    writer: Writer,
    int8: Int8 | None,
    photos: list[np.ndarray],
    folder: Path,
    abouts: dict[str, dict[str, Any]],
    settings: ExportConfig,
) -> tuple[list[Path], dict[str, Any]]:
    """The files, and what model.json says about them, if their results agree with PyTorch's.

    Raises:
        ValueError: they do not, or int8 costs too much.
    """
    float32 = folder / "float32" / f"model{FORMATS[settings.format].ending}"
    if int8 and not run.quantized:
        float32.parent.mkdir()
        writer.write(interface, float32, {**abouts[interface.outputs], "precision": "fp32"})
        writer = int8.quantized(writer)
    paths = write_all(writer, interface, folder, abouts)
    models = {outputs: load_file(files[0], threads=settings.threads) for outputs, files in paths.items()}
    comparison = compare(run, models, photos, precision=str(settings.precision))
    log.info("verified against PyTorch on %s:\n%s", counted(len(photos), "photograph"), comparison.table())
    check_same(comparison, settings)
    about = models[interface.outputs].file.about | {"comparison": comparison.to_json()}
    check_partitions(about, settings)
    if int8:
        reference = run if run.quantized else load_file(float32, threads=settings.threads)
        about["quantization"] = int8.judged(reference, models[interface.outputs])
    return paths[interface.outputs], about


def check(settings: ExportConfig) -> None:
    """Raise ValueError if the format or the precision is unknown, or a package is missing."""
    if (format := FORMATS.get(settings.format)) is None:
        raise ValueError(f"format={settings.format}: expected one of {', '.join(FORMATS)}")
    if settings.precision not in (None, *format.precisions):
        choices = " or ".join(format.precisions)
        raise ValueError(f"precision={settings.precision}: format={settings.format} supports {choices}")
    if settings.num_photos < 1:
        raise ValueError(f"num_photos={settings.num_photos}: expected 1 or more")
    if settings.max_drop is not None and not settings.max_drop >= 0:
        raise ValueError(f"max_drop={settings.max_drop}: expected 0 or more, or null")
    check_installed(settings.format, settings.precision or format.precisions[0])


def own_precision(settings: ExportConfig, run: LoadedRun) -> str:
    """The precision if none is set."""
    return "int8" if run.quantized else FORMATS[settings.format].precisions[0]


def _output(settings: ExportConfig, run: LoadedRun) -> Path:
    ending = FORMATS[settings.format].ending
    output = Path(settings.output) if settings.output else run.folder / f"model{ending}"
    if output.suffix != ending:
        raise ValueError(f"output={output}: with format={settings.format}, the name must end with {ending}")
    return output


def read_photos(settings: ExportConfig, run: LoadedRun) -> list[np.ndarray]:
    """`num_photos` photographs, evenly spaced, from `photos`, the validation split or generated scenes."""
    if settings.photos:
        files = find_images(settings.photos)
        return [decode_image(files[i]) for i in _spread(len(files), settings.num_photos)]
    try:
        source = build.build_source(run.config, "val", labels=run.task.labels)
    except (OSError, ValueError, InstantiationException) as error:
        told = explain(error)
        log.info("no validation split (%s): verifying on generated scenes; use photos=FOLDER for your own", told)
        source = ShapesDetection(length=settings.num_photos, size=(240, 320), preset="hard", seed=3)
    return [source.read(i).image for i in _spread(len(source), settings.num_photos)]


def _spread(total: int, count: int) -> list[int]:
    count = min(total, count)
    return [i * total // count for i in range(count)]


def write_all(
    writer: Writer, interface: Interface, folder: Path, abouts: dict[str, dict[str, Any]]
) -> dict[str, list[Path]]:
    """The file, and one with raw outputs, by `outputs`: differences show best before post-processing."""
    written = {}
    for outputs, about in abouts.items():
        path = folder / outputs / f"model{FORMATS[about['format']].ending}"
        path.parent.mkdir()
        written[outputs] = writer.write(replace(interface, outputs=outputs), path, about)
    return written


def check_partitions(about: dict[str, Any], settings: ExportConfig) -> None:
    """Raise ValueError if a raw network falls into more than two parts, which makes it slow on phones."""
    parts = about.get("partitions")
    if parts is None:
        return
    log.info("the file has %s that XNNPACK computes", counted(parts, "part"))
    if settings.outputs != "final" and parts > 2:
        raise ValueError(
            f"the network falls into {parts} parts of XNNPACK, between which other operators compute slowly; nothing "
            "was written. Try another precision="
        )


def check_same(comparison: Comparison, settings: ExportConfig) -> None:
    """Raise ValueError if a difference exceeds its limit."""
    if not comparison.wrong:
        return
    hint = ""
    if settings.outputs == "final" and not any(name.endswith("deviation") for name in comparison.wrong):
        hint = (
            ": the network agrees, post-processing does not; for a detector try more candidates= (an untrained one has "
            "equal scores, whose order is arbitrary)"
        )
    elif settings.precision != "fp32":
        hint = f": this network may not support precision={settings.precision}"
    raise ValueError(f"the file differs from PyTorch in {', '.join(comparison.wrong)}{hint}; nothing was written")


main = command("export", export, positional="run", needs_data=False)

if __name__ == "__main__":
    main()
