"""Tables of boxes are bounded."""

import pytest
from pocketvision.datasets.annotations import boxes
from pocketvision.datasets.annotations.boxes import TableBuilder
from pocketvision.datasets.labels import detection_labels


def test_far_too_many_boxes_of_one_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "MAX_BOXES", 3)
    builder = TableBuilder("train.json", detection_labels([(1, "cat", None)]))
    for name in ("a.png", "b.png"):
        builder.add_image(name, (9, 9))
        for _ in range(3):
            builder.add_box(1, (0, 0, 1, 1))
    assert len(builder.table().image) == 6
    with pytest.raises(ValueError, match=r"train\.json: a\.png has more than 3 boxes: is its annotation damaged\?"):
        builder.add_box(1, (0, 0, 1, 1), row=0)
