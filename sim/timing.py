"""Estimated cycles of a program: an event for each instruction, not each cycle.

Units run in parallel, tokens and the weight FIFO hold them back, and reads share one bus.  The RTL in
Verilator measures; this model explores.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hw.compute_cycles import compute_cycles
from hw.isa import INSTRUCTION_BYTES, Instruction, Opcode, Unit
from hw.machine import Machine

__all__ = ["LayerTiming", "TimingModel"]

#: Cycles from a read request to its first beat, and from the last word of a COMPUTE to its last result.
READ_LATENCY = 12
PIPELINE = 24


@dataclass
class LayerTiming:
    """Estimates of one layer: when its first instruction began and its last ended, in cycles of the run,
    how long the array was busy, and the bus beats."""

    start: int = -1
    end: int = 0
    compute_cycles: int = 0
    read_beats: int = 0
    write_beats: int = 0

    @property
    def cycles(self) -> int:
        """From the first instruction's begin to the last one's end; overlaps with the neighbours."""
        return self.end - self.start


class TimingModel:
    """Takes a program's instructions in order; `cycles` is when the last of them ends."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cycles = 0
        self.layers: dict[int, LayerTiming] = {}
        self._fetched = 0
        self._free = dict.fromkeys(Opcode, 0)
        self._read_bus = 0
        self._tokens: dict[tuple[Unit, Unit], deque[int]] = {(a, b): deque() for a in Unit for b in Unit}
        #: weights on their way: (when the first of them can arrive, bus beats)
        self._weights: deque[tuple[int, int]] = deque()
        self._compute_starts: deque[int] = deque([0], maxlen=2)

    def execute(self, instruction: Instruction) -> None:
        """Account for one instruction."""
        self._fetched += -(-INSTRUCTION_BYTES // self.machine.bus_bytes)
        start = max(self._fetched, self._free[instruction.opcode])
        unit = {Opcode.LOAD: Unit.LOAD, Opcode.COMPUTE: Unit.COMPUTE, Opcode.STORE: Unit.STORE}.get(
            instruction.opcode
        )
        if unit is not None:
            for sender in Unit:
                if instruction.wait >> sender & 1 and self._tokens[(sender, unit)]:
                    start = max(start, self._tokens[(sender, unit)].popleft())
        layer = self.layers.setdefault(instruction.layer, LayerTiming())
        if instruction.opcode is Opcode.COMPUTE:
            end = self._compute(instruction, start, layer)
        elif instruction.opcode is Opcode.WEIGHTS:
            end = self._stream_weights(instruction, start, layer)
        else:
            words = instruction["planes"] * instruction["rows"] * instruction["words"]
            beats = words * self.machine.beats_per_word
            if instruction.opcode is Opcode.LOAD:
                begin = max(start, self._read_bus)
                self._read_bus = begin + beats
                end = begin + beats + READ_LATENCY
                layer.read_beats += beats
            else:
                end = start + beats + READ_LATENCY
                layer.write_beats += beats
        if unit is not None:
            for receiver in Unit:
                if instruction.signal >> receiver & 1:
                    self._tokens[(unit, receiver)].append(end)
        # the next COMPUTE begins while results of this one are on their way
        self._free[instruction.opcode] = end - PIPELINE * (instruction.opcode is Opcode.COMPUTE)
        layer.start = start if layer.start < 0 else min(layer.start, start)
        layer.end = max(layer.end, end)
        self.cycles = max(self.cycles, end)

    def _stream_weights(self, instruction: Instruction, start: int, layer: LayerTiming) -> int:
        machine = self.machine
        beats = instruction["blocks"] * (machine.parameter_bytes + instruction["tiles"] * machine.tile_bytes)
        beats //= machine.bus_bytes
        # the FIFO has room once the COMPUTE before the previous one has begun to empty it
        begin = max(start, self._read_bus, self._compute_starts[0])
        self._read_bus = begin + min(beats, machine.weight_fifo_words)
        self._weights.append((begin + READ_LATENCY, beats))
        layer.read_beats += beats
        return begin + beats

    def _compute(self, i: Instruction, start: int, layer: LayerTiming) -> int:
        work = compute_cycles(self.machine, i)
        arrival, beats = self._weights.popleft() if self._weights else (0, 0)
        busy = work.cycles
        first = max(start, arrival + work.first_beats)
        end = max(first + busy, arrival + beats) + PIPELINE
        layer.compute_cycles += busy
        self._compute_starts.append(first)
        return end
