"""Runs LiteDRAM's generator: ``python -m boards.litedram_generator SETTINGS.json FOLDER``.

A program of its own, because LiteX keeps state between two generations in one process, and so that
nobody else has to import it.  `boards.litedram` calls it.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, ClassVar

from hw.axi import ID_WIDTH

__all__ = ["main"]


def _memory(clock_hz: float, row_bits: int, column_bits: int) -> type:
    """A memory with the slowest timings (ns) of all chips that the boards were built with."""
    from litedram.modules import SDRModule, _SpeedgradeTimings, _TechnologyTimings

    # LiteDRAM rounds the refresh interval up to whole cycles, which would be too seldom: 64 ms for
    # 8,192 rows is a limit (smaller chips need it half as often).  Whole cycles, less a little for the
    # division, stay what they are.
    interval = (math.floor(64e6 / 8192 * clock_hz / 1e9) - 0.001) * 1e9 / clock_hz

    class Memory(SDRModule):
        nbanks = 4
        nrows = 1 << row_bits
        ncols = 1 << column_bits
        technology_timings = _TechnologyTimings(
            tREFI=interval, tWTR=(2, None), tCCD=(1, None), tRRD=(None, 15)
        )
        speedgrade_timings: ClassVar = {
            "default": _SpeedgradeTimings(tRP=20, tRCD=20, tWR=15, tRFC=(None, 70), tFAW=None, tRAS=45)
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


def main(arguments: list[str]) -> int:
    """Write FOLDER/litedram_core.v and FOLDER/controller.json."""
    from litedram import phy
    from litedram.gen import LiteDRAMCore
    from litex.build.lattice import LatticePlatform
    from litex.soc.integration.builder import Builder

    _use_pin_registers()
    settings = json.loads(Path(arguments[0]).read_text())
    folder = Path(arguments[1])
    clock_hz = float(settings["clock_hz"])
    geometry = settings["geometry"]
    data_bytes = geometry["data_bits"] // 8
    memory = _memory(clock_hz, geometry["row_bits"], geometry["column_bits"])
    config = {
        "cpu": None,
        "device": settings["device"],
        "memtype": "SDR",
        "sdram_module": memory,
        "sdram_module_nb": data_bytes,  # bytes on the data pins
        "sdram_rank_nb": 1,
        "sdram_phy": phy.GENSDRPHY,
        "input_clk_freq": clock_hz,
        "sys_clk_freq": clock_hz,
        "init_clk_freq": clock_hz,
        "user_ports": {
            name: {"type": "axi", "id_width": ID_WIDTH, "data_width": width}
            for name, width in settings["ports"].items()
        },
    }
    platform = LatticePlatform(config["device"], io=[], toolchain="trellis")
    soc = LiteDRAMCore(platform, config)
    builder = Builder(
        soc, output_dir=str(folder), gateware_dir=str(folder), compile_gateware=False, compile_software=False
    )
    builder.build(build_name="litedram_core", regular_comb=False)
    registers = {name: region.origin for name, region in soc.csr.regions.items()}
    addresses: dict[str, int] = {}
    for bank, origin in registers.items():
        for index, register in enumerate(soc.csr.regions[bank].obj):
            addresses[f"{bank}_{register.name}"] = origin + 4 * index
    geometry = soc.sdram.controller.settings.geom
    result = {
        "registers": addresses,
        "cas_latency": soc.sdram.controller.settings.phy.cl,
        "memory_bytes": (1 << (geometry.bankbits + geometry.rowbits + geometry.colbits)) * data_bytes,
        "data_bits": 8 * data_bytes,
        "row_bits": geometry.rowbits,
        "column_bits": geometry.colbits,
    }
    (folder / "controller.json").write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
