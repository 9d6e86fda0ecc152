"""A multiplier with one activation and two weights of 4 bits, or one of 8 bits in two halves.

The upper weight stands 13 bits above the lower one, so that one 18x18-bit multiplier gives both products:
that of the lower weight in its 13 lowest bits, and above it that of the upper one, less 1 where the lower
product is negative.  A weight of 8 bits is 16 times its upper half plus its lower one, which has no sign.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.multiplier import ACTIVATION_BITS, OPERAND_PINS, MultiplierKind, mult18x18d, require_multiplier_kind

__all__ = ["HALF_PRODUCT_BITS", "PairMultiplier", "pair_products", "weight_operand"]

#: Bits of an activation times one half; the distance of the halves.
HALF_PRODUCT_BITS = 13
assert ACTIVATION_BITS + 4 <= HALF_PRODUCT_BITS <= OPERAND_PINS - 5


class PairMultiplier(wiring.Component):
    """`pair_products` of `hw.multiplier.LATENCY` cycles ago; the weights are held.

    Parameters
    ----------
    kind : str
        ``"portable"`` or ``"ecp5"`` (one MULT18X18D, which nothing simulates).

    Members
    -------
    activation : ``In(signed(9))``
    weight : ``In(8)``
        Taken when ``load_weight`` is 1, together with the activation of the same cycle.
    paired : ``In(1)``
        With the weight: it is two weights (`hw.weight_pairs`).
    load_weight : ``In(1)``
    low : ``Out(signed(13))``
        Product of the lower weight, or half.
    high : ``Out(signed(13))``
        Product of the upper one; less 1 where ``low`` is negative.

    Raises
    ------
    ValueError
        If ``kind`` is neither of the two.
    """

    def __init__(self, kind: MultiplierKind = "portable") -> None:
        require_multiplier_kind(kind)
        self.kind = kind
        super().__init__({
            "activation": In(signed(ACTIVATION_BITS)),
            "weight": In(8),
            "paired": In(1),
            "load_weight": In(1),
            "low": Out(signed(HALF_PRODUCT_BITS)),
            "high": Out(signed(HALF_PRODUCT_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        byte, bits = self.weight, HALF_PRODUCT_BITS
        operand = Signal(signed(OPERAND_PINS))
        lower_sign = self.paired & byte[3]
        # -8 less 1 is the only upper half that four bits do not hold: 7, which no other is below a sign
        sign = byte[7] | (lower_sign & byte[4:7].all())
        m.d.comb += operand.eq(Cat(byte[:4], lower_sign.replicate(bits - 4), byte[4:], sign))
        if self.kind == "ecp5":
            # the activation stands at the top of its 18 bits, the product as many above the lowest
            shift = OPERAND_PINS - ACTIVATION_BITS
            m.submodules.dsp = mult18x18d(self.activation, operand, self.load_weight, {
                shift + bit: Cat(self.low, self.high)[bit] for bit in range(2 * bits)})
            return m
        activation = Signal(signed(ACTIVATION_BITS), reset_less=True)
        weight = Signal(signed(OPERAND_PINS), reset_less=True)
        pipeline = Signal(signed(2 * bits), reset_less=True)
        product = Signal(signed(2 * bits), reset_less=True)
        with m.If(self.load_weight):
            m.d.sync += weight.eq(operand)
        m.d.sync += [
            activation.eq(self.activation),
            pipeline.eq(activation * weight),
            product.eq(pipeline),
        ]
        m.d.comb += [self.low.eq(product[:bits]), self.high.eq(product[bits:])]
        return m


def weight_operand(byte: int, paired: bool) -> int:
    """The multiplier's signed operand for a weight byte."""
    lower = byte & 15
    if paired and lower > 7:
        lower -= 16
    upper = (byte - lower) >> 4 & 15
    return (upper - 16 * (upper > 7) << HALF_PRODUCT_BITS) + lower


def pair_products(activation: int, byte: int, paired: bool) -> tuple[int, int]:
    """``low`` and ``high`` of `PairMultiplier`, in plain Python."""
    product = activation * weight_operand(byte, paired)
    low = product & (1 << HALF_PRODUCT_BITS) - 1
    if low >> HALF_PRODUCT_BITS - 1:
        low -= 1 << HALF_PRODUCT_BITS
    return low, product >> HALF_PRODUCT_BITS
