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
    """Make ``part`` the submodule ``name``, with a reset for each of its units, for each of their own, and
    for the rest of each.

    One reset for all is a wire to 1,500 flip-flops all over a part, the longest path there is; and a unit
    with large memories still is wide.
    """
    whole = Fragment.get(part, platform)
    names = [name]
    for unit, unit_name, _ in whole.subfragments:
        of_parts = [f"{name}_{unit_name}_{inner_name}" for _, inner_name, _ in unit.subfragments]
        names += [f"{name}_{unit_name}", *of_parts]
    domains = [ClockDomain(f"{each}_clock", local=True) for each in names]
    resets = copies(m, ResetSignal("sync"), len(names), f"{name}_reset", levels=_LEVELS)
    for domain, reset in zip(domains, resets, strict=True):
        m.domains += domain
        m.d.comb += [domain.clk.eq(ClockSignal("sync")), domain.rst.eq(reset)]
    renamers = map(DomainRenamer, (domain.name for domain in domains))
    of_rest = next(renamers)
    units = []
    for unit, unit_name, source in whole.subfragments:
        of_unit = next(renamers)
        unit.subfragments[:] = [
            (next(renamers)(inner), inner_name, inner_source)
            for inner, inner_name, inner_source in unit.subfragments
        ]
        units.append((of_unit(unit), unit_name, source))
    whole.subfragments[:] = units
    m.submodules[name] = of_rest(whole)
