"""The 1BitSquared iCEBreaker: an iCE40 UP5K whose four SPRAM blocks are the accelerator's memory.

Pins are amaranth-boards'.  The clock is the crystal's 12 MHz, or one that the PLL makes of it.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal
from amaranth.lib import io
from amaranth.lib.wiring import Component
from amaranth_boards.icebreaker import ICEBreakerPlatform

from boards.board import Board, BoardBuild, ExternalMemory, Files
from boards.ice40_pll import Ice40Clock, ice40_pll_settings
from boards.parts import ice40_up5k
from boards.spram_system import SPRAMSystem
from boards.synthesis import scripts
from hw.accelerator import accelerator
from hw.machine import IN_ORDER
from hw.uart import clocks_per_bit

__all__ = ["BOARD", "CRYSTAL_HZ", "IceBreakerTop", "files"]

CRYSTAL_HZ = 12_000_000


class IceBreakerTop(Elaboratable):
    """Everything in the FPGA.  The green LED blinks, the red one shows a request being executed.

    Parameters
    ----------
    core, bus_width, clock_hz, baud
        As for `boards.spram_system.SPRAMSystem`.
    """

    def __init__(self, core: Component, bus_width: int, clock_hz: int, baud: int) -> None:
        self.core = core
        self.bus_width = bus_width
        self.clock_hz = clock_hz
        self.baud = baud

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.clock_hz != CRYSTAL_HZ:
            m.domains += ClockDomain("sync")
            m.submodules.clock = Ice40Clock("clk12", ice40_pll_settings(CRYSTAL_HZ, self.clock_hz))
        m.submodules.system = system = SPRAMSystem(
            self.core, self.bus_width, clock_hz=self.clock_hz, baud=self.baud
        )
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        blink = Signal(range(self.clock_hz))
        m.d.sync += blink.eq(blink - 1)
        for name, signal in (("led_g", blink[-1]), ("led_r", system.executing)):
            m.submodules[name] = led = io.Buffer("o", platform.request(name, 0, dir="-"))
            m.d.comb += led.o.eq(signal)
        return m


def files(core: Component, bus_width: int, clock_hz: int, baud: int) -> Files:
    """What synthesis and the router read, for any core."""
    # without -dsp, which would take the instantiated blocks apart
    plan = ICEBreakerPlatform().prepare(
        IceBreakerTop(core, bus_width, clock_hz, baud),
        "top",
        debug_verilog=False,
        **scripts(),
    )
    return dict(plan.files)


def _design(job: BoardBuild) -> Files:
    clock_hz = round(job.clock_mhz * 1e6)
    clocks_per_bit(clock_hz, job.baud)
    if clock_hz != CRYSTAL_HZ:
        ice40_pll_settings(CRYSTAL_HZ, clock_hz)  # can it be made?
    return files(accelerator(job.machine, job.multiplier), job.machine.bus_width, clock_hz, job.baud)


BOARD = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    part=ice40_up5k("sg48"),
    memory="SPRAM, 128 KiB",
    link="USB serial port",
    external=ExternalMemory("spram", 64, 0.125),
    machine=IN_ORDER,
    clock_mhz=24.0,
    design=_design,
    multipliers=("ice40",),
    caveat="only machines with in_order fit: docs/small-core.md",
)
