"""Pictures of faults."""

from pathlib import Path

import cv2
import numpy as np
from pocketvision.datasets.checking.reading import read_split
from pocketvision.datasets.mask_folder import MaskFolder
from pocketvision.tools.checking.pictures import _mask_picture
from pocketvision.tools.drawing.annotate import GREY, class_colors


def test_a_mask_in_colour_is_drawn_by_its_classes(tmp_path: Path) -> None:
    colors = np.array([[1, 2, 3], [200, 0, 0], [0, 0, 0]], np.uint8)  # RGB; black is ignored
    values = np.arange(24).reshape(4, 6) % 3
    for name, picture in (("images", np.zeros((4, 6, 3), np.uint8)), ("labels", colors[values][..., ::-1])):
        (tmp_path / "train" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "train" / name / "a.png"), picture)
    (tmp_path / "classes.csv").write_text("name,r,g,b\nsky,1,2,3\nroad,200,0,0\n")
    arguments = {"root": tmp_path, "classes": tmp_path / "classes.csv", "ignore_colors": [[0, 0, 0]]}
    contents = read_split(MaskFolder, arguments, labels=None, report=lambda fault: None)
    own = class_colors(contents.labels)
    expected = np.array([own[0], own[1], GREY], np.uint8)[values]
    np.testing.assert_array_equal(_mask_picture(contents.pictures[0].mask, contents), expected)
