"""The 1BitSquared iCEBreaker: an iCE40 UP5K whose four SPRAM blocks are the accelerator's memory.

Pins are amaranth-boards'.  The clock is the crystal's 12 MHz.  docs/boards.md has what fits, and what does
not yet.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io
from amaranth.lib.wiring import Component
from amaranth_boards.icebreaker import ICEBreakerPlatform

from boards.board import Board, BoardBuild, ExternalMemory, Files
from boards.parts import ice40_up5k
from boards.pll import ClockError
from boards.spram_system import SPRAMSystem
from boards.synthesis import SCRIPTS
from hw.core import Core
from hw.machine import Machine
from hw.uart import clocks_per_bit

__all__ = ["BOARD", "CLOCK_HZ", "IceBreakerTop", "files"]

CLOCK_HZ = 12_000_000


class IceBreakerTop(Elaboratable):
    """Everything in the FPGA.  The green LED blinks, the red one shows a request being executed.

    Parameters
    ----------
    core, bus_width, baud
        As for `boards.spram_system.SPRAMSystem`.
    """

    def __init__(self, core: Component, bus_width: int, baud: int) -> None:
        self.core = core
        self.bus_width = bus_width
        self.baud = baud

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.system = system = SPRAMSystem(
            self.core, self.bus_width, clock_hz=CLOCK_HZ, baud=self.baud
        )
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        blink = Signal(range(CLOCK_HZ))
        m.d.sync += blink.eq(blink - 1)
        for name, signal in (("led_g", blink[-1]), ("led_r", system.executing)):
            m.submodules[name] = led = io.Buffer("o", platform.request(name, 0, dir="-"))
            m.d.comb += led.o.eq(signal)
        return m


def files(core: Component, bus_width: int, baud: int) -> Files:
    """What synthesis and the router read, for any core."""
    plan = ICEBreakerPlatform().prepare(
        IceBreakerTop(core, bus_width, baud),
        "top",
        debug_verilog=False,
        synth_opts="-dsp",
        **SCRIPTS,
    )
    return dict(plan.files)


def _design(job: BoardBuild) -> Files:
    if job.clock_mhz * 1e6 != CLOCK_HZ:
        raise ClockError(f"icebreaker has a clock of 12 MHz and no other, not {job.clock_mhz:g} MHz")
    clocks_per_bit(CLOCK_HZ, job.baud)
    return files(Core(job.machine, multiplier=job.multiplier), job.machine.bus_width, job.baud)


BOARD = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    part=ice40_up5k("sg48"),
    memory="SPRAM, 128 KiB",
    link="USB serial port",
    external=ExternalMemory("spram", 64, 0.125),
    machine=Machine(
        input_lanes=4,
        output_lanes=4,
        bus_width=32,
        scratchpad_words=256,
        accumulator_depth=64,
        weight_fifo_words=32,
        average_pooling=False,
    ),
    clock_mhz=12.0,
    design=_design,
    multipliers=("portable",),
    caveat="no machine fits yet, not even the smallest: docs/boards.md",
)
