"""The small core's post-processing: one lane after another, shifts by a few places in a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from hw.machine import Machine

__all__ = ["SmallPost"]


class _Phase(enum.Enum, shape=2):
    """What a shift is for."""

    OWN = 0    #: the layer's own value
    ALIGN = 1  #: the operand of the sum that has fewer fractional bits
    SUM = 2    #: the sum


class SmallPost(wiring.Component):
    """Takes the sums of a rectangle's pixels, writes words of bytes (`docs/machine.md`, post-processing).

    Of the two left shifts before a sum only the difference is made; the common part is left out of the
    right shift behind it.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    value : ``In(16)``
        For the strobes ``go``, ``push_shift`` (the next lane's shift) and ``set_word``, six strobes: words 20
        to 25 of a COMPUTE instruction, which have the bounds and the residual's fields.
    idle : ``Out(1)``
    start, step : ``Out(1)``, last : ``In(1)``
        The walk over the results' words.
    next_sums : ``Out(1)``, pair : ``Out(1)``, sums : ``In(64)``
        Sums of a pair of lanes come a cycle after ``pair``; ``next_sums`` goes to the next pixel.
    offset : ``Out(range(scratchpad_words))``, reading : ``Out(1)``, word : ``In(32)``
        The residual's word, so many words behind the result's; it stays until the next is read.
    result : ``Out(32)``, write : ``Out(1)``
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__(
            {
                "value": In(16),
                "go": In(1),
                "push_shift": In(1),
                "set_word": In(6),
                "idle": Out(1),
                "start": Out(1),
                "step": Out(1),
                "last": In(1),
                "next_sums": Out(1),
                "pair": Out(1),
                "sums": In(64),
                "offset": Out(range(machine.scratchpad_words)),
                "reading": Out(1),
                "word": In(32),
                "result": Out(32),
                "write": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # words 20 to 25 of the instruction
        settings = Signal(96)
        for part in range(6):
            with m.If(self.set_word[part]):
                m.d.sync += settings.word_select(part, 16).eq(self.value)

        def field(position: int, width: int) -> Any:
            return settings[position : position + width]

        low, high = field(15, 9).as_signed(), field(24, 9).as_signed()
        residual, residual_signed = settings[33], settings[34]
        own_shift, residual_shift = field(51, 4), field(55, 4)
        sum_shift = field(59, 7).as_signed()
        sum_low, sum_high = field(66, 9).as_signed(), field(75, 9).as_signed()
        m.d.comb += self.offset.eq(field(35, 16))

        shifts = Signal(32)  # of the four lanes, the next one first
        lane, next_lane = Signal(2), Signal(2)
        number = Signal(signed(32))
        left = Signal(signed(7))  # places to the right that are still to go
        half, sticky = Signal(), Signal()  # the last bit that has left, and whether any before was 1
        phase = Signal(_Phase)
        own = Signal(signed(9))  # the layer's value

        other = Signal(signed(9))
        byte = self.word.word_select(lane, 8)
        m.d.comb += [
            other.eq(Cat(byte, residual_signed & byte[7])),
            self.pair.eq(lane[1]),
            next_lane.eq(lane + 1),
        ]
        own_is_finer = own_shift < residual_shift
        apart = Signal(5)
        m.d.comb += apart.eq(
            Mux(own_is_finer, residual_shift - own_shift, own_shift - residual_shift)
        )

        # round, clip
        is_sum = phase == _Phase.SUM
        bottom, top = Mux(is_sum, sum_low, low), Mux(is_sum, sum_high, high)
        beyond = Signal()  # of 10 bits
        rounded = Signal(signed(11))
        clipped = Signal(signed(9))
        negative = number[-1]
        m.d.comb += [
            beyond.eq(_differ(number[9:])),
            rounded.eq(number[:10].as_signed() + (half & (sticky | number[0]))),
            clipped.eq(rounded),
        ]
        with m.If(Mux(beyond, negative, rounded < bottom.as_signed())):
            m.d.comb += clipped.eq(bottom)
        with m.Elif(Mux(beyond, ~negative, rounded > top.as_signed())):
            m.d.comb += clipped.eq(top)

        with m.If(self.push_shift):
            m.d.sync += shifts.eq(Cat(shifts[8:], self.value[:8]))
        after = Signal(signed(7))  # places left behind this cycle
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += lane.eq(0)
                with m.If(self.go):
                    m.d.comb += self.start.eq(1)
                    m.next = "FIRST"
            with m.State("FIRST"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += [self.reading.eq(lane == 0), after.eq(shifts[:8].as_signed())]
                m.d.sync += [
                    number.eq(self.sums.word_select(lane[0], 32)),
                    left.eq(after),
                    shifts.eq(Cat(shifts[8:], shifts[:8])),
                    phase.eq(_Phase.OWN),
                    half.eq(0),
                    sticky.eq(0),
                ]
                m.next = "SHIFT"
                with m.If(after == 0):
                    m.next = "ROUND"
            with m.State("SHIFT"):
                with m.If(left < 0):
                    m.d.comb += after.eq(left + 1)
                    m.d.sync += number.eq(number << 1)
                    # what does not fit any more passes the bounds
                    with m.If((phase != _Phase.ALIGN) & _differ(number[8:])):
                        m.d.comb += after.eq(0)
                        m.d.sync += number.eq(number)
                for step in (8, 4, 2, 1):
                    with m.Elif(left >= step) if step > 1 else m.Else():
                        m.d.comb += after.eq(left - step)
                        m.d.sync += [
                            number.eq(number >> step),
                            half.eq(number[step - 1]),
                            sticky.eq(sticky | half | number[: step - 1].any()),
                        ]
                m.d.sync += left.eq(after)
                with m.If(after == 0):
                    m.next = "ROUND"
                    with m.If(phase == _Phase.ALIGN):
                        m.next = "ADD"
            with m.State("ROUND"):
                m.d.sync += own.eq(clipped)
                with m.If(residual & ~is_sum):
                    m.next = "ALIGN"
                with m.Else():
                    # the next lane's sums are being read
                    m.d.comb += [self.pair.eq(next_lane[1]), self.next_sums.eq(lane == 3)]
                    m.d.sync += [self.result.eq(Cat(self.result[8:], clipped[:8])), lane.eq(next_lane)]
                    m.next = "TAKE"
                    with m.If(lane == 3):
                        m.next = "WRITE"
            with m.State("ALIGN"):
                m.d.sync += [
                    number.eq(Mux(own_is_finer, other, own)),
                    left.eq(-apart),
                    phase.eq(_Phase.ALIGN),
                    half.eq(0),
                    sticky.eq(0),
                ]
                m.next = "SHIFT"
                with m.If(apart == 0):
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.comb += after.eq(sum_shift - Mux(own_is_finer, own_shift, residual_shift))
                m.d.sync += [
                    number.eq(number + Mux(own_is_finer, own, other)),
                    left.eq(after),
                    phase.eq(_Phase.SUM),
                ]
                m.next = "SHIFT"
                with m.If(after == 0):
                    m.next = "ROUND"
            with m.State("WRITE"):
                m.d.comb += [self.write.eq(1), self.step.eq(1)]
                m.next = "TAKE"
                with m.If(self.last):
                    m.next = "IDLE"
        return m


def _differ(bits: Any) -> Value:
    """Whether the bits are not all the same."""
    return bits.any() & ~bits.all()
