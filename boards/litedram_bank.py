"""LiteDRAM's bank machine without comparisons of rows in its longest path.

Imported by the generator's own process only (`boards.litedram_generator`).
"""

from __future__ import annotations

import math
from typing import Any

from litedram.common import cmd_layout, cmd_request_rw_layout, tXXDController
from litedram.core import controller
from litex.soc.interconnect import stream
from migen import FSM, Cat, If, Module, NextState, Record, Signal, log2_int

__all__ = ["BankMachine", "use_bank_machine"]

#: Address bit that asks for a precharge after an access.
_PRECHARGE_BIT = 10


class BankMachine(Module):
    """Turns the accesses of one bank into its commands: activate, read, write, precharge.

    In place of ``litedram.core.bankmachine.BankMachine``, with the same states.  That one compares rows of
    13 bits in the cycle in which a command is chosen.  Here each access is compared with the one before
    as it is queued: what follows an access to the open row is in the open row if its row is the same.

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

        # the queue, and behind it the access that is being executed
        layout = [("we", 1), ("addr", address_width), ("same", 1)]  # same: the row of the access before
        self.submodules.queue = queue = stream.SyncFIFO(layout, settings.cmd_buffer_depth)
        self.submodules.access = access = stream.Buffer(layout)
        newest_row = Signal(address_width - column_bits)
        self.comb += [
            queue.sink.valid.eq(req.valid),
            queue.sink.we.eq(req.we),
            queue.sink.addr.eq(req.addr),
            queue.sink.same.eq(req.addr[column_bits:] == newest_row),
            req.ready.eq(queue.sink.ready),
            queue.source.connect(access.sink),
            access.source.ready.eq(req.wdata_ready | req.rdata_valid),
            req.lock.eq(queue.source.valid | access.source.valid),
        ]
        self.sync += If(req.valid & req.ready, newest_row.eq(req.addr[column_bits:]))

        # Every access that has left found its row open, so the next one does if its row is the same.
        opened, hit = Signal(), Signal()
        opens, closes = Signal(), Signal()
        precharge_after = Signal()
        self.sync += [
            If(closes, opened.eq(0)).Elif(opens, opened.eq(1)),
            If(access.sink.valid & access.sink.ready, hit.eq(access.sink.same)).Elif(opens, hit.eq(1)),
        ]
        self.comb += precharge_after.eq(
            bool(settings.with_auto_precharge) & queue.source.valid & ~queue.source.same & ~closes
        )

        address = access.source.addr
        column = Signal(settings.geom.addressbits)
        self.comb += [
            column.eq(address[:column_bits] << address_align),
            cmd.ba.eq(n),
            cmd.a.eq(Cat(column[:_PRECHARGE_BIT], precharge_after, column[_PRECHARGE_BIT:])),
            If(opens, cmd.a.eq(address[column_bits:])),
        ]

        # what must have passed; the multiplexer knows the rest (tRRD, tCCD, tWTR)
        timing = settings.timing
        to_precharge = math.ceil(settings.phy.cwl / settings.phy.nphases) + timing.tWR + timing.tCCD
        done = cmd.valid & cmd.ready
        self.submodules.written = written = tXXDController(to_precharge)
        self.submodules.cycle = cycle = tXXDController(timing.tRC)
        self.submodules.active = active = tXXDController(timing.tRAS)
        may_precharge = written.ready & active.ready
        self.comb += [
            written.valid.eq(done & cmd.is_write),
            cycle.valid.eq(done & opens),
            active.valid.eq(done & opens),
        ]

        # A refresh may wait a cycle longer, but what says that the bank is ready for it must not.
        refresh_waits = Signal()
        self.sync += refresh_waits.eq(refresh_req)
        self.submodules.fsm = fsm = FSM()
        fsm.act("REGULAR",
            If(refresh_waits, NextState("REFRESH"))
            .Elif(access.source.valid & opened & hit,
                cmd.valid.eq(1),
                cmd.cas.eq(1),
                cmd.we.eq(access.source.we),
                cmd.is_write.eq(access.source.we),
                cmd.is_read.eq(~access.source.we),
                req.wdata_ready.eq(cmd.ready & access.source.we),
                req.rdata_valid.eq(cmd.ready & ~access.source.we),
                If(cmd.ready & precharge_after, NextState("AUTOMATIC PRECHARGE")),
            )
            .Elif(access.source.valid & opened, NextState("PRECHARGE"))
            .Elif(access.source.valid, NextState("ACTIVATE")),
        )  # fmt: skip
        fsm.act("PRECHARGE",
            closes.eq(1),
            If(may_precharge,
                cmd.valid.eq(1),
                cmd.ras.eq(1),
                cmd.we.eq(1),
                cmd.is_cmd.eq(1),
                If(cmd.ready, NextState("PRECHARGING")),
            ),
        )  # fmt: skip
        fsm.act("AUTOMATIC PRECHARGE", closes.eq(1), If(may_precharge, NextState("PRECHARGING")))
        fsm.act("ACTIVATE",
            If(cycle.ready,
                opens.eq(1),
                cmd.valid.eq(1),
                cmd.ras.eq(1),
                cmd.is_cmd.eq(1),
                If(cmd.ready, NextState("ACTIVATING")),
            ),
        )  # fmt: skip
        fsm.act("REFRESH",
            closes.eq(1),
            cmd.is_cmd.eq(1),
            If(written.ready & refresh_req, refresh_gnt.eq(1)),
            If(~refresh_req, NextState("REGULAR")),
        )  # fmt: skip
        fsm.delayed_enter("PRECHARGING", "ACTIVATE", timing.tRP - 1)
        fsm.delayed_enter("ACTIVATING", "REGULAR", timing.tRCD - 1)


def use_bank_machine() -> None:
    """Let LiteDRAM's controller be made of it."""
    controller.BankMachine = BankMachine
