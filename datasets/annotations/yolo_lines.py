"""What the numbers of a YOLO line after the class are: a box, an outline, or a box and something else."""

_BEYOND = 0.01  # how far a number may lie outside 0..1: rounding, and tools that let boxes extend over the edge
_MIDDLE = (0.2, 0.8)  # where a box's center lies in the range of its landmarks; rarely so an outline's first corner
_MIN_LINES, _CENTERED, _INSIDE = 2, 0.3, 0.8  # lines that look like landmarks, and their shares

Box = tuple[float, float, float, float]


def box_of(numbers: list[float], *, keypoints: bool) -> Box | None:
    """cx, cy, w, h from the numbers after the class."""
    if len(numbers) == 4 or (keypoints and len(numbers) > 4):
        cx, cy, w, h = numbers[:4]
        return cx, cy, w, h
    if len(numbers) < 6 or len(numbers) % 2:
        return None
    xs, ys = numbers[0::2], numbers[1::2]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)


def outside(numbers: list[float]) -> list[float]:
    """Those that are no fractions."""
    return [number for number in numbers if not -_BEYOND <= number <= 1 + _BEYOND]


def is_box(numbers: list[float]) -> bool:
    """Whether the first four numbers can be a box inside the picture."""
    cx, cy, w, h = numbers[:4]
    return min(w, h) > 0 and not outside([cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2])


class Outlines:
    """Judges all outlines of a dataset together: some of them may look like a box with landmarks by chance."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""  # the place of the first line
        self._lengths: set[int] = set()
        self._inside = self._centered = self._tracks = 0

    def add(self, texts: list[str], numbers: list[float], where: str) -> None:
        """A line with `numbers` (from `texts`) after the class."""
        self.count += 1
        self.first = self.first or where
        self._lengths.add(len(numbers))
        if not is_box(numbers):
            return
        self._tracks += len(numbers) == 6 and texts[-1].isdecimal()
        points = [pair for pair in zip(numbers[4::2], numbers[5::2], strict=True) if pair != (0, 0)]
        centered = inside = bool(points)
        for axis in (0, 1):
            center, half = numbers[axis], numbers[axis + 2] / 2 + _BEYOND
            low, high = min((pair[axis] for pair in points), default=0), max((pair[axis] for pair in points), default=0)
            inside = inside and center - half <= low <= high <= center + half
            span = high - low
            centered = centered and low + _MIDDLE[0] * span < center < low + _MIDDLE[1] * span
        self._inside += inside
        self._centered += inside and centered

    def problem(self) -> str:
        """Why they are no outlines; empty if they are."""
        if len(self._lengths) != 1:
            return ""
        length = next(iter(self._lengths))
        if self._tracks == self.count:
            return (
                "has a box, a fraction and a whole number, as all lines with six numbers: a confidence and a track, "
                "no outline. Remedy: keep the class and the box"
            )
        if self._centered < max(_MIN_LINES, _CENTERED * self.count) or self._inside < _INSIDE * self.count:
            return ""
        points = (length - 4) // 2
        return (
            f"has {length} numbers after the class: the first four are a box around the others, in {self._inside} of "
            f"{self.count} such lines, so these are {points} landmarks, no outline. Remedy: a data.yaml with "
            f"kpt_shape: [{points}, 2], which reads the box alone"
        )
