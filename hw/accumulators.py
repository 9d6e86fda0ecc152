"""The accumulators: for every output pixel and lane of a tile, one 32-bit sum in block RAM."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.array import sum_bits, with_carry
from hw.copies import copies
from hw.machine import Machine

__all__ = ["LOOP_LATENCY", "OPERAND_DELAY", "SUM_LATENCY", "Accumulators"]

#: The same pixel may come again after this many cycles, no sooner.
LOOP_LATENCY = 5

#: Cycles from a pixel's address to its operand: two to bring it to the memories of all lanes, block RAM, then
#: a register behind its slow output.
OPERAND_DELAY = 4

#: Cycles from a pixel's address to its new sum.
SUM_LATENCY = OPERAND_DELAY + 2


class Accumulators(wiring.Component):
    """Reads, adds and writes one pixel a cycle.

    Members
    -------
    valid : ``In(1)``
        There is a pixel, whose address is ``pixel``.
    pixel : ``In(range(accumulator_depth))``
    first : ``In(1)``
        Two cycles before the operands: nothing has been accumulated yet.
    chain : ``In(1)``
        Two cycles before the operands: add to the sum before, whatever its pixel and however short ago.  Only
        machines with a weight decoder can.
    maximum : ``In(1)``
        Two cycles before the operands: keep the larger value instead of adding.
    bias : ``In``
        What a sum starts from, with the operands (`OPERAND_DELAY` cycles after ``valid``).  Maxima start from
        their first product.
    products : ``In``
        What is added, with the operands.
    carries : ``In(output_lanes)``
        With ``weight_pairs`` only: added to the products, but not where the larger value is kept.
    sums : ``Out``
        New values, `SUM_LATENCY` cycles after ``valid``; also what is stored.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        lanes = machine.output_lanes
        super().__init__({
            "valid": In(1),
            "pixel": In(range(machine.accumulator_depth)),
            "first": In(1),
            "chain": In(1),
            "maximum": In(1),
            "bias": In(data.ArrayLayout(signed(32), lanes)),
            "products": In(data.ArrayLayout(signed(sum_bits(machine)), lanes)),
            "sums": Out(data.ArrayLayout(signed(32), lanes)),
            **({"carries": In(lanes)} if self.machine.weight_pairs else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.machine.output_lanes
        valid, pixel = self.valid, self.pixel
        adds = Signal()  # between two sums of a chain there may be cycles without one
        for stage in range(SUM_LATENCY - 2):
            next_valid = Signal(name=f"valid{stage}")
            next_pixel = Signal.like(self.pixel, reset_less=True, name=f"pixel{stage}")
            m.d.sync += [next_valid.eq(valid), next_pixel.eq(pixel)]
            valid, pixel = next_valid, next_pixel
        m.d.sync += adds.eq(valid)

        # Each lane has its memory, with address registers of its own.
        # A pixel is never read in the cycle in which it is written, because it comes again after LOOP_LATENCY
        # cycles at the earliest; without the attribute, synthesis would build a way around the memory.
        old = Signal(data.ArrayLayout(signed(32), lanes), reset_less=True)
        reads = copies(m, self.pixel, lanes, "read_pixel", levels=2)
        writes = copies(m, Cat(valid, pixel), lanes, "write_pixel", levels=2)
        for lane, (read_pixel, write_pixel) in enumerate(zip(reads, writes, strict=True)):
            ram = memory.Memory(shape=32, depth=self.machine.accumulator_depth, init=[],
                                attrs={"no_rw_check": "1"})
            m.submodules[f"ram{lane}"] = ram
            write, read = ram.write_port(), ram.read_port(domain="comb")
            read_data = Signal(32, reset_less=True, name=f"read_data{lane}")
            m.d.comb += [
                read.addr.eq(read_pixel),
                write.addr.eq(write_pixel[1:]), write.en.eq(write_pixel[0]), write.data.eq(self.sums[lane]),
            ]
            m.d.sync += [read_data.eq(read.data), old[lane].eq(read_data)]

        # The larger of old and product is old + max(product - old, 0): what is added, and to what, is chosen
        # in a cycle of its own, so that one adder is all there is between two registers.
        flags = Cat(self.first, self.maximum, self.maximum & ~self.first, self.chain)
        for lane, steers in enumerate(copies(m, flags, lanes, "flags", levels=2)):
            first, starts_maximum, maximum, chain_next = steers
            keeps = Signal(reset_less=True, name=f"keeps{lane}")
            chain = Signal(reset_less=True, name=f"chain{lane}")
            m.d.sync += [keeps.eq(maximum), chain.eq(chain_next)]
            product = self.products[lane]
            addend = Signal(signed(len(product) + 1), reset_less=True, name=f"addend{lane}")
            start = Signal(signed(32), reset_less=True, name=f"start{lane}")
            total = Signal(signed(32), reset_less=True, name=f"total{lane}")
            kept = old[lane][:len(product)].as_signed()
            if self.machine.weight_pairs:  # the same adder: product + ~kept + 1, or product + 0 + carry
                subtrahend = Mux(maximum, ~kept, 0)
                difference = with_carry(product, subtrahend, maximum | self.carries[lane])
            else:
                difference = product - Mux(maximum, kept, 0)
            m.d.sync += [
                addend.eq(difference),
                start.eq(Mux(first, Mux(starts_maximum, 0, self.bias[lane]), old[lane])),
            ]
            added = Mux(keeps & addend[-1], 0, addend)
            if self.machine.weight_decoder:
                with m.If(adds):
                    m.d.sync += total.eq(Mux(chain, total, start) + added)
            else:
                m.d.sync += total.eq(start + added)
            m.d.comb += self.sums[lane].eq(total)
        return m
