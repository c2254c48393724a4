"""Deterministic weights from the names and shapes of a released state dict; numpy and zlib only.

Rule, `rng = np.random.default_rng(zlib.crc32(name.encode()))` for each name:
    weights with more than one dimension   rng.normal(0, sqrt(1.5 / fan_in)), fan_in = product of all dimensions but the first
    batch norm: weight, running_var        rng.uniform(0.5, 1.5)
    bias, running_mean                     rng.normal(0, 0.1)
    PReLU: weight                          rng.uniform(0, 0.5)
    num_batches_tracked                    0
A one-dimensional weight is batch norm's where the same layer has a running_mean, else PReLU's.

golden.npz, for each case (espnet, espnetv2, c3net):
    CASE_names   json [[name, shape], ...] of the released network's state dict
    CASE_logits  float32 [20, 6, 10]: its logits at the input's size, [:, 5::16, 3::16]
They come from the released code in float64 and evaluation mode, these weights loaded strictly, for the picture
image_u8("released", (96, 160, 3)) of ../tf/rule.py, normalised as each repository does it:
    espnet    sacmehta/ESPNet, test/Model.py, ESPNet(20, p=2, q=3)          blue, green, red: (x - mean) / std / 255
    espnetv2  sacmehta/EdgeNets, ESPNetv2Segmentation(s=0.5, classes=20, dataset="city")     ImageNet's mean and std
    c3net     clovaai/c3_sinet, models/C3.py, C3Net(20, p=2, q=2, D_rate=[2, 3, 7, 13], chnn=1)           as espnet
"""

import zlib

import numpy as np


def weights(specs):
    """float32 (num_batches_tracked: int64) arrays by name, from [[name, shape], ...]."""
    norms = {name.rpartition(".")[0] for name, _ in specs if name.endswith(".running_mean")}
    return {name: make(name, shape, is_norm=name.rpartition(".")[0] in norms) for name, shape in specs}


def make(name, shape, *, is_norm):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "weight" and len(shape) > 1:
        values = rng.normal(0, np.sqrt(1.5 / np.prod(shape[1:])), shape)
    elif leaf == "running_var" or (leaf == "weight" and is_norm):
        values = rng.uniform(0.5, 1.5, shape)
    elif leaf == "weight":
        values = rng.uniform(0, 0.5, shape)
    elif leaf in ("bias", "running_mean"):
        values = rng.normal(0, 0.1, shape)
    else:
        raise KeyError(name)
    return values.astype(np.float32)
