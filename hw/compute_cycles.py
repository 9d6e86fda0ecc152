"""How long one COMPUTE instruction takes: the figures of `docs/machine.md`, "Cycle by cycle"."""

from __future__ import annotations

from dataclasses import dataclass

from hw.isa import Instruction, Mode
from hw.machine import Machine
from hw.sequencer import AVERAGE_CADENCE, PASS_CYCLES, RESIDUAL_CADENCE, taps_pass_cycles

__all__ = ["DRAIN_CYCLES", "START_CYCLES", "ComputeCycles", "compute_cycles"]

#: Cycles from the tokens of an instruction to its first word, which pass while the one before is at work, and
#: from its last word to its own tokens.
START_CYCLES = 6
DRAIN_CYCLES = 25


@dataclass(frozen=True)
class ComputeCycles:
    """One COMPUTE instruction whose tokens and weights are there.

    Attributes
    ----------
    words : int
        Words that the array takes, at most one a cycle.
    cycles : int
        From the first word to the last.
    weight_wait : int
        Those of them without a word because tiles take longer than passes, at a beat a cycle.
    weight_beats : int
        Bus beats of weights and parameters that it takes, the first ones included.
    first_beats : int
        Beats that must be there before the first word: one parameter block and one tile.
    """

    words: int
    cycles: int
    weight_wait: int
    weight_beats: int
    first_beats: int


def compute_cycles(machine: Machine, instruction: Instruction) -> ComputeCycles:
    """What ``instruction``, a COMPUTE, takes on a machine."""
    i = instruction
    pixels = i["output_rows"] * i["output_columns"]
    passes, least_pass = i["input_blocks"], taps_pass_cycles(machine)
    if not Mode(i["mode"]).reads_taps:
        passes, least_pass = passes * i["kernel_rows"] * i["kernel_columns"], PASS_CYCLES
    tiles = 1 if i["hold_weights"] else passes
    tile = machine.tile_bytes // machine.bus_bytes
    parameters = machine.parameter_bytes // machine.bus_bytes
    cadence = AVERAGE_CADENCE if i["average"] else RESIDUAL_CADENCE if i["residual"] else 1

    def block(least: int) -> int:
        return (passes - 1) * max(pixels, least) + max(pixels * cadence, least)

    alone = block(least_pass)
    slots = i["output_blocks"] * (passes - 1 + cadence) * pixels
    block_beats = tiles * tile + parameters
    # the next tile arrives while a pass runs
    waiting = max(block(max(least_pass, 0 if i["hold_weights"] else tile)), block_beats)
    return ComputeCycles(
        words=i["output_blocks"] * passes * pixels,
        cycles=i["output_blocks"] * waiting,
        weight_wait=i["output_blocks"] * waiting - slots if waiting > alone else 0,
        weight_beats=i["output_blocks"] * block_beats,
        first_beats=tile + parameters,
    )
