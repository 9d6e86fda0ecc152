"""The ULX3S-85F: an LFE5U-85F with 32 or 64 MiB of SDRAM and a USB serial port."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import Component
from amaranth.vendor import LatticeECP5Platform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from boards.board import Board, BoardBuild, ExternalMemory, Files
from boards.floorplan import floorplan_script
from boards.litedram import MemoryController, generate
from boards.parts import Part, ecp5
from boards.pll import PLLSettings, pll_settings
from boards.synthesis import scripts
from boards.system import System, memory_ports
from hw.accelerator import accelerator
from hw.machine import Machine
from hw.uart import clocks_per_bit

__all__ = ["BOARD", "INPUT_HZ", "ULX3STop", "sdram_design", "ulx3s"]

INPUT_HZ = 25e6


class ULX3STop(Elaboratable):
    """Everything in the FPGA: clocks, `boards.system.System`, pins.

    Parameters
    ----------
    core, controller, baud
        As for `boards.system.System`.
    clock_hz : float
        System clock; the PLL must be able to make it from 25 MHz.

    The button FIRE 1 resets everything, the memory's start included.
    LEDs, as far as there are any: 0 blinks, 1 the memory is ready, 2 a request is being executed.
    """

    def __init__(self, core: Component, controller: MemoryController, *, clock_hz: float, baud: int) -> None:
        self.core = core
        self.controller = controller
        self.baud = baud
        self.settings: PLLSettings = pll_settings(INPUT_HZ, clock_hz, controller.timing.degrees)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        clock_hz = round(self.settings.clock_hz)
        sdram = platform.request("sdram", 0, dir="-")
        self._clocks(m, platform, sdram.clk)

        m.submodules.system = system = System(
            self.core, self.controller, clock_hz=clock_hz, baud=self.baud, data_pins=sdram.dq.io
        )
        # The controller's pin registers must reach the pins through nothing but a buffer.
        for name, signal in (
            ("a", system.sdram_a),
            ("ba", system.sdram_ba),
            ("dqm", system.sdram_dm),
            ("ras", system.sdram_ras_n),
            ("cas", system.sdram_cas_n),
            ("we", system.sdram_we_n),
            ("cs", system.sdram_cs_n),
            ("clk_en", system.sdram_cke),
        ):
            if (pin := getattr(sdram, name, None)) is None:
                continue  # fixed on the board
            plain = io.SingleEndedPort(pin.io, direction="o")  # the signals are active low already
            m.submodules += (buffer := io.Buffer("o", plain))
            m.d.comb += buffer.o.eq(signal)

        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        blink = Signal(range(clock_hz), reset_less=True)
        m.d.sync += blink.eq(blink - 1)
        for index, signal in enumerate((blink[-1], system.memory_ready, system.executing)):
            if ("led", index) not in platform.resources:
                break
            led = io.Buffer("o", platform.request("led", index, dir="-"))
            m.submodules[f"led_{index}"] = led
            m.d.comb += led.o.eq(signal)
        return m

    def _clocks(self, m: Module, platform: Any, sdram_clock: Any) -> None:
        m.submodules.pin = pin = io.Buffer("i", platform.request("clk25", 0, dir="-"))
        settings = self.settings
        m.domains.sync = ClockDomain("sync")
        m.domains.sdram = ClockDomain("sdram", reset_less=True)
        system_clock, locked = Signal(name="system_clock"), Signal(name="locked")
        megahertz = f"{settings.clock_hz / 1e6:.6f}"
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{INPUT_HZ / 1e6:.6f}",
            a_FREQUENCY_PIN_CLKOS=megahertz,
            a_FREQUENCY_PIN_CLKOS2=megahertz,
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_FEEDBK_PATH="INT_OP",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=settings.input_divider,
            p_CLKFB_DIV=settings.feedback_divider,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=settings.feedback_output_divider,
            p_CLKOP_CPHASE=settings.feedback_output_divider - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=settings.output_divider,
            p_CLKOS_CPHASE=settings.output_divider - 1,
            p_CLKOS_FPHASE=0,
            p_CLKOS2_ENABLE="ENABLED",
            p_CLKOS2_DIV=settings.output_divider,
            p_CLKOS2_CPHASE=settings.output_divider - 1 + settings.coarse,
            p_CLKOS2_FPHASE=settings.fine,
            i_CLKI=pin.i,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(0),
            i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0),
            i_ENCLKOS2=Const(0),
            o_CLKOS=system_clock,
            o_CLKOS2=ClockSignal("sdram"),
            o_LOCK=locked,
        )
        m.d.comb += ClockSignal("sync").eq(system_clock)
        m.submodules.button = button = io.Buffer("i", platform.request("button_fire", 0, dir="-"))
        m.submodules.reset = ResetSynchronizer(~locked | button.i, domain="sync")

        # A clock reaches its pin through the pin's own register, so that it is as late as the data.
        m.submodules.sdram_clock = clock = io.DDRBuffer(
            "o", io.SingleEndedPort(sdram_clock.io, direction="o"), o_domain="sdram"
        )
        m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]


def sdram_design(platform: LatticeECP5Platform, part: Part, job: BoardBuild) -> Files:
    """The files of a board with this one's clock and a memory like its own, whatever its pins."""
    # refuse clocks and rates before anything is made
    clocks_per_bit(pll_settings(INPUT_HZ, job.clock_mhz * 1e6).clock_hz, job.baud)
    controller = generate(job.megabytes, job.clock_mhz * 1e6, memory_ports(job.machine.bus_width), part.name)
    platform.add_file("litedram_core.v", controller.verilog)
    top = ULX3STop(
        accelerator(job.machine, job.multiplier), controller, clock_hz=job.clock_mhz * 1e6, baud=job.baud
    )
    # `prepare`, not `build`, which would look for tools that are not needed
    plan = platform.prepare(top, "top", debug_verilog=False, **scripts(floorplan_script(part, job)))
    return dict(plan.files)


def ulx3s(
    platform: type[LatticeECP5Platform], part: Part, machine: Machine, *aliases: str
) -> Board:
    """The board with one of the four FPGAs that it is sold with."""

    def design(job: BoardBuild) -> Files:
        return sdram_design(platform(), part, job)

    return Board(
        name=f"ulx3s-{part.name.split('-')[1].lower()}",
        title=f"Radiona ULX3S with {part.name.rpartition('-')[0]}",
        part=part,
        memory="SDRAM, 32 or 64 MiB",
        link="USB serial port",
        external=ExternalMemory("sdram", 16, 32),
        machine=machine,
        clock_mhz=50.0,
        design=design,
        megabytes=(32, 64),
        aliases=aliases,
    )


BOARD = ulx3s(ULX3S_85F_Platform, ecp5("LFE5U", "85F", "BG381", 6), Machine(), "ecp5")
