"""The tables of "Searching for MobileNetV3" (arXiv 1905.02244v5) that compare systems, row by row.

Numbers are kept as printed, because their decimals set the precision of the comparison.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path

FULL, HALF = (1024, 2048), (512, 1024)
TRANSPOSED = "the printed count omits transposed convolutions: without them, ours is 4.505 B"
LATER_VERSION = (
    "CCC2 is the first version of C3Net, whose code was never published; the published version also prints 3.15 B. It "
    "computes one reduction twice, which we count once (counted twice: 3.39 B)"
)
V2_SLOTS = "MobileNetV2's paper, the source of this row, prints 0.8; with 91 slots instead of 81, ours is 0.804"
ELEMENTWISE = (
    "the printed number is the convolutions (ours) plus 1 for every element of the final upsampling and of the "
    "residual sums"
)
MNAS_SMALL = "these are the counts of the released network; the one measured for the paper is not published"
TABLE4 = Path(__file__).with_name("paper_table4.json")  # written by tests/benchmarks/table4.py


@dataclass(frozen=True)
class Row:
    """A system; `experiment` is under conf/experiment/paper, None if this toolkit does not have the system."""

    name: str
    experiment: str | None
    accuracy: str
    params: str | None = None  # millions
    madds: Mapping[str, str] | str = ""  # in the table's unit, at its only size or by the name of the size
    times: tuple[str, ...] = ()  # in the order of the table's `phones`
    overrides: tuple[str, ...] = ()  # assumptions of the printed counts that the experiment does not make
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows and how to count them: all parameters, or only weights and biases (`batch_norm` false)."""

    number: int
    title: str
    metric: str
    sizes: Mapping[str, tuple[int, int]]  # by name; the name is empty if there is only one
    unit: str  # of multiply-adds: M or B
    batch_norm: bool
    phones: tuple[str, ...]
    rows: tuple[Row, ...]
    stored: Path | None = None  # measurements of ours to print instead of counts


