"""Text on pictures, measured and drawn by OpenCV."""

import unicodedata

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HAS_UNICODE = int(cv2.__version__.split(".")[0]) >= 5


def fitting_scale(text: str, scale: float, width: int) -> float:
    """`scale`, or less if the text would be wider than `width` (with 2 pixels for rounding)."""
    return scale * min(1.0, max(1, width - 2) / max(1, text_size(text, scale)[0]))


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Width of the text and height of a line, descenders included, in pixels."""
    (_, ascent), descent = cv2.getTextSize("Ag", _FONT, scale, _weight(scale))
    (width, _), _ = cv2.getTextSize(drawable(text), _FONT, scale, _weight(scale))
    return width, ascent + descent


def put_text(canvas: np.ndarray, text: str, corner: tuple[int, int], scale: float, color: tuple[int, int, int]) -> None:
    """Draw one line of text with its upper left corner at (x, y)."""
    (_, ascent), _ = cv2.getTextSize("Ag", _FONT, scale, _weight(scale))
    cv2.putText(
        canvas, drawable(text), (corner[0], corner[1] + ascent), _FONT, scale, color, _weight(scale), cv2.LINE_AA
    )


def drawable(text: str) -> str:
    """OpenCV 5 supports most scripts, OpenCV 4 only ASCII: accents are dropped, the rest becomes question marks."""
    if _HAS_UNICODE:
        return text
    letters = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def _weight(scale: float) -> int:
    return max(1, round(1.5 * scale))
