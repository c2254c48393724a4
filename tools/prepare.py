"""Unpack and verify COCO, Cityscapes, VOC or CamVid, or write generated scenes.

pocketvision prepare cityscapes
pocketvision prepare coco downloads/ output=/data/coco
pocketvision prepare shapes output=shapes_city layout=cityscapes size=[256,512] num_train=500

Downloads nothing. Without archives, it prints what to download, where, and what is already done. Archives are
recognized by their contents; a folder stands for the archives in it that have their official names. Everything is
verified before anything is written: size and MD5 if known, file counts, and that no name, link or size is malicious.
Run the same command again to continue after an interruption. It never replaces a file of yours that differs.

`shapes` writes generated scenes in COCO's official layout (boxes) or Cityscapes' (label maps). More examples:

  pocketvision prepare voc VOCtrainval_06-Nov-2007.tar VOCtest_06-Nov-2007.tar
  pocketvision prepare shapes output=shapes_coco
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from pocketvision.conf.schema import PrepareConfig
from pocketvision.datasets.preparing.archives import ArchiveError
from pocketvision.datasets.preparing.preparation import (
    Recognised,
    Record,
    check_counts,
    check_hash,
    check_mixture,
    check_size,
    make_voc_masks,
    prepare_part,
    recognise,
)
from pocketvision.datasets.preparing.public_sets import PUBLIC_SETS, PublicSet
from pocketvision.datasets.shapes import ShapesDetection, ShapesSegmentation
from pocketvision.datasets.writing.shapes_writer import write_cityscapes, write_coco
from pocketvision.tools.config.command import command
from pocketvision.tools.config.settings import settings_of
from pocketvision.tools.system.console import log, progress
from pocketvision.words import counted

SHAPES = {"coco": (ShapesDetection, write_coco), "cityscapes": (ShapesSegmentation, write_cityscapes)}
OF_SHAPES = ("layout", "num_train", "num_val", "size", "preset", "seed")


def prepare(config: DictConfig) -> None:
    """Write generated scenes, or unpack the given archives and print what is done and what is still missing."""
    settings = settings_of(config, PrepareConfig)
    name, paths = _choose(settings.dataset, list(settings.archives))
    usual = PrepareConfig()
    if name == "shapes":
        if paths or not settings.hashes:
            raise ValueError(f"shapes are generated: drop {'hashes=false' if not paths else ', '.join(paths)}")
        write_shapes(settings)
        return
    asked = {key: getattr(settings, key) for key in OF_SHAPES}
    if given := [f"{key}={value}" for key, value in asked.items() if value != getattr(usual, key)]:
        raise ValueError(f"{', '.join(given)} applies only to shapes, not to {name}: drop it")
    data = PUBLIC_SETS[name]
    output = Path(settings.output or f"data/{data.name}")
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file: choose a folder")
    record = Record.load(output, data.name)
    archives = [path for given in paths for path in _archives(Path(given), data)]
    if missing := [str(path) for path in archives if not path.is_file()]:
        log.info("%s", overview(data, record, output))
        raise FileNotFoundError(f"missing: {', '.join(missing)}; see above where to get them")
    found = [recognise(path, data) for path in archives]
    _check(data, record, found)
    for one in found:
        _prepare_one(one, output, record, hashes=settings.hashes)
    if data.masks and record.parts:
        for split, number in make_voc_masks(output).items():
            log.info("masks of %s: %s", split, counted(number, "image"))
    log.info("%s", overview(data, record, output))


def _choose(dataset: str | None, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The dataset's name, `dataset=` or the first argument, and the remaining arguments."""
    name, rest = (dataset, list(arguments)) if dataset else (arguments[0] if arguments else None, list(arguments[1:]))
    names = ", ".join([*PUBLIC_SETS, "shapes"])
    if name is None:
        raise ValueError(f"name a dataset: pocketvision prepare NAME [ARCHIVES ...], one of {names}")
    if name not in [*PUBLIC_SETS, "shapes"]:
        raise ValueError(f"dataset={name}: expected one of {names}, followed by the archives")
    return name, rest


