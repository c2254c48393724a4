"""How long to train where nobody said: by the number of photographs."""

import math

EPOCHS_AT_300 = 40
FEWEST, MOST = 12, 120


def epochs_for(num_images: int) -> int:
    """Epochs of a fine-tuning on so many training images: 40 for 300, by the inverse square root for others, 12 to 120.

    So twice the photographs get 1.4 times the steps: few are seen often enough to learn from, many do not cost days.
    """
    return min(MOST, max(FEWEST, round(EPOCHS_AT_300 * math.sqrt(300 / max(1, num_images)))))
