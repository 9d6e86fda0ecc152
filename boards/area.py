"""What a machine takes of an ECP5, without synthesis.

Multipliers and block RAMs follow from the structure.  LUTs and flip-flops are sums of a few terms, one for
each way in which the design grows; their factors are fitted to the designs measured in ``area.json`` when
this module is first asked, so that there is nothing to keep in step.  `boards.area_command` measures.
Decoders of weights come on top (`boards.decoder_area`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards.decoder_area import decoder_area, decoder_block_rams
from boards.inferred_rams import LINK_RAMS, inferred_rams
from hw.dual_port_memory import block_rams as dual_port_block_rams
from hw.kept_memory import kept_block_rams
from hw.machine import Machine

__all__ = [
    "AREA_FAMILY",
    "BASELINE",
    "FITTED",
    "TERMS",
    "AreaPoint",
    "board_area",
    "factors",
    "fit",
    "machine_block_rams",
    "read_points",
    "terms",
    "write_points",
]

#: Parts whose name begins like this are covered.
AREA_FAMILY = "LFE5U"
BASELINE = Path(__file__).with_suffix(".json")
#: Resources that are fitted; the others are counted.
FITTED = ("luts", "ffs")


@dataclass(frozen=True)
class AreaPoint:
    """One measured design.

    Attributes
    ----------
    design : str
        ``"core"``: the accelerator's netlist; otherwise a board, routed.
    kind : str
        The board's memory: ``"sdram"`` or ``"ddr3"``; empty for a core.
    machine : Machine
    luts, ffs, dsps, block_rams : int
    """

    design: str
    kind: str
    machine: Machine
    luts: int
    ffs: int
    dsps: int
    block_rams: int

    def to_json(self) -> dict[str, Any]:
        """The point as a JSON object; `from_json` reads it back."""
        return {**asdict(self), "machine": self.machine.to_json()}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> AreaPoint:
        """The point that `to_json` described."""
        return cls(**{**entry, "machine": Machine.from_json(entry["machine"])})


#: The terms of the sums: what each counts.
TERMS = (
    "design",
    "bus bytes",
    "output lanes",
    "multipliers",
    "output lanes with a divider",
    "multipliers of pairs",
    "SDRAM and link",
    "DDR3 and link",
)


def terms(machine: Machine, kind: str) -> NDArray[np.float64]:
    """How often a design has each of `TERMS`; ``kind``: of the board's memory, empty for a core alone."""
    return np.array(
        [
            1,
            machine.bus_bytes,
            machine.output_lanes,
            machine.multipliers,
            machine.output_lanes * machine.average_pooling,
            machine.multipliers * machine.weight_pairs,
            kind == "sdram",
            kind == "ddr3",
        ],
        np.float64,
    )


def read_points(path: Path = BASELINE) -> list[AreaPoint]:
    """The measured designs."""
    return [AreaPoint.from_json(entry) for entry in json.loads(path.read_text())]


def write_points(points: Sequence[AreaPoint], path: Path = BASELINE) -> None:
    """Make these the measured designs."""
    path.write_text(json.dumps([point.to_json() for point in points], indent=1) + "\n")


def fit(points: Sequence[AreaPoint]) -> dict[str, NDArray[np.float64]]:
    """Factors of `TERMS` for each of `FITTED`, without decoders: least squares of the relative errors."""
    found = {}
    for resource in FITTED:
        sizes = np.array(
            [getattr(point, resource) - decoder_area(point.machine)[resource] for point in points], np.float64
        )
        rows = np.array([terms(point.machine, point.kind) for point in points])
        found[resource] = np.linalg.lstsq(rows / sizes[:, None], np.ones(len(points)), rcond=None)[0]
    return found


@cache
def factors() -> dict[str, NDArray[np.float64]]:
    """`fit` of the measured designs."""
    return fit(read_points())


def machine_block_rams(machine: Machine) -> int:
    """Block RAMs of the accelerator."""
    rows = machine.scratchpad_words // machine.input_lanes
    return (
        machine.input_lanes * dual_port_block_rams(8 * machine.word_bytes, rows)
        + sum(inferred_rams(machine).values())
        + kept_block_rams(machine.bus_width, machine.kept_weight_words)
        + decoder_block_rams(machine)
    )


def board_area(machine: Machine, kind: str) -> dict[str, int]:
    """LUTs, flip-flops, DSP blocks and block RAMs of a board's whole design, or of a core alone.

    Parameters
    ----------
    machine : Machine
    kind : str
        ``"sdram"`` or ``"ddr3"``: with that memory's controller and the serial link; empty: the core.
    """
    decoders = decoder_area(machine)
    found = {
        name: round(float(factor @ terms(machine, kind)) + decoders[name])
        for name, factor in factors().items()
    }
    found["dsps"] = machine.multipliers
    found["block_rams"] = machine_block_rams(machine) + (sum(LINK_RAMS.values()) if kind else 0)
    return found