# fmt: off
TABLES = {
    3: Table(
        3, "classification, ImageNet", "top-1", {"": (224, 224)}, "M", False, ("P-1 ms", "P-2 ms", "P-3 ms"), (
            Row("V3-Large 1.0", "table3/v3_large", "75.2", "5.4", "219", ("51", "61", "44")),
            Row("V3-Large 0.75", "table3/v3_large_075", "73.3", "4.0", "155", ("39", "46", "40")),
            Row("MnasNet-A1", "table3/mnasnet_a1", "75.2", "3.9", "315", ("71", "86", "61")),
            Row("Proxyless", None, "74.6", "4.0", "320", ("72", "84", "60"), note="not part of this toolkit"),
            Row("V2 1.0", "table3/v2", "72.0", "3.4", "300", ("64", "76", "56")),
            Row("V3-Small 1.0", "table3/v3_small", "67.4", "2.5", "56", ("15.8", "19.4", "14.4")),
            Row("V3-Small 0.75", "table3/v3_small_075", "65.4", "2.0", "44", ("12.8", "15.6", "11.7")),
            Row("Mnas-small", "table3/mnasnet_small", "64.9", "1.9", "65.1", ("20.3", "24.2", "17.2"), note=MNAS_SMALL),
            Row("V2 0.35", "table3/v2_035", "60.8", "1.6", "59.2", ("16.6", "19.6", "13.9")),
        ),
    ),
    4: Table(
        4, "quantized classification", "top-1", {}, "M", False, ("P-1 ms", "P-2 ms", "P-3 ms"), (
            Row("V3-Large 1.0", None, "73.8", times=("44", "42.5", "31.7")),
            Row("V2 1.0", None, "70.9", times=("52", "48.3", "37.0")),
            Row("V3-Small 1.0", None, "64.9", times=("15.5", "14.9", "10.7")),
            Row("V2 0.35", None, "57.2", times=("16.7", "15.6", "11.9")),
        ), stored=TABLE4,
    ),
    6: Table(
        6, "SSDLite, COCO test", "mAP", {"": (320, 320)}, "B", False, ("Pixel 1 ms",), (
            Row("V1", "table6/v1", "22.2", "5.1", "1.3", ("228",)),
            Row("V2", "table6/v2", "22.1", "4.3", "0.80", ("162",), note=V2_SLOTS),
            Row("MnasNet", "table6/mnasnet", "23.0", "4.88", "0.84", ("174",)),
            Row("V3", "table6/v3_large", "22.0", "4.97", "0.62", ("137",)),
            Row("V3, reduced", "table6/v3_large_reduced", "22.0", "3.22", "0.51", ("119",)),
            Row("V2 0.35", "table6/v2_035", "13.7", "0.93", "0.16", ("66",)),
            Row("V2 0.5", "table6/v2_05", "16.6", "1.54", "0.27", ("79",)),
            Row("MnasNet 0.35", "table6/mnasnet_035", "15.6", "1.02", "0.18", ("68",)),
            Row("MnasNet 0.5", "table6/mnasnet_05", "18.5", "1.68", "0.29", ("85",)),
            Row("V3-Small", "table6/v3_small", "16.0", "2.49", "0.21", ("52",)),
            Row("V3-Small, reduced", "table6/v3_small_reduced", "16.1", "1.77", "0.16", ("43",)),
        ),
    ),
    7: Table(
        7, "segmentation, Cityscapes val", "mIoU", {"": FULL}, "B", True, ("Pixel 3 full", "Pixel 3 half"), (
            Row("1 V2 R-ASPP 256", "table7/row1", "72.84", "2.11", "21.29", ("3.90s", "1.02s"), note=ELEMENTWISE),
            Row("2 V2 RF2 R-ASPP 256", "table7/row2", "72.56", "1.15", "13.68", ("3.03s", "793ms"), note=ELEMENTWISE),
            Row("3 V2 RF2 LR-ASPP 256", "table7/row3", "72.97", "1.02", "12.83", ("2.98s", "786ms"), note=ELEMENTWISE
                + "; 951 parameters more than 1.02 allows, unexplained: RF2 for V2 was never published"),
            Row("4 V2 RF2 LR-ASPP 128", "table7/row4", "72.74", "0.98", "12.57", ("2.89s", "766ms"), note=ELEMENTWISE),
            Row("5 V3 R-ASPP 256", "table7/row5", "72.64", "3.60", "18.43", ("3.55s", "906ms")),
            Row("6 V3 RF2 R-ASPP 256", "table7/row6", "71.91", "1.76", "11.24", ("2.60s", "668ms")),
            Row("7 V3 RF2 LR-ASPP 256", "table7/row7", "72.37", "1.63", "10.33", ("2.55s", "659ms")),
            Row("8 V3 RF2 LR-ASPP 128", "table7/row8", "72.36", "1.51", "9.74", ("2.47s", "657ms")),
            Row("9 V2 0.5 RF2 LR-ASPP 128", "table7/row9", "68.57", "0.28", "4.00", ("1.59s", "415ms"),
                note=ELEMENTWISE),
            Row("10 V2 0.35 RF2 LR-ASPP 128", "table7/row10", "66.83", "0.16", "2.54", ("1.27s", "354ms"),
                note=ELEMENTWISE),
            Row("11 V3-Small RF2 LR-ASPP 128", "table7/row11", "68.38", "0.47", "2.90", ("1.21s", "327ms")),
        ),
    ),
    8: Table(
        8, "segmentation, Cityscapes test", "mIoU", {"full": FULL, "half": HALF}, "B", True,
        ("Pixel 3 full", "Pixel 3 half"), (
            Row("V3 OS16", "table8/v3_large_os16", "72.6", None, {"full": "9.74", "half": "2.48"}, ("2.47s", "657ms")),
            Row("V3 OS32", "table8/v3_large_os32", "72.0", None, {"full": "7.74", "half": "1.98"}, ("2.06s", "534ms")),
            Row("V3-Small OS16", "table8/v3_small_os16", "69.4", None, {"full": "2.90", "half": "0.74"},
                ("1.21s", "327ms")),
            Row("V3-Small OS32", "table8/v3_small_os32", "68.3", None, {"full": "2.06", "half": "0.53"},
                ("1.03s", "275ms")),
            Row("ESPNetv2", "table8/espnetv2", "66.2", None, {"half": "2.7"}, overrides=("data.num_classes=20",)),
            Row("CCC2", "table8/ccc2", "62.0", None, {"half": "3.15"}, overrides=("data.num_classes=20",),
                note=LATER_VERSION),
            Row("ESPNetv1", "table8/espnetv1", "60.3", None, {"half": "4.5"}, overrides=("data.num_classes=20",),
                note=TRANSPOSED),
        ),
    ),
}
# fmt: on


def prints(value: float, printed: str) -> bool:
    """Whether `value`, rounded or truncated (the paper does both), gives `printed`."""
    last_digit = Decimal(1).scaleb(-len(printed.partition(".")[2]))
    return any(Decimal(str(value)).quantize(last_digit, way) == Decimal(printed) for way in (ROUND_HALF_UP, ROUND_DOWN))
