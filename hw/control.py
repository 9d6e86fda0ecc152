"""The control registers of `hw/registers.py` on AXI4-Lite, with the counters behind them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4Lite, Response
from hw.copies import copies
from hw.machine import Machine
from hw.registers import COUNTERS, Control, Register, Status

__all__ = ["ADDRESS_WIDTH", "ControlRegisters"]

#: Bits of a register's byte address.
ADDRESS_WIDTH = 8

#: Words among which one is chosen in a cycle.
_CHOICE = 4

_ERRORS = (Status.READ_ERROR, Status.WRITE_ERROR, Status.BAD_OPCODE, Status.TOKEN_ERROR)
_COUNTED = tuple(counter for counter in COUNTERS if counter is not Register.CYCLES)


def _bit(flag: Status) -> int:
    return flag.bit_length() - 1


class ControlRegisters(wiring.Component):
    """AXI4-Lite subordinate, one read and one write at a time.

    Addresses without a register read zero and ignore writes, with an OKAY response.  Byte strobes
    are respected.

    Parameters
    ----------
    machine : Machine
        Whose digest is in the ID registers.
    counter_bits : int
        32 to 64: counters begin at 0 again past so many bits, and the others are read as 0.

    Members
    -------
    bus : ``In(AXI4Lite(8))``
    start : ``Out(1)``
        Strobe: a program starts at ``program_address``.
    program_address : ``Out(32)``
    kept_address : ``Out(32)``, kept : ``Out(1)``
        `Register.KEPT_ADDRESS`, and whether the program was started with `Control.KEPT`; only of machines
        that keep weights.
    finished : ``In(1)``
        The program's END was reached and all units are idle; looked at only while a program runs, and
        not before the second cycle after ``start``.
    read_error, write_error, bad_opcode, token_error : ``In(1)``
        Strobes that set the bits of `Status`.
    compute_busy, compute_token_wait, compute_weight_wait : ``In(1)``
    load_busy, store_busy, read_beats, write_beats : ``In(1)``
        Each counted while high, in all cycles or those of one layer (`Register.COUNTED_LAYER`).
    layer : ``In(16)``
    done : ``Out(1)``
        `Status.DONE`, as an interrupt line.
    """

    def __init__(self, machine: Machine, *, counter_bits: int = 64) -> None:
        if not 32 <= counter_bits <= 64:
            raise ValueError(f"counter_bits must be 32 to 64, not {counter_bits!r}")
        self.machine = machine
        self.counter_bits = counter_bits
        super().__init__({
            "bus": In(AXI4Lite(ADDRESS_WIDTH)),
            "start": Out(1),
            "program_address": Out(32),
            **({"kept_address": Out(32), "kept": Out(1)} if machine.kept_weight_words else {}),
            "finished": In(1),
            **{error.name.lower(): In(1) for error in _ERRORS if error.name},
            **{counter.name.lower(): In(1) for counter in _COUNTED},
            "layer": In(16),
            "done": Out(1),
        })
        self._counters = {counter: Signal(counter_bits, name=f"count_{counter.name.lower()}", reset_less=True)
                          for counter in COUNTERS}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus

        # state of the program
        busy, busy_before = Signal(), Signal()
        finish = Signal()
        errors = {error: Signal(name=error.name.lower()) for error in _ERRORS if error.name}
        status = Signal(32)
        m.d.comb += [
            finish.eq(busy & busy_before & self.finished),
            status[_bit(Status.BUSY)].eq(busy),
            status[_bit(Status.DONE)].eq(self.done),
        ]
        m.d.sync += busy_before.eq(busy)
        with m.If(finish):
            m.d.sync += [busy.eq(0), self.done.eq(1)]
        for error, held in errors.items():
            assert error.name
            m.d.comb += status[_bit(error)].eq(held)
            with m.If(getattr(self, error.name.lower())):
                m.d.sync += held.eq(1)
            with m.Elif(self.start):
                m.d.sync += held.eq(0)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), self.done.eq(0)]

        # Counters; what they count and whether, is a cycle old: both of the same cycle.  So is the start; a
        # reset clears them in the cycle after it.
        counted_layer, one_layer = Signal(16), Signal()
        clears = copies(m, self.start, len(self._counters), "clear", init=1)
        counting = Signal()
        m.d.sync += counting.eq(~one_layer | (self.layer == counted_layer))
        for (counter, value), clear in zip(self._counters.items(), clears, strict=True):
            name = counter.name.lower()
            happened = Signal(name=f"{name}_happened")
            event = busy if counter is Register.CYCLES else getattr(self, name)
            m.d.sync += happened.eq(event & ~self.start)
            with m.If(clear):
                m.d.sync += value.eq(0)
            with m.Elif(happened & counting):
                m.d.sync += value.eq(value + 1)

        # writes: address and data come in any order
        address, address_held = Signal(ADDRESS_WIDTH), Signal()
        value, strobes, value_held = Signal(32), Signal(4), Signal()
        write = Signal()
        m.d.comb += [
            bus.awready.eq(~address_held),
            bus.wready.eq(~value_held),
            bus.bresp.eq(Response.OKAY),
            write.eq(address_held & value_held & ~bus.bvalid),  # nothing hangs on the other side's `ready`
        ]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), address_held.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [value.eq(bus.wdata), strobes.eq(bus.wstrb), value_held.eq(1)]
        m.d.sync += self.start.eq(0)
        addresses = {Register.PROGRAM_ADDRESS: self.program_address}
        if self.machine.kept_weight_words:
            addresses[Register.KEPT_ADDRESS] = self.kept_address
        with m.If(write):
            m.d.sync += [address_held.eq(0), value_held.eq(0), bus.bvalid.eq(1)]
            with m.Switch(address[2:]):
                with m.Case(Register.CONTROL >> 2):
                    m.d.sync += self.start.eq(value[Control.START.bit_length() - 1] & strobes[0]
                                              & ~busy & ~self.start)
                    if self.machine.kept_weight_words:
                        with m.If(strobes[0] & ~busy & ~self.start):
                            m.d.sync += self.kept.eq(value[Control.KEPT.bit_length() - 1])
                for register, held in addresses.items():
                    with m.Case(register >> 2):
                        m.d.sync += held.eq(Cat(
                            Mux(strobes[n], value.word_select(n, 8), held.word_select(n, 8))
                            for n in range(4)))
                with m.Case(Register.COUNTED_LAYER >> 2):
                    for number in range(2):
                        with m.If(strobes[number]):
                            m.d.sync += counted_layer.word_select(number, 8).eq(value.word_select(number, 8))
                    with m.If(strobes[2]):
                        m.d.sync += one_layer.eq(value[16])

        # reads; which word is known with the address, the word is chosen in the two cycles after it
        wanted_held = Signal()
        several = Signal()  # the first of them has passed: one of several words is left to choose
        high = Signal(32, reset_less=True)  # of the counter whose low word was read last
        read_word = Signal(32, reset_less=True)
        read = Signal()
        words = {register: Value.cast(word) for register, word in {
            Register.ID_LOW: Const(self.machine.digest() & 0xFFFFFFFF, 32),
            Register.ID_HIGH: Const(self.machine.digest() >> 32, 32),
            Register.STATUS: status,
            **addresses,
            Register.LAYER: self.layer,
            Register.COUNTED_LAYER: Cat(counted_layer, one_layer),
            **{counter: count[:32] for counter, count in self._counters.items()},
        }.items()}
        wanted = Signal(len(words), reset_less=True)
        high_wanted = Signal()
        m.d.comb += [
            bus.arready.eq(~wanted_held),
            bus.rresp.eq(Response.OKAY),
            bus.rdata.eq(read_word),
            read.eq(several & ~bus.rvalid),
        ]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [
                wanted.eq(Cat(bus.araddr[2:] == register >> 2 for register in words)),
                high_wanted.eq(Cat(bus.araddr[2:] == (counter + 4) >> 2 for counter in COUNTERS).any()),
                wanted_held.eq(1),
            ]

        def of_wanted(values: Iterable[tuple[Value, Value]]) -> Value:
            return reduce(or_, (value & bit.replicate(32) for bit, value in values))

        values = [*zip(wanted, words.values(), strict=True), (high_wanted, high)]
        counts = [(wanted[number], self._counters[register][32:]) for number, register in enumerate(words)
                  if register in self._counters]
        parts = [values[first:first + _CHOICE] for first in range(0, len(values), _CHOICE)]
        chosen = [Signal(32, reset_less=True, name=f"chosen{number}") for number in range(len(parts))]
        with m.If(wanted_held & ~several):
            m.d.sync += several.eq(1)
            m.d.sync += [word.eq(of_wanted(part)) for word, part in zip(chosen, parts, strict=True)]
            with m.If(Cat(bit for bit, _ in counts).any()):
                m.d.sync += high.eq(of_wanted(counts))
        with m.If(read):
            m.d.sync += [wanted_held.eq(0), several.eq(0), bus.rvalid.eq(1)]
            m.d.sync += read_word.eq(reduce(or_, chosen))
        return m
