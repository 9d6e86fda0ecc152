"""A true dual-port memory: one port reads, the other reads or writes."""

from __future__ import annotations

from typing import Any, Literal

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.copies import copies
from hw.delay_line import delay_line

__all__ = ["PLACES_LATENCY", "PORT_LATENCY", "DualPortMemory", "MemoryKind", "block_ram", "block_rams",
           "block_shape"]

MemoryKind = Literal["portable", "ecp5"]

#: Cycles from an address to the memory, and from a read's address to its data, through either port.
PLACES_LATENCY = 2
PORT_LATENCY = PLACES_LATENCY + 2

#: Address bits of an ECP5 block RAM when each of its words has this many bits.
_WORD_WIDTHS = {14: 1, 13: 2, 12: 4, 11: 9, 10: 18}


def block_shape(depth: int) -> tuple[int, int]:
    """Address bits and width of the block RAMs that are used for a memory of this depth."""
    address_bits = min(max(ceil_log2(depth), 10), 14)
    return address_bits, _WORD_WIDTHS[address_bits]


def block_rams(width: int, depth: int) -> int:
    """How many ECP5 block RAMs a memory takes."""
    address_bits, block_width = block_shape(depth)
    return -(-width // block_width) * -(-depth // (1 << address_bits))


class DualPortMemory(wiring.Component):
    """Memory of ``depth`` words of ``width`` bits; nothing may depend on its first contents.

    Both ports have registers at inputs and output.  The blocks of an ECP5 lie near those who use their bytes,
    far from each other: each has input registers of its own, and the way to them takes two cycles.  A word
    that is written in one cycle is read through either port from the next on.

    Port B does not read and write in the same cycle, and port A is not given an address in the very cycle in
    which it is written to; then the two kinds behave alike.

    Parameters
    ----------
    width : int
    depth : int
        A power of two.
    kind : "portable" or "ecp5"
        Left to inference, or made of ``DP16KD`` with their output registers on.  Inference would
        cut some depths into block RAMs that need a multiplexer behind them, and leaves the output
        registers outside.

    Members
    -------
    a_enable, a_address : ``In``
        Read; ``a_data`` follows `PORT_LATENCY` cycles later.
    b_read, b_write, b_address : ``In``
        Read (``b_data`` follows `PORT_LATENCY` cycles later) or write.
    b_write_data : ``In``
        Comes ``PLACES_LATENCY - 1`` cycles after its address.
    """

    def __init__(self, width: int, depth: int, *, kind: MemoryKind = "portable") -> None:
        if kind not in ("portable", "ecp5"):
            raise ValueError(f"kind must be 'portable' or 'ecp5', not {kind!r}")
        self.width = width
        self.depth = depth
        self.kind: MemoryKind = kind
        address_width = exact_log2(depth)
        super().__init__({
            "a_enable": In(1), "a_address": In(address_width), "a_data": Out(width),
            "b_read": In(1), "b_write": In(1), "b_address": In(address_width), "b_write_data": In(width),
            "b_data": Out(width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        write_data = Signal(self.width, reset_less=True)
        m.d.sync += write_data.eq(self.b_write_data)
        if self.kind == "portable":
            self._portable(m, write_data)
        else:
            self._ecp5(m, write_data)
        return m

    def _portable(self, m: Module, write_data: Signal) -> None:
        enable, read, write = (delay_line(m, value, PLACES_LATENCY, name, init=0)[-1] for name, value in (
            ("enable", self.a_enable), ("read", self.b_read & ~self.b_write), ("write", self.b_write)))
        a_address, b_address = (delay_line(m, value, PLACES_LATENCY, name)[-1] for name, value in (
            ("a_row", self.a_address), ("b_row", self.b_address)))
        # the attribute spares logic for reads and writes that meet at an address
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[],
                                              attrs={"no_rw_check": "1"})
        write_b, read_a, read_b = memory.write_port(), memory.read_port(), memory.read_port()
        m.d.comb += [
            read_a.addr.eq(a_address), read_a.en.eq(enable),
            write_b.addr.eq(b_address), write_b.en.eq(write), write_b.data.eq(write_data),
            read_b.addr.eq(b_address), read_b.en.eq(read),
        ]
        m.d.sync += [self.a_data.eq(read_a.data), self.b_data.eq(read_b.data)]

    def _ecp5(self, m: Module, write_data: Signal) -> None:
        address_bits, block_width = block_shape(self.depth)
        banks = -(-self.depth // (1 << address_bits))
        slices = -(-self.width // block_width)
        # the same for all blocks, so that a block has whole bytes where words have
        used = -(-self.width // slices)
        a_addresses = copies(m, self.a_address[:address_bits], banks * slices, "a_address",
                             levels=PLACES_LATENCY)
        b_addresses = copies(m, self.b_address[:address_bits], banks * slices, "b_address",
                             levels=PLACES_LATENCY)
        a_words, b_words = [], []
        for bank in range(banks):
            # one that writes after a reset spoils nothing that counts
            writes = copies(m, self.b_write & (self.b_address[address_bits:] == bank), slices,
                            f"write_{bank}", levels=PLACES_LATENCY)
            a_word, b_word = Signal(slices * used), Signal(slices * used)
            data = Signal(slices * used)
            m.d.comb += data.eq(write_data)
            for number in range(slices):
                part = slice(number * used, (number + 1) * used)
                m.submodules[f"block_{bank}_{number}"] = block_ram(
                    block_width, address_bits,
                    a_address=a_addresses[bank * slices + number], a_data=a_word[part],
                    b_address=b_addresses[bank * slices + number], b_data=b_word[part],
                    b_write=writes[number], b_write_data=data[part])
            a_words.append(a_word)
            b_words.append(b_word)
        for read_address, words, output in ((self.a_address, a_words, self.a_data),
                                            (self.b_address, b_words, self.b_data)):
            bank = read_address[address_bits:]
            for _ in range(PORT_LATENCY if banks > 1 else 0):
                earlier, bank = bank, Signal.like(bank)
                m.d.sync += bank.eq(earlier)
            chosen: Any = words[0]
            for number, word in enumerate(words[1:], 1):
                chosen = Mux(bank == number, word, chosen)
            m.d.comb += output.eq(chosen)


def block_ram(width: int, address_bits: int, *, a_address: Any, a_data: Any, b_address: Any, b_data: Any,
           b_write: Any, b_write_data: Any) -> Instance:
    """One DP16KD (Lattice FPGA-TN-02204): address bits at the top of ADx, data bits at the bottom."""
    pins: dict[str, Any] = {}
    for port, address, data, write in (("A", a_address, a_data, Const(0)), ("B", b_address, b_data, b_write)):
        pins |= {
            f"p_DATA_WIDTH_{port}": width,
            f"p_REGMODE_{port}": "OUTREG", f"p_CSDECODE_{port}": "0b000",
            f"p_CLK{port}MUX": f"CLK{port}", f"p_WRITEMODE_{port}": "NORMAL",
            f"i_CLK{port}": ClockSignal("sync"), f"i_CE{port}": Const(1), f"i_OCE{port}": Const(1),
            f"i_RST{port}": Const(0), f"i_WE{port}": write,
            **{f"i_CS{port}{n}": Const(0) for n in range(3)},
        }
        # with 18 bits the two lowest address bits are the byte enables
        full = Cat(Const(3 if width == 18 else 0, 14 - address_bits), address, Const(0, 14))
        written = Cat(b_write_data if port == "B" else Const(0, width), Const(0, 18))
        pins |= {f"i_AD{port}{n}": full[n] for n in range(14)}
        pins |= {f"i_DI{port}{n}": written[n] for n in range(18)}
        pins |= {f"o_DO{port}{n}": data[n] for n in range(len(data))}
    return Instance("DP16KD", p_RESETMODE="SYNC", p_ASYNC_RESET_RELEASE="SYNC", p_GSR="AUTO", **pins)
