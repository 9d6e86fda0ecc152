"""The AXI4 read channels, shared by fetch, load and weights."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.axi import ADDRESS_WIDTH, BURST_INCR, ID_WIDTH, Response
from hw.read_client import ReadPortSignature

__all__ = ["AXI4Read", "ReadPort"]


class AXI4Read(wiring.Signature):
    """The AR and R channels of `hw.axi.AXI4`, under the same names."""

    def __init__(self, data_width: int) -> None:
        self.data_width = data_width
        super().__init__({
            "arid": Out(ID_WIDTH), "araddr": Out(ADDRESS_WIDTH), "arlen": Out(8), "arsize": Out(3),
            "arburst": Out(2), "arvalid": Out(1), "arready": In(1),
            "rid": In(ID_WIDTH), "rdata": In(data_width), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1),
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AXI4Read) and self.data_width == other.data_width


class ReadPort(wiring.Component):
    """Takes bursts from its clients in turn, urgent ones first, and hands the data back.

    All reads have one ID, so data comes back in the order of the addresses; a queue remembers
    whose turn it is.  The clients have room for everything they ask for: ``rready`` is always 1.

    Parameters
    ----------
    bus_width : int
        Bits of a beat.
    clients : int
        How many clients share the port.
    outstanding : int
        Most bursts whose data has not arrived.

    Members
    -------
    clients : ``In(ReadPortSignature(bus_width)).array(clients)``
    axi : ``Out(AXI4Read(bus_width))``
    beat : ``Out(1)``
        Strobe: a beat was taken from the bus.
    """

    def __init__(self, bus_width: int, clients: int, *, outstanding: int = 32) -> None:
        self.bus_width = bus_width
        self.outstanding = outstanding
        super().__init__({
            "clients": In(ReadPortSignature(bus_width)).array(clients),
            "axi": Out(AXI4Read(bus_width)),
            "beat": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        count = len(self.clients)
        turn_layout = data.StructLayout({"client": range(count), "tag": 1})
        m.submodules.order = order = SyncFIFOBuffered(width=turn_layout.size, depth=self.outstanding)

        # addresses: the next client after the last one is chosen in one cycle, and its burst goes to the
        # address register in the next, if that is free
        chosen, some_chosen = Signal(range(count)), Signal()
        has_turn = Cat(some_chosen & (chosen == n) for n in range(count))
        wanted, urgent, served = Signal(count), Signal(count), Signal(count)
        free = Signal()
        entry = Signal(turn_layout)
        m.d.comb += [
            # what is behind a client's burst is not known yet while that goes
            wanted.eq(Cat(client.bursts.valid for client in self.clients) & ~has_turn),
            urgent.eq(Cat(client.urgent for client in self.clients)),
            served.eq(Mux(urgent.any(), wanted & urgent, wanted)),
            free.eq((~axi.arvalid | axi.arready) & order.w_rdy),
            entry.client.eq(chosen),
            order.w_data.eq(entry.as_value()),
            order.w_en.eq(free & some_chosen),
        ]
        with m.If(~some_chosen | free):
            m.d.sync += some_chosen.eq(served.any())
            with m.Switch(chosen):
                for n in range(count):
                    with m.Case(n):
                        for distance in range(count, 0, -1):
                            candidate = (n + distance) % count
                            with m.If(served[candidate]):
                                m.d.sync += chosen.eq(candidate)
        for n, client in enumerate(self.clients):
            m.d.comb += client.bursts.ready.eq(free & has_turn[n])
        address, length = Signal.like(axi.araddr, reset_less=True), Signal.like(axi.arlen, reset_less=True)
        burst = Signal.like(self.clients[0].bursts.payload)
        m.d.comb += [
            burst.eq(Array(client.bursts.payload.as_value() for client in self.clients)[chosen]),
            entry.tag.eq(burst.tag),
            axi.arid.eq(0),
            axi.araddr.eq(address),
            axi.arlen.eq(length),
            axi.arburst.eq(BURST_INCR),
            axi.arsize.eq(exact_log2(self.bus_width // 8)),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(order.w_en):
            m.d.sync += [
                axi.arvalid.eq(1),
                address.eq(burst.address),
                length.eq(burst.length),
            ]

        # data: a register, then to whose turn it is
        valid, last, error = Signal(), Signal(), Signal()
        beat = Signal(self.bus_width, reset_less=True)
        turn = Signal(turn_layout)
        m.d.comb += [axi.rready.eq(1), turn.eq(order.r_data), self.beat.eq(valid)]
        m.d.sync += [
            valid.eq(axi.rvalid),
            last.eq(axi.rlast),
            error.eq(axi.rresp != Response.OKAY),
            beat.eq(axi.rdata),
        ]
        m.d.comb += order.r_en.eq(valid & last)
        for n, client in enumerate(self.clients):
            m.d.comb += [
                client.beats.valid.eq(valid & order.r_rdy & (turn.client == n)),
                client.beats.payload.data.eq(beat),
                client.beats.payload.tag.eq(turn.tag),
                client.beats.payload.error.eq(error),
            ]
        return m
