"""What a large data set costs, measured by tests/datasets/memory.py."""

from pathlib import Path

import pytest
from pocketvision.datasets.coco import read_coco

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells it under /proc")


def test_what_is_made_up_is_read(memory, tmp_path):
    table = read_coco(memory.write_coco(tmp_path / "x", 3, 20, polygon_points=5))
    assert (len(table.image_ids), len(table.slots), table.labels.num_classes) == (3, 20, 80)


@pytest.mark.slow
def test_a_json_is_not_in_memory_as_a_whole(memory):
    found = memory.measure_json(20)
    assert found["peak"] < 400 * found["boxes"] / 2**20 + 3  # bytes a box; parsed as a whole it is above 1,100


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_loader_processes_have_no_copies(memory, method):
    """Arrays of 15 MB in all, which each process of a forkserver would have."""
    found = memory.compare(method, 3, (11_800, 300_000), count=3 * 10 * 64)["increase"]  # ten batches for each process
    assert found["worker"] < 9
    assert found["all"] < 60
