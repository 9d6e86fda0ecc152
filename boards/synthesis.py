"""What Yosys is told besides the parts of a design."""

from __future__ import annotations

__all__ = ["AREA_FILE", "AREA_SCRIPT", "NETLIST", "READ_SCRIPT", "scripts"]

#: What it writes.
NETLIST = "top.json"

#: Where synthesis leaves the netlist's cells, and the commands that make it do so.
AREA_FILE = "area.json"
AREA_SCRIPT = f"tee -q -o {AREA_FILE} stat -json"

#: After reading, before synthesis: an attribute ``keep`` of a signal goes to its flip-flops, too, else those
#: with the same input (`hw.copies`) become one.  Element 3 of an array is a wire with the name ``array[3]``,
#: and so is bit 3 of ``array`` for ABC9, which then fails: such names are hidden.
READ_SCRIPT = "\n".join((
    "setattr -set keep 1 w:* a:keep=1 %i %ci1:+$dff,$adff,$sdff,$dffe[Q]",
    r"rename -hide w:*\[* i:* %d o:* %d",
))


def scripts(floorplan: str = "") -> dict[str, str]:
    """For `amaranth.build.Platform.prepare`; ``floorplan``: of `boards.floorplan.floorplan_script`."""
    return {"script_after_read": READ_SCRIPT, "script_after_synth": f"{AREA_SCRIPT}\n{floorplan}"}
