"""What the generators for SDRAM and DDR3 have in common: a LiteDRAM core from its settings to its files.

Imported by the generators' own processes only (`boards.generator_process`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hw.axi import ID_WIDTH

__all__ = ["make_core", "refresh_interval", "write_core"]


def refresh_interval(nanoseconds: float, clock_hz: float) -> float:
    """The interval that LiteDRAM must be given so that it is not longer than asked for.

    LiteDRAM rounds it up to whole cycles.  Whole cycles, less a little for the division, stay what they are.
    """
    return (math.floor(nanoseconds * clock_hz / 1e9) - 0.001) * 1e9 / clock_hz


def make_core(settings: dict[str, Any], **config: Any) -> Any:
    """The core, without a processor; ``settings`` are ``device``, ``clock_hz`` and ``ports``."""
    from litedram.gen import LiteDRAMCore
    from litex.build.lattice import LatticePlatform

    ports = {
        name: {"type": "axi", "id_width": ID_WIDTH, "data_width": width}
        for name, width in settings["ports"].items()
    }
    common = {
        "cpu": None,
        "device": settings["device"],
        "sdram_rank_nb": 1,
        "sys_clk_freq": float(settings["clock_hz"]),
        "user_ports": ports,
    }
    platform = LatticePlatform(settings["device"], io=[], toolchain="trellis")
    return LiteDRAMCore(platform, {**common, **config})


def write_core(soc: Any, data_bytes: int, folder: Path, **result: Any) -> None:
    """Write ``litedram_core.v`` and ``controller.json``: registers, memory size, row bits, and ``result``."""
    from litex.soc.integration.builder import Builder

    builder = Builder(
        soc, output_dir=str(folder), gateware_dir=str(folder), compile_gateware=False, compile_software=False
    )
    builder.build(build_name="litedram_core", regular_comb=False)
    geometry = soc.sdram.controller.settings.geom
    described = {
        "registers": _registers(soc),
        "memory_bytes": (1 << (geometry.bankbits + geometry.rowbits + geometry.colbits)) * data_bytes,
        "row_bits": geometry.rowbits,
        **result,
    }
    (folder / "controller.json").write_text(json.dumps(described, indent=1))


def _registers(soc: Any) -> dict[str, int]:
    """Byte address of each register; one that is wider than the bus begins with its highest word."""
    addresses: dict[str, int] = {}
    for bank, region in soc.csr.regions.items():
        address = region.origin
        for register in region.obj:
            addresses[f"{bank}_{register.name}"] = address
            address += 4 * -(-register.size // 32)
    return addresses
