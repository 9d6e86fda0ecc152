"""A board's end of the serial line: receiver, transmitter and the bridge to memory and registers."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out, connect

from hw.axi import AXI4, AXI4Lite
from hw.serial_bridge import SerialBridge
from hw.serial_protocol import REGISTER_ADDRESS_BITS
from hw.uart import UARTReceiver, UARTTransmitter, clocks_per_bit

__all__ = ["HostLink", "join_managers"]


class HostLink(Component):
    """A `SerialBridge` with its UART.

    Parameters
    ----------
    memory_bytes, clock_hz, register_address_bits, started_by_host
        As for `SerialBridge`.
    baud : int
        Bits a second.

    Members
    -------
    rx : In(1), tx : Out(1)
        The serial line.
    memory_ready, executing, m_axi, m_axil
        As `SerialBridge` has them.
    """

    def __init__(
        self,
        memory_bytes: int,
        clock_hz: int,
        baud: int,
        *,
        register_address_bits: int = REGISTER_ADDRESS_BITS,
        started_by_host: bool = False,
    ) -> None:
        self.baud = baud
        self._clocks = clocks_per_bit(clock_hz, baud)
        self.bridge = SerialBridge(
            memory_bytes,
            clock_hz,
            register_address_bits=register_address_bits,
            started_by_host=started_by_host,
        )
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "memory_ready": In(1),
                "executing": Out(1),
                "m_axi": Out(AXI4(64)),
                "m_axil": Out(AXI4Lite(register_address_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bridge = bridge = self.bridge
        m.submodules.receiver = receiver = UARTReceiver(self._clocks)
        m.submodules.transmitter = transmitter = UARTTransmitter(self._clocks)
        connect(m, bridge.sent, transmitter.data)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            bridge.received.eq(receiver.data),
            bridge.received_valid.eq(receiver.valid),
            bridge.memory_ready.eq(self.memory_ready),
            self.executing.eq(bridge.executing),
        ]
        join_managers(m, bridge.m_axi, self.m_axi)
        join_managers(m, bridge.m_axil, self.m_axil)
        return m


def join_managers(m: Module, inside: Any, outside: Any) -> None:
    """Connect a manager's interface to one that stands for it outside, or to a subordinate's members.

    Only widths of addresses may differ; the narrower one loses the upper bits.
    """
    for name, member in inside.signature.members.items():
        one, other = getattr(inside, name), getattr(outside, name)
        m.d.comb += other.eq(one) if member.flow is Out else one.eq(other)
