"""The OrangeCrab r0.2 with an LFE5U-85F, DDR3, and a serial link on its header.

The memory's pins are those of litex-boards' gsd_orangecrab platform, revision 0.2, which has been run
on many boards; amaranth-boards gives the bank address pins that belong to the header and a LED, and
the data masks and strobes in another order.  As there, data masks are swapped, the memory's own
termination is off, and up to 64 MHz its clock and commands are delayed.

Boards carry 1, 2, 4 or 8 Gbit.  The controller is the one for 1 Gbit with the refresh time of 8, and so
works with each; of a larger chip it uses 128 MiB.

The link is a 3.3 V UART: pin 0 of the header receives, pin 1 sends.
"""

from __future__ import annotations

from amaranth.build import Attrs, DiffPairs, Pins, PinsN, Resource, Subsignal
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

from boards.ddr3 import DDR3Chip
from boards.ddr3_board import ddr3_board
from boards.parts import ecp5

__all__ = ["BOARD"]

_MEMORY = Resource(
    "ddr3",
    0,
    Subsignal("rst", PinsN("L18", dir="o")),
    Subsignal("clk", DiffPairs("J18", "K18", dir="o"), Attrs(IO_TYPE="SSTL135D_I")),
    Subsignal("clk_en", Pins("D18", dir="o")),
    Subsignal("cs", PinsN("A12", dir="o")),
    Subsignal("we", PinsN("B12", dir="o")),
    Subsignal("ras", PinsN("C12", dir="o")),
    Subsignal("cas", PinsN("D13", dir="o")),
    Subsignal("a", Pins("C4 D2 D3 A3 A4 D4 C3 B2 B1 D1 A7 C2 B6 C1 A2 C7", dir="o")),
    Subsignal("ba", Pins("D6 B7 A6", dir="o")),
    Subsignal(
        "dqs",
        DiffPairs("B15 G18", "A16 H17", dir="io"),
        Attrs(IO_TYPE="SSTL135D_I", TERMINATION="OFF", DIFFRESISTOR="100"),
    ),
    Subsignal(
        "dq",
        Pins("C17 D15 B17 C16 A15 B13 A17 A13 F17 F16 G15 F15 J16 C18 H16 F18", dir="io"),
        Attrs(TERMINATION="OFF"),
    ),
    Subsignal("dm", Pins("D16 G16", dir="o")),
    Subsignal("odt", Pins("C13", dir="o")),
    Attrs(IO_TYPE="SSTL135_I", SLEWRATE="FAST"),
)


class _Platform(OrangeCrabR0_2_85FPlatform):
    """The board with the memory's pins as they are, and a UART on the header."""

    resources = (
        *(resource for resource in OrangeCrabR0_2_85FPlatform.resources if resource.name != "ddr3"),
        _MEMORY,
        UARTResource(0, rx="N17", tx="M18", attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP")),
    )


BOARD = ddr3_board(
    name="orangecrab-85f",
    title="OrangeCrab r0.2 with LFE5U-85F",
    part=ecp5("LFE5U", "85F", "MG285", 8),
    platform=_Platform,
    chip=DDR3Chip("MT41K64M16", termination="disabled", swap_masks=True, command_delay=100, refresh_ns=350),
    memory="DDR3, 128 MiB",
    megabytes=128,
    link="UART on header pins 0 (RX) and 1 (TX)",
    oscillator="clk",
    input_hz=48e6,
    init_hz=24e6,
    clock_mhz=48.0,
    leds=[("rgb_led", 0, "g"), ("rgb_led", 0, "b"), ("rgb_led", 0, "r")],
    held=[("ddr3_pseudo_power", "vcc_virtual", 0b111111), ("ddr3_pseudo_power", "gnd_virtual", 0)],
)
