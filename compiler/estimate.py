"""Cycles of a compiled program on a memory, without a simulation of every cycle."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.flow_model import FlowModel
from compiler.layer_estimate import Estimate, LayerEstimate
from compiler.traffic import Bus, MemoryTiming
from hw.isa import Instruction, Opcode
from hw.machine import Machine
from hw.small_cycles import START_CYCLES, array_cycles, instruction_cycles

__all__ = ["estimate"]


def estimate(
    program: Sequence[Instruction],
    machine: Machine,
    memory: MemoryTiming,
    *,
    kept_address: int | None = None,
) -> Estimate:
    """Estimate the cycles of one run.

    Parameters
    ----------
    program : sequence of Instruction
        With tokens, without END.
    machine : Machine
    memory : MemoryTiming
        `sim.memory_settings.MemorySettings`; what is random in them is left out.
    kept_address : int or None
        First byte of the weights that a run before has brought onto the chip; None: it is the first run.
    """
    if machine.in_order:
        return _in_order(program, machine, memory)
    return FlowModel(program, machine, memory, kept_address).run()


def _in_order(program: Sequence[Instruction], machine: Machine, memory: MemoryTiming) -> Estimate:
    """Every instruction begins where the one before ended.  WEIGHTS count where their words are used."""
    beat_cycles = Bus(machine, memory).beat_cycles
    layers: dict[int, LayerEstimate] = {}
    now, layer, spans = float(START_CYCLES), 0, list[tuple[float, float]]()
    for instruction in program:
        writes = instruction.opcode is Opcode.STORE
        latency = memory.write_latency if writes else memory.read_latency
        cycles = instruction_cycles(instruction, latency=latency, beat_cycles=beat_cycles)
        entry = layers.setdefault(layer, LayerEstimate())
        if instruction.opcode is Opcode.COMPUTE:
            if instruction.layer != layer:
                layer, entry = instruction.layer, layers.setdefault(instruction.layer, LayerEstimate())
            passes = instruction["input_blocks"] * instruction["kernel_rows"] * instruction["kernel_columns"]
            pixels = instruction["output_rows"] * instruction["output_columns"]
            entry.array_busy += instruction["output_blocks"] * array_cycles(passes, pixels)
        elif instruction.opcode is Opcode.LOAD:
            entry.idle_load += cycles
        elif writes:
            entry.idle_store += cycles
        entry.cycles += cycles
        spans.append((now, now + cycles))
        now += cycles
    layers.setdefault(layer, LayerEstimate()).cycles += START_CYCLES
    return Estimate(round(now), layers, spans)
