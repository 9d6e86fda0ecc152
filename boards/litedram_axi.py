"""The AXI4 side of LiteDRAM's ports: bursts into single beats, and writes, from registers.

Imported by the generator's own process only (`boards.litedram_generator`).
"""

from __future__ import annotations

from typing import Any

from litedram.frontend import axi as frontend
from litex.soc.interconnect import stream
from litex.soc.interconnect.axi import RESP_OKAY, AXIStreamInterface, ax_description, w_description
from litex.soc.interconnect.axi.axi_common import BURST_FIXED
from migen import If, Module, Mux, Signal, log2_int

__all__ = ["BurstToBeats", "WriteChannels", "use_axi"]


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
        self.submodules.ready = ready = stream.PipeReady(layout)
        self.submodules.valid = valid = stream.PipeValid(layout)
        beat = ready.sink
        address, number, first = Signal.like(beat.addr), Signal.like(beat.id), Signal()
        self.comb += [
            beat.valid.eq(busy),
            beat.first.eq(first),
            beat.last.eq(last),
            beat.addr.eq(address),
            beat.id.eq(number),
            ax_burst.ready.eq(~busy | (beat.ready & last)),
            ready.source.connect(valid.sink),
            ax_beat.valid.eq(valid.source.valid),
            ax_beat.first.eq(valid.source.first),
            ax_beat.last.eq(valid.source.last),
            ax_beat.addr.eq(valid.source.addr),
            ax_beat.id.eq(valid.source.id),
            valid.source.ready.eq(ax_beat.ready),
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


class WriteChannels(Module):
    """Writes: a command for each beat whose data is there, the data, and an answer for each burst.

    In place of ``LiteDRAMAXI2NativeW``, which compares two counters in the cycle in which it gives a command.
    Here a beat is known to be there in the cycle after, so that there is a command in every second one.

    Parameters
    ----------
    axi : AXIInterface
    port : LiteDRAMNativePort
        Of the same width.
    buffer_depth : int
        Beats, and bursts, that are held.
    base_address : int
        Byte address of the memory's first byte.
    with_read_modify_write : bool
        Must be False.

    Attributes
    ----------
    cmd_request, cmd_grant : Signal
        There is a command; it may be given.
    """

    def __init__(
        self, axi: Any, port: Any, buffer_depth: int, base_address: int, with_read_modify_write: bool = False
    ) -> None:
        if axi.data_width != port.data_width or with_read_modify_write:
            raise ValueError("the port must be as wide as the bus, and every byte can be written alone")
        self.cmd_request = Signal()
        self.cmd_grant = Signal()

        beat = AXIStreamInterface(layout=ax_description(axi.address_width), id_width=axi.id_width)
        self.submodules.beats = BurstToBeats(axi.aw, beat)
        layout = AXIStreamInterface(layout=w_description(axi.data_width), id_width=axi.id_width).description
        self.submodules.data = data = stream.SyncFIFO(layout, buffer_depth, buffered=True)
        self.submodules.open = open_bursts = stream.SyncFIFO([("id", axi.id_width)], buffer_depth)
        self.submodules.answers = answers = stream.SyncFIFO([("id", axi.id_width)], buffer_depth)

        # beats in the buffer whose command has not been given
        unclaimed = Signal(max=buffer_depth + 2)
        enter, claim, leave = Signal(), Signal(), Signal()
        there = Signal()
        self.comb += [
            self.cmd_request.eq(beat.valid & there),
            If(self.cmd_request & self.cmd_grant,
                port.cmd.valid.eq(1),
                port.cmd.last.eq(beat.last),
                port.cmd.we.eq(1),
                port.cmd.addr.eq((beat.addr - base_address) >> log2_int(port.data_width // 8)),
                beat.ready.eq(port.cmd.ready),
            ),
            enter.eq(data.sink.valid & data.sink.ready),
            claim.eq(beat.valid & beat.ready),
            leave.eq(data.source.valid & data.source.ready),
        ]  # fmt: skip
        self.sync += [
            unclaimed.eq(unclaimed + enter - claim),
            there.eq((unclaimed != 0) & ~claim),
            # a cycle late: that data goes is decided far away
            answers.sink.valid.eq(leave & data.source.last),
            answers.sink.id.eq(open_bursts.source.id),
        ]

        self.comb += [
            axi.w.connect(data.sink),
            data.source.connect(port.wdata, omit={"strb", "id", "dest", "user"}),
            port.wdata.we.eq(data.source.strb),
            open_bursts.sink.valid.eq(claim & beat.first),
            open_bursts.sink.id.eq(beat.id),
            open_bursts.source.ready.eq(leave & data.source.last),
            axi.b.valid.eq(answers.source.valid),
            axi.b.id.eq(answers.source.id),
            axi.b.resp.eq(RESP_OKAY),
            answers.source.ready.eq(axi.b.ready),
        ]


def use_axi() -> None:
    """Let LiteDRAM's AXI4 ports be made of both."""
    frontend.AXIBurst2Beat = BurstToBeats
    frontend.LiteDRAMAXI2NativeW = WriteChannels
