"""Entry points for torch.hub: models directly from GitHub or from a clone, without installing the package.

    model = torch.hub.load("OWNER/pocketvision", "ssdlite_torchvision")
    model = torch.hub.load("/path/to/clone", "load", "runs/mine", source="local")
    model("photo.jpg").boxes

The repository root is the package. A clone's folder may have any name: it is imported as `pocketvision`.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# torch.hub checks for these packages before it calls anything.
dependencies = ["torch", "torchvision", "numpy", "cv2", "pycocotools", "albumentations", "hydra", "safetensors", "tqdm"]

_ROOT = Path(__file__).resolve().parent


def load(
    run: str | Path,
    *,
    checkpoint: str = "best",
    weights: str | Path | None = None,
    weights_source: str = "pocketvision",
    overrides: Sequence[str] = (),
    device: str = "cpu",
    optimize: bool = False,
) -> Any:
    """`pocketvision.load`: a training run, a published network or an exported file, as a callable.

    `weights_source` is that function's `source`, a name that torch.hub reserves for itself.
    """
    return _package().load(
        run, checkpoint=checkpoint, weights=weights, source=weights_source, overrides=overrides, device=device,
        optimize=optimize,
    )  # fmt: skip


def ssdlite_torchvision(
    *, weights: str | Path = "torchvision", weights_source: str = "torchvision", device: str = "cpu"
) -> Any:
    """torchvision's SSDLite for COCO's classes, with its weights (downloaded, or a file)."""
    return load("ssdlite_torchvision", weights=weights, weights_source=weights_source, device=device)


def lraspp_torchvision(
    *, weights: str | Path = "torchvision", weights_source: str = "torchvision", device: str = "cpu"
) -> Any:
    """torchvision's LR-ASPP for VOC's classes, with its weights (downloaded, or a file)."""
    return load("lraspp_torchvision", weights=weights, weights_source=weights_source, device=device)


def _backbone(name: str, variant: Mapping[str, Any]) -> Callable[..., Any]:
    def build(
        *,
        weights: str | Path | None = None,
        weights_source: str = "pocketvision",
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """The backbone: takes normalized images [B, 3, H, W] and returns a dict of feature maps (`feature_specs`).

        Args:
            weights: ImageNet weights: `torchvision`, `timm/NAME`, or a file in the format `weights_source`; None:
                random.
            options: constructor arguments, such as `{"output_stride": 16, "width": 0.5}`.
        """
        from torch import nn

        package = _package()
        module, _, kind = name.partition(".")
        make = getattr(importlib.import_module(f"pocketvision.backbones.{module}"), kind)
        backbone = make(**{**variant, **(options or {})})
        if weights is not None:
            package.load_weights(nn.ModuleDict({"backbone": backbone}), weights, source=weights_source)
        return backbone.eval()

    return build


def _package() -> ModuleType:
    """This folder as the package `pocketvision`.

    Raises:
        ImportError: this process has already loaded another copy under that name.
    """
    package = sys.modules.get("pocketvision")
    if package is None:
        spec = importlib.util.spec_from_file_location("pocketvision", _ROOT / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        package = sys.modules["pocketvision"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    found = Path(str(package.__file__)).resolve().parent
    if found != _ROOT:
        raise ImportError(f"pocketvision is already loaded from {found}, not from {_ROOT}: start a new process")
    return package


mobilenet_v3_large = _backbone("mobilenet_v3.MobileNetV3", {"variant": "large"})
mobilenet_v3_small = _backbone("mobilenet_v3.MobileNetV3", {"variant": "small"})
mobilenet_v2 = _backbone("mobilenet_v2.MobileNetV2", {})
