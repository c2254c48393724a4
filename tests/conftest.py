"""Fixtures every test folder shares."""

import copy
import functools
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn

# Tests run side by side (pytest -n): threads of one would only wait for those of another.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first: the last ones would keep one process busy after the other has ended."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real photographs; tests that need it are skipped where POCKETVISION_DATA does not name one."""
    root = os.environ.get("POCKETVISION_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs real photographs: set POCKETVISION_DATA to the folder that holds coco_mini, bccd, camvid")
    return Path(root)


@pytest.fixture(scope="session")
def color_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folders of noise in three colours."""
    import cv2

    root, rng = tmp_path_factory.mktemp("color_photos"), np.random.default_rng(0)
    colors = {"blue": (255, 40, 40), "green": (40, 255, 40), "red": (40, 40, 255)}  # BGR
    for split, count in (("train", 8), ("val", 3)):
        for name, color in colors.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                picture = np.clip(rng.normal(0, 40, (40, 52, 3)) + color, 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / split / name / f"{i}.png"), picture)
    return root


@pytest.fixture(scope="session")
def training_keys(color_photos: Path) -> Callable[[str], tuple[str, ...]]:
    """The keys of a `trained_run`, besides its folder."""
    scenes = ("data.input_size=[64,64]", "data.num_train=4", "data.num_val=2", "batch_size=4", "epochs=8")
    recipes = {
        "detection": ("experiment=demo_detection", *scenes),
        "segmentation": ("experiment=demo_segmentation", *scenes),
        "classification": (
            "experiment=small_classification", f"data.root={color_photos}", "data.input_size=[32,32]", "batch_size=8",
            "epochs=10", "eval_every=1", "optimizer.lr=0.01", "backbone.bn_momentum=0.5", "ema_decay=0.5",
            "augment=flip",
        ),
    }  # fmt: skip
    return lambda kind: (*recipes[kind], "backbone.width=0.35", "workers=0", "device=cpu")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, training_keys: Callable) -> Callable[[str], Path]:
    """A tiny run of a task (detection, segmentation, classification), trained at the first call; only to be read."""
    from pocketvision.tools.config.build import compose
    from pocketvision.tools.train import train

    folder = tmp_path_factory.mktemp("trained")

    @functools.cache
    def trained(kind: str) -> Path:
        train(compose(*training_keys(kind), f"run_dir={folder / kind}"))
        return folder / kind

    return trained


@pytest.fixture(scope="session")
def quantized_keys(training_keys: Callable, trained_run: Callable[[str], Path]) -> tuple[str, ...]:
    """The keys of `quantized_run`, besides its folder."""
    trained = trained_run("classification")
    return (*training_keys("classification"), "quantize=openvino", f"weights={trained}", "epochs=2", "eval_every=1")


@pytest.fixture(scope="session")
def quantized_run(tmp_path_factory: pytest.TempPathFactory, quantized_keys: tuple[str, ...]) -> Path:
    """The tiny classifier trained in eight bits; only to be read."""
    from pocketvision.tools.config.build import compose
    from pocketvision.tools.train import train

    pytest.importorskip("nncf", reason="needs pip install 'pocketvision[int8]'")
    folder = tmp_path_factory.mktemp("quantized") / "run"
    train(compose(*quantized_keys, f"run_dir={folder}"))
    return folder


@pytest.fixture
def copied_run(trained_run: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a trained run, for tests that write into it."""
    return lambda kind: Path(shutil.copytree(trained_run(kind), tmp_path / f"{kind}_run"))


