"""Registers with the same contents, each of which steers a part of what is wide."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["copies"]


#: Branches of each register of a tree of copies: so many that two levels serve 16 lanes.
_BRANCHES = 4


def copies(m: Module, value: ValueLike, count: int, name: str, *, levels: int = 1,
           init: int | None = None) -> list[Signal]:
    """``count`` registers that hold ``value`` of ``levels`` cycles before.

    Without ``init``, what they hold after a reset is left open.

    With two levels four registers feed them all, for copies that lie all over a part.

    A wire to a thousand flip-flops all over a part takes longer than any logic here.  Synthesis would make
    one register of all copies, so they have the attribute ``keep``, which `boards.synthesis` hands on to the
    flip-flops.
    """
    value = Value.cast(value)
    if levels > 1:
        nearer = copies(m, value, -(-count // _BRANCHES), f"{name}_branch", levels=levels - 1,
                        init=init)
        return [copies(m, nearer[number // _BRANCHES], 1, f"{name}{number}", init=init)[0]
                for number in range(count)]
    registers = [Signal(value.shape(), init=init or 0, reset_less=init is None, attrs={"keep": 1},
                        name=f"{name}_copy{number}") for number in range(count)]
    m.d.sync += [register.eq(value) for register in registers]
    return registers
