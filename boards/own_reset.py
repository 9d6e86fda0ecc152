"""Parts of a system with reset registers of their own."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Fragment, Module, ResetSignal, Signal
from amaranth.lib.wiring import Component

from hw.copies import copies

__all__ = ["add_with_own_resets", "own_reset"]

#: Cycles from the system's reset to that of a part: its synchronizer may lie at the other end of the part.
_LEVELS = 3


def own_reset(m: Module, name: str) -> Signal:
    """The reset three cycles later, from registers that drive nothing else."""
    return copies(m, ResetSignal("sync"), 1, f"{name}_reset", levels=_LEVELS)[0]


def add_with_own_resets(m: Module, name: str, part: Component, platform: Any) -> None:
    """Make ``part`` the submodule ``name``, with a reset for each of its own submodules and one for the rest.

    One reset for all is a wire to 1,500 flip-flops all over a part, the longest path there is.
    """
    fragment = Fragment.get(part, platform)
    units = [f"{name}_{unit}" for _, unit, _ in fragment.subfragments]
    resets = copies(m, ResetSignal("sync"), 1 + len(units), f"{name}_reset", levels=_LEVELS)
    domains = [ClockDomain(f"{unit}_clock", local=True) for unit in (name, *units)]
    for domain, reset in zip(domains, resets, strict=True):
        m.domains += domain
        m.d.comb += [domain.clk.eq(ClockSignal("sync")), domain.rst.eq(reset)]
    fragment.subfragments[:] = [
        (DomainRenamer(domain.name)(unit), unit_name, source)
        for domain, (unit, unit_name, source) in zip(domains[1:], fragment.subfragments, strict=True)
    ]
    m.submodules[name] = DomainRenamer(domains[0].name)(fragment)
