"""What every metric shares: an image counts once, ranks merge, and data sets are drawn from the images."""

import pickle

import numpy as np
import pytest
from pocketvision.backbones.image_metric import ImageId, ImageMetric, draw_weights


def metric(**shares: int) -> ImageMetric[int]:
    made: ImageMetric[int] = ImageMetric()
    made._images = dict(shares)
    return made


def test_ranks_merge_and_images_they_share_count_once() -> None:
    parts = [metric(a=1, b=2), metric(c=3, a=1), metric()]
    merged = metric(forgotten=4)
    merged.merge([pickle.loads(pickle.dumps(part.state())) for part in parts])
    assert merged.state() == {"a": 1, "b": 2, "c": 3}
    merged.state().clear()  # a copy
    assert merged.images() == ["a", "b", "c"]
    merged.reset()
    assert merged.state() == {}
    merged.merge([])
    assert merged.images() == []


def test_numbers_stand_before_texts() -> None:
    mixed: ImageMetric[int] = ImageMetric()
    ids: list[ImageId] = ["b", 10, "a", 2]
    mixed._images = dict.fromkeys(ids, 0)
    assert mixed.images() == [2, 10, "a", "b"]


def test_draws_depend_on_the_seed_alone() -> None:
    weights = draw_weights(7, 3, 0)
    assert weights.sum(axis=1).tolist() == [7] * 3
    np.testing.assert_array_equal(weights, draw_weights(7, 3, 0))
    assert not np.array_equal(weights, draw_weights(7, 3, 1))
    np.testing.assert_array_equal(metric(a=0, b=0).drawn(3, 5, None), draw_weights(2, 3, 5))
    assert draw_weights(0, 3, 0).shape == (3, 0)
    with pytest.raises(ValueError, match="samples=0: expected 1 or more"):
        draw_weights(7, 0, 0)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weights must be \[samples, images\] = \[2, 1\], got \[2, 3\]"):
        metric(a=0).drawn(2, 0, np.ones((2, 3), int))
