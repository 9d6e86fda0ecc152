"""The feature-map scratchpad: banks of true dual-port memory, `output_lanes` bytes a word.

There are `input_lanes` banks; word ``a`` is in bank ``a mod input_lanes``.  So the words of as many
consecutive addresses, in which a window's taps lie (`docs/machine.md`, "Taps on the input lanes"), are
read in one cycle, and load, store and results meet only where they want the same bank.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.copies import copies
from hw.delay_line import delay_line
from hw.dual_port_memory import PLACES_LATENCY, PORT_LATENCY, DualPortMemory, MemoryKind
from hw.machine import Machine

__all__ = ["ADDRESS_WIDTH", "PORT_B_LATENCY", "READ_LATENCY", "ComputePort", "Scratchpad", "place_at",
           "place_layout"]

#: Bits of a scratchpad address in instructions and between units; more than the scratchpad may have.
ADDRESS_WIDTH = 16

#: Cycles from a read's address to its word through port A: a register for the address, one before the banks
#: and one behind the words' choice.
READ_LATENCY = 2 + PORT_LATENCY + 1
#: Cycles from a read's place to its word through port B: a register before the banks, one behind them, and
#: two for the words' choice, because banks and those who read them lie far from each other.
PORT_B_LATENCY = 1 + PORT_LATENCY + 1 + 2


#: Banks that share the registers of the slots' rows.
_BANKS = 4


def place_layout(banks: int) -> data.StructLayout:
    """Where a word is, as port B is told: ``row`` of its bank, and one bit of ``bank`` for each bank, so that
    nobody who asks for port B hangs on a comparison of addresses.  Without a wish for port B none is set."""
    return data.StructLayout({"row": ADDRESS_WIDTH - exact_log2(banks), "bank": banks})


def place_at(m: Module, address: Value, banks: int, *, wanted: Value) -> Any:
    """The place of the word with this address, if it is ``wanted``: a signal of `place_layout`."""
    place = Signal(place_layout(banks))
    bits = exact_log2(banks)
    m.d.comb += [place.row.eq(address[bits:]), place.bank.eq(wanted << address[:bits])]
    return place


class ComputePort(wiring.Signature):
    """How the compute unit uses the scratchpad; never refused.

    Parameters
    ----------
    word_width : int
        Bits of a word.
    banks : int
        Words that it reads at once.

    Members
    -------
    read_enable, read_all, read_addresses : ``Out``
        Port A; ``read_data`` follows `READ_LATENCY` cycles later: word 0, with ``read_all`` the others too.
        Address j is address 0 plus j, modulo ``banks``; a word whose address is not is any word.
    write_enable, residual_enable : ``Out(1)``
        Port B writes, or reads; never both.  ``residual_data`` follows `PORT_B_LATENCY` cycles
        later.
    b_place, write_data : ``Out``
        Its place and, if it writes, the word.  ``b_place.bank`` is 0 if it does neither.
    """

    def __init__(self, word_width: int, banks: int) -> None:
        self.word_width = word_width
        self.banks = banks
        super().__init__({
            "read_enable": Out(1),
            "read_all": Out(1),
            "read_addresses": Out(data.ArrayLayout(unsigned(ADDRESS_WIDTH), banks)),
            "read_data": In(data.ArrayLayout(unsigned(word_width), banks)),
            "write_enable": Out(1), "residual_enable": Out(1),
            "b_place": Out(place_layout(banks)), "write_data": Out(word_width),
            "residual_data": In(word_width),
        })

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, ComputePort)
                and (self.word_width, self.banks) == (other.word_width, other.banks))


class Scratchpad(wiring.Component):
    """Memory with port A for compute's input words and port B for everybody.

    In each bank port B goes to compute first, then in turn to load and store.  A word that is written in
    one cycle is read, through either port, from the next cycle on; what is read in the very cycle is left
    open.

    Parameters
    ----------
    machine : Machine
    memory : "portable" or "ecp5"
        Whether the memory is left to inference or made of the ECP5's block RAMs.

    Members
    -------
    compute : ``In(ComputePort(8 * output_lanes, input_lanes))``
    write : ``In(stream.Signature(place_layout(input_lanes)))``
        Places of words from load.
    write_data : ``In(8 * output_lanes)``
        The word whose place was taken in the cycle before.
    read : ``In(stream.Signature(place_layout(input_lanes)))``
        Places of words for store.
    read_data : ``Out(8 * output_lanes)``
        Word for store, `PORT_B_LATENCY` cycles after its place was taken.
    read_valid : ``Out(1)``
        ``read_data`` is one.
    """

    def __init__(self, machine: Machine, *, memory: MemoryKind = "portable") -> None:
        self.machine = machine
        self.memory: MemoryKind = memory
        width = 8 * machine.word_bytes
        place = place_layout(machine.input_lanes)
        super().__init__({
            "compute": In(ComputePort(width, machine.input_lanes)),
            "write": In(stream.Signature(place)),
            "write_data": In(width),
            "read": In(stream.Signature(place)),
            "read_data": Out(width),
            "read_valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        banks, compute = self.machine.input_lanes, self.compute
        bank_bits = exact_log2(banks)
        row_bits = exact_log2(self.machine.scratchpad_words) - bank_bits

        def row_of(address: Any) -> Any:
            return address[bank_bits:bank_bits + row_bits]

        # Who has port B.  Load and store meet in one bank only; then they take turns.  One bit for each bank
        # that is asked for, and nothing else, because the buffers of load's and store's places lie far from
        # each other.
        load_has, store_has, load_was_last = Signal(), Signal(), Signal()
        loading, storing, computing = self.write.payload, self.read.payload, compute.b_place
        load_waits = computing.bank | (storing.bank & load_was_last.replicate(banks))
        store_waits = computing.bank | (loading.bank & (~load_was_last).replicate(banks))
        m.d.comb += [
            self.write.ready.eq((loading.bank & load_waits) == 0),
            self.read.ready.eq((storing.bank & store_waits) == 0),
            load_has.eq(self.write.valid & self.write.ready),
            store_has.eq(self.read.valid & self.read.ready),
        ]
        with m.If(load_has | store_has):
            m.d.sync += load_was_last.eq(load_has)

        # what is written, chosen where the memories are: each byte has its own steer
        written = delay_line(m, compute.write_data, PLACES_LATENCY, "written")[-1]
        loaded = delay_line(m, self.write_data, PLACES_LATENCY - 1, "loaded")[-1]
        writes = computing.bank & compute.write_enable.replicate(banks)
        steers = copies(m, writes, self.machine.word_bytes, "writes", levels=PLACES_LATENCY)

        # Port A: each bank gets the row of that slot whose address lies in it, with a bit for each.
        read_enable, read_all = Signal(), Signal(reset_less=True)
        m.d.sync += [read_enable.eq(compute.read_enable), read_all.eq(compute.read_all)]
        slot_rows = copies(m, Cat(row_of(address) for address in compute.read_addresses),
                           -(-banks // _BANKS), "slot_rows")
        first_bank = compute.read_addresses[0][:bank_bits]
        [rotation] = copies(m, first_bank, 1, "first_bank")
        a_words, b_words = [], []
        for bank in range(banks):
            # Reads and writes at the same address in the same cycle do not happen where the word
            # matters: port B does one of them at a time, and tokens keep port A away from words that
            # are being written.
            memory = DualPortMemory(8 * self.machine.word_bytes, 1 << row_bits, kind=self.memory)
            m.submodules[f"bank_{bank}"] = memory
            enable = Signal(name=f"enable_{bank}")
            [slots] = copies(m, Cat(first_bank == (bank - slot) % banks for slot in range(banks)), 1,
                             f"slot_{bank}")
            # two slots' rows before a register, and all of them behind it, on the way to the memory's own
            rows = [slot_rows[bank // _BANKS].word_select(slot, row_bits) & slots[slot].replicate(row_bits)
                    for slot in range(banks)]
            pairs = [Signal(row_bits, reset_less=True, name=f"row_{bank}_{slot}")
                     for slot in range(0, banks, 2)]
            m.d.sync += [
                *(pair.eq(reduce(or_, rows[2 * number:2 * number + 2])) for number, pair in enumerate(pairs)),
                enable.eq(read_enable & (read_all | slots[0])),
            ]
            m.d.comb += [memory.a_enable.eq(enable), memory.a_address.eq(reduce(or_, pairs))]
            a_words.append(memory.a_data)
            b_word = Signal.like(memory.b_data, reset_less=True, name=f"b_word_{bank}")
            m.d.sync += b_word.eq(memory.b_data)
            b_words.append(b_word)

            loads, stores = Signal(name=f"load_{bank}"), Signal(name=f"store_{bank}")
            b_write, b_read = Signal(name=f"write_{bank}"), Signal(name=f"read_{bank}")
            b_row = Signal(row_bits, reset_less=True, name=f"b_row_{bank}")
            m.d.comb += [
                loads.eq(loading.bank[bank] & ~load_waits[bank]),
                stores.eq(storing.bank[bank] & ~store_waits[bank]),
                memory.b_write.eq(b_write), memory.b_read.eq(b_read), memory.b_address.eq(b_row),
            ]
            m.d.sync += [
                b_write.eq((compute.write_enable & computing.bank[bank]) | loads),
                b_read.eq((compute.residual_enable & computing.bank[bank]) | stores),
                b_row.eq(Mux(loads, loading.row, Mux(stores, storing.row, computing.row))),
            ]
            for byte, steer in enumerate(steers):
                m.d.comb += memory.b_write_data.word_select(byte, 8).eq(
                    Mux(steer[bank], written.word_select(byte, 8), loaded.word_select(byte, 8)))

        # The words, rotated back by one power of two after the other: half the wires of a choice among all
        # banks for each slot.  Each byte of the words has a copy of the rotation, which steers so much.
        early = delay_line(m, rotation, PORT_LATENCY - 1, "rotation")[-1]
        read_data = Signal.like(compute.read_data, reset_less=True)
        m.d.comb += compute.read_data.eq(read_data)
        turns = copies(m, early, self.machine.word_bytes, "rotation", levels=2)
        for byte, turned in enumerate(turns):
            parts: list[Value] = [word.word_select(byte, 8) for word in a_words]
            for power in reversed(range(bank_bits)):
                parts = [Mux(turned[power], parts[(slot + (1 << power)) % banks], part)
                         for slot, part in enumerate(parts)]
            m.d.sync += [read_data[slot].word_select(byte, 8).eq(part) for slot, part in enumerate(parts)]
        for name, chosen, output in (("residual", computing.bank, compute.residual_data),
                                     ("store", storing.bank, self.read_data)):
            early = delay_line(m, chosen, PORT_LATENCY, f"{name}_bank")[-1]
            choices = copies(m, early, self.machine.word_bytes, f"{name}_bank", levels=2)
            word = Signal.like(output, reset_less=True, name=f"{name}_word")
            m.d.comb += output.eq(word)
            # two banks' words in one cycle, then all of them
            pairs = [Signal.like(output, reset_less=True, name=f"{name}_pair{first}")
                     for first in range(0, banks, 2)]
            for byte, choice in enumerate(choices):
                chosen_bytes = [bank.word_select(byte, 8) & bit.replicate(8)
                                for bank, bit in zip(b_words, choice, strict=True)]
                for number, pair in enumerate(pairs):
                    two = chosen_bytes[2 * number:2 * number + 2]
                    m.d.sync += pair.word_select(byte, 8).eq(reduce(or_, two))
            m.d.sync += word.eq(reduce(or_, pairs))
        m.d.comb += self.read_valid.eq(delay_line(m, store_has, PORT_B_LATENCY, "store_reads", init=0)[-1])
        return m
