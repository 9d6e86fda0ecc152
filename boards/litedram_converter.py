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

    What is written waits in a register, whose low bits go next; it is taken from the wide port when its
    command has been, never before.

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
            self._write_data(port_from, port_to, ratio, reverse)
        if port_from.mode in ("read", "both"):
            self.submodules.read = converter = stream.StrideConverter(
                port_to.rdata.description, port_from.rdata.description, reverse=reverse
            )
            self.submodules += stream.Pipeline(port_to.rdata, converter, port_from.rdata)

    def _write_data(self, port_from: Any, port_to: Any, ratio: int, reverse: bool) -> None:
        owed = Signal(5)  # words whose commands have been taken
        parts_left = Signal(max=ratio + 1)
        taken, loaded, given = Signal(), Signal(), Signal()
        self.comb += [
            taken.eq(port_from.cmd.valid & port_from.cmd.ready & port_from.cmd.we),
            port_from.wdata.ready.eq(
                (owed != 0) & ((parts_left == 0) | ((parts_left == 1) & port_to.wdata.ready))
            ),
            loaded.eq(port_from.wdata.valid & port_from.wdata.ready),
            port_to.wdata.valid.eq(parts_left != 0),
            given.eq(port_to.wdata.valid & port_to.wdata.ready),
        ]
        self.sync += [
            owed.eq(owed + taken - loaded),
            If(loaded, parts_left.eq(ratio)).Elif(given, parts_left.eq(parts_left - 1)),
        ]
        for name in ("data", "we"):
            wide, narrow = getattr(port_from.wdata, name), getattr(port_to.wdata, name)
            bits = len(narrow)
            first = [wide[bits * part : bits * (part + 1)] for part in range(ratio)]
            word = [Signal(bits) for _ in range(ratio)]
            self.comb += narrow.eq(word[0])
            for part, (entering, register) in enumerate(
                zip(reversed(first) if reverse else first, word, strict=True)
            ):
                following = word[part + 1] if part + 1 < ratio else register
                self.sync += If(loaded, register.eq(entering)).Elif(given, register.eq(following))


def use_down_converter() -> None:
    """Let LiteDRAM use it wherever a port is wider than the memory."""
    adapter.LiteDRAMNativePortDownConverter = DownConverter
