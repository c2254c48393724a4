"""What other tools call our keys, and how they write values: answered with ours."""

from collections.abc import Collection

# ours: theirs
_THEIRS = {
    "data.input_size": ("imgsz", "img", "img_size", "image_size", "input_size", "crop_size", "resolution"),
    "data.root": ("root", "data_dir", "data_path", "dataset", "dataset_dir"),
    "data.num_classes": ("num_classes", "nc", "n_classes"),
    "data.classes": ("classes", "names"),
    "optimizer.lr": ("lr", "lr0", "learning_rate", "base_lr"),
    "optimizer.momentum": ("momentum",),
    "optimizer.weight_decay": ("weight_decay", "wd"),
    "schedule.warmup_epochs": ("warmup", "warmup_epochs", "lr_warmup_epochs"),
    "schedule": ("lr_scheduler", "scheduler"),
    "batch_size": ("batch", "bs", "train_batch_size"),
    "workers": ("num_workers", "nw"),
    "precision": ("amp", "half", "fp16", "bf16"),
    "weights": ("pretrained", "ckpt", "checkpoint_path"),
    "run_dir": ("project", "output_dir", "save_dir", "work_dir", "log_dir"),
    "save_every": ("save_period", "save_interval"),
    "clip_grad_norm": ("grad_clip", "clip_grad", "max_norm"),
    "ema_decay": ("ema", "model_ema"),
    "score_threshold": ("conf", "conf_thres", "confidence", "threshold"),
    "model.postprocess.max_iou": ("iou", "iou_thres", "nms", "nms_iou"),
    "model.postprocess.max_detections": ("max_det",),
    "inputs": ("source", "input", "images"),
    "run": ("resume_from", "load_from"),
}
_OURS = {theirs: ours for ours, names in _THEIRS.items() for theirs in names}


def our_key(theirs: str, known: Collection[str]) -> str | None:
    """Our name of another tool's key, if the command has it among its `known` keys."""
    ours = _OURS.get(theirs.lower().replace("-", "_"))
    return ours if ours and ours.partition(".")[0] in known else None


def our_choice(group: str, choice: str) -> str | None:
    """What to write for a file that other tools accept where we have the name of a group's choice."""
    ending = choice.lower().rpartition(".")[2]
    if group == "data" and ending in ("yaml", "yml"):
        return f"data=yolo data.root={choice}"
    if group == "data" and ending == "json":
        return f"data=coco_json data.train_json={choice} data.images=FOLDER"
    if group == "data" and "/" in choice:
        return f"data.root={choice}, with data= for its format"
    if group in ("model", "backbone") and ending in ("pt", "pth", "safetensors", "onnx"):
        return f"weights={choice} weights_source=NAME"
    return None


def as_override(argument: str) -> str:
    """`--epochs`, `--epochs=5` as the key that it means."""
    key, equals, value = argument.lstrip("-").partition("=")
    key = key.replace("-", "_")
    return f"{_OURS.get(key, key)}={value if equals else 'VALUE'}"