def write_shapes(settings: PrepareConfig) -> None:
    """Write `num_train` and `num_val` scenes; training and validation use different seeds."""
    if settings.layout not in SHAPES:
        raise ValueError(f"layout={settings.layout}: expected one of {', '.join(SHAPES)}")
    make_source, write = SHAPES[settings.layout]
    splits = {
        split: make_source(length=length, size=list(settings.size), preset=settings.preset, seed=seed)
        for split, length, seed in (
            ("train", settings.num_train, settings.seed + 1),
            ("val", settings.num_val, settings.seed + 2),
        )
    }
    root, total = Path(settings.output or "data/shapes"), settings.num_train + settings.num_val
    with progress([], total=total, title="writing") as bar:
        write(root, splits, advance=bar.update)
    log.info("%s in %s; train on them with data=%s data.root=%s", counted(total, "scene"), root, settings.layout, root)


def _archives(path: Path, data: PublicSet) -> list[Path]:
    """The archive itself, or the archives in a folder that have their official names."""
    if not path.is_dir():
        return [path]
    here = [path / part.file for part in data.parts if (path / part.file).is_file()]
    if not here:
        raise FileNotFoundError(
            f"{path} contains no archive of {data.name}, expected {', '.join(part.file for part in data.parts)}"
        )
    return here


def _check(data: PublicSet, record: Record, found: Sequence[Recognised]) -> None:
    """Check all archives together before the first is unpacked."""
    files = [one.part.file for one in found]
    if twice := {file for file in files if files.count(file) > 1}:
        both = [str(one.path) for one in found if one.part.file in twice]
        raise ArchiveError(f"{' and '.join(both)} are the same part: keep only one of them")
    check_mixture(data, [*record.parts, *(file for file in files if file not in record.parts)])


def _prepare_one(one: Recognised, output: Path, record: Record, *, hashes: bool) -> None:
    file = one.part.file
    if record.has(output, file):
        log.info("%s: already done, %s verified by size", file, counted(len(record.parts[file]), "file"))
        return
    if hashes:
        check_size(one)
    check_counts(one)
    if hashes and one.part.md5:
        with progress([], total=one.path.stat().st_size, title=f"checking {file}", unit="B") as bar:
            check_hash(one, advance=bar.update)
    targets = one.targets
    size = sum(member.size for member in one.members if member.index in targets)
    with progress([], total=size, title=f"unpacking {file}", unit="B") as bar:
        prepare_part(one, output, record, advance=bar.update)
    how = "MD5" if hashes and one.part.md5 else "counts"
    log.info("%s: %s in %s, verified by %s", file, counted(len(record.parts[file]), "file"), output, how)


def overview(data: PublicSet, record: Record, output: Path) -> str:
    """What is done, what is missing and where to get it, and what to do next."""
    done = {part.file for part in data.parts if record.has(output, part.file)}
    lines = [f"{data.title}, in {output}", f"  terms: {data.terms}", *(f"  {note}" for note in data.notes)]
    for number, way in enumerate(data.ways):
        lines += [("  or:" if number else "  either:")] if len(data.ways) > 1 else []
        lines += [_line(data, file, file in done) for file in way]
    others = [part.file for part in data.parts if not any(part.file in way for way in data.ways)]
    lines += ["  optional:", *(_line(data, file, file in done) for file in others)] if others else []
    for file in record.parts:
        if file not in done:
            lost = record.lost(output, file)
            lines.append(
                f"  {file} was unpacked, but {counted(len(lost), 'file is', 'files are')} missing or changed, e.g. "
                f"{lost[0]}: unpack it again"
            )
    if whole := [keys for way, keys in data.ways.items() if done.issuperset(way)]:
        keys = whole[0].format(root=shlex.quote(str(output.absolute())))
        commands = [f"  pocketvision {name} {keys}" for name in ("check-data", "browse", "train")]
        lines += ["complete. Check the data, look at it, then train:", *commands]
    else:
        lines += ["next:", f"  pocketvision prepare {data.name} ARCHIVES ... output={shlex.quote(str(output))}"]
    return "\n".join(lines)


def _line(data: PublicSet, file: str, done: bool) -> str:
    part = data.part(file)
    size = f"{part.size / 1e9:.2f} GB" if part.size else ""
    about = ", ".join(text for text in (size, part.about) if text)
    return f"  [{'done' if done else '    '}] {file}  {part.url}" + (f"  ({about})" if about else "")


main = command("prepare", prepare, positional="archives")

if __name__ == "__main__":
    main()
