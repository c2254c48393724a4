"""The benchmark of loading: torchvision's side is what its references do, and both sides load the same."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from loading import PARTS, main
from loading_peer import CocoPeer, MaskPeer, PadIfSmaller, cat_list
from PIL import Image
from pocketvision.datasets.coco import CocoDetection
from pocketvision.tools.prepare import main as prepare
from torchvision import tv_tensors

SHORT = ("--images=3", "rounds=1", "batch_size=2", "device=cpu", "output=out")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare(["shapes", f"output={folder}/coco", "num_train=5", "num_val=1", "size=[64,96]"])
    for kind in ("images", "labels"):
        (folder / "masks" / "train" / kind).mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(folder / "masks/train/images" / f"{i}.jpg"), np.full((40, 60, 3), 50 * i, np.uint8))
        cv2.imwrite(str(folder / "masks/train/labels" / f"{i}.png"), np.full((40, 60), i % 2, np.uint8))
    return folder


pytestmark = pytest.mark.usefixtures("in_tmp_path")


def told() -> list[dict]:
    return json.loads(Path("out/results.json").read_text())["cases"]


@pytest.mark.parametrize("size", [320, 32])  # at 32 the photographs are reduced
def test_detection(data: Path, size: int) -> None:
    keys = ("data=coco", f"data.root={data}/coco", "data.num_classes=null", "data.labels=null")
    main([*SHORT, *keys, "workers=0", "reduced_decode=true", f"data.input_size=[{size},{size}]"])
    (case,) = told()
    assert case["title"] == f"detection, 3 photographs to {size}x{size}, one process, batches of 2"
    names = ["torchvision", "its preset alone, not resized", "pocketvision", "cache=ram, 2nd epoch on"]
    assert [row["name"] for row in case["rows"]] == names
    for row in case["rows"]:
        assert list(row["medians"]) == list(PARTS)
        assert sum(row["medians"].values()) >= row["spread"]["median"] * (1 - 1e-9)
        assert row["medians"]["decode"] > 0
    assert cv2.imread("out/benchmark.png") is not None


def test_enlarged_segmentation_and_workers(data: Path) -> None:
    main(
        [*SHORT, "data=mask_folder", f"data.root={data}/masks", "data.classes=[a,b]", "data.input_size=[32,48]",
         "workers=1", "--enlarge", "80", "120"]
    )  # fmt: skip
    what = "segmentation, 3 photographs of 120x80"
    assert [case["title"] for case in told()] == [
        f"{what}, {ending} to 48x32, {how}, batches of 2"
        for ending in ("jpg", "png") for how in ("one process", "workers=1")
    ]  # fmt: skip
    assert [row["name"] for row in told()[0]["rows"]] == ["torchvision", "pocketvision", "cache=ram, 2nd epoch on"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "loading needs data=NAME"),
        (["data=shapes_detection"], "ShapesDetection is neither"),
        (["data=coco", "data.root=x", "--enlarge", "9", "9"], "--enlarge is for segmentation"),
        (["data=mask_folder", "--enlarge", "9", "0"], "--enlarge [9, 0]: expected two positive numbers"),
        (["data=coco", "threads=2"], "it measures one core"),
        (["data=coco", "--images=0"], "images=0: expected 1 or more"),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], keys: list[str], message: str) -> None:
    with pytest.raises(SystemExit):
        main([*SHORT, *keys])
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_detection_peer(data: Path) -> None:
    source = CocoDetection(root=data / "coco")
    plain, resized = (CocoPeer(Path(source.annotations), source.images, size=size) for size in (None, (320, 320)))
    for image_id in source.image_ids.tolist():
        torch.manual_seed(3)
        (image, target), (small, other) = plain[image_id], None or (torch.manual_seed(3), resized[image_id])[1]
        assert image.dtype == small.dtype == torch.float32
        assert 0 <= image.min() < image.max() <= 1
        assert small.shape == (3, 320, 320)
        scale = torch.tensor([320 / image.shape[2], 320 / image.shape[1]] * 2)
        torch.testing.assert_close(other["boxes"], target["boxes"] * scale)
        assert torch.equal(other["labels"], target["labels"])
        assert type(image) is type(target["boxes"]) is torch.Tensor
    items = [plain[image_id] for image_id in source.image_ids.tolist()]
    assert isinstance(plain.collate(items)[0], tuple)
    assert resized.collate([(small, other)] * 2)[0].shape == (2, 3, 320, 320)


def test_the_segmentation_peer(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (40, 60), np.uint8)
    Image.fromarray(np.stack([255 * pixels] * 3, 2)).save(tmp_path / "x.png")
    Image.fromarray(pixels).save(tmp_path / "y.png")
    peer = MaskPeer([(tmp_path / "x.png", tmp_path / "y.png")], crop=(32, 64), base=40)
    torch.manual_seed(0)
    for _ in range(8):
        image, mask = peer[0]
        assert (image.shape, mask.shape, image.dtype, mask.dtype) == (
            (3, 32, 64), (32, 64), torch.float32, torch.int64,
        )  # fmt: skip
        assert set(mask.unique().tolist()) <= {0, 1, 255}
    images, masks = peer.collate([peer[0]] * 2)
    assert (images.shape, masks.shape) == ((2, 3, 32, 64), (2, 32, 64))


def test_padding_and_collation() -> None:
    image, mask = Image.new("RGB", (5, 4), "white"), tv_tensors.Mask(torch.ones(4, 5, dtype=torch.uint8))
    padded, filled = PadIfSmaller((6, 4))(image, mask)
    assert padded.size == (5, 6)
    assert np.asarray(padded)[4:].max() == 0
    assert filled.shape == (6, 5)
    assert filled[4:].unique().tolist() == [255]
    batch = cat_list([torch.ones(2, 3), torch.ones(3, 2)], 9)
    assert batch.tolist() == [[[1, 1, 1], [1, 1, 1], [9, 9, 9]], [[1, 1, 9], [1, 1, 9], [1, 1, 9]]]
