"""Prepare COCO, Cityscapes, VOC or CamVid from their archives, or write generated scenes.

pocketvision prepare cityscapes
pocketvision prepare coco downloads/ output=/data/coco
pocketvision prepare shapes output=shapes_city layout=cityscapes size=[256,512] num_train=500

Nothing is downloaded. Without archives it tells what to get where, and what is there already. An archive is
recognised by what it holds; a folder stands for those in it that have their official names. All of it is checked
before anything is written: size and MD5 where they are known, numbers of files, and that no name, link or size in it
can do harm. The same command again goes on where it was stopped. A file of yours that differs is never replaced.

`shapes` writes generated scenes to disk, as COCO's official layout (boxes) or Cityscapes' (label maps). More:

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
    check_whole,
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

SHAPES = {"coco": (ShapesDetection, write_coco), "cityscapes": (ShapesSegmentation, write_cityscapes)}
OF_SHAPES = ("layout", "num_train", "num_val", "size", "preset", "seed")


def prepare(config: DictConfig) -> None:
    """Write generated scenes; or unpack what is given, and tell what is there and what is still to be got."""
    settings = settings_of(config, PrepareConfig)
    name, paths = _choose(settings.dataset, list(settings.archives))
    usual = PrepareConfig()
    if name == "shapes":
        if paths or not settings.hashes:
            raise ValueError(f"shapes are generated: leave {'hashes=false' if not paths else ', '.join(paths)} out")
        write_shapes(settings)
        return
    asked = {key: getattr(settings, key) for key in OF_SHAPES}
    if given := [f"{key}={value}" for key, value in asked.items() if value != getattr(usual, key)]:
        raise ValueError(f"{', '.join(given)} is for shapes, {name} is as its archives have it: leave it out")
    data = PUBLIC_SETS[name]
    output = Path(settings.output or f"data/{data.name}")
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={output} is a file: give a folder")
    record = Record.load(output, data.name)
    archives = [path for given in paths for path in _archives(Path(given), data)]
    if missing := [str(path) for path in archives if not path.is_file()]:
        log.info("%s", overview(data, record, output))
        raise FileNotFoundError(f"not there: {', '.join(missing)}; where to get what stands above")
    found = [recognise(path, data) for path in archives]
    _check(data, record, found)
    for one in found:
        _prepare_one(one, output, record, hashes=settings.hashes)
    if data.masks and record.parts:
        for split, number in make_voc_masks(output).items():
            log.info("masks of %s: %d images", split, number)
    log.info("%s", overview(data, record, output))


def _choose(dataset: str | None, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The data set is `dataset=` or the first argument."""
    name, rest = (dataset, list(arguments)) if dataset else (arguments[0] if arguments else None, list(arguments[1:]))
    names = ", ".join([*PUBLIC_SETS, "shapes"])
    if name is None:
        raise ValueError(f"which data set? pocketvision prepare NAME [ARCHIVES ...], with {names}")
    if name not in [*PUBLIC_SETS, "shapes"]:
        raise ValueError(f"dataset={name}: expected one of {names} (then the archives)")
    return name, rest


def write_shapes(settings: PrepareConfig) -> None:
    """Write `num_train` and `num_val` scenes; training and validation draw from different seeds."""
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
        write(root, splits, progress=lambda done, _: bar.update(done - bar.n))
    log.info("%d scenes in %s; train on them with data=%s data.root=%s", total, root, settings.layout, root)


def _archives(path: Path, data: PublicSet) -> list[Path]:
    """An archive, or those in a folder that have the names they are served under."""
    if not path.is_dir():
        return [path]
    here = [path / part.file for part in data.parts if (path / part.file).is_file()]
    if not here:
        raise FileNotFoundError(f"no archive of {data.name} in {path}: {', '.join(part.file for part in data.parts)}")
    return here


def _check(data: PublicSet, record: Record, found: Sequence[Recognised]) -> None:
    """All archives together, before the first is unpacked."""
    files = [one.part.file for one in found]
    if twice := {file for file in files if files.count(file) > 1}:
        both = [str(one.path) for one in found if one.part.file in twice]
        raise ArchiveError(f"{' and '.join(both)} are the same part: give one of them")
    check_mixture(data, [*record.parts, *(file for file in files if file not in record.parts)])


def _prepare_one(one: Recognised, output: Path, record: Record, *, hashes: bool) -> None:
    file = one.part.file
    if record.has(output, file):
        log.info("%s: there already, %d files verified by their sizes", file, len(record.parts[file]))
        return
    if hashes:
        check_whole(one)
        if one.part.md5:
            size = one.path.stat().st_size
            with progress([], total=size, title=f"checking {file}", unit="B") as bar:
                check_hash(one, advance=bar.update)
    else:
        check_counts(one)
    targets = one.targets
    size = sum(member.size for member in one.members if member.index in targets)
    with progress([], total=size, title=f"unpacking {file}", unit="B") as bar:
        prepare_part(one, output, record, advance=bar.update)
    how = "MD5" if hashes and one.part.md5 else "counts"
    log.info("%s: %d files in %s, verified by %s", file, len(record.parts[file]), output, how)


def overview(data: PublicSet, record: Record, output: Path) -> str:
    """What of a data set is there, what is still to be got and where, and what to do next."""
    done = {part.file for part in data.parts if record.has(output, part.file)}
    lines = [f"{data.title}, in {output}", f"  terms: {data.terms}", *(f"  {note}" for note in data.notes)]
    for number, way in enumerate(data.ways):
        lines += [("  or:" if number else "  either:")] if len(data.ways) > 1 else []
        lines += [_line(data, file, file in done) for file in way]
    others = [part.file for part in data.parts if not any(part.file in way for way in data.ways)]
    lines += ["  and, if you want it:", *(_line(data, file, file in done) for file in others)] if others else []
    for file in record.parts:
        if file not in done:
            lost = record.lost(output, file)
            lines.append(
                f"  {file} was unpacked, but {len(lost)} files are gone or changed, first {lost[0]}: repeat it"
            )
    if whole := [keys for way, keys in data.ways.items() if done.issuperset(way)]:
        keys = whole[0].format(root=shlex.quote(str(output.absolute())))
        commands = [f"  pocketvision {name} {keys}" for name in ("check-data", "browse", "train")]
        lines += ["complete. Check it, look at it, then train:", *commands]
    else:
        lines += ["then:", f"  pocketvision prepare {data.name} ARCHIVES ... output={shlex.quote(str(output))}"]
    return "\n".join(lines)


def _line(data: PublicSet, file: str, done: bool) -> str:
    part = data.part(file)
    size = f"{part.size / 1e9:.2f} GB" if part.size else ""
    about = ", ".join(text for text in (size, part.about) if text)
    return f"  [{'done' if done else '    '}] {file}  {part.url}" + (f"  ({about})" if about else "")


main = command("prepare", prepare, positional="archives")

if __name__ == "__main__":
    main()
