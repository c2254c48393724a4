"""Opens torch.export files. Nothing in them can run code; `torch.export.load` alone unpickles and evaluates parts."""

import io
import json
import logging
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..engine.state import read_tensors
from ..system.zips import zip_fault
from .interface import EXTRA_FILE

_LEAST_TORCH = (2, 8)  # the first whose files have parts that can be checked one by one
_EARLIER = "serialized_exported_program.json"  # in files of earlier ones
_ABOUT = f"extra/{EXTRA_FILE}"
_PROGRAM, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": "weight_",
    "data/constants/model_constants_config.json": "tensor_",
}
_DATA = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_OTHERS = {
    *("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id"),
    *(".format_version", ".storage_alignment"),
}
# Operators that networks need, without overload and the underscore of those that write in place. None opens a file.
_ATEN = """
    __and__ __or__ _assert_scalar _assert_tensor_metadata _native_batch_norm_legit_no_training _softmax _to_copy
    _unsafe_view abs adaptive_avg_pool2d adaptive_max_pool2d add addcmul alias all amax amin any arange argmax
    argmin argsort avg_pool2d batch_norm bitwise_and bitwise_not bitwise_or bmm cat ceil channel_shuffle chunk
    clamp clamp_max clamp_min clone constant_pad_nd contiguous conv2d conv_transpose2d convolution copy cumsum
    detach div dropout elu eq exp expand expand_as fill flatten flip floor floor_divide full full_like gather ge
    gelu group_norm gt hardsigmoid hardswish hardtanh index index_fill index_put index_select instance_norm
    isfinite item layer_norm le leaky_relu lift_fresh_copy linear linspace log log_softmax logical_and
    logical_not logical_or lt masked_fill masked_select matmul max max_pool2d max_pool2d_with_indices maximum
    mean meshgrid min minimum mm mul narrow native_batch_norm ne neg new_full new_ones new_zeros nonzero
    nonzero_numpy numpy_T ones ones_like pad permute pixel_shuffle pow prelu prod promote_types reciprocal relu
    relu6 remainder repeat repeat_interleave reshape roll round rsqrt rsub scalar_tensor scatter select sigmoid
    sign silu slice softmax softplus sort split split_with_sizes sqrt square squeeze stack std sub sum
    sym_constrain_range sym_constrain_range_for_size sym_numel sym_size sym_storage_offset sym_stride t
    take_along_dim tanh tile to topk transpose tril triu type_as unbind unflatten unfold unsqueeze
    upsample_bilinear2d upsample_nearest2d var view view_as where zeros zeros_like
"""
_OTHER_OPERATORS = frozenset({
    "torch.ops.torchvision.nms.default",
    *(f"_operator.{name}" for name in (
        "add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul", "ne", "neg", "not_", "or_",
        "pos", "sub", "truediv",
    )),
    *(f"torch.{name}" for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not", "sym_ite")),
    *("math.ceil", "math.floor", "math.trunc"),
})  # fmt: skip
_FOREIGN = ("custom_obj", "as_custom_obj", "as_graph", "as_operator")  # parts of programs that are not of numbers
_DOTTED = ("parameter_name", "buffer_name", "tensor_constant_name", "fqn")
# torch evaluates expressions as Python: calls of these on symbols and numbers are all that it writes.
_FUNCTIONS = """
    Symbol Integer Float Rational Add Mul Max Min Mod FloorDiv ModularIndexing CleanDiv CeilDiv CeilToInt
    FloorToInt TruncToInt RoundToInt IntTrueDiv FloatTrueDiv ToFloat PythonMod Identity Eq Ne Gt Ge Lt Le
    Equality Unequality StrictGreaterThan StrictLessThan GreaterThan LessThan And Or Not Where
"""
_TOKEN = re.compile(r"\s+|'(?:s|u|zf|zuf)\d+'|([A-Za-z_]\w*)|\d+(?:\.\d*)?|[(),=+\-*/<>]", re.ASCII)
_SYMBOL = re.compile(r"(?:s|u|zf|zuf)\d+|positive|integer|nonnegative|finite|real|True|False")


class ForeignProgramError(ValueError):
    """The file holds what `pocketvision export` does not write, or no longer."""


def check_torch(need: str, *, instead: str) -> None:
    """Raise ValueError if the installed torch has another layout of files, and other operators of ONNX."""
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _LEAST_TORCH:
        raise ValueError(
            f"{need} needs torch 2.8 or later, but {torch.__version__} is installed: pip install --upgrade torch "
            f"torchvision, or {instead}"
        )


def open_program(path: Path) -> tuple[Any, str | None]:
    """The program of a torch.export file as a module, and the text of its metadata.

    torch loads a copy that holds checked members only: our weights and constants as plain numbers, the graph with
    operators of a network, no sample inputs.

    Raises:
        ForeignProgramError: it holds anything else, for instance a pickle.
    """
    if fault := zip_fault(path):
        raise ForeignProgramError(f"is damaged: {fault}")
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith(_EARLIER) for name in archive.namelist()):
            raise ForeignProgramError("is of a torch before 2.8, whose files hold pickles (torch 2.8 writes none)")
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    for name in members:
        if name not in {_PROGRAM, _SAMPLES, _ABOUT, *_CONFIGS, *_OTHERS} and not _DATA.fullmatch(name):
            raise ForeignProgramError(f"holds {name!r:.80}, which pocketvision export does not write")
    if samples := members.get(_SAMPLES):
        _check_samples(samples)
    program = {**json.loads(members[_PROGRAM]), "guards_code": []}  # our own checks of sizes are the predictor's
    _check(program, "")
    configs = {name: json.loads(members[name]) for name in _CONFIGS}
    for name, config in configs.items():
        _check_config(config, members, folder=name.rpartition("/")[0], prefix=_CONFIGS[name])
    checked = {name: json.dumps(content).encode() for name, content in {_PROGRAM: program, **configs}.items()}
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {**members, **checked, _SAMPLES: b""}.items():
            archive.writestr(f"model/{name}", content)
    copy.seek(0)
    about, log = members.get(_ABOUT), logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True  # it prints a traceback before it raises
    try:
        return torch.export.load(copy).module(), about.decode() if about else None
    finally:
        log.disabled = before


