"""The closed part of every configuration: keys, types, meaning. Open parts (`model`, `data`, ...) have a `_target_`.

The comment behind a key is what `--help` and docs/configuration.md say of it; a line with `#   ` continues it.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .listed import CONFIGS as CONFIGS
from .listed import command

MISSING: Any = "???"  # OmegaConf's mark of a value that has to be given


class Precision(Enum):
    """Arithmetic of forward and backward; losses and weights stay float32."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class ScheduleName(Enum):
    constant = "constant"
    cosine = "cosine"
    poly = "poly"
    step = "step"
    exponential = "exponential"


class DecayRule(Enum):
    """Which parameters weight decay applies to."""

    weights = "weights"  # conv and linear weights, depthwise and SE included: TF Object Detection API
    no_depthwise = "no_depthwise"  # conv and linear weights but depthwise ones: TF-slim, DeepLab
    all = "all"  # BN and biases too: torchvision's reference scripts


class BatchNorm(Enum):
    """What batch norms normalise with while training."""

    local = "local"  # the statistics of each process's images (the running ones are averaged over processes)
    sync = "sync"  # those of all processes' images; CUDA only
    frozen = "frozen"  # the running statistics, which stay as they are


class OnNonfinite(Enum):
    """What to do when a loss or a gradient is not finite. In either case the step changes no weights."""

    stop = "stop"  # name the images, keep the step for mode=replay, end the run
    skip = "skip"  # leave the step out, count it in the log


@dataclass
class ScheduleConfig:
    name: ScheduleName = ScheduleName.cosine
    warmup_epochs: float = 0.0  # linear warm-up, in (fractions of) epochs
    warmup_factor: float = 0.001  # the learning rate starts at this fraction
    final_factor: float = 0.0  # and ends at this one (cosine, poly)
    power: float = 0.9  # poly
    milestones: list[float] = field(default_factory=list)  # step: fractions of the run, e.g. [0.6, 0.9]
    gamma: float = 0.1  # step: factor at each milestone; exponential: every `every_epochs`
    every_epochs: float = 1.0  # exponential: epochs between two factors


@command("training", "experiment name data model backbone epochs batch_size workers device weights")
@dataclass
class TrainConfig:
    """Keys of `pocketvision train`."""

    # run
    name: str = MISSING  # the run's name; the same name resumes
    run_dir: str = "runs/${name}"  # the run folder
    seed: int = 0  # of weights, order and augmentation
    # hardware
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    threads: int = 0  # CPU threads of this process, 0: torch's choice
    workers: int = 2  # loader processes per rank
    precision: Precision = Precision.fp32
    channels_last: bool = True  # memory layout of images and filters; faster
    compile: bool = False  # torch.compile
    timeout_minutes: float = 30.0  # how long a process waits for the others before it gives up
    # loading
    cache: str | None = None  # ram or disk: decode each picture once, after its size was estimated; null: every time
    cache_folder: str | None = None  # of cache=disk; null: ~/.cache/pocketvision/decoded
    reduced_decode: bool = False  # large jpegs of training at 1/2, 1/4 or 1/8 of their sides, where that is enough
    # length and batch
    epochs: int | None = 100  # passes over the training images; null: by their number (engine.optim.epochs_for)
    overfit: int | None = None  # learn only the first n training images, and evaluate on them
    max_steps: int | None = None  # stop early after so many optimizer steps
    batch_size: int = 32  # images per optimizer step, all ranks and accumulation steps together
    accumulate: int = 1  # split each step's batch into so many passes
    # optimisation
    lr_batch_size: int | None = None  # optimizer.lr is for this batch size, else scaled (Adam: by the root); null: not
    decay_rule: DecayRule = DecayRule.weights
    clip_grad_norm: float | None = None  # largest norm of all gradients together; null: as they are
    ema_decay: float | None = None  # exponential moving average of the weights, with warm-up (1+n)/(10+n)
    batch_norm: BatchNorm = BatchNorm.local
    freeze: list[str] = field(default_factory=list)  # parts that do not learn, e.g. [backbone.stem,backbone.blocks.0-5]
    lr_factors: dict[str, float] = field(default_factory=dict)  # part: factor on its learning rate, {backbone: 0.1}
    on_nonfinite: OnNonfinite = OnNonfinite.stop
    on_bad_sample: str = "raise"  # a training file that cannot be read: raise ends the run, skip learns another instead
    patience: int | None = None  # stop after so many evaluations without a better one
    # reporting
    log_every: int = 50  # steps
    save_every: int | None = None  # steps between checkpoints; null: once an epoch
    keep_last: int = 2  # last.pt, last-1.pt, ...
    eval_every: int = 1  # epochs between evaluations; the last epoch is always evaluated
    eval_batch_size: int = 16  # images at a time in evaluations
    # start
    weights: str | None = None  # a run folder, checkpoint or state dict to start from; torchvision; timm/NAME
    weights_source: str = "pocketvision"  # or torchvision, timm, tf, espnet, espnetv2, c3net: whose names they have
    weights_new_predictors: bool = False  # weights of another number of classes: all but the predictors
    weights_reduce: str | None = None  # importance or first: choose channels from weights that have more
    # resume
    accept_changes: bool = False  # go on although configuration, data or number of processes differ; the log says what
    # modes (mode=debug, mode=replay)
    debug: bool = False  # detect anomalies, draw the first batch, write no checkpoint
    replay: bool = False  # look at the step that ended the run by not being finite
    # groups
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: Any = MISSING
    backbone: Any = MISSING
    model: Any = MISSING
    data: Any = MISSING
    augment: Any = MISSING


