"""AXI4 bursts into single beats for LiteDRAM's ports, from registers.

Imported by the generator's own process only (`boards.litedram_generator`).
"""

from __future__ import annotations

from typing import Any

from litedram.frontend import axi
from litex.soc.interconnect import stream
from litex.soc.interconnect.axi.axi_common import BURST_FIXED
from migen import If, Module, Mux, Signal

__all__ = ["BurstToBeats", "use_burst_to_beats"]


class BurstToBeats(Module):
    """Gives the address of each beat of a burst, one a cycle, also from one burst to the next.

    In place of ``AXIBurst2Beat``, between whose two sides there is no register.  Bursts have fixed or
    incrementing addresses; wrapping ones, which nobody sends here, do not wrap.

    Parameters
    ----------
    ax_burst, ax_beat : AXIStreamInterface
        Address channels: what comes in, and what goes out with ``first``, ``last``, ``addr`` and ``id``.
    """

    def __init__(self, ax_burst: Any, ax_beat: Any) -> None:
        busy = Signal()
        last = Signal()
        left = Signal(8)  # after this one
        step = Signal(8)
        layout = [("addr", len(ax_burst.addr)), ("id", len(ax_burst.id))]
        self.submodules.buffer = buffer = stream.Buffer(layout, pipe_valid=True, pipe_ready=True)
        beat = buffer.sink
        address, number, first = Signal.like(beat.addr), Signal.like(beat.id), Signal()
        self.comb += [
            beat.valid.eq(busy),
            beat.first.eq(first),
            beat.last.eq(last),
            beat.addr.eq(address),
            beat.id.eq(number),
            ax_burst.ready.eq(~busy | (beat.ready & last)),
            ax_beat.valid.eq(buffer.source.valid),
            ax_beat.first.eq(buffer.source.first),
            ax_beat.last.eq(buffer.source.last),
            ax_beat.addr.eq(buffer.source.addr),
            ax_beat.id.eq(buffer.source.id),
            buffer.source.ready.eq(ax_beat.ready),
        ]
        self.sync += [
            If(ax_burst.ready,
                busy.eq(ax_burst.valid),
                first.eq(1),
                last.eq(ax_burst.len == 0),
                left.eq(ax_burst.len),
                address.eq(ax_burst.addr),
                number.eq(ax_burst.id),
                step.eq(Mux(ax_burst.burst == BURST_FIXED, 0, 1 << ax_burst.size)),
            ).Elif(beat.ready,
                first.eq(0),
                last.eq(left == 1),
                left.eq(left - 1),
                address.eq(address + step),
            ),
        ]  # fmt: skip


def use_burst_to_beats() -> None:
    """Let LiteDRAM's AXI4 ports be made of it."""
    axi.AXIBurst2Beat = BurstToBeats
