"""Parts of a system with a reset register of their own."""

from __future__ import annotations

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib.wiring import Component

from hw.copies import copies

__all__ = ["add_with_own_reset"]


def add_with_own_reset(m: Module, name: str, part: Component) -> None:
    """Make ``part`` the submodule ``name``, reset a cycle later than the rest.

    One reset for all is a wire to 1,500 flip-flops all over a part, the longest path there is.
    """
    domain = ClockDomain(f"{name}_clock", local=True)
    m.domains += domain
    [reset] = copies(m, ResetSignal("sync"), 1, f"{name}_reset")
    m.d.comb += [domain.clk.eq(ClockSignal("sync")), domain.rst.eq(reset)]
    m.submodules[name] = DomainRenamer(domain.name)(part)
