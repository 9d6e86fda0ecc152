"""LiteDRAM's choice among the banks' commands, each bank told by what it asks for itself.

Imported by the generator's own process only (`boards.litedram_generator`).
"""

from __future__ import annotations

from typing import Any

from litedram.common import cmd_request_rw_layout
from litedram.core import multiplexer
from litex.soc.interconnect import stream
from migen import Array, Cat, If, Module, Signal
from migen.genlib.roundrobin import SP_CE, RoundRobin

__all__ = ["CommandChooser", "use_command_chooser"]


class CommandChooser(Module):
    """Gives the commands of one bank after another, of those that are wanted.

    In place of ``_CommandChooser``, which tells a bank that its command is taken by way of the command that
    was chosen.  A memory that takes a command in every cycle (tCCD of one) takes whatever is wanted, as
    long as reads or writes are: a bank knows that by itself when it has its turn.

    Parameters
    ----------
    requests : list of Endpoint
        The banks' commands.

    Attributes
    ----------
    want_reads, want_writes, want_cmds, want_activates : Signal
        What may be chosen: reads, writes, other commands, and of these activates, too.
    cmd : Endpoint
        The chosen command.
    """

    def __init__(self, requests: list[Any]) -> None:
        self.want_reads = Signal()
        self.want_writes = Signal()
        self.want_cmds = Signal()
        self.want_activates = Signal()
        self.cmd = cmd = stream.Endpoint(cmd_request_rw_layout(len(requests[0].a), len(requests[0].ba)))

        wanted = [Signal() for _ in requests]
        self.submodules.turn = turn = RoundRobin(len(requests), SP_CE)
        for number, (one, request) in enumerate(zip(wanted, requests)):
            activate = request.ras & ~request.cas & ~request.we
            command = request.is_cmd & self.want_cmds & (~activate | self.want_activates)
            access = (request.is_read & self.want_reads) | (request.is_write & self.want_writes)
            taken = one & (turn.grant == number) & (self.want_reads | self.want_writes)
            self.comb += [one.eq(request.valid & (command | access)), If(taken, request.ready.eq(1))]
        self.comb += [
            turn.request.eq(Cat(*wanted)),
            turn.ce.eq(cmd.ready | ~cmd.valid),
            cmd.valid.eq(Array(wanted)[turn.grant]),
        ]
        for name in ("a", "ba", "is_read", "is_write", "is_cmd"):
            chosen = Array([getattr(request, name) for request in requests])
            self.comb += getattr(cmd, name).eq(chosen[turn.grant])
        for name in ("cas", "ras", "we"):
            # nothing is commanded without a valid command
            chosen = Array([getattr(request, name) & one for one, request in zip(wanted, requests)])
            self.comb += getattr(cmd, name).eq(chosen[turn.grant])

    def accept(self) -> Any:
        """A command is taken."""
        return self.cmd.valid & self.cmd.ready

    def activate(self) -> Any:
        """The command is an activate."""
        return self.cmd.ras & ~self.cmd.cas & ~self.cmd.we

    def write(self) -> Any:
        """The command is a write."""
        return self.cmd.is_write

    def read(self) -> Any:
        """The command is a read."""
        return self.cmd.is_read


def use_command_chooser() -> None:
    """Let LiteDRAM's multiplexer choose by it."""
    multiplexer._CommandChooser = CommandChooser
