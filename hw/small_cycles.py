"""Cycles of the small core: instructions follow one another, so they add up (`docs/small-core.md`).

Figures that are no sum of states have been measured in the RTL (`tests/hw/test_small_core.py` compares).
"""

from __future__ import annotations

from hw.isa import Instruction, Mode, Opcode
from hw.small_array import PIPELINE
from hw.small_memory_port import BURST_BEATS

__all__ = ["BLOCK_CYCLES", "INSTRUCTION_CYCLES", "START_CYCLES", "TYPICAL_SHIFT", "array_cycles",
           "block_cycles", "instruction_cycles", "post_cycles", "shift_steps", "transfer_cycles"]

#: From START to DONE, with nothing in between.
START_CYCLES = 70
#: To fetch an instruction and begin it.
INSTRUCTION_CYCLES = {Opcode.LOAD: 190, Opcode.STORE: 190, Opcode.WEIGHTS: 175, Opcode.COMPUTE: 325}
#: To begin an output block and to end it: its parameters, the biases, its first sweep.
BLOCK_CYCLES = 380
#: What the controller needs for a tap, a kernel row, a block of inputs, the row and the plane of a transfer.
_TAP, _KERNEL_ROW, _INPUT_BLOCK, _ROW, _PLANE = 48, 34, 28, 50, 33
#: Cycles of a transfer's row besides its beats, bursts and answers.
_ROW_BEGIN = 17
#: A sweep's cycles besides its pixels: its command, two weight words, its last pixel's way.
_SWEEP = PIPELINE + 3
#: The right shift that estimates take for all, because it is in the weights.
TYPICAL_SHIFT = 10


def shift_steps(shift: int) -> int:
    """Cycles of a shift: eight, four, two places or one to the right, one to the left."""
    return shift // 8 + (shift % 8).bit_count() if shift >= 0 else -shift


def transfer_cycles(planes: int, rows: int, words: int, *, writes: bool, latency: int = 2,
                    beat_cycles: float = 1.0) -> float:
    """Of a LOAD or a STORE, behind its fetch.  ``latency``: from an address to its first beat, or from the
    last beat to its answer."""
    bursts = -(-words // BURST_BEATS)
    beats = words * (1 + beat_cycles if writes else beat_cycles) + bursts * (latency + 1)
    return planes * (rows * max(_ROW, _ROW_BEGIN + beats) + _PLANE)


def array_cycles(passes: int, pixels: int) -> int:
    """In which the array takes words, for an output block."""
    return 2 * passes * pixels


def post_cycles(pixels: int, shift: int, residual: tuple[int, int] | None = None) -> int:
    """Of post-processing an output block; ``residual``: steps of both shifts of a sum."""
    lane = 2 + shift_steps(shift) + (3 + sum(residual) if residual is not None else 0)
    return pixels * (4 * lane + 1) + 2


def block_cycles(pixels: int, input_blocks: int, kernel: tuple[int, int], *, holds: bool) -> int:
    """Of the passes of an output block; ``holds``: those of one pair of lanes come before the other's."""
    passes = input_blocks * kernel[0] * kernel[1]
    control = input_blocks * (_INPUT_BLOCK + kernel[0] * (_KERNEL_ROW + kernel[1] * _TAP))
    return max((1 + holds) * control, 2 * passes * (pixels + _SWEEP))


def instruction_cycles(instruction: Instruction, *, latency: int = 2, beat_cycles: float = 1.0) -> float:
    """Of one instruction, with its fetch; right shifts count as `TYPICAL_SHIFT`."""
    i = instruction
    cycles: float = INSTRUCTION_CYCLES[i.opcode]
    if i.opcode in (Opcode.LOAD, Opcode.STORE):
        return cycles + transfer_cycles(i["planes"], i["rows"], i["words"], writes=i.opcode is Opcode.STORE,
                                        latency=latency, beat_cycles=beat_cycles)
    if i.opcode is Opcode.COMPUTE:
        pixels = i["output_rows"] * i["output_columns"]
        holds = bool(i["hold_weights"]) or i["mode"] == Mode.MAXIMUM.value
        kernel = (i["kernel_rows"], i["kernel_columns"])
        block = BLOCK_CYCLES + block_cycles(pixels, i["input_blocks"], kernel, holds=holds)
        if not i["partial"]:
            residual = None
            if i["residual"]:
                common = min(i["own_shift"], i["residual_shift"])
                align = max(i["own_shift"], i["residual_shift"]) - common
                residual = align, shift_steps(i["sum_shift"] - common)
            shift = 0 if i["mode"] == Mode.MAXIMUM.value else TYPICAL_SHIFT
            block += post_cycles(pixels, shift, residual)
        cycles += i["output_blocks"] * block
    return cycles
