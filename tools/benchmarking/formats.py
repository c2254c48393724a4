"""One run in every format and precision: what each file costs and gives, beside PyTorch."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ...absent import known
from ...conf.schema import BenchmarkConfig
from ...datasets.annotations.sample import Pending, evenly
from ...datasets.images.files import image_size
from ..config import build
from ..config.command import InstantiationException, explain
from ..drawing.pictures import write_image
from ..exporting.files import Target
from ..predicting.exported import evaluate_file, load_file
from ..predicting.inputs import find_images
from ..runs.loaded import LoadedRun, evaluate_run
from ..system.console import log
from .case import specs_of
from .format_choice import ready_files
from .memory import peak_memory
from .pictures import make_photos, read_photos
from .subject import Setup, Subject
from .timing import Times, clock_of, measure
from .variant import RUNTIMES, Spec
from .variants import make_variant


@dataclass
class FormatRow:
    """What one file, or PyTorch, costs and gives."""

    name: str
    format: str  # empty: PyTorch
    precision: str
    sizes: dict[str, int]  # bytes by file extension; of PyTorch the weights
    times: Times  # of whole calls
    network: list[float] | None  # seconds of the network alone
    accuracy: float | None
    memory_mb: float | None

    @property
    def size(self) -> int:
        """Bytes of the file that has the weights."""
        return self.sizes.get(".bin") or next(iter(self.sizes.values()))


@dataclass
class FormatTable:
    """The rows of a run, PyTorch first."""

    run: str
    step: int
    metric: str
    images: int  # of the validation split; 0: no accuracy
    photographs: int  # that were timed
    clock: str
    rows: list[FormatRow]

    def fp32(self, row: FormatRow) -> FormatRow | None:
        """The row of the same format in fp32."""
        same = (other for other in self.rows if other.format == row.format and other.precision == "fp32")
        return next(same, None)

    def loss(self, row: FormatRow) -> float | None:
        """By how much a row is less accurate than PyTorch."""
        best = self.rows[0].accuracy
        return None if best is None or row.accuracy is None else best - row.accuracy


def measure_formats(
    config: DictConfig, settings: BenchmarkConfig, *, threads: int, say: Callable[[str], object] = lambda _: None
) -> FormatTable:
    """Write the files that are lacking, then measure all of them and PyTorch on the CPU.

    Raises:
        ValueError: a file that was asked for cannot be had here; `output` has files of another run.
    """
    config = config.copy()
    config.device = "cpu"
    run = Subject(Setup(config, threads)).run
    source = _validation(run)
    with tempfile.TemporaryDirectory(prefix="pocketvision-formats-") as temporary:
        say("files")
        folder = Path(settings.output) / "files" if settings.output else Path(temporary)
        photos = _photographs(settings, source, Path(temporary, "photos"))
        entries = _entries(run, settings, ready_files(run, settings, folder, _one_size(run, source, photos)))
        setup = Setup(config, threads, files=tuple(map(str, photos)))
        rows = _rows(Subject(setup), entries, source, say)
    images = 0 if source is None else len(source)
    metric = run.task.metric.primary
    return FormatTable(str(settings.run), run.step, metric, images, len(photos), clock_of(threads)[0], rows)


def _validation(run: LoadedRun) -> Any:
    """The validation split; None if it cannot be read."""
    try:
        return build.build_source(run.config, "val", labels=run.task.labels)
    except (OSError, ValueError, InstantiationException) as error:
        log.info("no validation split, so no accuracy (%s)", explain(error))
        return None


def _photographs(settings: BenchmarkConfig, source: Any, folder: Path) -> list[Path]:
    """Photographs to time, one for each round, as files: another process measures the memory."""
    if settings.photos:
        files = find_images([settings.photos])
        return [files[i] for i in evenly(len(files), settings.rounds)]
    if source is None:
        log.info("timing synthetic photographs; photos=FOLDER has yours")
        photos = make_photos(settings.rounds, settings.photo_size)
    else:
        photos = [source.read(i).image for i in evenly(len(source), settings.rounds)]
    paths = [folder / f"{number}.png" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        write_image(path, photo)
    return paths


def _one_size(run: LoadedRun, source: Any, photos: Sequence[Path]) -> tuple[int, int] | None:
    """(h, w) of all photographs, the split's and those to time; None if they differ, or the run resizes them."""
    if run.config.data.eval_size:
        return None
    sizes = {image_size(photo) for photo in photos}
    for i in range(0 if source is None else len(source)):
        if len(sizes) > 1:
            break
        sizes.add(_size_of(source, i))
    return sizes.pop() if len(sizes) == 1 else None


