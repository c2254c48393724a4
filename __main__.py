"""`pocketvision COMMAND ...`: looks the command up and hands the rest of the line to it."""

import importlib
import sys

COMMANDS = {
    "train": "train a detector or a segmenter; the same command again resumes",
    "evaluate": "mAP or mIoU of a run, written to results.json",
    "report": "one HTML page of evaluated runs, by themselves or side by side",
    "compare": "runs side by side, and which differences between them are real",
    "compare-curve": "whether a training goes as it should, beside a reference loss curve",
    "predict": "boxes, masks or classes for photographs and videos: pictures, json, CSV",
    "export": "one file for ONNX Runtime, OpenVINO or torch.export, compared with PyTorch",
    "benchmark": "time and memory of a run, a model or a file, beside torchvision's own",
    "browse": "a grid of augmented training samples with their truth drawn",
    "check-data": "what is wrong with a data set: files, boxes, masks, splits, classes",
    "info": "a model's layers, shapes, parameters and MAdds",
    "import-weights": "a run folder of torchvision's, timm's or others' weights",
    "paper": "the paper's tables beside what these networks count and take here",
    "check-resume": "kill training at random instants; it must end bit-identical",
    "convert": "boxes from one format into another: COCO json, PASCAL VOC, YOLO",
    "prepare": "unpack and verify COCO, Cityscapes, VOC or CamVid; what to download where",
    "make-shapes": "write generated scenes to disk as COCO json or Cityscapes layout",
}


def usage() -> str:
    lines = [f"  {name:<14} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pocketvision COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "pocketvision COMMAND --help tells a command's keys. A first try, without any download:",
            "  pocketvision train experiment=demo_detection",
        ]
    )


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] in ("--version", "version"):
        from . import __version__

        print(__version__)
        return
    name = arguments[0]
    if name not in COMMANDS:
        print(f"pocketvision: unknown command {name!r}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    importlib.import_module(f"pocketvision.tools.{name.replace('-', '_')}").main(arguments[1:])


if __name__ == "__main__":
    main()
