"""Shift right by -9 to 40 places, rounded half to even, saturated: one lane."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RESULT_BITS", "SHIFT_OFFSET", "RoundingShift", "rounding_shift_twin"]

#: The shifter counts places from the largest left shift: amount = shift + SHIFT_OFFSET.
SHIFT_OFFSET = 9

#: Bits of the result; what does not fit saturates, well outside of every clip bound.
RESULT_BITS = 11

_VALUE_BITS = 32
_AMOUNT_BITS = 6
_WINDOW = 26   # bits kept after the coarse shift: a half bit, 10 bits of result, 15 for the fine shift
_FINAL = 11    # a half bit and 10 bits of result


class RoundingShift(wiring.Component):
    """``result = round_half_even(value * 2**-(amount - 9))``, saturated, after `LATENCY` cycles.

    Bits that leave at the bottom are remembered as one sticky bit, bits that would leave at the top
    as an overflow, so each step carries only the window that the later ones can still reach.

    Members
    -------
    value : ``In(signed(32))``
    amount : ``In(6)``
        0 to 49, with the value.
    result : ``Out(signed(11))``
        Exact where the value's floor is -512 to 511; beyond that, -512 or 511.
    """

    LATENCY = 5

    def __init__(self) -> None:
        super().__init__({
            "value": In(signed(_VALUE_BITS)),
            "amount": In(_AMOUNT_BITS),
            "result": Out(signed(RESULT_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # whoever gives the value may choose it in the same cycle
        value = Signal(signed(_VALUE_BITS), reset_less=True)
        amount = Signal(_AMOUNT_BITS, reset_less=True)
        fine = Signal(4, reset_less=True)
        m.d.sync += [value.eq(self.value), amount.eq(self.amount), fine.eq(amount[:4])]

        # one half bit below the value's point, with the largest left shift already made
        whole = Cat(Const(0, SHIFT_OFFSET + 1), value)

        window = Signal(_WINDOW, reset_less=True)
        sticky = Signal(3, reset_less=True)  # still to be combined: it is the widest logic here
        overflow = Signal(reset_less=True)
        sign = value[-1]
        with m.Switch(amount[4:]):
            for step in range(4):
                with m.Case(step):
                    bits = [whole[position] if position < len(whole) else sign
                            for position in range(16 * step, 16 * step + _WINDOW)]
                    m.d.sync += [
                        window.eq(Cat(*bits)),
                        sticky.eq(Cat(*(whole[max(16 * part, SHIFT_OFFSET + 1):16 * (part + 1)].any()
                                        for part in range(step)))),
                        overflow.eq(_differ(whole[16 * step + _WINDOW - 1:])),
                    ]

        narrow = Signal(_FINAL + 3, reset_less=True)
        narrow_sticky = Signal(reset_less=True)
        narrow_overflow = Signal(reset_less=True)
        with m.Switch(fine[2:]):
            for step in range(4):
                with m.Case(step):
                    bits = [window[min(position, _WINDOW - 1)]
                            for position in range(4 * step, 4 * step + _FINAL + 3)]
                    m.d.sync += [
                        narrow.eq(Cat(*bits)),
                        narrow_sticky.eq(sticky.any() | (window[:4 * step].any() if step else 0)),
                        narrow_overflow.eq(overflow | _differ(window[4 * step + _FINAL + 2:])),
                    ]

        finest = Signal(2, reset_less=True)
        m.d.sync += finest.eq(fine[:2])
        final = Signal(_FINAL, reset_less=True)
        final_sticky = Signal(reset_less=True)
        final_overflow = Signal(reset_less=True)
        with m.Switch(finest):
            for step in range(4):
                with m.Case(step):
                    m.d.sync += [
                        final.eq(narrow[step:step + _FINAL]),
                        final_sticky.eq(narrow_sticky | (narrow[:step].any() if step else 0)),
                        final_overflow.eq(narrow_overflow | _differ(narrow[step + _FINAL - 1:])),
                    ]

        # the window's sign is the value's only if nothing has overflowed
        negative = [sign, *(Signal(reset_less=True, name=f"negative{stage}") for stage in range(3))]
        m.d.sync += [after.eq(before) for before, after in pairwise(negative)]
        up = final[0] & (final_sticky | final[1])
        result = Signal(signed(RESULT_BITS), reset_less=True)
        m.d.sync += result.eq(Mux(final_overflow, Mux(negative[-1], -512, 511), final[1:].as_signed() + up))
        m.d.comb += self.result.eq(result)
        return m


def _differ(bits: Value) -> Value:
    """Whether the bits are not all the same."""
    return bits.any() & ~bits.all()


def rounding_shift_twin(value: int, shift: int) -> int:
    """What `RoundingShift` gives for a right shift of -9 to 40."""
    if shift <= 0:
        floor, up = value << -shift, False
    else:
        floor = value >> shift
        twice = 2 * (value - (floor << shift))
        up = twice > 1 << shift or (twice == 1 << shift and floor % 2 == 1)
    return -512 if floor < -512 else 511 if floor > 511 else floor + up