def _size_of(source: Any, index: int) -> tuple[int, int]:
    sample = source.open(index) if hasattr(source, "open") else source.read(index)
    return sample.size if isinstance(sample, Pending) else sample.image.shape[:2]


@dataclass(frozen=True)
class _Entry:
    """What a row is about, and what is timed for it."""

    name: str
    format: str
    precision: str
    sizes: dict[str, int]
    spec: Spec
    alone: Spec | None  # where the network alone is timed


def _entries(run: LoadedRun, settings: BenchmarkConfig, files: Sequence[Sequence[Target]]) -> list[_Entry]:
    size = sum(tensor.numel() * tensor.element_size() for tensor in run.task.model.state_dict().values())
    entries = []
    for spec in specs_of(settings):
        name = f"PyTorch {spec.name}" if spec.optimize else "PyTorch"
        entries.append(_Entry(name, "", spec.precision, {".pt": size}, spec, spec if settings.raw else None))
    for targets in files:
        specs = [
            Spec("file", precision=one.precision, file=str(one.path), raw=one.interface.outputs == "raw")
            for one in targets
        ]
        one, alone = targets[0], specs[1] if settings.raw else None
        name = f"{RUNTIMES[one.path.suffix[1:]]} {one.precision}"
        entries.append(_Entry(name, one.format, one.precision, one.sizes(), specs[0], alone))
    return entries


def _rows(subject: Subject, entries: Sequence[_Entry], source: Any, say: Callable[[str], object]) -> list[FormatRow]:
    accuracies: dict[str, float | None] = {}
    for number, entry in enumerate(entries if source is not None else (), start=1):
        say(f"accuracy, {number} of {len(entries)}")
        accuracies[entry.name] = _accuracy(subject, entry.spec, source)
    say("loading")
    times = _timed(subject, [spec for entry in entries for spec in (entry.spec, entry.alone) if spec], say)
    rows = []
    for number, entry in enumerate(entries, start=1):
        say(f"memory, {number} of {len(entries)}")
        memory = peak_memory(subject.setup, entry.spec) if subject.settings.memory else None
        network = times[entry.alone.name].stages["network"] if entry.alone else None
        rows.append(FormatRow(entry.name, entry.format, entry.precision, entry.sizes, times[entry.spec.name], network,
                              accuracies.get(entry.name), memory))  # fmt: skip
    return rows


def _timed(subject: Subject, specs: Sequence[Spec], say: Callable[[str], object]) -> dict[str, Times]:
    """Times by name; every round has a photograph of its own."""
    settings, files = subject.settings, subject.setup.files
    variants = [make_variant(subject, spec) for spec in dict.fromkeys(specs)]
    photos = cycle(read_photos(files, len(files))[0])
    bursts, total = count(1), len(variants) * (1 + settings.rounds)

    def next_photo() -> None:
        photo = next(photos)
        for variant in variants:
            variant.start = [photo]

    return measure(
        variants, device=subject.device, warmup=settings.warmup, rounds=settings.rounds, repeats=settings.repeats,
        clock=clock_of(subject.setup.threads)[1], each_round=next_photo,
        tick=lambda: say(f"timing, {next(bursts)} of {total}"),
    )  # fmt: skip


def _accuracy(subject: Subject, spec: Spec, source: Any) -> float | None:
    """The metric that selects the best checkpoint, on the whole split."""
    settings, run = subject.settings, subject.run
    if spec.file:
        model = load_file(spec.file, threads=subject.setup.threads)
        results = evaluate_file(model, source, batch_size=1, workers=settings.workers)
        return known(results[run.task.metric.primary])
    if spec.optimize:
        run = run.optimized(precision=spec.precision, compile=spec.compile)
    results = evaluate_run(run, source, batch_size=16, workers=settings.workers)
    return known(results[run.task.metric.primary])
