"""LiteDRAM's port converter, to fewer bits, without a pause between two commands and without long paths.

Imported by the generator's own process only (`boards.litedram_generator`).
"""

from __future__ import annotations

from typing import Any

from litedram.frontend import adapter
from litex.soc.interconnect import stream
from migen import Cat, If, Module, Signal

__all__ = ["DownConverter", "use_down_converter"]


class DownConverter(Module):
    """Cuts each command of a wide port into commands of a narrow one, one a cycle.

    In place of ``LiteDRAMNativePortDownConverter``, which pauses a cycle before every command: this one
    holds the next command while it cuts the one before.  Commands come from registers, and whether another
    one is taken is a register too.

    Parameters
    ----------
    port_from, port_to : LiteDRAMNativePort
        Of the same clock domain; ``port_from`` has 2, 4, ... times the data bits.
    reverse : bool
        Whether the highest bits come first.
    """

    def __init__(self, port_from: Any, port_to: Any, reverse: bool = False) -> None:
        ratio = port_from.data_width // port_to.data_width
        if port_from.clock_domain != port_to.clock_domain or port_from.mode != port_to.mode:
            raise ValueError("both ports must have one clock domain and one mode")
        if ratio not in (2, 4, 8, 16, 32, 64) or ratio * port_to.data_width != port_from.data_width:
            raise ValueError(f"cannot cut {port_from.data_width} bits into {port_to.data_width}")

        part = Signal(max=ratio)
        busy, we = Signal(), Signal()
        address = Signal(len(port_from.cmd.addr))
        empty = Signal(reset=1)  # no command is held
        held_we = Signal()
        held_address = Signal(len(port_from.cmd.addr))
        free = Signal()
        self.comb += [
            port_from.cmd.ready.eq(empty),
            port_to.cmd.valid.eq(busy),
            port_to.cmd.we.eq(we),
            port_to.cmd.addr.eq(Cat(part, address)),
            free.eq(~busy | (port_to.cmd.ready & (part == ratio - 1))),
        ]
        self.sync += [
            If(busy & port_to.cmd.ready, part.eq(part + 1)),
            If(empty, held_we.eq(port_from.cmd.we), held_address.eq(port_from.cmd.addr)),
            If(free,
                busy.eq(~empty | port_from.cmd.valid),
                empty.eq(1),
                If(empty, we.eq(port_from.cmd.we), address.eq(port_from.cmd.addr))
                .Else(we.eq(held_we), address.eq(held_address)),
            ).Else(empty.eq(empty & ~port_from.cmd.valid)),
        ]

        if port_from.mode in ("write", "both"):
            self.submodules.write = converter = stream.StrideConverter(
                port_from.wdata.description, port_to.wdata.description, reverse=reverse
            )
            self.submodules += stream.Pipeline(port_from.wdata, converter, port_to.wdata)
        if port_from.mode in ("read", "both"):
            self.submodules.read = converter = stream.StrideConverter(
                port_to.rdata.description, port_from.rdata.description, reverse=reverse
            )
            self.submodules += stream.Pipeline(port_to.rdata, converter, port_from.rdata)


def use_down_converter() -> None:
    """Let LiteDRAM use it wherever a port is wider than the memory."""
    adapter.LiteDRAMNativePortDownConverter = DownConverter
