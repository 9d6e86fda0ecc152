"""Runs LiteDRAM's generator: ``python -m boards.litedram_generator SETTINGS.json FOLDER``.

A program of its own, because LiteX keeps state between two generations in one process, and so that
nobody else has to import it.  `boards.litedram` calls it.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from boards.litedram_core import make_core, refresh_interval, write_core

__all__ = ["main"]


def _memory(clock_hz: float, row_bits: int, column_bits: int) -> type:
    """A memory with the slowest timings (ns) of all chips that the boards were built with."""
    from litedram.modules import SDRModule, _SpeedgradeTimings, _TechnologyTimings

    # 64 ms for 8,192 rows is a limit (smaller chips need it half as often)
    interval = refresh_interval(64e6 / 8192, clock_hz)

    class Memory(SDRModule):
        nbanks = 4
        nrows = 1 << row_bits
        ncols = 1 << column_bits
        technology_timings = _TechnologyTimings(
            tREFI=interval, tWTR=(2, None), tCCD=(1, None), tRRD=(None, 15)
        )
        speedgrade_timings: ClassVar = {
            "default": _SpeedgradeTimings(tRP=21, tRCD=21, tWR=15, tRFC=(None, 70), tFAW=None, tRAS=45)
        }

    return Memory


def _use_pin_registers() -> None:
    """Registers of the data pins' direction in the pins as well.

    LiteX leaves that register and an inverter in the fabric, so that the controller would drive
    the pins many nanoseconds late, when the memory may already be taking the data.
    """
    from litex.build.io import SDRTristate
    from litex.build.lattice.common import lattice_ecp5_trellis_special_overrides
    from migen import Instance, Module, Signal

    class Pin(Module):
        def __init__(self, pin: Any) -> None:
            out, off, into = Signal(), Signal(), Signal()
            common = {"i_SCLK": pin.clk, "i_SP": 1, "i_PD": 0}
            self.specials += [
                Instance("OFS1P3BX", i_D=pin.o, o_Q=out, **common),
                Instance("OFS1P3BX", i_D=~pin.oe, o_Q=off, **common),
                Instance("IFS1P3BX", i_D=into, o_Q=pin.i, **common),
                Instance("TRELLIS_IO", p_DIR="BIDIR", i_B=pin.io, i_I=out, i_T=off, o_O=into),
            ]

    class Lowering:
        @staticmethod
        def lower(pin: Any) -> Pin:
            return Pin(pin)

    lattice_ecp5_trellis_special_overrides[SDRTristate] = Lowering


def _use_read_latency(phy: type, cycles: int) -> None:
    """When the PHY takes read data; LiteDRAM would choose a CAS latency, and always the first edge."""
    phy.__init__ = functools.partialmethod(phy.__init__, cl=cycles)


def _use_registers_before_pins(phy: type) -> None:
    """Commands one cycle later than LiteDRAM sends them, data to be written not; read data one cycle later.

    So there is a register between a bank's command and what tells whose data is written with it, and one
    between the pins' registers and the ports, which lie wherever those are who read.
    """
    from litedram.core.crossbar import LiteDRAMCrossbar
    from litedram.phy.dfi import Interface
    from migen.genlib.record import DIR_S_TO_M

    made: Callable[..., None] = phy.__init__

    def make(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        late = self.dfi.p0
        self.dfi = Interface(len(late.address), len(late.bank), len(late.cs_n), len(late.wrdata))
        for name, _, direction in late.layout:
            inside, outside = getattr(late, name), getattr(self.dfi.p0, name)
            if direction == DIR_S_TO_M:
                self.sync += outside.eq(inside)
            elif name in ("wrdata", "wrdata_mask"):
                self.comb += inside.eq(outside)
            else:
                self.sync += inside.eq(outside)

    connected: Callable[..., None] = LiteDRAMCrossbar.__init__

    def connect(self: Any, *arguments: Any) -> None:
        connected(self, *arguments)
        self.read_latency += 1

    phy.__init__ = make
    LiteDRAMCrossbar.__init__ = connect


def main(arguments: list[str]) -> int:
    """Write FOLDER/litedram_core.v and FOLDER/controller.json."""
    from litedram import phy

    from boards.litedram_axi import use_axi
    from boards.litedram_bank import use_bank_machine
    from boards.litedram_chooser import use_command_chooser
    from boards.litedram_converter import use_down_converter

    settings = json.loads(Path(arguments[0]).read_text())
    _use_pin_registers()
    use_axi()
    use_down_converter()
    use_bank_machine()
    use_command_chooser()
    _use_read_latency(phy.GENSDRPHY, settings["read_latency"])
    _use_registers_before_pins(phy.GENSDRPHY)
    clock_hz = float(settings["clock_hz"])
    geometry = settings["geometry"]
    data_bytes = geometry["data_bits"] // 8
    soc = make_core(
        settings,
        memtype="SDR",
        sdram_module=_memory(clock_hz, geometry["row_bits"], geometry["column_bits"]),
        sdram_module_nb=data_bytes,  # bytes on the data pins
        sdram_phy=phy.GENSDRPHY,
        input_clk_freq=clock_hz,
        init_clk_freq=clock_hz,
    )
    write_core(
        soc,
        data_bytes,
        Path(arguments[1]),
        data_bits=8 * data_bytes,
        column_bits=geometry["column_bits"],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