@dataclass
class RunConfig:
    """Keys that `evaluate` and `predict` share."""

    run: str | None = None  # a run folder or a checkpoint file
    file: str | None = None  # in place of a run: a file that export wrote (.onnx, .xml, .pt2), in its own runtime
    checkpoint: str = "best"  # best or last, where `run` is a folder
    device: str = "auto"  # auto, cpu, cuda, cuda:1
    threads: int = 0  # CPU threads, 0: torch's choice
    batch_size: int = 16  # images at a time
    optimize: bool = False  # batch norms folded into convolutions: the same outputs, faster; and with it
    precision: Precision = Precision.fp32  # fp32 or bf16
    compile: bool = False  # torch.compile: the first image of a size takes seconds


@command("evaluation", "run checkpoint split data report pictures output file predictions protocol")
@dataclass
class EvaluateConfig(RunConfig):
    """Keys of `pocketvision evaluate`."""

    workers: int = 2  # loader processes
    split: str | None = None  # val or train; null: val, or what a run with `overfit` learnt; test: images without
    #   truth, with cityscapes_results or predictions
    output: str | None = None  # results file (json); null: results.json in the run folder, NAME.results.json beside a
    #   file
    predictions: str | None = None  # in place of a run, what any other tool found: a json in COCO's results format,
    #   scored against `annotations`; or a folder or .zip of PNGs for Cityscapes
    annotations: str | None = None  # the json in COCO's format that the former are scored against
    backend: str | None = None  # of COCO's figures: pycocotools (null), or faster (faster-coco-eval, several times as
    #   fast)
    bootstrap: int = 0  # data sets drawn from the images, for 95 % intervals of AP and mIoU; 200 do, 0: none
    coco_results: str | None = None  # a file for the detections in COCO's results format
    pictures: int = 0  # pictures of truth beside prediction to write into the run folder
    score_threshold: float = 0.5  # boxes that the pictures show; the metrics see all
    report: bool = False  # write report/ into the run folder: report.html, which needs nothing beside it, its charts,
    #   and what `compare page=FILE.html` reads
    report_images: int = 48  # photos on that page: some of the best, the worst, and of every class and error
    data: dict[str, Any] = field(default_factory=dict)  # data.KEY=... replaces a key of the run's data group
    #   (data.root)
    # how segmenters look at an image
    protocol: str = "whole"  # or sliding: window by window
    window: list[int] | None = None  # h, w
    stride: list[int] | None = None  # h, w; null: two thirds of the window
    scales: list[float] = field(default_factory=lambda: [1.0])  # of the image; probabilities are averaged
    flip: bool = False  # the mirrored image, too
    # Cityscapes' server, and other tools' pictures
    cityscapes_results: str | None = None  # a folder or .zip: PNGs of label ids for Cityscapes' server, checked as it
    #   needs them
    prediction_ids: str = "label"  # what PNGs of `predictions` hold: label (ids 0 to 33) or train (0 to 18, 255)


