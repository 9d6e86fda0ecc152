"""Registers with the same contents, each of which steers a part of what is wide."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["copies"]


def copies(m: Module, value: ValueLike, count: int, name: str) -> list[Signal]:
    """``count`` registers that hold ``value`` of the cycle before; after a reset they hold anything.

    A wire to a thousand flip-flops all over a part takes longer than any logic here.  Synthesis would make
    one register of all copies, so they have the attribute ``keep``, which `boards.synthesis` hands on to the
    flip-flops.
    """
    value = Value.cast(value)
    registers = [Signal(value.shape(), reset_less=True, attrs={"keep": 1}, name=f"{name}_copy{number}")
                 for number in range(count)]
    m.d.sync += [register.eq(value) for register in registers]
    return registers
