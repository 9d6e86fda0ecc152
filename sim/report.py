"""What a simulated network costs, layer by layer: a table for people, JSON for programs."""

from __future__ import annotations

from typing import Any

from hw.program_file import ProgramFile
from sim.run import Outcome
from sim.verilator import LayerCounters

__all__ = ["layer_rows", "memory_report", "table_of"]


def layer_rows(program: ProgramFile, outcome: Outcome) -> list[dict[str, Any]]:
    """One dictionary for each layer, averaged over the images.

    ``mac_utilisation`` is the share of multiplier cycles spent on multiplications that the network
    needs; ``array_busy`` the share of cycles in which the array took a word at all; the waits are
    shares of the layer's cycles, ``other_wait`` what remains: filling and draining the pipeline.
    """
    rows = []
    images = max(outcome.images, 1)
    beat = program.machine.bus_bytes
    counted = outcome.layer_counters()
    for layer in program.layers:
        counters = counted.get(layer.number, LayerCounters())
        cycles = counters.cycles / images
        whole = max(counters.cycles, 1)
        waits = counters.compute_busy + counters.compute_token_wait + counters.compute_weight_wait
        rows.append(
            {
                "number": layer.number,
                "name": layer.name,
                "kind": layer.kind,
                "macs": layer.macs,
                "shape": list(layer.tensor.shape),
                "cycles": round(cycles),
                "mac_utilisation": layer.macs / (cycles * program.machine.products) if cycles else 0.0,
                "array_busy": counters.compute_busy / whole,
                "read_beats": round(counters.read_beats / images),
                "write_beats": round(counters.write_beats / images),
                "bytes_per_cycle": (counters.read_beats + counters.write_beats) * beat / whole,
                "bus_read": counters.read_beats / whole,
                "bus_write": counters.write_beats / whole,
                "load_busy": counters.load_busy / whole,
                "store_busy": counters.store_busy / whole,
                "token_wait": counters.compute_token_wait / whole,
                "weight_wait": counters.compute_weight_wait / whole,
                "other_wait": max(counters.cycles - waits, 0) / whole,
            }
        )
    return rows


def memory_report(program: ProgramFile, outcome: Outcome) -> dict[str, Any]:
    """What one memory setting gave, as JSON."""
    images = max(outcome.images, 1)
    cycles = sum(outcome.cycles) / images
    macs = sum(layer.macs for layer in program.layers)
    return {
        "memory": outcome.memory,
        "images": outcome.images,
        "bit_exact": outcome.bit_exact,
        "problem": outcome.problem,
        "cycles_per_image": round(cycles),
        "mac_utilisation": macs / (cycles * program.machine.products) if cycles else 0.0,
        "cycles_per_second": round(sum(outcome.cycles) / outcome.seconds) if outcome.seconds else 0,
        "layers": layer_rows(program, outcome),
    }


def table_of(report: dict[str, Any]) -> str:
    """The table of one memory setting's report (`memory_report`)."""
    heads = (
        ("#", "layer", "kind", "MAC", "cycles", "multipliers", "array", "bus", "compute waited for"),
        ("", "", "", "", "", "busy %", "busy %", "rd+wr %", "tokens  weights  pipeline %"),
    )
    lines = [
        f"{number:>3} {name:24} {kind:17} {macs:>13} {cycles:>11} {used:>11} {busy:>7} {bus:>9}   {waits}"
        for number, name, kind, macs, cycles, used, busy, bus, waits in heads
    ]
    for row in report["layers"]:
        bus = f"{100 * row['bus_read']:.0f}+{100 * row['bus_write']:.0f}"
        lines.append(
            f"{row['number']:>3} {_shortened(row['name'], 24):24} {row['kind'][:17]:17} {row['macs']:>13,} "
            f"{row['cycles']:>11,} {100 * row['mac_utilisation']:>11.1f} {100 * row['array_busy']:>7.1f} "
            f"{bus:>9} {100 * row['token_wait']:>8.1f} {100 * row['weight_wait']:>8.1f} "
            f"{100 * row['other_wait']:>11.1f}"
        )
    macs = sum(row["macs"] for row in report["layers"])
    lines.append(
        f"    {'one image':24} {report['memory']:17} {macs:>13,} {report['cycles_per_image']:>11,} "
        f"{100 * report['mac_utilisation']:>11.1f}"
    )
    return "\n".join(lines)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]