@command("evaluation", "runs page curve write samples seed output")
@dataclass
class CompareConfig:
    """Keys of `pocketvision compare`."""

    runs: list[str] = field(default_factory=list)  # run folders or results.json files; usually given without a key
    page: str | None = None  # in place of the table: a file for one HTML page of runs evaluated with report=true
    curve: str | None = None  # in place of the table: a reference loss curve (json) to put one run beside
    write: str | None = None  # in place of the table: a json file for a reference curve of `runs`, all of them finished
    samples: int = 1000  # data sets drawn from the images
    seed: int = 0  # of the drawing
    threads: int = 0  # CPU threads, 0: torch's choice
    output: str | None = None  # a json file for the comparison; with curve= the picture (null: RUN/curve.png)


@command("deployment", "run inputs output score_threshold classes write file model weights device")
@dataclass
class PredictConfig(RunConfig):
    """Keys of `pocketvision predict`."""

    weights: str | None = None  # in place of a run, of `model`: torchvision (downloaded), or a file with weights_source
    weights_source: str = "pocketvision"  # as for train
    weights_reduce: str | None = None  # as for train
    backbone: Any = None
    model: Any = None
    data: Any = None
    inputs: list[str] = field(default_factory=list)  # photographs, videos, folders (with all below) and globs in
    #   quotes; usually given without a key
    output: str = "predictions"  # the folder for all that is written
    write: Any = None  # some (or one) of pictures, json, csv, coco, masks, colors; null: all but coco and colors, and
    #   no masks of a video's frames
    score_threshold: float = 0.5  # boxes below it are neither drawn nor written (but to coco_results.json: AP needs
    #   all)
    classes: Any = None  # names of the classes that count, or one; of a mask the others become 255; null: all
    annotations: str | None = None  # a COCO json whose image ids the results get, by the photographs' names (otherwise
    #   the number that a file's name is, as in COCO, or 1, 2, 3 ...)
    every: int = 1  # every=5 takes each fifth frame of a video


@command("deployment", "run format output input input_size batch outputs precision model weights")
@dataclass
class ExportConfig:
    """Keys of `pocketvision export`."""

    run: str | None = None  # a run folder or a checkpoint file
    weights: str | None = None  # in place of a run, of `model`: torchvision, or a file and whose it is (weights_source)
    weights_source: str = "pocketvision"  # as for train
    weights_reduce: str | None = None  # as for train
    checkpoint: str = "best"  # best or last, where `run` is a folder
    backbone: Any = None
    model: Any = None
    data: Any = None
    format: str = MISSING  # onnx, openvino (.xml and .bin) or torch_export (.pt2)
    output: str | None = None  # null: model.onnx, .xml or .pt2 in the run folder; a .json of that name goes beside it
    input: str = "photo"  # photo: uint8 RGB [1, H, W, 3], the run's resize inside, results in the photograph's pixels;
    #   network: uint8 RGB [B, 3, h, w] at one size
    input_size: list[int] | None = None  # h, w of what goes in; null: any (photo; not for whole images with
    #   torch_export), data.eval_size (network)
    batch: Any = 1  # images at a time for input=network, or dynamic
    outputs: str = "final"  # final: boxes, scores and labels, a label map, or classes; raw: what the network says
    candidates: int = 2048  # best (anchor, class) pairs that reach non-maximum suppression
    precision: str = "fp32"  # openvino: fp16 (half the file) or bf16 (arithmetic, where the processor has it), too
    photos: list[str] = field(default_factory=list)  # photographs or folders to compare on; empty: the validation
    #   split, or generated scenes
    num_photos: int = 8  # of those
    threads: int = 0  # CPU threads of the comparison, 0: torch's choice


@command("deployment", "run experiment model file peer optimize training batch_size photos output")
@dataclass
class BenchmarkConfig(TrainConfig):
    """Keys of `pocketvision benchmark`: those of train, so that experiments compose, and what is measured how."""

    name: str = "benchmark"
    # what
    run: str | None = None  # a run folder or a checkpoint file
    checkpoint: str = "best"  # best or last, where `run` is a folder
    file: str | None = None  # an exported file, alone or beside its run
    backbone: Any = None
    model: Any = (
        None  # In place of a run, with backbone and data: freshly built, with random weights that keep it busy.
    )
    data: Any = None
    batch_size: int = 1  # photographs at a time
    threads: int = 0  # of torch, cv2 and the runtimes; 0: one for each physical core that the process may use
    optimize: bool = False  # adds the network with batch norms folded; with it precision=bf16 and compile=true
    training: bool = False  # a training step at data.input_size (forward and criterion, backward, optimizer) instead
    peer: str | None = None  # torchvision: its own model with the same weights; results have to agree
    min_score: float | None = None  # of a detector's candidates; null: its own
    # on what
    photos: str | None = None  # a folder of photographs; null: made up
    photo_size: list[int] = field(default_factory=lambda: [480, 640])  # h, w of those
    # how
    warmup: int = 2  # calls of each variant before anything is timed
    rounds: int = 5  # each gives each variant a burst: one call that does not count, then `repeats` that do
    repeats: int = 3  # timed calls of a burst
    memory: bool = True  # peak memory, each variant in a process of its own
    output: str | None = "benchmark"  # a folder for results.json and pictures; null: none


