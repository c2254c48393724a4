"""How fast training data is loaded, beside torchvision's reference pipeline on the same photographs.

python tests/benchmarks/loading.py data=coco data.root=/data/coco batch_size=32 [--images N] [--enlarge H W]

One core, then workers=N processes. --enlarge loads enlarged copies instead, as jpeg and as PNG (segmentation).
"""

import copy
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import Say, arguments, collect, parse, save
from loading_peer import CocoPeer, MaskPeer
from omegaconf import DictConfig
from pocketvision.conf.limits import at_least
from pocketvision.conf.schema import BenchmarkConfig
from pocketvision.datasets.coco import CocoDetection
from pocketvision.datasets.images.cache import CachedDecoder
from pocketvision.datasets.images.decode import decode_image, decode_mask
from pocketvision.datasets.loading.augmented import AugmentedDataset, sample_seed
from pocketvision.datasets.loading.batches import collate
from pocketvision.datasets.mask_folder import MaskPairs
from pocketvision.tools.benchmark import phase, prepare_machine
from pocketvision.tools.benchmarking.case import Case, Row
from pocketvision.tools.benchmarking.timing import Times, ratios
from pocketvision.tools.config import build
from pocketvision.tools.config.settings import settings_of
from torch.utils.data import DataLoader

PARTS = ("read", "decode", "augment", "collate")
_POLICY = {"detection": "detection_torchvision", "segmentation": "segmentation"}
_SHARED_MEMORY = Path("/dev/shm")
Seconds = tuple[float, dict[str, float]]  # of a photograph's whole way, and by part


@dataclass
class Side:
    """One pipeline. Each call does all that the one before it does, and more."""

    name: str
    dataset: Any
    keys: Sequence[Any]  # what the dataset is indexed by, one for each photograph
    files: Sequence[Sequence[Path]]
    decoded: Callable[[Any], Any]
    collate: Callable[[Sequence[Any]], Any]

    def loader(self, batch_size: int, workers: int) -> DataLoader[Any]:
        """Batches of all its photographs."""
        keys: Any = list(self.keys)
        return DataLoader(
            self.dataset, batch_size=batch_size, sampler=keys, num_workers=workers, collate_fn=self.collate,
            worker_init_fn=_one_thread, persistent_workers=workers > 0, generator=torch.Generator(),
        )  # fmt: skip


Load = Callable[[Side], Seconds]


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Amount:
    """How many photographs each round loads, and their size where they are enlarged copies."""

    images: int = 256
    enlarge: tuple[int, int] | None = None  # h, w


def run_loading(config: DictConfig, amount: Amount, *, say: Say) -> Iterator[Case]:
    """A comparison in this process alone, then one with `workers`; for enlarged copies both as jpeg and as png.

    Raises:
        ValueError: the data is none that torchvision's references load.
    """
    config.augment = build.compose(f"augment={_policy(config, amount)}", config_name="benchmark").augment
    source = build.build_source(config, "train")
    with tempfile.TemporaryDirectory(prefix="pocketvision-benchmark-") as folder:
        for name, part, indices in _sources(amount, source, Path(folder), say=say):
            keep = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path(folder)
            with tempfile.TemporaryDirectory(prefix="pocketvision-benchmark-", dir=keep) as kept:
                sides = make_sides(config, part, indices, Path(kept))
                title = f"{config.data.task}, {len(indices)} photographs{name} to {_size(config.data.input_size)}"
                yield one_process(config, sides, title, say=say)
                if config.workers:
                    yield with_workers(config, sides, title, say=say)


def _policy(config: DictConfig, amount: Amount) -> str:
    task = config.get("data") and config.data.task
    if task not in _POLICY:
        raise ValueError("loading needs data=NAME with its keys, for detection or segmentation (data=coco, ...)")
    if amount.enlarge and task != "segmentation":
        raise ValueError("--enlarge is for segmentation")
    return _POLICY[task]


