"""The closed part of every configuration: keys, types, meaning. Open parts (`model`, `data`, ...) have a `_target_`.

The comment after a key is its text in `--help` and docs/configuration.md; a line with `#   ` continues it.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .listed import CONFIGS as CONFIGS
from .listed import command

MISSING: Any = "???"  # OmegaConf's marker for a required value


class Precision(Enum):
    """Precision of forward and backward pass; losses and weights stay float32."""

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
    no_depthwise = "no_depthwise"  # conv and linear weights except depthwise: TF-slim, DeepLab
    all = "all"  # also batch norms and biases: torchvision's reference scripts


class BatchNorm(Enum):
    """Statistics that batch norm uses in training."""

    local = "local"  # statistics of each process's own images (running statistics are averaged over processes)
    sync = "sync"  # statistics of all processes' images; CUDA only
    frozen = "frozen"  # the running statistics, unchanged (frozen batch norm)


class OnNonfinite(Enum):
    """What to do when a loss or gradient is not finite. The step never changes the weights."""

    stop = "stop"  # name the images, save the step for mode=replay, and stop
    skip = "skip"  # skip the step and count it in the log


@dataclass
class ScheduleConfig:
    name: ScheduleName = ScheduleName.cosine
    warmup_epochs: float = 0.0  # length of the linear warm-up in epochs, fractions allowed
    warmup_factor: float = 0.001  # the warm-up starts at this fraction of the learning rate
    final_factor: float = 0.0  # the learning rate ends at this fraction (cosine, poly)
    power: float = 0.9  # exponent of poly
    milestones: list[float] = field(default_factory=list)  # step: fractions of the run, e.g. [0.6, 0.9]
    gamma: float = 0.1  # factor: for step at each milestone, for exponential every `every_epochs`
    every_epochs: float = 1.0  # exponential: epochs between two reductions


@command("training", "experiment name data model backbone epochs batch_size workers device weights")
@dataclass
class TrainConfig:
    """Keys of `pocketvision train`."""

    # run
    name: str = MISSING  # name of the run; the same name resumes it
    run_dir: str = "runs/${name}"  # run folder
    seed: int = 0  # seed for weights, sample order and augmentation
    # hardware
    device: str = "auto"  # auto, cpu, cuda or cuda:1
    threads: int = 0  # CPU threads; 0: torch's default
    workers: int = 2  # data loader processes per rank
    precision: Precision = Precision.fp32
    channels_last: bool = True  # channels-last memory layout of images and filters; faster
    compile: bool = False  # use torch.compile
    timeout_minutes: float = 30.0  # timeout for waiting on other processes
    # loading
    cache: str | None = None  # cache decoded pictures in ram or on disk; null: no cache
    cache_folder: str | None = None  # folder for cache=disk; null: ~/.cache/pocketvision/decoded
    reduced_decode: bool = False  # decode large training JPEGs at 1/2, 1/4 or 1/8 of their size where that is enough
    # length and batch
    epochs: int | None = 100  # passes over the training images; null: chosen by the number of images
    overfit: int | None = None  # train and evaluate on the first n training images only
    max_steps: int | None = None  # stop after this many optimizer steps
    batch_size: int = 32  # images per optimizer step, in total over ranks and accumulation steps
    accumulate: int = 1  # gradient accumulation: number of passes per step
    # optimization
    lr_batch_size: int | None = None  # batch size that optimizer.lr refers to; the learning rate scales linearly with
    #   batch_size (Adam, AdamW: with its square root); null: no scaling
    decay_rule: DecayRule = DecayRule.weights
    clip_grad_norm: float | None = None  # maximum global gradient norm; null: no clipping
    ema_decay: float | None = None  # decay of the exponential moving average of the weights, with warm-up (1+n)/(10+n);
    #   null: off
    batch_norm: BatchNorm = BatchNorm.local
    freeze: list[str] = field(default_factory=list)  # parts to freeze, e.g. [backbone.stem,backbone.blocks.0-5]
    lr_factors: dict[str, float] = field(default_factory=dict)  # learning rate factor per part, e.g. {backbone: 0.1}
    on_nonfinite: OnNonfinite = OnNonfinite.stop
    on_bad_sample: str = "raise"  # for unreadable training files: raise stops the run, skip uses another sample
    patience: int | None = None  # early stopping: number of evaluations without improvement; null: off
    # reporting
    log_every: int = 50  # steps between two rows of the log
    save_every: int | None = None  # steps between checkpoints; null: once per epoch
    keep_last: int = 2  # number of checkpoints to keep: last.pt, last-1.pt, ...
    eval_every: int = 1  # epochs between evaluations; the last epoch is always evaluated
    eval_batch_size: int = 16  # batch size in evaluation
    # start
    weights: str | None = None  # initial weights: a run folder, checkpoint or state dict; torchvision; timm/NAME
    weights_source: str = "pocketvision"  # format of the weights: pocketvision, torchvision, timm, tf, espnet, espnetv2
    #   or c3net
    weights_new_predictors: bool = False  # allow weights with another number of classes; re-initializes the predictors
    weights_reduce: str | None = None  # how to select channels from a wider network's weights: importance or first;
    #   null: not allowed
    quantize: str | None = None  # train in the eight bits of a runtime: openvino; null: floating point
    # resume
    accept_changes: bool = False  # resume even if configuration, data or number of processes differ; the log lists the
    #   differences
    # modes (mode=debug, mode=replay)
    debug: bool = False  # detect anomalies, draw the first batch, write no checkpoint
    replay: bool = False  # recompute the non-finite step that stopped the run
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

    run: str | None = None  # run folder or checkpoint file
    file: str | None = None  # instead of a run: an exported file (.onnx, .xml, .pt2), in its own runtime
    checkpoint: str = "best"  # best or last, if `run` is a folder
    device: str = "auto"  # auto, cpu, cuda or cuda:1
    threads: int = 0  # CPU threads; 0: torch's default
    batch_size: int = 16  # images per batch
    optimize: bool = False  # fold batch norms into convolutions: same outputs, faster; required for precision=bf16 and
    #   compile=true
    precision: Precision = Precision.fp32  # fp32 or bf16
    compile: bool = False  # use torch.compile: the first image of each size takes seconds


@command("evaluation", "run checkpoint split data report pictures output file predictions protocol")
@dataclass
class EvaluateConfig(RunConfig):
    """Keys of `pocketvision evaluate`."""

    workers: int = 2  # data loader processes
    split: str | None = None  # train or val; null: val, or the training images of a run with `overfit`; test (no ground
    #   truth): for cityscapes_results or predictions
    output: str | None = None  # JSON file for the results; null: results.json in the run folder, or NAME.results.json
    #   next to the file
    predictions: str | None = None  # instead of a run: another tool's predictions, as JSON in COCO's results format,
    #   with `annotations`; or a folder or .zip of label-id PNGs for Cityscapes
    annotations: str | None = None  # the COCO JSON to score the predictions against
    backend: str | None = None  # computes the COCO metrics: pycocotools (null), or faster (faster-coco-eval, several
    #   times as fast)
    bootstrap: int = 0  # bootstrap samples for 95 % confidence intervals of AP and mIoU; 200 are enough; 0: off
    coco_results: str | None = None  # file for the detections, in COCO's results format
    pictures: int = 0  # number of pictures (ground truth beside prediction) to write to the run folder
    score_threshold: float = 0.5  # minimum score of boxes in the pictures; metrics use all boxes
    report: bool = False  # write report/ to the run folder: the self-contained page report.html, its charts, and the
    #   data for `compare page=FILE.html`
    report_images: int = 48  # number of photographs on that page: some of the best, the worst, and of every class and
    #   error
    data: dict[str, Any] = field(default_factory=dict)  # overrides for the run's data group, e.g. data.root=FOLDER
    # segmentation: how an image is evaluated
    protocol: str = "whole"  # whole: the whole image at once; sliding: window by window
    window: list[int] | None = None  # h, w of the sliding window
    stride: list[int] | None = None  # h, w; null: two thirds of the window
    scales: list[float] = field(default_factory=lambda: [1.0])  # image scales; probabilities are averaged
    flip: bool = False  # also evaluate the mirrored image
    # Cityscapes test server, and predictions of other tools
    cityscapes_results: str | None = None  # folder or .zip for label-id PNGs, validated for the Cityscapes test server
    prediction_ids: str = "label"  # ids in the PNGs of `predictions`: label (0 to 33) or train (0 to 18, 255)


@command("evaluation", "runs page curve write samples seed output")
@dataclass
class CompareConfig:
    """Keys of `pocketvision compare`."""

    runs: list[str] = field(default_factory=list)  # run folders or results.json files; usually given without the key
    page: str | None = None  # instead of the table: an HTML file to write, one page about runs that were evaluated with
    #   report=true
    curve: str | None = None  # instead of the table: a reference loss curve (JSON) to compare one run with
    write: str | None = None  # instead of the table: a JSON file to write a reference curve of `runs` to; all must be
    #   finished
    samples: int = 1000  # number of bootstrap samples
    seed: int = 0  # seed of the bootstrap
    threads: int = 0  # CPU threads; 0: torch's default
    output: str | None = None  # JSON file for the comparison; with curve= the picture (null: RUN/curve.png)


@command("deployment", "run inputs output score_threshold classes write file model weights device")
@dataclass
class PredictConfig(RunConfig):
    """Keys of `pocketvision predict`."""

    weights: str | None = None  # instead of a run: pretrained weights of `model`: torchvision (downloads them), or a
    #   file with weights_source
    weights_source: str = "pocketvision"  # as for train
    weights_reduce: str | None = None  # as for train
    backbone: Any = None
    model: Any = None
    data: Any = None
    inputs: list[str] = field(default_factory=list)  # photographs, videos, folders (searched recursively) and quoted
    #   globs; usually given without the key
    output: str = "predictions"  # output folder
    write: Any = None  # one or more of pictures, json, csv, coco, masks, colors; null: all except coco, colors, and
    #   masks of video frames
    score_threshold: float = 0.5  # boxes with a lower score are not drawn or written (except in coco_results.json,
    #   which needs all of them for AP)
    classes: Any = None  # classes to keep, by name (one or a list); in masks, other classes become 255; null: all
    annotations: str | None = None  # COCO JSON that lists the photographs; its image ids are used in the results
    #   (otherwise the number in the file name, as in COCO, or 1, 2, 3, ...)
    every: int = 1  # use every n-th video frame


@command("deployment", "run format output input input_size batch outputs precision model weights")
@dataclass
class ExportConfig:
    """Keys of `pocketvision export`."""

    run: str | None = None  # run folder or checkpoint file
    weights: str | None = None  # instead of a run: pretrained weights of `model`: torchvision, or a file with
    #   weights_source
    weights_source: str = "pocketvision"  # as for train
    weights_reduce: str | None = None  # as for train
    checkpoint: str = "best"  # best or last, if `run` is a folder
    backbone: Any = None
    model: Any = None
    data: Any = None
    format: str = MISSING  # onnx, openvino (.xml and .bin), torch_export (.pt2), litert (.tflite), executorch (.pte) or
    #   coreml (.mlpackage, a folder)
    output: str | None = None  # null: model.onnx (or the format's extension) in the run folder; a .json with the same
    #   name is written next to it
    input: str | None = None  # photo: uint8 RGB [1, H, W, 3], with the run's resizing inside and results in the
    #   photograph's pixels; network: uint8 RGB [B, 3, h, w] (litert: [B, h, w, 3]) at one size; float: the same in
    #   float32, from 0 to 1; null: network for litert, executorch and coreml, else photo
    input_size: list[int] | None = None  # h, w of the input; null: any (photo; not for litert, executorch and coreml,
    #   nor for whole images with torch_export), data.eval_size (network, float)
    batch: Any = 1  # batch size for input=network and input=float, or dynamic
    outputs: str = "final"  # final: boxes, scores and labels, a label map, or classes; raw: the network's outputs;
    #   mediapipe: those as MediaPipe Tasks reads them (litert)
    candidates: int | None = None  # number of best (anchor, class) pairs passed to non-maximum suppression; null: 256
    #   for litert, executorch and coreml, else 2048
    precision: str | None = None  # fp32 (not for coreml); int8 (not for torch_export and coreml); fp16 (half the file
    #   size; openvino, litert and coreml); bf16 (computes in bf16 if the processor supports it; openvino);
    #   int8_weights (litert and coreml); null: fp32, or fp16 for coreml
    calibration: Any = 100  # for int8: the number of training images, evenly spaced, that show the ranges of values, or
    #   a folder of photographs
    max_drop: float | None = 0.01  # for int8: how much of AP, mIoU or top-1 on the validation split may be lost; if it
    #   is more, nothing is written; null: write without an evaluation
    photos: list[str] = field(default_factory=list)  # photographs or folders for the verification; empty: validation
    #   split, or generated scenes
    num_photos: int = 8  # number of photographs to use
    threads: int = 0  # CPU threads for the verification; 0: torch's default


@command("deployment", "run experiment model file formats peer optimize training photos output",
         unread="augment optimizer schedule quantize", reads="device precision compile workers")  # fmt: skip
@dataclass
class BenchmarkConfig(TrainConfig):
    """Keys of `pocketvision benchmark`: those of train, so that experiments compose, and what to measure and how."""

    name: str = "benchmark"
    # what
    run: str | None = None  # run folder or checkpoint file
    checkpoint: str = "best"  # best or last, if `run` is a folder
    file: str | None = None  # an exported file, alone or together with its run
    formats: Any = None  # all, or some of onnx, openvino, torch_export, litert, executorch, also in one precision
    #   (onnx:int8): export the run to them, and compare accuracy, size, time and memory
    raw: bool = False  # with formats: also time the network alone, from files without post-processing
    backbone: Any = None
    model: Any = None  # instead of a run, with backbone and data: a new network with random but realistic weights
    data: Any = None
    batch_size: int = 1  # photographs per batch
    threads: int = 0  # for torch, cv2 and the runtimes; 0: one per physical core of the process, with formats one
    optimize: bool = False  # also measure the network with folded batch norms; allows precision=bf16 and compile=true
    training: bool = False  # measure a training step at data.input_size instead
    peer: str | None = None  # torchvision: also its model with the same weights, whose results must agree
    min_score: float | None = None  # minimum score of a detector's candidates; null: the model's own
    # on what
    photos: str | None = None  # folder of photographs; null: synthetic, with formats those of the validation split
    photo_size: list[int] = field(default_factory=lambda: [480, 640])  # h, w of synthetic photographs
    # how
    warmup: int = 2  # warm-up calls per variant before any timing
    rounds: int = 5  # each round runs each variant in a burst: one warm-up call, then `repeats` timed calls; with
    #   formats each round has another photograph
    repeats: int = 3  # timed calls per burst
    memory: bool = True  # measure peak memory, each variant in its own process
    output: str | None = "benchmark"  # folder for results.json, pictures and what formats exports; null: none


@command("data", "experiment data augment split count columns epoch statistics output",
         unread="optimizer schedule quantize", reads="seed threads overfit reduced_decode on_bad_sample")  # fmt: skip
@dataclass
class BrowseConfig(TrainConfig):
    """Keys of `pocketvision browse`: those of train, and what to show."""

    name: str = "browse"
    split: str = "train"  # train or val
    output: str = "browse.png"  # picture file to write
    count: int = 16  # number of samples
    columns: int = 4  # columns of the grid
    epoch: int = 0  # epoch whose augmentation to show
    statistics: int = 0  # number of images per split to count for the class, size and anchor charts; 0: no charts


@command("data", "data experiment split output ignore examples workers",
         unread="augment optimizer schedule quantize mode", reads="threads")  # fmt: skip
@dataclass
class CheckDataConfig(TrainConfig):
    """Keys of `pocketvision check-data`: those of train, and what to check."""

    name: str = "check-data"
    split: str | None = None  # train or val; null: both, including checks across splits
    output: str = "check"  # folder for check.json, check.html and pictures
    ignore: list[str] = field(default_factory=list)  # kinds of fault to ignore (listed in docs/check-data.md)
    workers: int | None = None  # number of processes; null: one per core; 0: only this process
    examples: int = 12  # number of faults of each kind to list and draw


@command("more", "experiment model backbone data input_size", unread="augment optimizer schedule quantize mode",
         reads="threads")  # fmt: skip
@dataclass
class InfoConfig(TrainConfig):
    """Keys of `pocketvision info`: those of train, and the input size to count at."""

    name: str = "info"
    input_size: list[int] | None = None  # h, w; null: input size of the data group


@command("training", "model weights weights_source output experiment backbone data partial weights_reduce",
         unread="augment optimizer schedule quantize mode",
         reads="weights weights_source weights_reduce weights_new_predictors threads")  # fmt: skip
@dataclass
class ImportWeightsConfig(TrainConfig):
    """Keys of `pocketvision import-weights`: those of train, and where to create the run folder."""

    name: str = "imported"
    output: str = MISSING  # run folder to create
    partial: bool = False  # true: tensors missing from the weights stay randomly initialized


@command("data", "data format output images splits")
@dataclass
class ConvertConfig:
    """Keys of `pocketvision convert`."""

    data: Any = MISSING
    format: str = MISSING  # coco, voc or yolo
    output: str = MISSING  # an empty or new folder
    images: str = "link"  # link (hard links, or copies where links are impossible), copy, or none
    splits: list[str] = field(default_factory=lambda: ["train", "val"])  # [train,val] or one of them; without a val
    #   split, data.holdout of the images is held out


@command("data", "dataset archives output hashes layout num_train num_val size preset seed")
@dataclass
class PrepareConfig:
    """Keys of `pocketvision prepare`."""

    dataset: str | None = None  # coco, cityscapes, voc, camvid, or shapes (generated scenes); usually the first
    #   argument
    archives: list[str] = field(default_factory=list)  # files, or a folder of them; usually given without the key
    output: str | None = None  # output folder, the value for data.root=; null: data/NAME
    hashes: bool = True  # false: skip size and MD5, for repacked archives; files are still counted
    # shapes
    layout: str = "coco"  # coco (boxes, COCO's official layout) or cityscapes (label maps)
    num_train: int = 200  # number of training scenes
    num_val: int = 50  # number of validation scenes
    size: list[int] = field(default_factory=lambda: [128, 128])  # h, w in pixels
    preset: str = "standard"  # standard (three shapes, 20 to 60 % of the image side) or hard (six, from 8 %)
    seed: int = 0  # seed of the scenes


@command("more", "table format output latency repeats threads results")
@dataclass
class PaperConfig:
    """Keys of `pocketvision paper`."""

    table: int | None = None  # 3, 4, 6, 7 or 8; null: all
    format: str = "text"  # text or markdown
    output: str | None = None  # also write the tables to this file
    latency: bool = False  # time every network on this machine, one image at a time
    threads: int = 1  # CPU threads; the paper's phones use one core
    repeats: int = 5  # timed calls; the median is reported
    results: list[str] = field(default_factory=list)  # results.json of your runs, to show your accuracy; name runs
    #   after their experiments
