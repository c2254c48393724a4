"""ImageNet classification with a MobileNetV3 trunk."""

from collections.abc import Sequence

from torch import Tensor, nn

from .init import initialize
from .layers import Normalize, activation, make_divisible
from .mobilenet_v3 import MobileNetV3

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def hidden_channels(variant: str, *, width: float) -> int:
    """Channels of the layer after pooling for which the paper's parameter counts (Tables 3 and 9) come out.

    Below width 1 it stays unscaled in both variants; above, Large's stays too and Small's grows.
    """
    return 1280 if variant == "large" else make_divisible(1024 * max(width, 1.0))


class Classifier(nn.Module):
    """uint8 images to class logits: trunk, global average, one hidden layer, dropout, classes."""

    def __init__(
        self,
        backbone: MobileNetV3,
        *,
        num_classes: int = 1000,
        hidden: int | None = None,
        dropout: float = 0.2,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        init: str = "tf_slim",
    ) -> None:
        """Leave `hidden` at None for the paper's; torchvision scales it by the width and halves it where reduced."""
        super().__init__()
        hidden = hidden_channels(backbone.variant, width=backbone.width) if hidden is None else hidden
        self.normalize = Normalize(mean=mean, std=std)
        self.backbone = backbone
        self.hidden = nn.Linear(backbone.feature_specs["c5"].channels, hidden)
        self.act = activation("relu" if backbone.minimalistic else "hswish")
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden, num_classes)
        for layer in (self.hidden, self.logits):
            initialize(layer, init)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images [B, 3, H, W] to logits [B, classes]."""
        features = self.backbone(self.normalize(images), ("c5",))["c5"]
        hidden = self.act(self.hidden(features.mean((2, 3))))
        return self.logits(self.dropout(hidden))
