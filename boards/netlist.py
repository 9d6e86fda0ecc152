"""What happens to a netlist between synthesis and place and route."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from boards.output_registers import absorb_output_registers
from hw.whole_file import write_whole

__all__ = ["finish_netlist"]

_TOP = "top"


def finish_netlist(netlist: Path, settings: Mapping[str, str]) -> None:
    """Rewrite a netlist in Yosys' JSON: registers move into block RAMs, and the router gets its settings.

    nextpnr takes from the top module what its command line has no options for, as it writes it itself.
    """
    design = json.loads(netlist.read_text())
    top = design["modules"][_TOP]
    absorb_output_registers(top)
    top["settings"] = dict(settings)
    write_whole(netlist, json.dumps(design))
