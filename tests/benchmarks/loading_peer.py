"""torchvision's loading of training data as its reference scripts do it, with the transforms v2.

references/detection/presets.py (`ssdlite`) and references/segmentation/presets.py with `--use-v2` and the default
backend (PIL); references/detection/coco_utils.py, utils.py (collation) of both.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.transforms.v2 as T
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CocoPeer(Dataset[Any]):
    """Its CocoDetection with the preset `ssdlite`, which leaves photographs as large as the crop.

    With `size` (h, w) each is resized as its model does before anything else; then a batch is one tensor.
    """

    def __init__(self, annotations: Path, images: Path, *, size: tuple[int, int] | None) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells what it does
            plain = CocoDetection(str(images), str(annotations))
        self.row = {image_id: row for row, image_id in enumerate(plain.ids)}
        self.plain = wrap_dataset_for_transforms_v2(plain, target_keys=["boxes", "labels", "image_id"])
        self.transforms, self.size = detection_preset(), size

    def decoded(self, image_id: int) -> Any:
        """Photograph and truth before the preset."""
        return self.plain[self.row[image_id]]

    def __getitem__(self, image_id: int) -> tuple[Tensor, dict[str, Any]]:
        image, target = self.transforms(*self.decoded(image_id))
        return (image, target) if self.size is None else resize_as_model(image, target, self.size)

    def collate(self, items: Sequence[Any]) -> Any:
        """Its `tuple(zip(*batch))`; photographs of one size are stacked, which its model does."""
        images, targets = zip(*items, strict=True)
        return (images if self.size is None else torch.stack(images)), targets


def detection_preset() -> T.Compose:
    """DetectionPresetTrain(data_augmentation="ssdlite", backend="pil", use_v2=True), which has no resize."""
    return T.Compose(
        [
            T.RandomIoUCrop(),
            T.RandomHorizontalFlip(p=0.5),
            T.ToImage(),
            T.ToDtype(torch.float, scale=True),
            T.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYXY),
            T.SanitizeBoundingBoxes(),
            T.ToPureTensor(),
        ]
    )


def resize_as_model(image: Tensor, target: dict[str, Any], size: tuple[int, int]) -> tuple[Tensor, dict[str, Any]]:
    """GeneralizedRCNNTransform's resize to a fixed size, without its normalisation, which ours does on the device."""
    scale = torch.tensor([size[1] / image.shape[2], size[0] / image.shape[1]] * 2)
    image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
    return image, target | {"boxes": target["boxes"] * scale}


class MaskPeer(Dataset[Any]):
    """Pairs of files with the segmentation preset."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], *, crop: tuple[int, int], base: int) -> None:
        self.pairs, self.transforms = list(pairs), segmentation_preset(crop, base)

    def decoded(self, index: int) -> tuple[Image.Image, tv_tensors.Mask]:
        """Photograph and mask before the preset."""
        image, mask = self.pairs[index]
        return Image.open(image).convert("RGB"), tv_tensors.Mask(tv_tensors.Mask(Image.open(mask)).squeeze(0))

    def __getitem__(self, index: int) -> Any:
        return self.transforms(*self.decoded(index))

    @staticmethod
    def collate(items: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Its `cat_list` of equal sizes: copies into a tensor that was filled."""
        images, masks = zip(*items, strict=True)
        return cat_list(images, 0), cat_list(masks, 255)


def segmentation_preset(crop: tuple[int, int], base: int) -> T.Compose:
    """SegmentationPresetTrain(base_size, crop_size, backend="pil", use_v2=True)."""
    return T.Compose(
        [
            T.RandomResize(min_size=int(0.5 * base), max_size=int(2.0 * base)),
            T.RandomHorizontalFlip(0.5),
            PadIfSmaller(crop),
            T.RandomCrop(crop),
            T.PILToTensor(),
            T.ToDtype({torch.Tensor: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
            T.Normalize(mean=MEAN, std=STD),
            T.ToPureTensor(),
        ]
    )


class PadIfSmaller(T.Transform):
    """Right and bottom, photographs with 0 and masks with 255, to at least `size` (h, w)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Of the photograph, to which the mask is equal in size."""
        height, width = T.functional.get_size(flat_inputs[0])
        return {"padding": [0, 0, max(self.size[1] - width, 0), max(self.size[0] - height, 0)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Nothing where it is large enough."""
        if not any(params["padding"]):
            return inpt
        fill = 255 if isinstance(inpt, tv_tensors.Mask) else 0
        return T.functional.pad(inpt, padding=params["padding"], fill=fill)


def cat_list(images: Sequence[Tensor], fill: int) -> Tensor:
    """Right and bottom of smaller ones hold `fill`."""
    shape = [max(sides) for sides in zip(*(image.shape for image in images), strict=True)]
    batch = images[0].new_full((len(images), *shape), fill)
    for place, image in zip(batch, images, strict=True):
        place[..., : image.shape[-2], : image.shape[-1]].copy_(image)
    return batch
