"""A 9x8-bit signed multiplier with its operand, pipeline and product registers.

The form for the ECP5 instantiates the DSP block's primitive, because inference leaves the block's
own registers unused and with them almost half of the clock (Lattice TN1267, "sysDSP Usage Guide").
The portable form behaves the same, cycle by cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ACTIVATION_BITS", "LATENCY", "OPERAND_PINS", "PRODUCT_BITS", "WEIGHT_BITS", "Multiplier",
           "MultiplierKind", "mult18x18d", "require_multiplier_kind"]

ACTIVATION_BITS = 9
WEIGHT_BITS = 8
PRODUCT_BITS = ACTIVATION_BITS + WEIGHT_BITS

#: Cycles from an activation to its product.
LATENCY = 3

#: Bits of each operand of a MULT18X18D.
OPERAND_PINS = 18

MultiplierKind = Literal["portable", "ecp5"]


def require_multiplier_kind(kind: str) -> None:
    """Raise ValueError unless there is such a kind of multiplier."""
    if kind not in get_args(MultiplierKind):
        raise ValueError(f"multiplier must be 'portable' or 'ecp5', not {kind!r}")


class Multiplier(wiring.Component):
    """``product`` is ``activation * weight`` of `LATENCY` cycles ago; the weight is held.

    Parameters
    ----------
    kind : str
        ``"portable"`` or ``"ecp5"`` (one MULT18X18D, which nothing simulates).

    Members
    -------
    activation : ``In(signed(9))``
    weight : ``In(signed(8))``
        Taken when ``load_weight`` is 1, together with the activation of the same cycle.
    load_weight : ``In(1)``
    product : ``Out(signed(17))``

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
            "weight": In(signed(WEIGHT_BITS)),
            "load_weight": In(1),
            "product": Out(signed(PRODUCT_BITS)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.kind == "ecp5":
            top = 2 * OPERAND_PINS - PRODUCT_BITS  # the product is in the highest of the 36 bits
            m.submodules.dsp = mult18x18d(self.activation, self.weight, self.load_weight, {
                top + bit: self.product[bit] for bit in range(PRODUCT_BITS)})
            return m
        activation = Signal(signed(ACTIVATION_BITS), reset_less=True)
        weight = Signal(signed(WEIGHT_BITS), reset_less=True)
        pipeline = Signal(signed(PRODUCT_BITS), reset_less=True)
        product = Signal(signed(PRODUCT_BITS), reset_less=True)
        with m.If(self.load_weight):
            m.d.sync += weight.eq(self.weight)
        m.d.sync += [
            activation.eq(self.activation),
            pipeline.eq(activation * weight),
            product.eq(pipeline),
        ]
        m.d.comb += self.product.eq(product)
        return m


def mult18x18d(activation: Value, weight: Value, load_weight: Value,
               product: Mapping[int, Value]) -> Instance:
    """A MULT18X18D: operand A is the activation, operand B (clock enable CE1) the weight.

    Both are aligned to the top of the 18 bits, with zeros below: a sign that is repeated on the
    upper pins would take a wire for each of them, a constant takes none.  ``product`` says what the
    wanted ones of the 36 bits drive.
    """
    arguments: dict[str, object] = {
        "p_GSR": "DISABLED",
        "p_RESETMODE": "SYNC",
        "p_SOURCEB_MODE": "B_SHIFT",
        "p_MULT_BYPASS": "DISABLED",
        "p_REG_INPUTC_CLK": "NONE",
        "i_CLK0": ClockSignal("sync"),
        "i_CE0": Const(1, 1),
        "i_CE1": load_weight,
        "i_RST0": Const(0, 1),
        "i_SIGNEDA": Const(1, 1),
        "i_SIGNEDB": Const(1, 1),
        "i_SOURCEA": Const(0, 1),
        "i_SOURCEB": Const(0, 1),
    }
    enables = {"INPUTA": "CE0", "INPUTB": "CE1", "PIPELINE": "CE0", "OUTPUT": "CE0"}
    for register, enable in enables.items():
        arguments[f"p_REG_{register}_CLK"] = "CLK0"
        arguments[f"p_REG_{register}_CE"] = enable
        arguments[f"p_REG_{register}_RST"] = "RST0"
    for operand, value in (("A", activation), ("B", weight)):
        aligned = Cat(Const(0, OPERAND_PINS - len(value)), value)
        arguments |= {f"i_{operand}{bit}": aligned[bit] for bit in range(OPERAND_PINS)}
    arguments |= {f"o_P{bit}": value for bit, value in product.items()}
    return Instance("MULT18X18D", **arguments)
