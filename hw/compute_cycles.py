"""How long one COMPUTE instruction takes: the figures of `docs/machine.md`, "Cycle by cycle"."""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth.utils import ceil_log2

from hw.divider import Divider
from hw.isa import Instruction, Mode
from hw.machine import Machine
from hw.pass_loops import PASS_CYCLES, taps_pass_cycles
from hw.pixel_loops import AVERAGE_CADENCE, RESIDUAL_CADENCE
from hw.rounding_shift import RoundingShift

__all__ = ["AFTER_RESULTS", "DRAIN_CYCLES", "START_CYCLES", "TAKE_CYCLES", "ComputeCycles", "compute_cycles"]

#: Cycles from the tokens of an instruction to its first word, which pass while the one before is at work.
START_CYCLES = 5
#: From its last word to its own tokens, besides the adder tree; less if it writes nothing; more if its words
#: pass the shifter twice, or the divider instead of it.
DRAIN_CYCLES = 24
#: Sparse tiles: how much longer they take because some have more weights than others and few are held; cycles
#: until those of the next block flow.  Both measured.
_UNEVEN, _NEXT_BLOCK = 1.07, 8
_POST_PROCESSING, _SECOND_SHIFT, _DIVISION = 8, 9, Divider.LATENCY - RoundingShift.LATENCY
#: From the first word of an instruction's last pass until the next instruction can take its tokens, and from
#: an instruction's tokens to the first word of the next one's first last pass, at least.
TAKE_CYCLES = 2
AFTER_RESULTS = 1


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
        Those of them without a word because tiles take longer than passes, at the FIFO's speed.
    weight_beats : int
        Bus beats of weights and parameters that it takes, the first ones included.
    first_beats : int
        Beats that must be there before the first word: one parameter block and one tile.
    start, drain : int
        From its tokens to the first word, from the last word to its own tokens.
    before_results : int
        From the first word to that of the first block's last pass, whose results are the first.
    last_pass : int
        From the first word of the last pass to the last.
    """

    words: int
    cycles: int
    weight_wait: int
    weight_beats: int
    first_beats: int
    start: int
    drain: int
    before_results: int
    last_pass: int


def compute_cycles(
    machine: Machine, instruction: Instruction, block_words: float | None = None
) -> ComputeCycles:
    """What ``instruction``, a COMPUTE, takes on a machine.

    ``block_words``: weight words of each block's encoded tiles; None: they are raw.
    """
    i = instruction
    pixels = i["output_rows"] * i["output_columns"]
    passes, least_pass = i["input_blocks"], taps_pass_cycles(machine)
    taps = Mode(i["mode"]).reads_taps
    if not taps:
        passes, least_pass = passes * i["kernel_rows"] * i["kernel_columns"], PASS_CYCLES
    tiles = 1 if i["hold_weights"] else passes * (pixels if i["fold"] else 1)
    # cycles in which they leave the FIFO
    tile: float = machine.tile_bytes // machine.weight_word_bytes
    encoded: float = tiles * tile if block_words is None else block_words
    if block_words is not None and block_words != tiles * tile:
        # the decoder takes a word in a cycle of dense ones, a beat of sparse ones, and gives pieces of tiles
        pieces = machine.tile_bytes / machine.tile_piece_bytes
        dense = any(0 <= block_words - tiles * tile / share <= 2 for share in (2, 4))
        beats = 1 if dense else machine.weight_word_bytes // machine.bus_bytes
        tile = max(beats * block_words / tiles, pieces)
        if not dense:
            tile = _UNEVEN * tile + _NEXT_BLOCK / tiles
    parameters = machine.parameter_bytes // machine.weight_word_bytes
    cadence = AVERAGE_CADENCE if i["average"] else RESIDUAL_CADENCE if i["residual"] else 1

    drain = DRAIN_CYCLES + ceil_log2(machine.input_lanes) + machine.weight_pairs
    if i["partial"]:
        drain -= _POST_PROCESSING
    else:
        drain += (_SECOND_SHIFT if i["residual"] else 0) + (_DIVISION if i["average"] else 0)

    def block(least: int) -> int:
        return (passes - 1) * max(pixels, least) + max(pixels * cadence, least)

    alone = block(least_pass)
    slots = i["output_blocks"] * (passes - 1 + cadence) * pixels
    arrival = math.ceil(tiles * tile) + parameters
    # the next tile arrives while a pass runs
    least = 0 if i["hold_weights"] else math.ceil(tile * pixels if i["fold"] else tile)
    waiting = max(block(max(least_pass, least)), arrival)
    beats = machine.weight_word_bytes // machine.bus_bytes
    first = min(encoded, machine.tile_bytes // machine.weight_word_bytes)
    return ComputeCycles(
        words=i["output_blocks"] * passes * pixels,
        cycles=i["output_blocks"] * waiting,
        weight_wait=i["output_blocks"] * waiting - slots if waiting > alone else 0,
        weight_beats=round(i["output_blocks"] * (encoded + parameters) * beats),
        first_beats=round((first + parameters) * beats),
        start=START_CYCLES + (machine.input_lanes if taps else 0),
        drain=drain,
        before_results=(passes - 1) * max(pixels, least_pass),
        last_pass=max(pixels * cadence, least_pass),
    )
