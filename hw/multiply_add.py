"""A multiplier with an adder behind it and one register: ``sum = activation * weight + addend``.

The form for the iCE40 UltraPlus instantiates its DSP block (Lattice FPGA-TN-02007), whose adder takes 32 bits
from outside, so that a chain of blocks sums products without a LUT.  The portable form behaves the same,
cycle by cycle.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["MultiplyAdd", "MultiplyAddKind"]

MultiplyAddKind = Literal["portable", "ice40"]

_OPERAND_PINS = 16


class MultiplyAdd(wiring.Component):
    """``total`` is ``activation * weight + addend`` of the cycle before, modulo 2^32.

    Parameters
    ----------
    kind : "portable" or "ice40"
        Left to inference, or one SB_MAC16.
    delayed : bool
        The activation is that of one cycle earlier, in the block's own register.

    Members
    -------
    activation : ``In(signed(9))``
    weight : ``In(signed(8))``
    addend, total : ``In(signed(32))``, ``Out(signed(32))``

    Raises
    ------
    ValueError
        If there is no such kind.
    """

    def __init__(self, kind: MultiplyAddKind = "portable", *, delayed: bool = False) -> None:
        if kind not in get_args(MultiplyAddKind):
            raise ValueError(f"kind must be 'portable' or 'ice40', not {kind!r}")
        self.kind: MultiplyAddKind = kind
        self.delayed = delayed
        super().__init__(
            {
                "activation": In(signed(9)),
                "weight": In(signed(8)),
                "addend": In(signed(32)),
                "total": Out(signed(32)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.kind == "ice40":
            m.submodules.dsp = self._primitive()
            return m
        activation: Any = self.activation
        if self.delayed:
            activation = Signal(signed(9), reset_less=True)
            m.d.sync += activation.eq(self.activation)
        total = Signal(signed(32), reset_less=True)
        m.d.sync += total.eq(activation * self.weight + self.addend)
        m.d.comb += self.total.eq(total)
        return m

    def _primitive(self) -> Instance:
        def pins(value: Any) -> Any:
            return Cat(value, value[-1].replicate(_OPERAND_PINS - len(value)))

        parameters = {
            "A_REG": int(self.delayed),
            "A_SIGNED": 1,
            "B_SIGNED": 1,
            # both halves: the product's half, plus C or D, into the output register
            "TOPADDSUB_LOWERINPUT": 2,
            "TOPADDSUB_UPPERINPUT": 1,
            "TOPADDSUB_CARRYSELECT": 3,
            "TOPOUTPUT_SELECT": 1,
            "BOTADDSUB_LOWERINPUT": 2,
            "BOTADDSUB_UPPERINPUT": 1,
            "BOTADDSUB_CARRYSELECT": 0,
            "BOTOUTPUT_SELECT": 1,
        }
        low = (
            *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT"),
            *("OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT"),
            *("CI", "ACCUMCI", "SIGNEXTIN"),
        )
        widths = {"TOPADDSUB_LOWERINPUT": 2, "TOPADDSUB_CARRYSELECT": 2, "TOPOUTPUT_SELECT": 2}
        widths |= {name.replace("TOP", "BOT"): width for name, width in widths.items()}
        return Instance(
            "SB_MAC16",
            **{f"p_{name}": Const(value, widths.get(name, 1)) for name, value in parameters.items()},
            **{f"i_{name}": Const(0, 1) for name in low},
            i_CLK=ClockSignal("sync"),
            i_CE=Const(1, 1),
            i_A=pins(self.activation),
            i_B=pins(self.weight),
            i_C=self.addend[16:],
            i_D=self.addend[:16],
            o_O=self.total,
        )
