"""A large memory with one port, of block RAMs that need no multiplexer behind them."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.copies import copies
from hw.delay_line import delay_line
from hw.dual_port_memory import MemoryKind, block_ram, block_shape

__all__ = ["KEPT_LATENCY", "KeptMemory", "kept_block_rams", "sections"]

#: Cycles from an address to the memory, and to its data.
_WAY = 2
KEPT_LATENCY = _WAY + 3

#: Words of the largest section: one bit of each in a block RAM of an ECP5.
_MOST_WORDS = 1 << 14
#: Neighbouring block RAMs that share the registers of an address.
_SHARING = 4


def sections(words: int) -> list[int]:
    """Sizes of the parts of a memory of ``words``, powers of two, the largest first."""
    found = []
    while words:
        found.append(min(_MOST_WORDS, 1 << words.bit_length() - 1))
        words -= found[-1]
    return found


def kept_block_rams(width: int, words: int) -> int:
    """How many ECP5 block RAMs the memory takes."""
    return sum(-(-width // block_shape(size)[1]) for size in sections(words))


class KeptMemory(wiring.Component):
    """Reads or writes a word in each cycle; nothing may depend on its first contents.

    Parameters
    ----------
    width : int
        Bits of a word.
    words : int
        A multiple of 1,024.
    kind : "portable" or "ecp5"
        Left to inference, or made of ``DP16KD`` with their output registers on.

    Members
    -------
    address : ``In``
    write : ``In(1)``, write_data : ``In(width)``
        Come with their address.
    data : ``Out(width)``
        The word at the address of `KEPT_LATENCY` cycles before, if that was not written.
    """

    def __init__(self, width: int, words: int, *, kind: MemoryKind = "portable") -> None:
        self.width = width
        self.words = words
        self.kind: MemoryKind = kind
        super().__init__({"address": In(ceil_log2(words)), "write": In(1), "write_data": In(width),
                          "data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        written = delay_line(m, self.write_data, _WAY, "written")[-1]
        outputs: list[Value] = []
        start = 0
        for number, size in enumerate(sections(self.words)):
            # a section begins at a multiple of its size, and all behind it are smaller
            here = self.address[exact_log2(size):] == start >> exact_log2(size)
            section = self._portable if self.kind == "portable" else self._ecp5
            outputs.append(section(m, number, size, self.write & here, written))
            start += size
        chosen = outputs[0]
        if len(outputs) > 1:
            starts = [sum(sections(self.words)[:number]) for number in range(len(outputs))]
            for number, output in enumerate(outputs[1:], 1):
                behind = self.address >= starts[number]
                behind = delay_line(m, behind, KEPT_LATENCY - 1, f"behind{number}")[-1]
                chosen = Mux(behind, output, chosen)
        m.d.sync += self.data.eq(chosen)
        return m

    def _portable(self, m: Module, number: int, size: int, write: Value, written: Value) -> Value:
        address = delay_line(m, self.address[:exact_log2(size)], _WAY, f"address{number}")[-1]
        writes = delay_line(m, write, _WAY, f"write{number}", init=0)[-1]
        memory = Memory(shape=self.width, depth=size, init=[], attrs={"no_rw_check": "1"})
        m.submodules[f"section{number}"] = memory
        write_port, read_port = memory.write_port(), memory.read_port()
        m.d.comb += [
            write_port.addr.eq(address), write_port.en.eq(writes), write_port.data.eq(written),
            read_port.addr.eq(address), read_port.en.eq(~writes),
        ]
        output = Signal(self.width, name=f"output{number}", reset_less=True)
        m.d.sync += output.eq(read_port.data)
        return output

    def _ecp5(self, m: Module, number: int, size: int, write: Value, written: Value) -> Value:
        address_bits, block_width = block_shape(size)
        slices = -(-self.width // block_width)
        groups = -(-slices // _SHARING)
        addresses = copies(m, self.address[:address_bits], groups, f"address{number}", levels=_WAY)
        # one that writes after a reset spoils nothing that counts
        writes = copies(m, write, groups, f"write{number}", levels=_WAY)
        output, data = Signal(slices * block_width, name=f"output{number}"), Signal(slices * block_width)
        m.d.comb += data.eq(written)
        for block in range(slices):
            part = slice(block * block_width, (block + 1) * block_width)
            m.submodules[f"block_{number}_{block}"] = block_ram(
                block_width, address_bits,
                a_address=Const(0, address_bits), a_data=Signal(block_width, name=f"unused{number}_{block}"),
                b_address=addresses[block // _SHARING], b_data=output[part],
                b_write=writes[block // _SHARING], b_write_data=data[part])
        word = Signal(self.width, name=f"word{number}")
        m.d.comb += word.eq(output)
        return word
