"""The whole compute unit against `docs/machine.md`, with random instructions, stalls and machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compute_model import beats_of, execute, passes, random_instruction
from verilated_compute import Outcome, VerilatedCompute

from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine

MACHINES = {
    "4x4x32": Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=1024, accumulator_depth=64),
    "8x8x64": Machine(input_lanes=8, output_lanes=8, bus_width=64, scratchpad_words=1024, accumulator_depth=64),
    "8x16x64": Machine(input_lanes=8, output_lanes=16, scratchpad_words=1024, accumulator_depth=128),
    "4x16x128": Machine(input_lanes=4, output_lanes=16, bus_width=128, scratchpad_words=1024,
                        accumulator_depth=64, average_pooling=False),
    "16x16x128": Machine(input_lanes=16, output_lanes=16, bus_width=128, scratchpad_words=1024,
                         accumulator_depth=64),
}
