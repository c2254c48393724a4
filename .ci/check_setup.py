"""What an installation needs beyond pip: cv2 imports, and the two packages that share its folder have one version."""

import importlib.metadata
import sys


def check() -> str | None:
    """The problem in words a user can act on, or None."""
    versions = {}
    for name in ("opencv-python", "opencv-python-headless"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(set(versions.values())) > 1:
        newest = versions["opencv-python"]
        return (
            f"opencv-python {newest} and opencv-python-headless {versions['opencv-python-headless']} share the folder "
            f"cv2 and must be of one version: pip install opencv-python-headless=={newest}"
        )
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        return (
            f"import cv2 fails: {error}\nopencv needs system libraries here; on Debian and Ubuntu: "
            "apt-get install libgl1 libglib2.0-0 (on Fedora: dnf install mesa-libGL glib2)"
        )
    return None


if __name__ == "__main__":
    sys.exit(check())
