"""Figures that others published or reached for the benchmark's work: data, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["NNGEN", "QIU_GROUPS", "QIU_PEAK_GOPS", "TINY", "QiuGroup"]

#: NNgen 1.3.4 (Python to Verilog), int8, 64-bit AXI that holds data back in 4 of 19 cycles, measured on this
#: work: multipliers, cycles, share of multipliers busy.
NNGEN: Mapping[str, str] = {
    "L1": "NNgen, 144: 209,665, 95.7 %",
    "L2": "NNgen, 128: 29,105, 86.2 %",
    "L3": "NNgen refuses it",
    "L4": "NNgen, 64: 176,361 (74 % of the bus)",
    "N1": "NNgen, 100: 105,073, 21.8 %",
    "N2": "NNgen, 72: 334,113, 52.0 %",
}


@dataclass(frozen=True)
class QiuGroup:
    """A group of layers in Qiu et al. 2016, VGG-16-SVD on an XC7Z045 at 150 MHz with 16-bit words.

    ``layers`` are those of `bench.vgg`, with the pooling layer behind them; ``gop`` counts a product
    and a sum as two operations.
    """

    name: str
    layers: tuple[str, ...]
    gop: float
    milliseconds: float


#: 2 processing elements of 64 convolvers of 3x3 at 150 MHz, two operations each.
QIU_PEAK_GOPS = 2 * 64 * 9 * 2 * 0.150

#: Measured times of Qiu et al. 2016 (doi:10.1145/2847263.2847265), their table of layers.
QIU_GROUPS = (
    QiuGroup("CONV1", ("conv1_1", "conv1_2", "pool1"), 3.87, 31.29),
    QiuGroup("CONV2", ("conv2_1", "conv2_2", "pool2"), 5.55, 23.58),
    QiuGroup("CONV3", ("conv3_1", "conv3_2", "conv3_3", "pool3"), 9.25, 39.29),
    QiuGroup("CONV4", ("conv4_1", "conv4_2", "conv4_3", "pool4"), 9.25, 36.30),
    QiuGroup("CONV5", ("conv5_1", "conv5_2", "conv5_3", "pool5"), 2.77, 32.95),
    QiuGroup("FC6-1", ("fc6_1",), 0.0251, 20.17),
    QiuGroup("FC6-2", ("fc6_2",), 0.0041, 3.75),
    QiuGroup("FC7", ("fc7",), 0.0336, 30.02),
    QiuGroup("FC8", ("fc8",), 0.0082, 7.26),
)

#: MLPerf Tiny, closed division, rounds 1.1 to 1.3, median throughput of the result files: system, image
#: classification (N2) a second, visual wake words (N3) a second.
TINY = (
    ("fpgaConvNet, ZC706 (900 DSPs)", "6,790", "1,388"),
    ("fpgaConvNet, ZedBoard (220 DSPs)", "2,432", "105"),
    ("fpgaConvNet, Zybo (80 DSPs)", "318", ""),
    ("Syntiant NDP9120, 98 MHz", "195", "244"),
    ("Renesas RA8D1 (Cortex-M85)", "118", "75"),
    ("STM32 boards, fastest", "20", "37"),
)
