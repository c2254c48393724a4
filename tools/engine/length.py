"""How long to train where nobody said: by the number of photographs."""

import math

EPOCHS_AT_300 = 40
FEWEST, MOST = 20, 240


def epochs_for(num_images: int) -> int:
    """Epochs for so many training images: 40 for 300, 160 for 75, 20 for 1,200; 20 to 240.

    Below 300 as many steps as with 300, for fewer photographs need no fewer to learn from; above, by the inverse square
    root, so that four times the photographs take twice the steps.
    """
    share = 300 / max(1, num_images)
    return min(MOST, max(FEWEST, round(EPOCHS_AT_300 * (share if share > 1 else math.sqrt(share)))))
