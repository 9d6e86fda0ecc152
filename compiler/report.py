"""What the compiler did, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.compile import Compilation
from hw.isa import NARROW_BYTES, Opcode

__all__ = ["report_json", "report_table"]


def report_json(compilation: Compilation, cycles: Mapping[int, int] | None = None) -> dict[str, Any]:
    """One object with ``layers``, and sizes of memory; ``cycles`` are estimates by layer number."""
    program, machine = compilation.program, compilation.program.machine
    computes: dict[int, int] = {}
    weights: dict[int, int] = {}
    loaded: dict[int, int] = {}
    stored: dict[int, int] = {}
    for scheduled in compilation.schedule.program:
        i = scheduled.instruction
        if i.opcode is Opcode.COMPUTE:
            computes[i.layer] = computes.get(i.layer, 0) + 1
        elif i.opcode is Opcode.WEIGHTS:
            size = i["blocks"] * (machine.parameter_bytes + i["words"] * machine.weight_word_bytes)
            weights[i.layer] = weights.get(i.layer, 0) + size
        elif i.opcode in (Opcode.LOAD, Opcode.STORE):
            counted = loaded if i.opcode is Opcode.LOAD else stored
            narrow = i.opcode is Opcode.LOAD and i["narrow"]
            word_bytes = NARROW_BYTES if narrow else machine.word_bytes
            size = i["planes"] * i["rows"] * i["words"] * word_bytes
            counted[i.layer] = counted.get(i.layer, 0) + size
    layers = []
    for layer in program.layers:
        entry: dict[str, Any] = {
            "number": layer.number,
            "name": layer.name,
            "kind": layer.kind,
            "tensor": layer.tensor.name,
            "shape": list(layer.tensor.shape),
            "macs": layer.macs,
            "computes": computes.get(layer.number, 0),
            "weight_bytes": weights.get(layer.number, 0),
            "load_bytes": loaded.get(layer.number, 0),
            "store_bytes": stored.get(layer.number, 0),
        }
        if cycles is not None:
            entry["estimated_cycles"] = cycles.get(layer.number, 0)
        layers.append(entry)
    memory = compilation.memory_map
    return {
        "name": program.name,
        "machine": machine.to_json(),
        "digest": f"{machine.digest():016x}",
        "macs": sum(layer.macs for layer in program.layers),
        "instructions": len(compilation.schedule.program) + 1,
        "memory": {
            "instructions": memory.weights - memory.instructions,
            "weights": memory.maps - memory.weights,
            "feature_maps": memory.end - memory.maps,
            "total": memory.end,
        },
        "layers": layers,
    }


def report_table(report: Mapping[str, Any]) -> str:
    """The report as a table for a terminal; weight, load and store are bytes that cross the bus."""
    header = ["layer", "kind", "result", "MACs", "computes", "weights", "load", "store"]
    keys = ["macs", "computes", "weight_bytes", "load_bytes", "store_bytes"]
    if report["layers"] and "estimated_cycles" in report["layers"][0]:
        header.append("cycles, est.")
        keys.append("estimated_cycles")
    rows = [
        [
            _short(layer["name"]),
            layer["kind"],
            "x".join(map(str, layer["shape"])),
            *(f"{layer[key]:,}" for key in keys),
        ]
        for layer in report["layers"]
    ]
    rows.append(["total", "", "", *(f"{sum(layer[key] for layer in report['layers']):,}" for key in keys)])
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(row: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()

    memory = report["memory"]
    return "\n".join(
        [
            line(header),
            *map(line, rows),
            "",
            f"{report['instructions']:,} instructions; memory: {memory['total']:,} bytes "
            f"(instructions {memory['instructions']:,}, weights {memory['weights']:,}, "
            f"feature maps {memory['feature_maps']:,})",
        ]
    )


def _short(name: str, most: int = 40) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
