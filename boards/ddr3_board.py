"""Pins of a board with DDR3 around `boards.ddr3_system`, and the description of such a board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import ClockDomain, Elaboratable, Module, Signal
from amaranth.lib import io
from amaranth.lib.wiring import Component
from amaranth.vendor import LatticeECP5Platform

from boards.board import Board, BoardBuild, ExternalMemory, Files
from boards.ddr3 import DDR3Chip, DDR3Controller, generate_ddr3
from boards.ddr3_system import DDR3System
from boards.floorplan import floorplan_script
from boards.parts import Part
from boards.synthesis import scripts
from boards.system import memory_ports
from hw.accelerator import accelerator
from hw.machine import Machine
from hw.uart import clocks_per_bit

__all__ = ["DDR3Top", "ddr3_board"]

#: Names of the memory's pins in amaranth-boards, and in LiteDRAM.
_PINS = {
    "a": "a",
    "ba": "ba",
    "ras": "ras_n",
    "cas": "cas_n",
    "we": "we_n",
    "cs": "cs_n",
    "clk_en": "cke",
    "odt": "odt",
    "rst": "reset_n",
    "dm": "dm",
}


class DDR3Top(Elaboratable):
    """Everything in the FPGA.

    Parameters
    ----------
    core, controller, clock_hz, baud
        As for `boards.ddr3_system.DDR3System`.
    oscillator : str
        Name of the clock's resource.
    leds : list of (str, int, str)
        Resource, number and signal of three LEDs: blinks, memory ready, executing.
    held : list of (str, str, int)
        Resource, signal and value of pins that are there to be driven.
    """

    def __init__(
        self,
        core: Component,
        controller: DDR3Controller,
        *,
        clock_hz: int,
        baud: int,
        oscillator: str,
        leds: Sequence[tuple[str, int, str]],
        held: Sequence[tuple[str, str, int]] = (),
    ) -> None:
        self.core = core
        self.controller = controller
        self.clock_hz = clock_hz
        self.baud = baud
        self.oscillator = oscillator
        self.leds = list(leds)
        self.held = list(held)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")  # driven by the memory controller
        pins = platform.request("ddr3", 0, dir="-")
        m.submodules.clock = clock = io.Buffer("i", platform.request(self.oscillator, 0, dir="-"))
        m.submodules.system = system = DDR3System(
            self.core,
            self.controller,
            clock_hz=self.clock_hz,
            baud=self.baud,
            data_pins=pins.dq.io,
            strobe_pins=pins.dqs.p,
        )
        m.d.comb += system.clock.eq(clock.i)

        def drive(name: str, port: Any, signal: Any) -> None:
            m.submodules[name] = buffer = io.Buffer("o", port)
            m.d.comb += buffer.o.eq(signal)

        # The PHY's registers must reach the pins through nothing but a buffer; their signals have the
        # pins' polarity already.
        for pin, name in _PINS.items():
            port = getattr(pins, pin, None)
            if port is not None:
                signal = getattr(system, f"ddram_{name}")
                drive(f"ddram_{name}", io.SingleEndedPort(port.io, direction="o"), signal[: len(port.io)])
        drive("ddram_clk", io.SingleEndedPort(pins.clk.p, direction="o"), system.ddram_clk_p)
        requested: dict[tuple[str, int], Any] = {}

        def led_or_held(resource: str, number: int, name: str) -> Any:
            place = (resource, number)
            if place not in requested:
                requested[place] = platform.request(resource, number, dir="-")
            return getattr(requested[place], name)

        for resource, name, value in self.held:
            port = io.SingleEndedPort(led_or_held(resource, 0, name).io, direction="o")
            drive(f"{resource}_{name}", port, value)

        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.d.comb += system.rx.eq(rx.i)
        drive("tx", uart.tx, system.tx)
        blink = Signal(range(self.clock_hz))
        m.d.sync += blink.eq(blink - 1)
        for place, signal in zip(self.leds, (blink[-1], system.memory_ready, system.executing)):
            drive("led_{}_{}_{}".format(*place), led_or_held(*place), signal)
        return m


def ddr3_board(
    *,
    name: str,
    title: str,
    part: Part,
    platform: type[LatticeECP5Platform],
    chip: DDR3Chip,
    memory: str,
    megabytes: int,
    link: str,
    oscillator: str,
    input_hz: float,
    init_hz: float,
    clock_mhz: float,
    leds: Sequence[tuple[str, int, str]],
    held: Sequence[tuple[str, str, int]] = (),
) -> Board:
    """The description of a board with a 16-bit DDR3 memory and a serial link."""

    def design(job: BoardBuild) -> Files:
        clock_hz = job.clock_mhz * 1e6
        clocks_per_bit(clock_hz, job.baud)
        controller = generate_ddr3(
            chip, clock_hz, input_hz, memory_ports(job.machine.bus_width), part.name, init_hz=init_hz
        )
        board = platform()
        board.add_file("litedram_core.v", controller.verilog)
        top = DDR3Top(
            accelerator(job.machine, job.multiplier),
            controller,
            clock_hz=round(clock_hz),
            baud=job.baud,
            oscillator=oscillator,
            leds=leds,
            held=held,
        )
        plan = board.prepare(top, "top", debug_verilog=False, **scripts(floorplan_script(part, job)))
        return dict(plan.files)

    return Board(
        name=name,
        title=title,
        part=part,
        memory=memory,
        link=link,
        external=ExternalMemory("ddr3", 16, megabytes),
        machine=Machine(),
        clock_mhz=clock_mhz,
        design=design,
    )
