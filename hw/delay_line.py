"""A value some cycles later."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value

__all__ = ["delay_line"]


def delay_line(m: Module, value: Value, cycles: int, name: str, init: int | None = None) -> Sequence[Value]:
    """The value after 0 to ``cycles`` cycles; without ``init``, what it is after a reset is left open.

    Registers are called ``name`` with a number.
    """
    stages: list[Value] = [value]
    for cycle in range(cycles):
        stage = Signal(len(value), init=init or 0, reset_less=init is None, name=f"{name}_{cycle + 1}")
        m.d.sync += stage.eq(stages[-1])
        stages.append(stage)
    return stages
