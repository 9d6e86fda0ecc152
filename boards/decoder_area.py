"""What the weight decoders add to a core: fitted to weight loaders synthesized with and without them.

The loaders are measured alone, so that the figures last when other parts of a core change; a loader
without a decoder is what a core counts already.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.machine import Machine

__all__ = [
    "BASELINE",
    "LOADER_MACHINES",
    "RESOURCES",
    "decoder_area",
    "decoder_block_rams",
    "read_loaders",
    "variants",
    "write_loaders",
]

#: Each machine's JSON object beside what its loader takes of `RESOURCES`.
BASELINE = Path(__file__).with_suffix(".json")
RESOURCES = ("luts", "ffs", "block_rams")
#: That are measured, each of them without a decoder, with the weight decoder, and with both.
LOADER_MACHINES = tuple(
    Machine(input_lanes=inputs, output_lanes=outputs, bus_width=bus)
    for inputs, outputs, bus in ((4, 8, 32), (8, 8, 64), (8, 16, 64), (16, 16, 64))
)

#: Loaders: machine and what it takes.
Loaders = Sequence[tuple[Machine, dict[str, int]]]


def variants(machine: Machine) -> list[Machine]:
    """The machine without decoders, with the weight decoder, with both."""
    plain = replace(machine, weight_decoder=False, huffman_decoder=False)
    decoder = replace(plain, weight_decoder=True)
    return [plain, decoder, replace(decoder, huffman_decoder=True)]


def read_loaders(path: Path = BASELINE) -> Loaders:
    """The measured loaders."""
    return [(Machine.from_json(entry["machine"]), entry["area"]) for entry in json.loads(path.read_text())]


def write_loaders(loaders: Loaders, path: Path = BASELINE) -> None:
    """Make these the measured loaders."""
    lines = [json.dumps({"machine": machine.to_json(), "area": area}) for machine, area in loaders]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _terms(machine: Machine) -> tuple[list[int], list[int]]:
    """What each decoder grows with: lanes, pieces of tiles, tiles; lanes, and the beats in each."""
    lanes = machine.bus_bytes
    return [lanes, machine.tile_piece_bytes, machine.tile_bytes], [lanes, lanes**2]


@cache
def _factors() -> dict[str, list[NDArray[np.float64]]]:
    """Of the weight decoder and of the Huffman decoder: least squares of the differences."""
    measured = dict(read_loaders())
    groups = [variants(machine) for machine in measured if not machine.weight_decoder]
    terms = zip(*(_terms(group[1]) for group in groups), strict=True)
    rows = [np.array(each, np.float64) for each in terms]
    found = {}
    for resource in ("luts", "ffs"):
        sizes = np.array([[measured[machine][resource] for machine in group] for group in groups])
        added = np.diff(sizes, axis=1).T
        found[resource] = [np.linalg.lstsq(*one, rcond=None)[0] for one in zip(rows, added, strict=True)]
    return found


def decoder_area(machine: Machine) -> dict[str, float]:
    """LUTs and flip-flops that the machine's decoders add."""
    terms = _terms(machine)[: machine.weight_decoder + machine.huffman_decoder]
    return {
        resource: float(sum(factor @ each for factor, each in zip(factors, terms)))
        for resource, factors in _factors().items()
    }


def decoder_block_rams(machine: Machine) -> int:
    """Block RAMs that they add: the symbols, once for each lane."""
    return machine.bus_bytes if machine.huffman_decoder else 0
