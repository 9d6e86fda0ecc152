"""Runs LiteDRAM's generator for DDR3: ``python -m boards.ddr3_generator SETTINGS.json FOLDER``.

A program of its own, because LiteX keeps state between two generations in one process, and so that
nobody else has to import it.  `boards.ddr3` calls it.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from pathlib import Path
from typing import Any

from hw.axi import ID_WIDTH

__all__ = ["main"]

#: Commands and control bits as LiteDRAM names them in its start sequences (litedram/dfii.py, init.py).
_BITS = {
    "DFII_COMMAND_CS": 0x01,
    "DFII_COMMAND_WE": 0x02,
    "DFII_COMMAND_CAS": 0x04,
    "DFII_COMMAND_RAS": 0x08,
    "DFII_CONTROL_SEL": 0x01,
    "DFII_CONTROL_CKE": 0x02,
    "DFII_CONTROL_ODT": 0x04,
    "DFII_CONTROL_RESET_N": 0x08,
}


def _module(name: str, clock_hz: float, refresh_ns: float | None) -> type:
    """A memory of `litedram.modules` whose refresh interval is rounded down to whole cycles.

    With ``refresh_ns`` a refresh takes that long.
    """
    from litedram import modules

    chip: Any = getattr(modules, name)
    interval = (math.floor(chip.technology_timings.tREFI * clock_hz / 1e9) - 0.001) * 1e9 / clock_hz
    technology = type("Technology", (), {**vars(chip.technology_timings), "tREFI": interval})
    speed = dict(chip.speedgrade_timings)
    if refresh_ns is not None:
        changed = {**vars(speed["default"]), "tRFC": (None, refresh_ns)}
        speed = {"default": type("Speed", (), changed)}
    return type(name, (chip,), {"technology_timings": technology, "speedgrade_timings": speed})


def _registers(soc: Any) -> dict[str, int]:
    """Byte address of each register; one that is wider than the bus begins with its highest word."""
    addresses: dict[str, int] = {}
    for bank, region in soc.csr.regions.items():
        address = region.origin
        for register in region.obj:
            addresses[f"{bank}_{register.name}"] = address
            address += 4 * -(-register.size // 32)
    return addresses


def _start_steps(settings: Any, timing: Any) -> list[dict[str, int | bool]]:
    """LiteDRAM's own start sequence: mode registers for these latencies, calibration of the drivers."""
    from litedram.init import get_sdram_phy_init_sequence

    sequence, _ = get_sdram_phy_init_sequence(settings, timing)
    return [
        {
            "address": address,
            "bank": bank,
            "value": sum(_BITS[bit.strip()] for bit in command.split("|")),
            "control": "DFII_CONTROL" in command,
            "cycles": cycles,
        }
        for _, address, bank, command, cycles in sequence
    ]


def _exact_clocks() -> None:
    """Let the PLL make the clocks that are asked for; LiteX takes any within a percent of them."""
    from litex.soc.cores.clock import ECP5PLL

    ECP5PLL.create_clkout = functools.partialmethod(ECP5PLL.create_clkout, margin=1e-6)


def main(arguments: list[str]) -> int:
    """Write FOLDER/litedram_core.v and FOLDER/controller.json."""
    from litedram import phy
    from litedram.gen import LiteDRAMCore
    from litex.build.lattice import LatticePlatform
    from litex.soc.integration.builder import Builder

    _exact_clocks()
    settings = json.loads(Path(arguments[0]).read_text())
    folder = Path(arguments[1])
    clock_hz = float(settings["clock_hz"])
    config = {
        "cpu": None,
        "device": settings["device"],
        "memtype": "DDR3",
        "sdram_module": _module(settings["module"], clock_hz, settings["refresh_ns"]),
        "sdram_module_nb": 2,  # bytes on the data pins
        "sdram_rank_nb": 1,
        "sdram_phy": phy.ECP5DDRPHY,
        "input_clk_freq": settings["input_hz"],
        "sys_clk_freq": clock_hz,
        "init_clk_freq": settings["init_hz"],
        "dm_swap": settings["swap_masks"],
        "cmd_delay": settings["command_delay"],
        "user_ports": {
            name: {"type": "axi", "id_width": ID_WIDTH, "data_width": width}
            for name, width in settings["ports"].items()
        },
    }
    platform = LatticePlatform(config["device"], io=[], toolchain="trellis")
    soc = LiteDRAMCore(platform, config)
    soc.ddrphy.settings.rtt_nom = settings["termination"]  # LiteDRAM's own setting does not arrive
    builder = Builder(
        soc, output_dir=str(folder), gateware_dir=str(folder), compile_gateware=False, compile_software=False
    )
    builder.build(build_name="litedram_core", regular_comb=False)
    controller = soc.sdram.controller.settings
    geometry, timing = controller.geom, controller.phy
    result = {
        "registers": _registers(soc),
        "start": _start_steps(timing, controller.timing),
        "memory_bytes": (1 << (geometry.bankbits + geometry.rowbits + geometry.colbits)) * 2,
        "row_bits": geometry.rowbits,
        "phases": timing.nphases,
        "read_phase": int(timing.rdphase),
        "write_phase": int(timing.wrphase),
        "delays": timing.delays,
        "bitslips": timing.bitslips,
    }
    (folder / "controller.json").write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
