"""When each part of the core was busy: the intervals of a run against its counters."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.compile import compile_model
from compiler.listing import instructions_of
from hw.isa import Opcode
from hw.machine import Machine
from hw.program_file import ProgramFile
from hw.registers import Register
from quant.fixed_model import FixedModel
from sim import reference
from sim.verilator import BUSY, LayerCounters, VerilatedCore

SMALL = Machine(
    input_lanes=4,
    output_lanes=4,
    bus_width=32,
    scratchpad_words=256,
    accumulator_depth=32,
    weight_fifo_words=32,
)


def _weight_bytes(program: ProgramFile) -> int:
    """What the WEIGHTS instructions read: a layer's weights for all rectangles of its output."""
    found = 0
    for step in instructions_of(program):
        if step.opcode is Opcode.WEIGHTS:
            found += step["blocks"] * (SMALL.parameter_bytes + step["words"] * SMALL.weight_word_bytes)
    return found


@pytest.mark.parametrize("memory", ["ideal", "stalling", "ulx3s"])
def test_intervals_and_idle_reasons_add_up(small_model: FixedModel, memory: str) -> None:
    inputs = np.random.default_rng(3).integers(-128, 128, (1, 3, 7, 6))
    program = compile_model(small_model, SMALL, inputs[0], reference.run(small_model, inputs))
    weights = [segment for segment in program.segments if segment.name.startswith("weights")]
    first = min(segment.address for segment in weights)
    end = max(segment.address + len(segment.content) for segment in weights)
    with VerilatedCore(SMALL, program.memory_bytes, memory) as core:
        for segment in program.segments:
            core.write_memory(segment.address, segment.content)
        core.write_register(Register.PROGRAM_ADDRESS, program.program_address)
        core.run()
        assert not any(len(rows) for rows in core.busy_intervals().values())
        core.record_intervals((first, end))
        for _ in range(2):  # the second run forgets the first one's
            cycles = core.run().cycles
            total = sum(core.layer_counters().values(), LayerCounters())
            found = core.busy_intervals()
    assert tuple(found) == BUSY
    for rows in found.values():
        edges = rows.reshape(-1).astype(np.int64)
        assert (np.diff(edges) > 0).all()  # in order, not empty, and apart: neighbours are one interval
        assert 0 <= edges[0] < edges[-1] <= cycles + 16
    lengths = {part: int((rows[:, 1] - rows[:, 0]).sum()) for part, rows in found.items()}
    assert lengths["load"] == total.load_busy
    assert lengths["compute"] == total.compute_busy
    assert lengths["store"] == total.store_busy
    # what is read ahead of the last instruction may already be weights
    ahead = lengths["weights"] * SMALL.bus_bytes - _weight_bytes(program)
    assert 0 <= ahead <= 512
    idle = total.idle_weights + total.idle_load + total.idle_store + total.idle_both
    assert 0 < idle < total.cycles - total.compute_busy
    assert total.idle_weights <= total.compute_weight_wait
    assert total.idle_load + total.idle_store + total.idle_both <= total.compute_token_wait
