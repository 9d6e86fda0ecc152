"""The feature-map scratchpad: one true dual-port memory of `output_lanes` bytes a word."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.dual_port_memory import READ_LATENCY, DualPortMemory, MemoryKind
from hw.machine import Machine

__all__ = ["ADDRESS_WIDTH", "READ_LATENCY", "ComputePort", "Scratchpad"]

#: Bits of a scratchpad address in instructions and between units; more than the scratchpad may have.
ADDRESS_WIDTH = 16


class ComputePort(wiring.Signature):
    """How the compute unit uses the scratchpad; never refused.

    Parameters
    ----------
    word_width : int
        Bits of a word.

    Members
    -------
    read_enable, read_address : ``Out``
        Port A; ``read_data`` follows `READ_LATENCY` cycles later.
    write_enable, write_address, write_data : ``Out``
        Port B.
    residual_enable, residual_address : ``Out``
        Port B, not together with ``write_enable``; ``residual_data`` follows `READ_LATENCY` cycles later.
    """

    def __init__(self, word_width: int) -> None:
        self.word_width = word_width
        super().__init__({
            "read_enable": Out(1), "read_address": Out(ADDRESS_WIDTH), "read_data": In(word_width),
            "write_enable": Out(1), "write_address": Out(ADDRESS_WIDTH), "write_data": Out(word_width),
            "residual_enable": Out(1), "residual_address": Out(ADDRESS_WIDTH),
            "residual_data": In(word_width),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ComputePort) and self.word_width == other.word_width


class Scratchpad(wiring.Component):
    """Memory with port A for compute's input words and port B for everybody.

    Port B goes to compute first, then in turn to load and store.  A word that is written in one cycle
    is read through port B in the next, and through port A in the one after; a token that is given
    when a word has been taken comes later than that.

    Parameters
    ----------
    machine : Machine
    memory : "portable" or "ecp5"
        Whether the memory is left to inference or made of the ECP5's block RAMs.

    Members
    -------
    compute : ``In(ComputePort(8 * output_lanes))``
    write : ``In(stream.Signature({"address": 16, "data": 8 * output_lanes}))``
        Words from load.
    read : ``In(stream.Signature(16))``
        Addresses from store.
    read_data : ``Out(8 * output_lanes)``
        Word for store, `READ_LATENCY` cycles after its address was taken.
    read_valid : ``Out(1)``
        ``read_data`` is one.
    """

    def __init__(self, machine: Machine, *, memory: MemoryKind = "portable") -> None:
        self.machine = machine
        self.memory: MemoryKind = memory
        width = 8 * machine.word_bytes
        super().__init__({
            "compute": In(ComputePort(width)),
            "write": In(stream.Signature(data.StructLayout({"address": ADDRESS_WIDTH, "data": width}))),
            "read": In(stream.Signature(ADDRESS_WIDTH)),
            "read_data": Out(width),
            "read_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = 8 * self.machine.word_bytes
        address_bits = exact_log2(self.machine.scratchpad_words)
        compute = self.compute

        # Who has port B.  Load or store is chosen without looking at compute, and who has been chosen
        # waits: few levels of logic lie before the address, which goes to every block of the memory.
        compute_has, load_chosen, load_has, store_has = Signal(), Signal(), Signal(), Signal()
        load_was_last = Signal()
        m.d.comb += [
            compute_has.eq(compute.write_enable | compute.residual_enable),
            load_chosen.eq(self.write.valid & ~(self.read.valid & load_was_last)),
            self.write.ready.eq(~compute_has & load_chosen),
            self.read.ready.eq(~compute_has & ~load_chosen),
            load_has.eq(self.write.ready),
            store_has.eq(self.read.ready & self.read.valid),
        ]
        with m.If(load_has | store_has):
            m.d.sync += load_was_last.eq(load_has)

        write_enable, read_enable = Signal(), Signal()
        address = Signal(address_bits)
        write_data = Signal(width)
        m.d.comb += [
            write_enable.eq(compute.write_enable | load_has),
            read_enable.eq(compute.residual_enable | store_has),
            write_data.eq(Mux(compute.write_enable, compute.write_data, self.write.payload.data)),
            address.eq(Mux(compute_has,
                           Mux(compute.write_enable, compute.write_address, compute.residual_address),
                           Mux(load_chosen, self.write.payload.address, self.read.payload))),
        ]

        # Reads and writes at the same address in the same cycle do not happen: port B does one of
        # them at a time, and tokens keep port A away from words that are being written.  (A token
        # takes a cycle to be given and one to be taken.)
        m.submodules.memory = memory = DualPortMemory(width, self.machine.scratchpad_words, kind=self.memory)
        store_reads = Signal()
        m.d.comb += [
            memory.a_enable.eq(compute.read_enable), memory.a_address.eq(compute.read_address),
            compute.read_data.eq(memory.a_data),
            memory.b_write.eq(write_enable), memory.b_read.eq(read_enable), memory.b_address.eq(address),
            memory.b_write_data.eq(write_data),
            compute.residual_data.eq(memory.b_data),
            self.read_data.eq(memory.b_data),
        ]
        m.d.sync += [store_reads.eq(store_has), self.read_valid.eq(store_reads)]
        return m
