"""Parts of a system with a reset register of their own."""

from __future__ import annotations

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib.wiring import Component

from hw.copies import copies

__all__ = ["add_with_own_reset", "own_reset"]


def own_reset(m: Module, name: str) -> Signal:
    """The reset two cycles later, from registers that drive nothing else.

    One reset for all is a wire to 1,500 flip-flops all over a part, the longest path there is; and the
    synchronizer that it comes from may lie at the other end of the part.
    """
    return copies(m, ResetSignal("sync"), 1, f"{name}_reset", levels=2)[0]


def add_with_own_reset(m: Module, name: str, part: Component) -> None:
    """Make ``part`` the submodule ``name``, with an `own_reset`."""
    domain = ClockDomain(f"{name}_clock", local=True)
    m.domains += domain
    m.d.comb += [domain.clk.eq(ClockSignal("sync")), domain.rst.eq(own_reset(m, name))]
    m.submodules[name] = DomainRenamer(domain.name)(part)
