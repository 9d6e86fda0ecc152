"""The Colorlight i9 (revision 7.2) on its extension board: an LFE5U-45F with 8 MiB of 32-bit SDRAM.

Pins are those of litex-boards' colorlight_i5 platform, which took them from
https://github.com/wuxx/Colorlight-FPGA-Projects.  The SDRAM (EM638325 or M12L64322A) has its chip select,
clock enable and data masks fixed on the board; the accelerator and the serial bridge write whole words.
The serial link is that of the extension board's USB debugger.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth.vendor import LatticeECP5Platform
from amaranth_boards.resources import LEDResources, UARTResource

from boards.board import Board, BoardBuild, ExternalMemory, Files
from boards.parts import ecp5
from boards.ulx3s_85f import sdram_design
from hw.machine import Machine

__all__ = ["BOARD"]

_LEVEL = Attrs(IO_TYPE="LVCMOS33")


class _Platform(LatticeECP5Platform):
    """The module's pins."""

    device = "LFE5U-45F"
    package = "BG381"
    speed = "6"
    default_clk = "clk25"
    resources = (
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), _LEVEL),
        *LEDResources(pins="L2", invert=True, attrs=_LEVEL),
        Resource("button_fire", 0, PinsN("K18", dir="i"), Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP")),
        UARTResource(0, rx="H18", tx="J17", attrs=_LEVEL),
        Resource(
            "sdram",
            0,
            Subsignal("clk", Pins("B9", dir="o")),
            Subsignal("we", PinsN("A10", dir="o")),
            Subsignal("ras", PinsN("B10", dir="o")),
            Subsignal("cas", PinsN("A9", dir="o")),
            Subsignal("ba", Pins("B11 C8", dir="o")),
            Subsignal("a", Pins("B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12", dir="o")),
            Subsignal(
                "dq",
                Pins(
                    "D15 E14 E13 D12 E12 D11 C10 B17 B8 A8 C7 A7 A6 B6 A5 B5 "
                    "D5 C5 D6 C6 E7 D7 E8 D8 E9 D9 E11 C11 C12 D13 D14 C15",
                    dir="io",
                ),
            ),
            Attrs(IO_TYPE="LVCMOS33", SLEWRATE="FAST"),
        ),
    )
    connectors: tuple[Any, ...] = ()


_PART = ecp5("LFE5U", "45F", "BG381", 6)


def _design(job: BoardBuild) -> Files:
    return sdram_design(_Platform(), _PART, job)


BOARD = Board(
    name="colorlight-i9",
    title="Colorlight i9 v7.2 with LFE5U-45F on its extension board",
    part=_PART,
    memory="SDRAM, 8 MiB, 32 bits",
    link="USB debugger's serial port",
    external=ExternalMemory("sdram", 32, 8),
    machine=Machine(input_lanes=8, output_lanes=8),
    clock_mhz=50.0,
    design=_design,
    megabytes=(8,),
)
