"""What every board with an SDRAM and a serial port is made of, the board's simulation included.

``core`` and the serial bridge each have an AXI4 port of the memory controller; the bridge also
reads and writes the core's registers.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Instance, IOPort, Module, Signal
from amaranth.lib.wiring import Component, In, Out, connect

from boards.host_link import HostLink, join_managers
from boards.litedram import MemoryController
from boards.own_reset import add_with_own_resets, own_reset
from boards.sdram_start import SDRAMStart, start_sequence
from hw.axi_register import AXI4Register

__all__ = ["CORE_PORT", "HOST_PORT", "HOST_WIDTH", "System", "memory_ports", "port_arguments"]

#: Names of the memory controller's ports.
CORE_PORT, HOST_PORT = "core", "host"
#: Bits of the bridge's port.
HOST_WIDTH = 64


def memory_ports(bus_width: int) -> dict[str, int]:
    """The ports that `boards.litedram.generate` must make for a core with this bus."""
    return {CORE_PORT: bus_width, HOST_PORT: HOST_WIDTH}


def port_arguments(name: str, axi: Any, address_bits: int) -> dict[str, Any]:
    """Arguments of the controller's instance for one AXI4 port."""
    arguments: dict[str, Any] = {}
    for channel in ("aw", "ar"):
        for field in ("valid", "burst", "len", "size", "id"):
            arguments[f"i_user_port_{name}_{channel}{field}"] = getattr(axi, channel + field)
        arguments[f"i_user_port_{name}_{channel}addr"] = getattr(axi, channel + "addr")[:address_bits]
        arguments[f"o_user_port_{name}_{channel}ready"] = getattr(axi, channel + "ready")
    for field in ("wvalid", "wlast", "wstrb", "wdata", "bready", "rready"):
        arguments[f"i_user_port_{name}_{field}"] = getattr(axi, field)
    for field in ("wready", "bvalid", "bresp", "bid", "rvalid", "rlast", "rresp", "rdata", "rid"):
        arguments[f"o_user_port_{name}_{field}"] = getattr(axi, field)
    return arguments


class System(Component):
    """Core, memory controller and serial bridge, in one clock domain.

    Parameters
    ----------
    core : Component
        Has ``m_axi`` (AXI4 manager) and ``s_axil`` (AXI4-Lite subordinate), as `hw.core.Core`.
    controller : MemoryController
        Generated with the ports of `memory_ports` for the core's bus.
    clock_hz : int
        The clock of the domain ``sync``.
    baud : int
        Bits a second on the serial line.
    data_pins : IOPort
        The memory's data pins.

    Members
    -------
    rx : In(1), tx : Out(1)
        The serial line.
    memory_ready : Out(1)
        The memory has been started.
    executing : Out(1)
        A request of the host is being executed.
    sdram_* : Out
        The memory's other pins, except its clock.
    """

    def __init__(
        self, core: Component, controller: MemoryController, *, clock_hz: int, baud: int, data_pins: IOPort
    ) -> None:
        self.core = core
        self.controller = controller
        self.clock_hz = clock_hz
        self.baud = baud
        self._data_pins = data_pins
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "memory_ready": Out(1),
                "executing": Out(1),
                "sdram_a": Out(controller.row_bits),
                "sdram_ba": Out(2),
                "sdram_dm": Out(controller.data_bits // 8),
                **{f"sdram_{name}": Out(1) for name in ("ras_n", "cas_n", "we_n", "cs_n", "cke")},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        core = self.core
        start = SDRAMStart(start_sequence(self.controller, self.clock_hz))
        link = HostLink(self.controller.memory_bytes, self.clock_hz, self.baud)
        register = AXI4Register(core.m_axi.signature.data_width)
        for name, part in (("core", core), ("start", start), ("link", link), ("core_register", register)):
            add_with_own_resets(m, name, part, platform)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            link.memory_ready.eq(self.memory_ready),
            self.executing.eq(link.executing),
        ]
        join_managers(m, link.m_axil, core.s_axil)
        connect(m, core.m_axi, register.manager)

        m.submodules.litedram = Instance(
            "litedram_core",
            i_clk=ClockSignal(),
            i_rst=own_reset(m, "litedram"),
            o_init_done=self.memory_ready,
            o_init_error=Signal(name="init_error"),
            o_user_clk=Signal(name="user_clk"),
            o_user_rst=Signal(name="user_rst"),
            i_wb_ctrl_adr=start.bus_address,
            i_wb_ctrl_dat_w=start.bus_data,
            i_wb_ctrl_cyc=start.bus_request,
            i_wb_ctrl_stb=start.bus_request,
            i_wb_ctrl_we=start.bus_request,
            i_wb_ctrl_sel=0b1111,
            i_wb_ctrl_cti=0,
            i_wb_ctrl_bte=0,
            o_wb_ctrl_ack=start.bus_acknowledge,
            o_wb_ctrl_dat_r=Signal(32, name="wb_dat_r"),
            o_wb_ctrl_err=Signal(name="wb_err"),
            **port_arguments(CORE_PORT, register.subordinate, self.controller.address_bits),
            **port_arguments(HOST_PORT, link.m_axi, self.controller.address_bits),
            **{
                f"o_sdram_{name}": getattr(self, f"sdram_{name}")
                for name in ("a", "ba", "dm", "ras_n", "cas_n", "we_n", "cs_n", "cke")
            },
            io_sdram_dq=self._data_pins,
        )
        return m