@command("data", "experiment data augment split count columns epoch statistics output")
@dataclass
class BrowseConfig(TrainConfig):
    """Keys of `pocketvision browse`: those of train, and what to show."""

    name: str = "browse"
    split: str = "train"  # or val
    output: str = "browse.png"  # the picture
    count: int = 16  # samples
    columns: int = 4  # of the grid
    epoch: int = 0  # another epoch, other augmentations
    statistics: int = 0  # images of each split to count for pictures of classes, sizes and anchors beside the grid


@command("data", "data experiment split output ignore examples workers")
@dataclass
class CheckDataConfig(TrainConfig):
    """Keys of `pocketvision check-data`: those of train, and what to check."""

    name: str = "check-data"
    split: str | None = None  # train or val; null: both, and against each other
    output: str = "check"  # a folder for check.json, check.html and pictures
    ignore: list[str] = field(default_factory=list)  # kinds of fault that are left out (docs/check-data.md lists them)
    workers: int | None = None  # processes; null: one for each core, 0: none but the command's own
    examples: int = 12  # faults of each kind that are told and drawn


@command("more", "experiment model backbone data input_size")
@dataclass
class InfoConfig(TrainConfig):
    """Keys of `pocketvision info`: those of train, and the input size to count at."""

    name: str = "info"
    input_size: list[int] | None = None  # h, w; null: the data group's


@command("training", "model weights weights_source output experiment backbone data partial weights_reduce")
@dataclass
class ImportWeightsConfig(TrainConfig):
    """Keys of `pocketvision import-weights`: those of train, and where the run folder is to be."""

    name: str = "imported"
    output: str = MISSING  # the run folder
    partial: bool = False  # true: what the weights do not have stays freshly initialised


@command("data", "data format output images splits")
@dataclass
class ConvertConfig:
    """Keys of `pocketvision convert`."""

    data: Any = MISSING
    format: str = MISSING  # coco, voc or yolo
    output: str = MISSING  # a folder that is empty or not there
    images: str = "link"  # link (hard links, which take no room; a copy where that is impossible), copy, or none
    splits: list[str] = field(default_factory=lambda: ["train", "val"])  # or one; where the data has no val,
    #   data.holdout of it is cut off


@command("data", "dataset archives output hashes layout num_train num_val size preset seed")
@dataclass
class PrepareConfig:
    """Keys of `pocketvision prepare`."""

    dataset: str | None = None  # coco, cityscapes, voc, camvid, or shapes: generated scenes; usually the first argument
    archives: list[str] = field(default_factory=list)  # files, or a folder of them; usually given without a key
    output: str | None = None  # a folder, what data.root= wants; null: data/NAME
    hashes: bool = True  # false: archives that were packed anew; sizes and MD5 are not compared, files are counted
    # shapes
    layout: str = "coco"  # coco (boxes, COCO's official layout) or cityscapes (label maps)
    num_train: int = 200  # scenes to train on
    num_val: int = 50  # scenes to evaluate on
    size: list[int] = field(default_factory=lambda: [128, 128])  # h, w in pixels
    preset: str = "standard"  # standard (three shapes, sides of 20 to 60 %) or hard (six, from 8 %)
    seed: int = 0  # another one, other scenes


@command("more", "table format output latency repeats threads results")
@dataclass
class PaperConfig:
    """Keys of `pocketvision paper`."""

    table: int | None = None  # 3, 6, 7 or 8; null: all four
    format: str = "text"  # or markdown
    output: str | None = None  # a file to write the tables to, beside printing them
    latency: bool = False  # time every network here, one image at a time
    threads: int = 1  # the paper's phones use one core
    repeats: int = 5  # of which the median is told
    results: list[str] = field(default_factory=list)  # results.json of runs named as their experiments: our accuracies
