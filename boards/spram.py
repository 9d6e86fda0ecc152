"""A memory of the iCE40 UltraPlus's SPRAM blocks (Lattice FPGA-TN-02022), with its byte strobes."""

from __future__ import annotations

from typing import Any, Literal

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["BLOCKS", "BLOCK_BYTES", "SPRAM", "SPRAMKind"]

SPRAMKind = Literal["portable", "ice40"]

#: An UP5K has four blocks of 16,384 words of 16 bits.
BLOCKS = 4
BLOCK_BYTES = 1 << 15


class SPRAM(Component):
    """All of the blocks as one memory, with one port.

    Parameters
    ----------
    width : int
        Bits of a word: 16, 32 or 64.
    kind : "portable" or "ice40"
        A memory as Amaranth has it, or ``SB_SPRAM256KA``.

    Members
    -------
    address : In
    write_data : In, strobes : In
        Bytes to be written at this address; without a strobe the word is read.
    read_data : Out
        The word at the address of the cycle before, if that was not written.
    """

    def __init__(self, width: int, kind: SPRAMKind = "portable") -> None:
        if width not in (16, 32, 64):
            raise ValueError(f"width must be 16, 32 or 64, not {width!r}")
        if kind not in ("portable", "ice40"):
            raise ValueError(f"kind must be 'portable' or 'ice40', not {kind!r}")
        self.width = width
        self.kind: SPRAMKind = kind
        self.depth = BLOCKS * BLOCK_BYTES * 8 // width
        super().__init__(
            {
                "address": In(range(self.depth)),
                "write_data": In(width),
                "strobes": In(width // 8),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.kind == "portable":
            m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
            write, read = memory.write_port(granularity=8), memory.read_port()
            m.d.comb += [
                write.addr.eq(self.address),
                write.data.eq(self.write_data),
                write.en.eq(self.strobes),
                read.addr.eq(self.address),
                self.read_data.eq(read.data),
            ]
            return m
        columns = self.width // 16
        banks = BLOCKS // columns
        bank = Signal(range(max(banks, 2)))
        m.d.sync += bank.eq(self.address[14:])
        words = []
        for number in range(banks):
            word = Signal(self.width, name=f"word_{number}")
            chosen: Any = self.address[14:] == number if banks > 1 else Const(1)
            for column in range(columns):
                part = slice(16 * column, 16 * column + 16)
                strobes = self.strobes[2 * column : 2 * column + 2]
                m.submodules[f"block_{number}_{column}"] = Instance(
                    "SB_SPRAM256KA",
                    i_ADDRESS=self.address[:14],
                    i_DATAIN=self.write_data[part],
                    i_MASKWREN=Cat(strobes[0].replicate(2), strobes[1].replicate(2)),
                    i_WREN=strobes.any(),
                    i_CHIPSELECT=chosen,
                    i_CLOCK=ClockSignal(),
                    i_STANDBY=Const(0),
                    i_SLEEP=Const(0),
                    i_POWEROFF=Const(1),  # active low
                    o_DATAOUT=word[part],
                )
            words.append(word)
        read_data: Any = words[0]
        for number, word in enumerate(words[1:], 1):
            read_data = Mux(bank == number, word, read_data)
        m.d.comb += self.read_data.eq(read_data)
        return m

