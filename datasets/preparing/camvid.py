"""Converts CamVid's masks, in any of their published forms, to indices of the 11 evaluated classes."""

import re

import cv2
import numpy as np

from ..images.decode import mask_from_bytes
from ..images.headers import check_picture, png_header

VOID = 11
_MAX_PIXELS = 1 << 24
_MAX_UNKNOWN = 0.01  # fraction of a picture's pixels; they become void

# The 32 annotated classes with their colors, in the order of label_colors.txt, each with its class of the 11 (SegNet's
# grouping, as listed in MathWorks' camvidPixelLabelIDs).
# fmt: off
CLASSES: dict[str, tuple[tuple[int, int, int], int]] = {
    "Animal": ((64, 128, 64), 9), "Archway": ((192, 0, 128), 1), "Bicyclist": ((0, 128, 192), 10),
    "Bridge": ((0, 128, 64), 1), "Building": ((128, 0, 0), 1), "Car": ((64, 0, 128), 8),
    "CartLuggagePram": ((64, 0, 192), 9), "Child": ((192, 128, 64), 9), "Column_Pole": ((192, 192, 128), 2),
    "Fence": ((64, 64, 128), 7), "LaneMkgsDriv": ((128, 0, 192), 3), "LaneMkgsNonDriv": ((192, 0, 64), 3),
    "Misc_Text": ((128, 128, 64), 6), "MotorcycleScooter": ((192, 0, 192), 10), "OtherMoving": ((128, 64, 64), 8),
    "ParkingBlock": ((64, 192, 128), 4), "Pedestrian": ((64, 64, 0), 9), "Road": ((128, 64, 128), 3),
    "RoadShoulder": ((128, 128, 192), 4), "Sidewalk": ((0, 0, 192), 4), "SignSymbol": ((192, 128, 128), 6),
    "Sky": ((128, 128, 128), 0), "SUVPickupTruck": ((64, 128, 192), 8), "TrafficCone": ((0, 0, 64), 2),
    "TrafficLight": ((0, 64, 64), 6), "Train": ((192, 64, 128), 8), "Tree": ((128, 128, 0), 5),
    "Truck_Bus": ((192, 128, 192), 8), "Tunnel": ((64, 0, 64), 1), "VegetationMisc": ((192, 192, 0), 5),
    "Void": ((0, 0, 0), VOID), "Wall": ((64, 192, 0), 1),
}
# fmt: on


def split_of(frame: str) -> str | None:
    """train, val or test for a frame such as `0016E5_07959`: SegNet's 367, 101 and 233; None for any other name."""
    match = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d{5,6})", frame)
    if not match:
        return None
    sequence, number = match[1], int(match[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and number > 8520):
        return "test"
    if sequence == "0016E5" and 7959 <= number <= 8159:  # the section that is labeled at 15 frames per second
        return "val"
    return "train"


def from_colors(content: bytes, name: str) -> bytes:
    """A color mask as a PNG of class indices, 11 for void.

    Raises:
        ValueError: it cannot be decoded, or more than 1 % of the pixels have colors other than CamVid's.
    """
    picture: np.ndarray | None = cv2.imdecode(_checked(content, name), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{name} cannot be decoded: it is corrupt")
    strange = (picture & 63).any(axis=2)
    step = picture >> 6  # each channel is 0, 64, 128 or 192: 64 colors, of which 32 are classes
    index = step[..., 2] << 4 | step[..., 1] << 2 | step[..., 0]  # BGR
    mask = _COLOR_TABLE[index]
    strange |= mask == 255
    if strange.mean() > _MAX_UNKNOWN:
        raise ValueError(f"{name}: {strange.mean():.0%} of its pixels have colors that are not CamVid labels")
    mask[strange] = VOID
    return _png(mask)


def from_numbers(content: bytes, name: str) -> bytes:
    """A mask with indices of the 32 classes (fast.ai's copy) as a PNG with indices of the 11 classes.

    Raises:
        ValueError: it cannot be decoded, or contains other values.
    """
    mask = _NUMBER_TABLE[mask_from_bytes(_checked(content, name), name)]
    if (mask == 255).any():
        raise ValueError(f"{name} contains values above {len(CLASSES) - 1}: expected indices of CamVid's 32 classes")
    return _png(mask)


def checked_numbers(content: bytes, name: str) -> bytes:
    """The same mask, if it contains only indices of the 11 classes and void.

    Raises:
        ValueError: it cannot be decoded, or contains other values.
    """
    highest = int(mask_from_bytes(_checked(content, name), name).max())
    if highest > VOID:
        raise ValueError(f"{name} contains the value {highest}: expected class indices 0 to 10, and {VOID} for void")
    return content


def _checked(content: bytes, name: str) -> np.ndarray:
    """The bytes of a PNG that is no larger than CamVid's."""
    data = np.frombuffer(content, np.uint8)
    header = png_header(data)
    if header is None:
        raise ValueError(f"{name} is not a PNG: expected a mask")
    if header.size[0] * header.size[1] > _MAX_PIXELS:
        raise ValueError(f"{name} declares {header.size[1]}x{header.size[0]} pixels: too large for a CamVid mask")
    check_picture(data, name)
    return data


def _png(mask: np.ndarray) -> bytes:
    return cv2.imencode(".png", mask)[1].tobytes()


def _color_table() -> np.ndarray:
    table = np.full(64, 255, np.uint8)
    for (red, green, blue), number in CLASSES.values():
        table[(red >> 6) << 4 | (green >> 6) << 2 | blue >> 6] = number
    return table


_COLOR_TABLE = _color_table()
_NUMBER_TABLE = np.full(256, 255, np.uint8)
_NUMBER_TABLE[: len(CLASSES)] = [number for _, number in CLASSES.values()]