def _check_samples(content: bytes) -> None:
    """Files of earlier versions have sample inputs; they are not used."""
    try:
        read_tensors(io.BytesIO(content), label="the file's sample input", what="tensor")
    except ValueError as error:
        raise ForeignProgramError("holds sample inputs that are not tensors, and could run code") from error


def _check_config(config: Any, members: dict[str, bytes], *, folder: str, prefix: str) -> None:
    """Every tensor is given by its numbers, which the file has all of."""
    _check(config, "")
    for entry in config["config"].values():
        name, meta = entry["path_name"], entry["tensor_meta"]
        if entry["use_pickle"] is not False or not name.startswith(prefix):
            raise ForeignProgramError(f"holds pickled weights or constants ({name}), which could run code")
        count = math.prod(int(size["as_int"]) for size in meta["sizes"])
        if not 0 <= count <= len(members[f"{folder}/{name}"]):
            raise ForeignProgramError(f"has fewer numbers in {name} than its shape says")


def _check(value: Any, key: str) -> None:
    """Raise if anything in the program's JSON is not a number, a name or an expression of sizes."""
    if isinstance(value, dict):
        if "target" in value:
            _check_node(value)
        for name, item in value.items():
            if name in _FOREIGN and item:
                raise ForeignProgramError(f"has {name}, which pocketvision export does not write")
            _check_name(name, dotted=True)
            _check(item, name)
    elif isinstance(value, list):
        for item in value:
            _check(item, key)
    elif isinstance(value, str) and key in ("in_spec", "out_spec"):
        _check_tree(value)
    elif isinstance(value, str) and key == "expr_str":
        _check_expression(value)
    elif isinstance(value, str) and key not in ("target", "torch_version"):
        _check_name(value, dotted=key in _DOTTED)


def _check_node(node: dict[str, Any]) -> None:
    target = str(node["target"])
    aten = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.\w+", target, re.ASCII)
    if target not in _OTHER_OPERATORS and not (aten and {aten[1], aten[1].removesuffix("_")} & set(_ATEN.split())):
        raise ForeignProgramError(f"calls {target!r:.80}, which is not among the operators of our networks")
    node["metadata"] = {}  # where the code of each operator was
    for argument in node["inputs"]:
        if argument["name"] in ("msg", "assert_msg"):
            argument["arg"] = {"as_string": ""}


def _check_name(name: Any, *, dotted: bool) -> None:
    """torch generates Python code with these names."""
    if not re.fullmatch(r"[\w.]*" if dotted else r"\w*", str(name), re.ASCII) or "__" in str(name)[:2]:
        raise ForeignProgramError(f"has the name {name!r:.60}, which pocketvision export does not write")


def _check_expression(text: str) -> None:
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        word = token and token[1]
        if token is None or "**" in text or (word and word not in _FUNCTIONS.split() and not _SYMBOL.fullmatch(word)):
            raise ForeignProgramError(f"has the expression {text!r:.60}, which pocketvision export does not write")
        position = token.end()


def _check_tree(text: str) -> None:
    """How arguments and results are nested: tuples, lists and dicts of plain names."""
    if not text:
        return

    def check(tree: dict[str, Any]) -> None:
        context = json.loads(tree["context"]) if tree["context"] is not None else None
        if tree["type"] not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
            raise ForeignProgramError(f"has arguments of the type {tree['type']!r:.60}")
        for name in context or []:
            _check_name(name, dotted=False)
        for child in tree["children_spec"]:
            check(child)

    check(json.loads(text)[1])