def _sources(amount: Amount, source: Any, folder: Path, *, say: Say) -> Iterator[tuple[str, Any, list[int]]]:
    """(what to call them, source, indices), of the photographs as they are or of enlarged copies."""
    order = np.random.default_rng(0).permutation(len(source)).tolist()
    if isinstance(source, CocoDetection):
        # its references leave out the others
        order = [i for i in order if (boxes := source.open(i).sample.boxes) is not None and len(boxes)]
    order = order[: amount.images]
    if not amount.enlarge:
        yield "", source, order
        return
    assert isinstance(source, MaskPairs)
    for ending in (".jpg", ".png"):
        say(f"enlarging, {ending}")
        pairs = [_enlarge(source, i, amount.enlarge, folder, ending) for i in order]
        large = MaskPairs(pairs, folders=(folder, folder), labels=source.labels, table=source.table, notes=())
        yield f" of {_size(amount.enlarge)}, {ending[1:]}", large, list(range(len(pairs)))
        shutil.rmtree(folder / ending[1:])


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, reversed(size)))


def _enlarge(source: MaskPairs, index: int, size: tuple[int, int], folder: Path, ending: str) -> tuple[str, Path, Path]:
    image, mask = (file.path for file in source.files(index))
    place = folder / ending[1:]
    place.mkdir(exist_ok=True)
    targets = place / f"{index}{ending}", place / f"{index}_mask.png"
    pixels = cv2.resize(decode_image(image), size[::-1], interpolation=cv2.INTER_CUBIC)
    values = cv2.resize(decode_mask(mask), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    for target, array in zip(targets, (cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), values), strict=True):
        cv2.imencode(target.suffix, array)[1].tofile(target)
    return str(index), *targets


# ---- sides -----------------------------------------------------------------------------------------------


def make_sides(config: DictConfig, source: Any, indices: Sequence[int], kept: Path) -> list[Side]:
    """torchvision's, which the others are compared with, first."""
    if isinstance(source, CocoDetection):
        peers = _coco_peers(config, source, indices)
    elif isinstance(source, MaskPairs):
        peers = [_mask_peer(config, source, indices)]
    else:
        raise ValueError(
            f"loading compares with torchvision's CocoDetection, or with pairs of files: "
            f"data={type(source).__name__} is neither"
        )
    cached = copy.copy(source)
    cached.decoder = CachedDecoder(kept)
    ours = _ours(config, source, indices, "pocketvision"), _ours(config, cached, indices, "cache=ram, 2nd epoch on")
    return [*peers, *ours]


def _ours(config: DictConfig, source: Any, indices: Sequence[int], name: str) -> Side:
    dataset: AugmentedDataset = build.build_dataset(config, source, training=True)
    files = [[file.path for file in source.files(index)] for index in indices]
    reductions = {index: _reduction(dataset, index) if config.reduced_decode else 1 for index in indices}

    def decoded(key: tuple[int, int]) -> Any:
        return source.open(key[1]).pixels(reductions[key[1]])

    return Side(name, dataset, [(0, index) for index in indices], files, decoded, collate)


def _reduction(dataset: AugmentedDataset, index: int) -> int:
    """At which the first epoch decodes a photograph."""
    pending: Any = dataset.source.open(index)  # type: ignore[attr-defined]
    asked = [1]

    def decode(reduction: int) -> np.ndarray:
        asked.append(reduction)
        return np.zeros((*pending.size, 3), np.uint8)

    pending.decode = decode
    dataset.transform(pending, sample_seed(dataset.seed, 0, index))
    return asked[-1]


def _coco_peers(config: DictConfig, source: CocoDetection, indices: Sequence[int]) -> list[Side]:
    keys = source.image_ids[list(indices)].tolist()
    files = [[file.path for file in source.files(index)] for index in indices]
    height, width = config.data.input_size
    sides = []
    for name, size in (("torchvision", (height, width)), ("its preset alone, not resized", None)):
        peer = CocoPeer(Path(source.annotations), source.images, size=size)
        sides.append(Side(name, peer, keys, files, peer.decoded, peer.collate))
    return sides


