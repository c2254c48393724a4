"""Packages that not everyone has installed."""

import sys
from importlib.util import find_spec
from typing import Any


def require(names: tuple[str, ...], *, installs: str, need: str) -> None:
    """Raise ValueError if a package is missing, with the requirement that `pip install` takes."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ValueError(f"{need} needs {', '.join(missing)}: pip install '{installs}'")


def extra(name: str) -> str:
    """The requirement with an extra of ours."""
    return f"pocketvision[{name}]"


def import_openvino() -> Any:
    """OpenVINO without its telemetry."""
    _without_telemetry()
    import openvino

    return openvino


def import_nncf() -> Any:
    """NNCF without OpenVINO's telemetry."""
    _without_telemetry()
    import nncf

    return nncf


def _without_telemetry() -> None:
    """Keep OpenVINO and NNCF from reporting every import to www.google-analytics.com.

    They do it by a package of its own, which they do without.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  its import fails
