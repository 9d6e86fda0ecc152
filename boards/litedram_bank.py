"""LiteDRAM's bank machine without comparisons of rows in its longest path.

Imported by the generator's own process only (`boards.litedram_generator`).
"""

from __future__ import annotations

import math
from typing import Any

from litedram.common import cmd_layout, cmd_request_rw_layout, tXXDController
from litedram.core import controller
from litex.soc.interconnect import stream
from migen import Cat, If, Module, Mux, Record, Signal, log2_int

__all__ = ["BankMachine", "use_bank_machine"]

#: Address bit that asks for a precharge after an access.
_PRECHARGE_BIT = 10


class BankMachine(Module):
    """Turns the accesses of one bank into its commands: activate, read, write, precharge.

    In place of ``litedram.core.bankmachine.BankMachine``, with the same states.  That one compares rows of
    13 bits in the cycle in which a command is chosen.  Here each access is compared with the one before
    as it is queued: what follows an access to the open row is in the open row if its row is the same.
    Whether an access can be made is known in a register as its cycle begins.

    Parameters
    ----------
    n : int
        Which bank.
    address_width : int
        Bits of row and column.
    address_align : int
        Lowest bits of a column that are not in the address.
    nranks : int
    settings : ControllerSettings

    Attributes
    ----------
    req : Record
        Accesses, from the crossbar.
    refresh_req, refresh_gnt : Signal
        A refresh waits; the bank is ready for it.
    cmd : Endpoint
        Commands, to the multiplexer.
    """

    def __init__(self, n: int, address_width: int, address_align: int, nranks: int, settings: Any) -> None:
        bank_bits = settings.geom.bankbits + log2_int(nranks)
        self.req = req = Record(cmd_layout(address_width))
        self.refresh_req = refresh_req = Signal()
        self.refresh_gnt = refresh_gnt = Signal()
        self.cmd = cmd = stream.Endpoint(cmd_request_rw_layout(settings.geom.addressbits, bank_bits))
        column_bits = settings.geom.colbits - address_align

        # a register for what comes, the queue, and behind it the access that is being executed
        layout = [("we", 1), ("addr", address_width), ("same", 1)]  # same: the row of the access before
        self.submodules.queue = queue = stream.SyncFIFO(layout, settings.cmd_buffer_depth)
        self.submodules.access = access = stream.Buffer(layout)
        newest_row = Signal(address_width - column_bits)
        self.comb += [
            queue.sink.same.eq(queue.sink.addr[column_bits:] == newest_row),
            queue.source.connect(access.sink),
        ]
        self.sync += [
            queue.sink.valid.eq(req.valid & req.ready),
            queue.sink.we.eq(req.we),
            queue.sink.addr.eq(req.addr),
            # a cycle late, and what comes is in the queue two cycles later
            req.ready.eq(queue.level < settings.cmd_buffer_depth - 2),
        ]
        # from a register, because all other banks' queues hang on it; it may end a cycle late
        self.sync += req.lock.eq(
            queue.source.valid | queue.sink.valid | access.source.valid | (req.valid & req.ready)
        )
        self.sync += If(queue.sink.valid, newest_row.eq(queue.sink.addr[column_bits:]))

        # One flip-flop for each thing that the bank may be doing, and one for each cycle of waiting.
        regular, refreshing = Signal(reset=1), Signal()
        precharging, precharged_alone, activating = Signal(), Signal(), Signal()
        opened, hit = Signal(), Signal()
        go = Signal()  # regular, and the access finds its row open
        precharge_after = Signal()
        leaves, arrives = Signal(), Signal()
        self.comb += [
            leaves.eq(go & cmd.ready),
            arrives.eq(access.sink.valid & access.sink.ready),
            precharge_after.eq(
                bool(settings.with_auto_precharge) & go & queue.source.valid & ~queue.source.same
            ),
            access.source.ready.eq(leaves),
        ]
        # a cycle late, as commands are (`boards.litedram_generator`)
        self.sync += [
            req.wdata_ready.eq(leaves & access.source.we),
            req.rdata_valid.eq(leaves & ~access.source.we),
        ]

        # what must have passed; the multiplexer knows the rest (tRRD, tCCD, tWTR)
        timing = settings.timing
        to_precharge = math.ceil(settings.phy.cwl / settings.phy.nphases) + timing.tWR + timing.tCCD
        self.submodules.written = written = tXXDController(to_precharge)
        self.submodules.cycle = cycle = tXXDController(timing.tRC)
        self.submodules.active = active = tXXDController(timing.tRAS)
        may_precharge = written.ready & active.ready
        opens = activating & cycle.ready
        activated = opens & cmd.ready
        precharged = may_precharge & ((precharging & cmd.ready) | precharged_alone)
        self.comb += [
            written.valid.eq(leaves & access.source.we),
            cycle.valid.eq(activated),
            active.valid.eq(activated),
        ]

        address = access.source.addr
        column = Signal(settings.geom.addressbits)
        self.comb += [
            column.eq(address[:column_bits] << address_align),
            cmd.valid.eq(go | (precharging & may_precharge) | opens),
            cmd.is_cmd.eq(~go),
            cmd.is_write.eq(go & access.source.we),
            cmd.is_read.eq(go & ~access.source.we),
            cmd.cas.eq(go),
            cmd.ras.eq(~go),
            cmd.we.eq(Mux(go, access.source.we, precharging)),
            cmd.ba.eq(n),
            cmd.a.eq(Cat(column[:_PRECHARGE_BIT], precharge_after, column[_PRECHARGE_BIT:])),
            If(activating, cmd.a.eq(address[column_bits:])),
            # A refresh may wait a cycle longer, but what says that the bank is ready for it must not.
            refresh_gnt.eq(refreshing & may_precharge & refresh_req),
        ]

        activates = self._later(precharged, timing.tRP - 1)
        # `go` comes a cycle after `regular`
        settles = self._later(activated, max(timing.tRCD - 2, 0))
        refresh_waits = Signal()
        self.sync += [
            refresh_waits.eq(refresh_req),
            If(activates, activating.eq(1)),
            If(activated, activating.eq(0)),
            If(precharging & may_precharge & cmd.ready, precharging.eq(0)),
            If(precharged_alone & may_precharge, precharged_alone.eq(0)),
            If(settles | (refreshing & ~refresh_req), regular.eq(1)),
            If(~refresh_req, refreshing.eq(0)),
            If(regular,
                If(refresh_waits, regular.eq(0), refreshing.eq(1))
                .Elif(leaves & precharge_after, regular.eq(0), precharged_alone.eq(1))
                .Elif(access.source.valid & ~opened, regular.eq(0), activating.eq(1))
                .Elif(access.source.valid & ~hit, regular.eq(0), precharging.eq(1)),
            ),
            # Every access that has left found its row open, so the next one does if its row is the same.
            If(precharging | precharged_alone | refreshing, opened.eq(0)).Elif(opens, opened.eq(1)),
            If(arrives, hit.eq(access.sink.same)).Elif(opens, hit.eq(1)),
            go.eq(
                regular & opened & ~refresh_req & ~refresh_waits
                & Mux(arrives, queue.source.same & ~precharge_after, access.source.valid & hit & ~leaves)
            ),
        ]  # fmt: skip

    def _later(self, strobe: Any, cycles: int) -> Any:
        """A strobe after some cycles."""
        for _ in range(cycles):
            before, strobe = strobe, Signal()
            self.sync += strobe.eq(before)
        return strobe


def use_bank_machine() -> None:
    """Let LiteDRAM's controller be made of it."""
    controller.BankMachine = BankMachine
