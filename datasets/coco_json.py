"""Your own photographs with annotations in COCO's format, with or without a JSON file for validation."""

from pathlib import Path

from .annotations.boxes import BoxSource, FoundBoxes
from .annotations.faults import Report, refuse
from .annotations.holdout import check_holdout, cut
from .coco import locate, read_coco
from .labels import LabelMap


class CocoJson(BoxSource):
    """The `train` or `val` split of two JSON files; without `val_json`, a fraction `holdout` of the first is `val`.

    Raises:
        ValueError, FileNotFoundError: as `CocoDetection`; or there is neither `val_json` nor `holdout`.
    """

    def __init__(
        self,
        train_json: str | Path,
        images: str | Path,
        *,
        split: str = "train",
        val_json: str | Path | None = None,
        val_images: str | Path | None = None,
        holdout: float | None = None,
        slots: str = "contiguous",
        labels: LabelMap | None = None,
        limit: int | None = None,
        with_annotations_only: bool = False,
        report: Report | None = None,
    ) -> None:
        check_holdout(holdout)
        own = split == "val" and val_json is not None
        if split not in ("train", "val") or (split == "val" and not own and holdout is None):
            raise ValueError(f"split={split!r}: choose train or val (val needs val_json or holdout)")
        given = (val_json, val_images or images) if own else (train_json, images)
        path, folder = locate(*given, root=None, split=split)
        found = FoundBoxes(read_coco(path, folder, slots=slots, labels=labels, report=report or refuse), folder, [])
        found = cut(found, split, holdout, root=train_json) if val_json is None else found
        super().__init__(found, limit=limit, with_annotations_only=with_annotations_only, report=report)
