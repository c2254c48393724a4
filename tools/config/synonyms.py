"""What other tools call our keys, and how they write values: answered with ours.

Others: ultralytics, torchvision's reference scripts, OpenMMLab's toolboxes, Keras and timm.
"""

from collections.abc import Collection

# Ours -> theirs. Where two of ours share a name of theirs, a command's answer is the first that it has.
_THEIRS = {
    # data
    "data.input_size": "imgsz img img_size image_size input_size crop_size train_crop_size img_scale resolution",
    "data.eval_size": "base_size val_crop_size val_resize_size test_size eval_crop_size",
    "data.root": "root data_dir data_path data_root dataset_dir train_dir path",
    "data": "dataset dataset_type data_type",
    "data.num_classes": "num_classes nc n_classes number_of_classes",
    "data.train.limit": "fraction subset",
    "data.ignore_ids": "ignore_index ignore_label void_label reduce_zero_label",
    "classes": "filter_classes",
    "data.classes": "classes names class_names metainfo palette",
    # optimization
    "optimizer": "opt optim optim_wrapper",
    "optimizer.lr": "lr lr0 learning_rate base_lr initial_lr",
    "optimizer.momentum": "momentum",
    "optimizer.betas": "betas beta1",
    "optimizer.weight_decay": "weight_decay wd decay",
    "decay_rule": "norm_weight_decay bias_weight_decay bias_decay_mult paramwise_cfg",
    "lr_factors": "backbone_lr lr_mult",
    "lr_batch_size": "nbs auto_scale_lr base_batch_size",
    "schedule": "lr_scheduler scheduler sched cos_lr lr_config param_scheduler lr_policy",
    "schedule.final_factor": "lrf lr_min min_lr eta_min",
    "schedule.warmup_epochs": "warmup warmup_epochs lr_warmup_epochs warmup_iters warmup_steps",
    "schedule.warmup_factor": "warmup_bias_lr lr_warmup_decay warmup_lr warmup_ratio",
    "schedule.milestones": "lr_steps milestones lr_milestones",
    "schedule.gamma": "lr_gamma gamma",
    "schedule.every_epochs": "lr_step_size step_size decay_epochs",
    "schedule.power": "power lr_power",
    "clip_grad_norm": "grad_clip clip_grad max_norm gradient_clip_val",
    "ema_decay": "ema model_ema model_ema_decay",
    "batch_norm": "sync_bn syncbn sync_batchnorm norm_eval norm_cfg",
    "freeze": "freeze_layers frozen_stages trainable_backbone_layers freeze_backbone",
    "patience": "early_stopping early_stop",
    # the run
    "epochs": "max_epochs num_epochs n_epochs total_epochs",
    "max_steps": "iters max_iters total_iters num_steps num_train_steps total_itrs",
    "batch_size": "batch bs b train_batch_size samples_per_gpu imgs_per_gpu batch_per_gpu batchsize",
    "eval_batch_size": "val_batch_size test_batch_size",
    "accumulate": "gradient_accumulation_steps accumulate_grad_batches accumulation_steps accumulative_counts",
    "workers": "num_workers nw j workers_per_gpu",
    "precision": "amp half fp16 bf16 mixed_precision int8",
    "compile": "torch_compile",
    "device": "gpu gpus gpu_id gpu_ids",
    "seed": "random_seed rng_seed manual_seed",
    "weights": "pretrained ckpt checkpoint_path pretrain load_from weights_backbone init_checkpoint finetune",
    "run_dir": "project output_dir save_dir work_dir log_dir out_dir logdir save_path",
    "output": "project output_dir save_dir work_dir out_dir out results_dir show_dir",
    "log_every": "print_freq log_interval log_period print_interval",
    "save_every": "save_period save_interval checkpoint_interval checkpoint_period save_freq",
    "eval_every": "val_interval eval_interval eval_period val_every val_period eval_freq",
    "keep_last": "max_keep_ckpts keep_checkpoint_max",
    "cache": "cache_dataset cache_images",
    "overfit": "overfit_batches",
    "experiment": "cfg config hyp cfg_file config_file recipe",
    # augmentation and model
    "augment": "data_augmentation auto_augment transforms hsv_h hsv_s hsv_v degrees translate scale shear perspective "
               "fliplr flipud crop_fraction erasing train_pipeline",
    "augment.mosaic": "mosaic close_mosaic",
    "model.network.dropout": "dropout drop_rate",
    "backbone": "backbone_name encoder arch",
    "backbone.width": "width width_mult width_multiple alpha multiplier depth_multiplier",
    "backbone.output_stride": "output_stride",
    "model.criterion.label_smoothing": "label_smoothing smoothing",
    "model.criterion.box_weight": "box box_loss_weight",
    "model.criterion.class_weight": "cls cls_loss_weight",
    "model.criterion.class_weights": "class_weights class_weight",
    "model.criterion.ohem_threshold": "ohem ohem_thresh",
    "model.postprocess.max_iou": "iou iou_thres nms nms_iou nms_thresh iou_threshold nms_threshold",
    "model.postprocess.max_detections": "max_det max_per_img detections_per_img max_boxes",
    "model.postprocess.min_score": "score_thresh score_thr box_score_thresh min_confidence",
    # other commands
    "score_threshold": "conf conf_thres confidence threshold conf_threshold score_thr confidence_threshold vis_thresh",
    "inputs": "source input images img_path image video file_path",
    "every": "vid_stride frame_stride",
    "write": "save save_txt save_crop save_conf save_json save_csv",
    "coco_results": "save_json outfile_prefix",
    "run": "model_path trained_model checkpoint_file resume_from load_from",
    "flip": "augment tta mirror",
    "scales": "multi_scale ms scale_factors",
    "report": "plots plot",
    "batch": "dynamic dynamic_axes",
    "format": "export_format include",
    "split": "val_split eval_split",
}  # fmt: skip
# What has no key here, and what to do instead.
_SENTENCES = {
    "resume auto_resume resume_training": "run the same command again: a run with this name= goes on where it stopped",
    "exist_ok overwrite": "the same name= resumes its run; choose another name= to start over",
    "test_only eval_only evaluate only_eval": "use pocketvision evaluate run=RUN",
    "cfg_options options opts": "write the keys themselves, as KEY=VALUE",
    "world_size dist_url launcher local_rank gpus_per_node nproc_per_node": "start several processes with torchrun "
    "--nproc_per_node=N -m pocketvision train ...",
    "aspect_ratio_group_factor rect": "there is no such key, as all images of a batch are resized to one size",
    "start_epoch last_epoch": "there is no such key, as a run resumes at the step where it stopped",
    "mixup mixup_alpha copy_paste cutmix cutmix_alpha": "there is no such augmentation here; see augment=",
    "agnostic_nms single_cls": "there is no such key: every class is suppressed on its own",
    "opset simplify": "there is no such key: export writes a verified graph as it is",
    "show view_img visualize stream_buffer": "nothing is shown in a window: pictures are written to output=FOLDER",
}
_OURS: dict[str, list[str]] = {}
for _ours, _names in _THEIRS.items():
    for _name in _names.split():
        _OURS.setdefault(_name, []).append(_ours)
