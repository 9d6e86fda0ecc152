"""The divider of average pooling: all lanes by one divisor, exactly rounded half to even."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array import with_carry
from hw.copies import copies
from hw.delay_line import delay_line
from hw.rounding_shift import RESULT_BITS

__all__ = ["Divider", "divider_twin"]

_QUOTIENT_BITS = 9
#: Quotient bits from 2^9 (where it saturates) down to 2^0, then the half bit.
_STEPS = _QUOTIENT_BITS + 2
#: The divisor is compared with twice the remainder at the weight of the first step.
_SCALE = _QUOTIENT_BITS + 1
_LARGEST_SHIFT = 8
#: Bits of a remainder that are compared with zero in a cycle.
_REST_PART = 12


class Divider(wiring.Component):
    """``result = round_half_even(dividend * 2**shift / divisor)`` in each lane, saturated.

    Non-restoring division of the magnitude, one bit a cycle; ``2**shift`` is on the divisor's side, so
    it costs nothing in the lanes.

    Parameters
    ----------
    lanes : int

    Members
    -------
    divisor : ``In(14)``, shift : ``In(signed(5))``
        At least 1, and -8 to 8; constant from three cycles before ``start`` until ``done``.
    start : ``In(1)``
        The dividends are there in the next cycle; at most once in 16 cycles.
    dividends : ``In``
        Int32 of each lane; ``|dividend| * 2**max(shift, 0)`` is less than 2^31.
    done : ``Out(1)``
        `LATENCY` cycles after the dividends: the results are there, for one cycle.
    results : ``Out``
        Exact from -512 to 512; beyond that, -512 or 511.
    """

    LATENCY = _STEPS + 5

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__({
            "divisor": In(14),
            "shift": In(signed(5)),
            "start": In(1),
            "dividends": In(data.ArrayLayout(signed(32), lanes)),
            "done": Out(1),
            "results": Out(data.ArrayLayout(signed(RESULT_BITS), lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        places = Signal(5, reset_less=True)
        scaled = Signal(14 + _SCALE + _LARGEST_SHIFT, reset_less=True)
        m.d.sync += [places.eq(_SCALE - self.shift), scaled.eq(self.divisor << places)]

        # one bit that walks through the steps, so that no counter is compared
        start = delay_line(m, self.start, 3, "start", init=0)
        steps = Signal(_STEPS + 2)
        m.d.sync += [steps.eq(Cat(start[-1], steps)), self.done.eq(steps[-1])]

        starts = copies(m, start[1], self.lanes, "start", levels=2)
        divisors = copies(m, scaled, self.lanes, "divisor", levels=2)
        for lane, (lane_start, divisor) in enumerate(zip(starts, divisors, strict=True)):
            # nothing but a choice is behind the carry of a step
            dividend = Signal(signed(32), reset_less=True, name=f"dividend{lane}")
            positive = Signal(32, reset_less=True, name=f"positive{lane}")
            below_zero = Signal(reset_less=True, name=f"below_zero{lane}")
            negative = Signal(reset_less=True, name=f"negative{lane}")
            m.d.sync += [
                dividend.eq(self.dividends[lane]),
                positive.eq(Mux(dividend < 0, -dividend, dividend)),
                below_zero.eq(dividend < 0),
            ]
            # A remainder below zero is one from which the divisor should not have been taken: the next step
            # adds it instead, so that nothing is chosen behind the carry.
            remainder = Signal(signed(34), reset_less=True, name=f"remainder{lane}")
            quotient = Signal(_STEPS, reset_less=True, name=f"quotient{lane}")
            saturated = Signal(reset_less=True, name=f"saturated{lane}")
            below = remainder[-1]
            stepped = Signal(signed(34), name=f"stepped{lane}")
            fits = Signal(name=f"fits{lane}")
            # what the next step adds: a register for each bit, with nothing chosen between it and the carry
            takes = ~stepped[-1] | lane_start
            [addend] = copies(m, Cat(divisor, Const(0, 34 - len(divisor))) ^ takes.replicate(34), 1,
                              f"addend{lane}")
            [carry] = copies(m, takes, 1, f"carry{lane}")
            m.d.comb += [
                stepped.eq(with_carry(remainder << 1, addend.as_signed(), carry)),
                fits.eq(~stepped[-1]),
            ]
            with m.If(lane_start):
                m.d.sync += [
                    negative.eq(below_zero),
                    remainder.eq(positive),
                ]
            with m.Else():
                m.d.sync += [remainder.eq(stepped), quotient.eq(Cat(fits, quotient))]
            # whether a remainder below zero is the divisor's negative: their sum is zero if each carry is
            # one that this bit's two make, without adding them
            ones, twos = remainder.as_unsigned() ^ divisor, (remainder.as_unsigned() | divisor) << 1
            rests = Signal(len(range(0, 34, _REST_PART)), reset_less=True, name=f"rests{lane}")
            rest = Mux(below, ones ^ twos[:34], remainder.as_unsigned())
            half_and_odd = Signal(2, reset_less=True, name=f"half_and_odd{lane}")
            magnitude = Signal(_QUOTIENT_BITS, reset_less=True, name=f"magnitude{lane}")
            larger = Signal(_QUOTIENT_BITS + 1, reset_less=True, name=f"larger{lane}")
            rounded = Mux(half_and_odd[0] & (rests.any() | half_and_odd[1]), larger, magnitude)
            result = Signal(signed(RESULT_BITS), reset_less=True, name=f"result{lane}")
            m.d.sync += [
                rests.eq(Cat(rest[low:low + _REST_PART].any() for low in range(0, 34, _REST_PART))),
                half_and_odd.eq(quotient),
                saturated.eq(quotient[-1]),
                magnitude.eq(quotient >> 1),
                larger.eq((quotient >> 1) + 1),
                result.eq(Mux(negative, -rounded, rounded)),
            ]
            with m.If(saturated):
                m.d.sync += result.eq(Mux(negative, -512, 511))
            m.d.comb += self.results[lane].eq(result)
        return m


def divider_twin(dividend: int, divisor: int, shift: int) -> int:
    """What `Divider` gives in one lane."""
    numerator = abs(dividend) << max(shift, 0)
    denominator = divisor << max(-shift, 0)
    quotient, remainder = divmod(numerator, denominator)
    if quotient >= 1 << _QUOTIENT_BITS:
        return -512 if dividend < 0 else 511
    if 2 * remainder > denominator or (2 * remainder == denominator and quotient % 2):
        quotient += 1
    return -quotient if dividend < 0 else quotient
