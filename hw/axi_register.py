"""Registers on all five channels of AXI4, to part the timing of two neighbours."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4
from hw.skid_buffer import SkidBuffer

__all__ = ["AXI4Register"]

#: Channels of AXI4, and whether they go from the manager to the subordinate.
_CHANNELS = {"aw": True, "w": True, "b": False, "ar": True, "r": False}


class AXI4Register(wiring.Component):
    """A `SkidBuffer` on each channel: a cycle later, at full throughput, nothing combinational between.

    Parameters
    ----------
    data_width : int
        Bits of the data bus.

    Members
    -------
    manager : ``In(AXI4(data_width))``
        Where the manager is connected.
    subordinate : ``Out(AXI4(data_width))``
        Where the subordinate is connected.
    """

    def __init__(self, data_width: int) -> None:
        self.data_width = data_width
        super().__init__({"manager": In(AXI4(data_width)), "subordinate": Out(AXI4(data_width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        members = AXI4(self.data_width).members
        for channel, forward in _CHANNELS.items():
            source, sink = (self.manager, self.subordinate) if forward else (self.subordinate, self.manager)
            fields = [name for name in members
                      if name.startswith(channel) and name not in (f"{channel}valid", f"{channel}ready")]
            before = Cat(getattr(source, name) for name in fields)
            after = Cat(getattr(sink, name) for name in fields)
            m.submodules[channel] = register = SkidBuffer(len(before))
            m.d.comb += [
                register.input.payload.eq(before),
                register.input.valid.eq(getattr(source, f"{channel}valid")),
                getattr(source, f"{channel}ready").eq(register.input.ready),
                after.eq(register.output.payload),
                getattr(sink, f"{channel}valid").eq(register.output.valid),
                register.output.ready.eq(getattr(sink, f"{channel}ready")),
            ]
        return m
