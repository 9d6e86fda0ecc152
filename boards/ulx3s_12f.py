"""The ULX3S with an LFE5U-12F, which is the die of the 25F (`boards.ulx3s_25f`)."""

from __future__ import annotations

from amaranth_boards.ulx3s import ULX3S_12F_Platform

from boards.parts import ecp5
from boards.ulx3s_25f import MACHINE
from boards.ulx3s_85f import ulx3s

__all__ = ["BOARD"]

BOARD = ulx3s(ULX3S_12F_Platform, ecp5("LFE5U", "12F", "BG381", 6), MACHINE)
