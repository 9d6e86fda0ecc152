"""The host's way to a DDR3 controller's registers, and scripts that are played in exact time."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from boards.sdram_start import Step
from hw.axi import AXI4Lite, Response
from hw.ddr3_description import CONTROL, DESCRIPTION, REGISTER_ADDRESS_BITS, SCRIPT, DDR3Description

__all__ = ["DDR3Control"]


class DDR3Control(Component):
    """Registers from `hw.ddr3_description.CONTROL` on.

    Over the serial line two commands are milliseconds apart, and a DDR3 row may be open for 70 us.  So
    what must happen at once is a script: a list of register writes with pauses, in a memory of the board.
    Reads of other registers wait until a script has ended.

    Parameters
    ----------
    description : DDR3Description
    scripts : list of list of Step
        Their numbers are those of `hw.ddr3_description.Script`.

    Members
    -------
    bus : In(AXI4Lite)
        One access at a time.  An address that means nothing is answered with an error.
    bus_* :
        Wishbone to the controller, 32 bits, addresses in words.
    """

    def __init__(self, description: DDR3Description, scripts: list[list[Step]]) -> None:
        self.description = description
        self.scripts = [list(script) for script in scripts]
        super().__init__(
            {
                "bus": In(AXI4Lite(REGISTER_ADDRESS_BITS)),
                "bus_address": Out(30),
                "bus_data": Out(32),
                "bus_write": Out(1),
                "bus_request": Out(1),
                "bus_acknowledge": In(1),
                "bus_read_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steps = [step for script in self.scripts for step in script]
        firsts = [sum(map(len, self.scripts[:number])) for number in range(len(self.scripts))]
        bits = ceil_log2(max(step.cycles for step in steps) + 1)
        rom = [step.address // 4 | step.value << 14 | step.cycles << 46 for step in steps]
        m.submodules.steps = memory = Memory(shape=46 + bits, depth=len(rom), init=rom)
        words = self.description.encode()
        word_of = Array(Const(word, 32) for word in words)

        bus = self.bus
        index, last = Signal(range(len(rom) + 1)), Signal(range(len(rom) + 1))
        wait = Signal(bits)
        port = memory.read_port()
        step = port.data
        m.d.comb += port.addr.eq(index)

        address, data, writing = Signal(REGISTER_ADDRESS_BITS), Signal(32), Signal()
        read, failed = Signal(32), Signal()
        playing = Signal()
        in_controller = (address >= CONTROL) & (address < SCRIPT)
        in_description = (address >= DESCRIPTION) & (address < DESCRIPTION + 4 * len(words))
        m.d.comb += [
            bus.rdata.eq(read),
            bus.rresp.eq(failed * Response.SLVERR),
            bus.bresp.eq(failed * Response.SLVERR),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += failed.eq(0)
                with m.If(bus.arvalid):
                    m.d.comb += bus.arready.eq(1)
                    m.d.sync += [address.eq(bus.araddr), writing.eq(0)]
                    m.next = "DECODE"
                with m.Elif(bus.awvalid & bus.wvalid):
                    m.d.comb += [bus.awready.eq(1), bus.wready.eq(1)]
                    m.d.sync += [address.eq(bus.awaddr), data.eq(bus.wdata), writing.eq(1)]
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "ANSWER"
                with m.If(in_controller):
                    with m.If(playing):
                        m.next = "DECODE"
                    with m.Else():
                        m.next = "ACCESS"
                with m.Elif(address == SCRIPT):
                    m.d.sync += read.eq(playing)
                    with m.If(writing):
                        for number, first in enumerate(firsts):
                            with m.If((data == number) & ~playing):
                                m.d.sync += [
                                    index.eq(first),
                                    last.eq(first + len(self.scripts[number])),
                                    playing.eq(1),
                                ]
                        m.d.sync += failed.eq(playing | (data >= len(firsts)))
                with m.Elif(in_description & ~writing):
                    m.d.sync += read.eq(word_of[(address - DESCRIPTION)[2 : 2 + ceil_log2(len(words))]])
                with m.Else():
                    m.d.sync += failed.eq(1)
            with m.State("ACCESS"):
                m.d.comb += self.bus_request.eq(1)
                with m.If(self.bus_acknowledge):
                    m.d.sync += read.eq(self.bus_read_data)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [bus.rvalid.eq(~writing), bus.bvalid.eq(writing)]
                with m.If((bus.rvalid & bus.rready) | (bus.bvalid & bus.bready)):
                    m.next = "IDLE"

        play = Signal()
        m.d.comb += [
            self.bus_address.eq((address - CONTROL)[2:]),
            self.bus_data.eq(data),
            self.bus_write.eq(writing),
        ]
        with m.If(play):
            m.d.comb += [
                self.bus_request.eq(1),
                self.bus_address.eq(step[:14]),
                self.bus_data.eq(step[14:46]),
                self.bus_write.eq(1),
            ]
        with m.FSM(name="player"):
            with m.State("IDLE"), m.If(playing):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += play.eq(1)
                with m.If(self.bus_acknowledge):
                    m.d.sync += [index.eq(index + 1), wait.eq(step[46:])]
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "FETCH"
                    with m.If(index == last):
                        m.d.sync += playing.eq(0)
                        m.next = "IDLE"
        return m