_ANSWERS = {name: sentence for names, sentence in _SENTENCES.items() for name in names.split()}


def our_keys(theirs: str) -> list[str]:
    """Our names of another tool's key, which may stand inside groups (`data.samples_per_gpu`)."""
    return _OURS.get(theirs.lower().replace("-", "_").rpartition(".")[2], [])


def our_key(theirs: str, known: Collection[str]) -> str | None:
    """Our name of another tool's key, if the command has it among its `known` keys."""
    return next((ours for ours in our_keys(theirs) if ours.partition(".")[0] in known), None)


def our_sentence(theirs: str) -> str | None:
    """What to do instead of setting a key for which there is none here."""
    return _ANSWERS.get(theirs.lower().replace("-", "_").rpartition(".")[2])


# Other tools' names of networks -> the closest of ours.
_NETWORKS = {
    "ssdlite320_mobilenet_v3_large": "model=ssdlite_torchvision weights=torchvision",
    "lraspp_mobilenet_v3_large": "model=lraspp_torchvision weights=torchvision",
    "mobilenet_v3_large": "backbone=mobilenet_v3_large",
    "mobilenet_v3_small": "backbone=mobilenet_v3_small",
    "mobilenet_v2": "backbone=mobilenet_v2",
    "mobilenetv3_large_100": "backbone=mobilenet_v3_large weights=timm/mobilenetv3_large_100",
    "mobilenetv2_100": "backbone=mobilenet_v2 weights=timm/mobilenetv2_100",
}


def our_choice(group: str, choice: str) -> str | None:
    """What to write for a file that other tools accept where we have the name of a group's choice."""
    name, _, ending = choice.lower().rpartition(".")
    if group == "data" and ending in ("yaml", "yml"):
        return f"data=yolo data.root={choice}"
    if group == "data" and ending == "json":
        return f"data=coco_json data.train_json={choice} data.images=FOLDER"
    if group == "data" and "/" in choice:
        return f"data.root={choice}, with data= for its format"
    if group in ("model", "backbone") and choice.lower() in _NETWORKS:
        return _NETWORKS[choice.lower()]
    if group == "model" and (name or ending).rpartition("/")[2].startswith(("yolo", "rtdetr", "fasterrcnn", "deeplab")):
        return "experiment=small_detection or experiment=small_segmentation: such networks are not part of Pocketvision"
    if group in ("model", "backbone") and ending in ("pt", "pth", "safetensors", "onnx"):
        return f"weights={choice} weights_source=NAME"
    return None


def instead_of_option(argument: str, known: Collection[str]) -> str:
    """What to write instead of `--epochs` or `--epochs=5` in a command with these keys."""
    key, equals, value = argument.lstrip("-").partition("=")
    key = key.replace("-", "_")
    if key not in known and (sentence := our_sentence(key)):
        return sentence
    ours = key if key in known or "." in key else our_key(key, known) or next(iter(our_keys(key)), key)
    return f"keys have no dashes, write {ours}={value if equals else 'VALUE'}"
