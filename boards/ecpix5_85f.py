"""The LambdaConcept ECPIX-5 with an LFE5UM5G-85F, 512 MiB of DDR3 and a USB serial port.

Pins are amaranth-boards'; the memory chip and its settings are those of litex-boards'
lambdaconcept_ecpix5 target.
"""

from __future__ import annotations

from amaranth_boards.ecpix5 import ECPIX585Platform

from boards.ddr3 import DDR3Chip
from boards.ddr3_board import ddr3_board
from boards.parts import ecp5

__all__ = ["BOARD"]

BOARD = ddr3_board(
    name="ecpix5-85f",
    title="LambdaConcept ECPIX-5 with LFE5UM5G-85F",
    part=ecp5("LFE5UM5G", "85F", "BG554", 8),
    platform=ECPIX585Platform,
    chip=DDR3Chip("MT41K256M16"),
    memory="DDR3, 512 MiB",
    megabytes=512,
    link="USB serial port",
    oscillator="clk100",
    input_hz=100e6,
    init_hz=25e6,
    clock_mhz=60.0,
    leds=[("rgb_led", 0, "g"), ("rgb_led", 1, "g"), ("rgb_led", 2, "g")],
)
