"""The ULX3S with an LFE5U-25F: the board of `boards.ulx3s_85f`, a smaller array."""

from __future__ import annotations

from amaranth_boards.ulx3s import ULX3S_25F_Platform

from boards.parts import ecp5
from boards.ulx3s_85f import ulx3s
from hw.machine import Machine

__all__ = ["BOARD", "MACHINE"]

#: Of 28 DSP blocks 16 are multipliers; of 56 block RAMs the scratchpad takes 8.
MACHINE = Machine(
    input_lanes=4,
    output_lanes=4,
    bus_width=32,
    scratchpad_words=4096,
    accumulator_depth=256,
    weight_fifo_words=256,
)

BOARD = ulx3s(ULX3S_25F_Platform, ecp5("LFE5U", "25F", "BG381", 6), MACHINE)
