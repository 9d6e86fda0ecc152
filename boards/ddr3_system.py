"""What every board with DDR3 is made of, but its pins: core, memory controller, serial bridge, calibration.

The memory controller has the PLL: it drives the domain ``sync``, which the top module must have.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Instance, IOPort, Module, ResetSignal, Signal
from amaranth.lib.wiring import Component, In, Out

from boards.ddr3 import DDR3Controller, burst_script, start_script
from boards.ddr3_control import DDR3Control
from boards.host_link import HostLink, join_managers
from boards.own_reset import add_with_own_resets
from boards.system import CORE_PORT, HOST_PORT, port_arguments
from hw.ddr3_description import REGISTER_ADDRESS_BITS

__all__ = ["DDR3System"]

_COMMAND_PINS = ("a", "ba", "ras_n", "cas_n", "we_n", "cs_n", "cke", "odt", "reset_n", "dm", "clk_p")


class DDR3System(Component):
    """Core, memory controller and serial bridge, in the clock domain that the controller makes.

    Parameters
    ----------
    core : Component
        Has ``m_axi`` and ``s_axil``, as `hw.core.Core`.
    controller : DDR3Controller
        Generated with the ports of `boards.system.memory_ports` for the core's bus.
    clock_hz, baud : int
    data_pins, strobe_pins : IOPort
        The memory's 16 data pins and the positive ones of its strobes.

    Members
    -------
    clock : In(1)
        From the board's oscillator.
    rx : In(1), tx : Out(1)
        The serial line.
    memory_ready, executing : Out(1)
    ddram_* : Out
        The memory's other pins; of its clock the positive one.
    """

    def __init__(
        self,
        core: Component,
        controller: DDR3Controller,
        *,
        clock_hz: int,
        baud: int,
        data_pins: IOPort,
        strobe_pins: IOPort,
    ) -> None:
        self.core = core
        self.controller = controller
        self.clock_hz = clock_hz
        self.baud = baud
        self._data_pins = data_pins
        self._strobe_pins = strobe_pins
        widths = {"a": controller.row_bits, "ba": 3, "dm": 2}
        super().__init__(
            {
                "clock": In(1),
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "memory_ready": Out(1),
                "executing": Out(1),
                **{f"ddram_{name}": Out(widths.get(name, 1)) for name in _COMMAND_PINS},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        controller, core = self.controller, self.core
        link = HostLink(
            controller.memory_bytes,
            self.clock_hz,
            self.baud,
            register_address_bits=REGISTER_ADDRESS_BITS,
            started_by_host=True,
        )
        control = DDR3Control(
            controller.description, [start_script(controller, self.clock_hz), burst_script(controller)]
        )
        for name, part in (("core", core), ("link", link), ("control", control)):
            add_with_own_resets(m, name, part, platform)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            link.memory_ready.eq(self.memory_ready),
            self.executing.eq(link.executing),
        ]
        self._registers(m, link.m_axil, core.s_axil, control.bus)

        m.submodules.litedram = Instance(
            "litedram_core",
            i_clk=self.clock,
            i_rst=0,
            o_pll_locked=Signal(name="pll_locked"),
            o_init_done=self.memory_ready,
            o_init_error=Signal(name="init_error"),
            o_user_clk=ClockSignal("sync"),
            o_user_rst=ResetSignal("sync"),
            i_wb_ctrl_adr=control.bus_address,
            i_wb_ctrl_dat_w=control.bus_data,
            i_wb_ctrl_cyc=control.bus_request,
            i_wb_ctrl_stb=control.bus_request,
            i_wb_ctrl_we=control.bus_write,
            i_wb_ctrl_sel=0b1111,
            i_wb_ctrl_cti=0,
            i_wb_ctrl_bte=0,
            o_wb_ctrl_ack=control.bus_acknowledge,
            o_wb_ctrl_dat_r=control.bus_read_data,
            o_wb_ctrl_err=Signal(name="wb_err"),
            **port_arguments(CORE_PORT, core.m_axi, controller.address_bits),
            **port_arguments(HOST_PORT, link.m_axi, controller.address_bits),
            **{f"o_ddram_{name}": getattr(self, f"ddram_{name}") for name in _COMMAND_PINS},
            io_ddram_dq=self._data_pins,
            io_ddram_dqs_p=self._strobe_pins,
        )
        return m

    def _registers(self, m: Module, host: Any, core: Any, control: Any) -> None:
        """The accelerator's registers in the lower half of the addresses, the memory's in the upper."""
        # the bridge gives both addresses the same value, and holds it until the answer
        with m.If(host.araddr[-1]):
            join_managers(m, host, control)
        with m.Else():
            join_managers(m, host, core)