def _mask_peer(config: DictConfig, source: MaskPairs, indices: Sequence[int]) -> Side:
    files = [[file.path for file in source.files(index)] for index in indices]
    height, width = config.data.input_size
    base = min(decode_mask(files[0][1]).shape)
    peer = MaskPeer([(image, mask) for image, mask in files], crop=(height, width), base=base)
    return Side("torchvision", peer, list(range(len(files))), files, peer.decoded, peer.collate)


# ---- measuring -------------------------------------------------------------------------------------------


def one_process(config: DictConfig, sides: Sequence[Side], title: str, *, say: Say) -> Case:
    """Seconds for each photograph, part by part."""
    return _case(config, sides, f"{title}, one process", lambda side: _ladder(side, config.batch_size), say=say)


def with_workers(config: DictConfig, sides: Sequence[Side], title: str, *, say: Say) -> Case:
    """The same by so many processes; their start is not counted."""
    loaders = {side.name: side.loader(config.batch_size, config.workers) for side in sides}

    def load(side: Side) -> Seconds:
        start = time.perf_counter()
        _drain(loaders[side.name])
        return (time.perf_counter() - start) / len(side.keys), {}

    return _case(config, sides, f"{title}, workers={config.workers}", load, say=say)


def _case(config: DictConfig, sides: Sequence[Side], title: str, load: Load, *, say: Say) -> Case:
    """Rounds in which every side loads all photographs."""
    found = {side.name: Times() for side in sides}
    for number in range(-1, config.rounds):  # the first one fills the caches
        for side in sides:
            say(f"{title}, {side.name}")
            whole, parts = load(side)
            if number >= 0:
                found[side.name].whole.append(whole)
                for name, seconds in parts.items():
                    found[side.name].stages.setdefault(name, []).append(seconds)
    faster = ratios(found, sides[0].name)
    rows = [Row(side.name, "", found[side.name], faster[side.name], None, None, None) for side in sides]
    return Case(f"{title}, batches of {config.batch_size}", "loading", config.batch_size, rows)


def _ladder(side: Side, batch_size: int) -> Seconds:
    """Seconds of a photograph's whole way, and of each part: what each call takes beyond the one before it."""
    steps = (
        partial(_each, _read, side.files), partial(_each, side.decoded, side.keys),
        partial(_each, side.dataset.__getitem__, side.keys), partial(_drain, side.loader(batch_size, 0)),
    )  # fmt: skip
    ends = []
    for step in steps:
        torch.manual_seed(0)  # each of its steps draws the same crops; ours depend on the key alone
        start = time.perf_counter()
        step()
        ends.append((time.perf_counter() - start) / len(side.keys))
    parts = [ends[0], *(max(0.0, end - before) for before, end in itertools.pairwise(ends))]
    return ends[-1], dict(zip(PARTS, parts, strict=True))


def _each(function: Callable[[Any], Any], keys: Sequence[Any]) -> None:
    for key in keys:
        function(key)


def _read(paths: Sequence[Path]) -> None:
    for path in paths:
        path.read_bytes()


def _drain(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=256, help="photographs that each round loads")
    parser.add_argument("--enlarge", nargs=2, type=int, metavar=("H", "W"), help="load copies of this size instead")
    options, config = parse(parser, argv)
    if config.threads > 1:
        parser.error("threads= does not go with this: it measures one core; workers=N adds processes")
    if options.enlarge and min(options.enlarge) < 1:
        parser.error(f"--enlarge {options.enlarge}: expected two positive numbers, h w")
    amount = Amount(options.images, tuple(options.enlarge) if options.enlarge else None)
    try:
        at_least("images", amount.images, 1)
        settings_of(config, BenchmarkConfig)
        about = prepare_machine(config.device, threads=1)
        with phase() as say:
            cases = collect(run_loading(config, amount, say=say))
    except ValueError as error:
        parser.error(str(error))
    save(config, cases, machine=about)


if __name__ == "__main__":
    main()
