"""Registers behind block RAMs move into the block RAMs.

An ECP5 block RAM takes 5.8 ns from the clock to its data, and 1 ns if the data come from the register at its
output (Lattice FPGA-TN-02204, ``REGMODE``).  Yosys makes block RAMs of memories and leaves a register behind
one outside, where the wire to it has to do with the rest of the cycle.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

__all__ = ["absorb_output_registers"]

_SIDES = "AB"
#: Data pins of a side.
_SIDE_WIDTH = 18


def absorb_output_registers(module: dict[str, Any]) -> int:
    """Change a module in Yosys' JSON; returns how many flip-flops it has less.

    A side's outputs move together or not at all, and both sides of a block RAM that gives 36 bits: each bit
    that is read has one reader, a flip-flop at the block's clock that starts at 0 and has neither enable nor
    reset.
    """
    cells = module["cells"]
    readers: dict[Any, list[tuple[str, str]]] = defaultdict(list)  # of each net: cell and pin
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                for bit in bits:
                    readers[bit].append((name, pin))
    for name, port in module["ports"].items():
        for bit in port["bits"]:
            readers[bit].append(("", name))

    moved = 0
    for block in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        found = [_registers(block, side, cells, readers) for side in _SIDES]
        if _gives_36_bits(block):
            # one port's data at the outputs of both sides: together, or not at all
            together = None if None in found else {**(found[0] or {}), **(found[1] or {})}
            groups = [(_SIDES, together)]
        else:
            groups = list(zip(_SIDES, found, strict=True))
        for sides, registers in groups:
            if not registers:
                continue
            for side in sides:
                block["parameters"][f"REGMODE_{side}"] = "OUTREG"
                block["connections"][f"OCE{side}"] = ["1"]
            for pin, register in registers.items():
                block["connections"][pin] = cells.pop(register)["connections"]["Q"]
            moved += len(registers)
    return moved


def _gives_36_bits(block: dict[str, Any]) -> bool:
    return any(int(block["parameters"][f"DATA_WIDTH_{side}"], 2) > _SIDE_WIDTH for side in _SIDES)


def _registers(block: dict[str, Any], side: str, cells: dict[str, Any],
               readers: dict[Any, list[tuple[str, str]]]) -> dict[str, str] | None:
    """The flip-flop behind each output of a side that is read; None if one of them has to stay.

    Only constants steer the block's own output register afterwards.
    """
    pins = block["connections"]
    if block["parameters"][f"REGMODE_{side}"] != "NOREG" or pins.get(f"RST{side}", ["0"]) != ["0"]:
        return None
    found: dict[str, str] = {}
    for number in range(_SIDE_WIDTH):
        pin = f"DO{side}{number}"
        [net] = pins.get(pin, [None])
        if net not in readers:
            continue
        (reader, data_pin), *others = readers[net]
        if others or data_pin != "DI" or not _is_plain(cells[reader], pins[f"CLK{side}"]):
            return None
        found[pin] = reader
    return found


def _is_plain(cell: dict[str, Any], clock: list[Any]) -> bool:
    """Whether this is a flip-flop at a clock's rising edge that starts at 0, without enable and reset."""
    settings, pins = cell["parameters"], cell["connections"]
    return (cell["type"] == "TRELLIS_FF" and pins["CLK"] == clock
            and settings.get("CLKMUX", "CLK") == "CLK" and settings.get("REGSET", "RESET") == "RESET"
            # Yosys ends a text that could be a number with a blank
            and settings.get("CEMUX", "CE").strip() == "1"
            and pins.get("LSR", ["0"]) == ["0"] and settings.get("LSRMUX", "LSR") == "LSR")
