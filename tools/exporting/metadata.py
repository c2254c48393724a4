"""An exported file's metadata: enough to use it without the run, and for `evaluate file=` to find the data."""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from torch import nn

from ..predicting.interface import Interface, Padding, example_outputs
from ..runs.loaded import LoadedRun
from .outputs import output_types

MEANINGS = {
    "boxes": "x1, y1, x2, y2 in pixels of the input, best first",
    "scores": "best first",
    "labels": "slots, see classes",
    "counts": "number of detections per image; the rows after them are zeros",
    "label_map": "the slot of every pixel, see classes; 255 is no class",
    "class_logits": "for every anchor and slot; slot 0 is the background",
    "box_deltas": "dx, dy, dw, dh for every anchor",
    "anchors": "x1, y1, x2, y2 in pixels of the network's input",
    "logits": "for every class",
    "location": "dy, dx, dh, dw for every anchor",
    "score": "for every anchor and class, without the background: logits, or probabilities after a softmax",
    "segmentation_masks": "logits for every pixel and class",
}


def describe_file(
    run: LoadedRun, interface: Interface, *, config: Mapping[str, Any], format: str, precision: str, source: str
) -> dict[str, Any]:
    """Plain JSON: task, input, outputs, classes, thresholds, and the configuration of the run.

    Args:
        config: the run's configuration as plain values, with unresolved references.
        source: the run, as given by the user.
    """
    task, constants = run.task, cast(Any, run.task.model).normalize.constants
    outputs = {
        name: {"dtype": dtype, "shape": shape, "meaning": MEANINGS[name]}
        for name, dtype, shape in output_types(run, interface)
    }
    if format == "coreml" and "label_map" in outputs:
        outputs["label_map"]["dtype"] = "int32"  # it has no outputs of eight bits
    settings = dict(vars(task.postprocess))
    if task.kind == "detection":
        settings["candidates"] = interface.candidates
    about: dict[str, Any] = {
        "pocketvision": importlib.metadata.version("pocketvision"),
        "task": task.kind,
        "format": format,
        "precision": precision,
        "run": source,
        "step": run.step,
        "input": {
            "name": interface.name,
            "dtype": interface.dtype,
            "shape": interface.shape,
            "channels": f"RGB, 0 to {1 if interface.dtype == 'float32' else 255}",
        },
        "outputs": outputs,
        "resize": interface.resize if interface.input == "photo" else "none",
        "network_size": interface.network_size,
        "mean": constants["mean"],
        "std": constants["std"],
        "postprocess": settings,
        "classes": {str(slot): name for slot, name in task.labels.names.items()},
        "source_ids": {str(slot): number for slot, number in task.labels.source_ids.items()},
        "labels": task.labels.to_json(),
        "interface": asdict(interface),
        "config": config,
        "weights_sha256": fingerprint(task.model),
    }
    if task.kind == "segmentation":
        about["padding"] = asdict(Padding.of(task.model))
    if task.kind == "detection" and interface.portable and interface.outputs != "final":
        about["anchors"] = example_outputs(run, interface)["anchors"].tolist()
    return json.loads(json.dumps(about))


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of all tensors and their names; neither the device nor the memory layout matters."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
