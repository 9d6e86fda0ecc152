"""Runs LiteDRAM's generator for DDR3: ``python -m boards.ddr3_generator SETTINGS.json FOLDER``.

A program of its own, because LiteX keeps state between two generations in one process, and so that
nobody else has to import it.  `boards.ddr3` calls it.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

from boards.litedram_core import make_core, refresh_interval, write_core

__all__ = ["main"]

#: Bytes on the data pins.
_DATA_BYTES = 2

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
    interval = refresh_interval(chip.technology_timings.tREFI, clock_hz)
    technology = type("Technology", (), {**vars(chip.technology_timings), "tREFI": interval})
    speed = dict(chip.speedgrade_timings)
    if refresh_ns is not None:
        changed = {**vars(speed["default"]), "tRFC": (None, refresh_ns)}
        speed = {"default": type("Speed", (), changed)}
    return type(name, (chip,), {"technology_timings": technology, "speedgrade_timings": speed})


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

    _exact_clocks()
    settings = json.loads(Path(arguments[0]).read_text())
    soc = make_core(
        settings,
        memtype="DDR3",
        sdram_module=_module(settings["module"], float(settings["clock_hz"]), settings["refresh_ns"]),
        sdram_module_nb=_DATA_BYTES,
        sdram_phy=phy.ECP5DDRPHY,
        input_clk_freq=settings["input_hz"],
        init_clk_freq=settings["init_hz"],
        dm_swap=settings["swap_masks"],
        cmd_delay=settings["command_delay"],
    )
    soc.ddrphy.settings.rtt_nom = settings["termination"]  # LiteDRAM's own setting does not arrive
    controller = soc.sdram.controller.settings
    timing = controller.phy
    write_core(
        soc,
        _DATA_BYTES,
        Path(arguments[1]),
        start=_start_steps(timing, controller.timing),
        phases=timing.nphases,
        read_phase=int(timing.rdphase),
        write_phase=int(timing.wrphase),
        delays=timing.delays,
        bitslips=timing.bitslips,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
