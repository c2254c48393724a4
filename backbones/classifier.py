"""ImageNet classifier on any trunk."""

from collections.abc import Sequence

from torch import Tensor, nn

from .features import Backbone
from .init import initialize
from .layers import Normalize, activation

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """uint8 images to class logits: trunk, global average, the hidden layer of MobileNetV3, dropout, classes."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int = 1000,
        hidden: int | None = None,
        dropout: float = 0.2,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        init: str = "tf_slim",
    ) -> None:
        """`hidden` None uses the hidden layer of the trunk's paper; 0: none.

        torchvision scales V3's by the width and halves it if reduced.
        """
        super().__init__()
        hidden = backbone.hidden_channels if hidden is None else hidden
        if hidden < 0 or num_classes < 1:
            raise ValueError(f"hidden must be 0 or more and num_classes positive; got {hidden} and {num_classes}")
        self.normalize = Normalize(mean=mean, std=std)
        self.backbone = backbone
        channels = backbone.feature_specs["c5"].channels
        self.hidden = nn.Linear(channels, hidden) if hidden else None
        self.act = activation(backbone.hidden_act)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden or channels, num_classes)
        for layer in (self.hidden, self.logits):
            if layer is not None:
                initialize(layer, init)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map uint8 images [B, 3, H, W] to `{"logits": [B, classes]}`."""
        features = self.backbone(self.normalize(images), ("c5",))["c5"]
        pooled = features.mean((2, 3))
        if self.hidden is not None:
            pooled = self.act(self.hidden(pooled))
        return {"logits": self.logits(self.dropout(pooled))}