@pytest.fixture(scope="session")
def traced_once() -> Iterator[None]:
    """Exports trace a network once for each size and batch: most of their time goes there, whatever the format."""
    from pocketvision.tools.exporting import writers

    trace, known = writers.network_proto, {}

    def network_proto(run: Any, interface: Any) -> Any:
        tensors = (value.cpu().numpy().tobytes() for value in run.task.model.state_dict().values())
        network = str(run.config.backbone), str(run.config.model), hash(tuple(tensors))
        key = *network, interface.batch, interface.network_size
        if key not in known:
            known[key] = trace(run, interface)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "network_proto", network_proto)
        yield


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """caplog with the lines of our logger, which passes nothing on where a command has set it up."""
    log = logging.getLogger("pocketvision")
    before, log.propagate = (log.handlers, log.level, log.propagate), True
    with caplog.at_level(logging.INFO, logger="pocketvision"):
        yield caplog
    log.handlers, log.level, log.propagate = before


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@functools.cache
def _script(path: str) -> ModuleType:
    """A script beside the tests as a module, which others can import by its file's name."""
    file = Path(__file__).parent / f"{path}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tf_rule() -> ModuleType:
    """The rule by which names become weights and pictures."""
    return _script("assets/tf/rule")


@pytest.fixture(scope="session")
def memory() -> ModuleType:
    return _script("datasets/memory")


@pytest.fixture(scope="session")
def mutations() -> ModuleType:
    return _script("datasets/mutations")


@pytest.fixture(scope="session")
def damaged(mutations: ModuleType) -> ModuleType:
    return _script("tools/damaged")


class GraphWriter:
    """Encodes GraphDefs with TensorBoard's copy of TensorFlow's messages; encoded ones joined are one graph."""

    @staticmethod
    def tensor(shape: Sequence[int], *, dtype: int = 1, **values: Any) -> TensorProto:
        """`values` are `tensor_content`, `float_val` or `half_val`."""
        sizes = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
        return TensorProto(dtype=dtype, tensor_shape=sizes, **values)

    def array(self, array: np.ndarray) -> TensorProto:
        dtype = {"f4": 1, "f8": 2, "f2": 19}[array.dtype.str[1:]]
        return self.tensor(array.shape, dtype=dtype, tensor_content=array.tobytes())

    @staticmethod
    def node(name: str, op: str, tensor: TensorProto | None = None) -> bytes:
        """A node with a device, and a `dtype` beside its value."""
        attributes = {"dtype": AttrValue(type=1)}
        if tensor is not None:
            attributes["value"] = AttrValue(tensor=tensor)
        node = NodeDef(name=name, op=op, device="/cpu:0", attr=attributes)
        return GraphDef(node=[node]).SerializeToString(deterministic=True)

    def frozen(self, variables: Mapping[str, np.ndarray]) -> bytes:
        """What `convert_variables_to_constants` writes, with a constant of the graph and an input among them."""
        graph = self.node("image_tensor", "Placeholder")
        for name, array in variables.items():
            graph += self.node(name, "Const", self.array(array)) + self.node(f"{name}/read", "Identity")
        scale = self.array(np.array(2 / 255, np.float32))
        versions = GraphDef(versions=VersionDef(producer=27)).SerializeToString()
        return graph + self.node("Preprocessor/mul/x", "Const", scale) + versions


@pytest.fixture(scope="session")
def graph_writer() -> GraphWriter:
    return GraphWriter()


@pytest.fixture(scope="session")
def enliven() -> Callable[[nn.Module, Tensor], nn.Module]:
    """Return a function that gives a model weights with which every layer matters to the output.

    Freshly built networks put out nearly nothing in evaluation mode, and a parity test on them passes for any network.
    """

    def lively(model: nn.Module, images: Tensor) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
                    if layer.bias is not None:
                        layer.bias.normal_(0, 0.3, generator=generator)
            for norm in norms:
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.3, generator=generator)
                norm.momentum = 1.0  # the running statistics become this batch's ...
            model.train()(images)
            for norm in norms:  # ... and then differ from it
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean += torch.randn(norm.num_features, generator=generator) * norm.running_var.sqrt() * 0.2
                norm.running_var *= torch.rand(norm.num_features, generator=generator) + 0.5
        return model.double().eval()

    return lively
