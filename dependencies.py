"""One line with the remedy for a package that is missing or does not load. Imports no other module of the package."""

import re
import sys
import traceback
from pathlib import Path
from types import TracebackType

# The names that are imported -> what pip installs, with the versions that pyproject.toml allows.
PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy>=2",
    "cv2": "opencv-python-headless",
    "pycocotools": "pycocotools",
    "albumentations": "albumentations>=2.0.8,<2.1",
    "hydra": "hydra-core>=1.3.6,<1.4",
    "omegaconf": "omegaconf",
    "yaml": "pyyaml",
    "defusedxml": "defusedxml",
    "safetensors": "safetensors",
    "tensorboard": "tensorboard",
    "tqdm": "tqdm",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "scipy": "scipy",
}
_OPENCV = (
    "install OpenCV without windows (pip uninstall -y opencv-python opencv-python-headless; pip install "
    "opencv-python-headless) or the system's package (apt-get install libgl1 libglib2.0-0)"
)
_LIBRARY = re.compile(r"(\S+\.so[.\d]*): cannot open shared object file")
_TORCHVISION = re.compile(
    r"operator torchvision::\w+ does not exist|Couldn't load custom C\+\+ ops|"
    r"'torchvision' has no attribute 'extension'"
)
_NUMPY = re.compile(r"numpy\.\w+ size changed|multiarray failed to import|compiled using NumPy 1|_ARRAY_API not found")
_IMPORTERS = ("hydra", "omegaconf")  # import what a configuration names, also a user's own classes
_ROOT = Path(__file__).resolve().parent


def explained(error: BaseException | None) -> str | None:
    """What is wrong with which package, and the command that fixes it; None for any other error.

    Errors that another one wraps count, too.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:  # one may be its own cause
        if told := _explained(error):
            return told
        seen.append(error)
        error = error.__cause__
    return None


def _explained(error: BaseException) -> str | None:
    text = str(error).strip()
    if _TORCHVISION.search(text):
        return (
            "torchvision was built for another version of torch: install the two together, pip install --upgrade "
            "--force-reinstall torch torchvision (from the index that torch came from)"
        )
    package = _package_of(error)
    if _NUMPY.search(text) and package in PACKAGES:
        return _broken(package, text, "it was built for another version of NumPy")
    if not isinstance(error, ImportError):
        return None
    if found := _LIBRARY.search(text):
        if package == "cv2" or re.match(r"lib(GL|gthread|glib|SM|Xext|Xrender|X11|xcb)\b", found[1]):
            return f"OpenCV needs {found[1]}, which this system does not have: {_OPENCV}"
        if package in PACKAGES:
            return _broken(package, text, f"this system has no {found[1]}")
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == name and name in PACKAGES:
        return f"the package {name} is not installed: pip install '{PACKAGES[name]}'"
    if package in (None, *_IMPORTERS):
        return None
    if isinstance(error, ModuleNotFoundError) and name not in (package, *PACKAGES):
        return f"the package {name} is not installed, which {package} needs: pip install {name}"
    package = name if name in PACKAGES else package
    return _broken(package, text, "it is damaged or of another version") if package in PACKAGES else None


def _broken(package: str, text: str, why: str) -> str:
    told = text.splitlines()[0] if text else why
    return (
        f"the package {package} cannot be loaded ({told}): {why}; pip install --force-reinstall '{PACKAGES[package]}'"
    )


def _package_of(error: BaseException) -> str | None:
    """The installed package in whose files the error was raised."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        place = max((i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages")), default=-1)
        if place >= 0:
            return parts[place + 1].removesuffix(".py")
    return None


def install() -> None:
    """Print one line instead of a traceback where a file of tools/ is run as a program."""
    if sys.argv[:1] != ["-m"] and Path(sys.argv[0] if sys.argv else "").resolve().parent != _ROOT / "tools":
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        program = Path(str(getattr(sys.modules.get("__main__"), "__file__", ""))).resolve()
        told = explained(error) if program.parent == _ROOT / "tools" else None
        if told is None:
            before(kind, error, trace)
        else:
            print(f"pocketvision {program.stem.replace('_', '-')}: error: {told}", file=sys.stderr)

    sys.excepthook = hook
