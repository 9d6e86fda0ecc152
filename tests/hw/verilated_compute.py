"""Builds the compute unit with Verilator beside `compute_harness.cpp` and runs scripts on it."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.back import verilog
from numpy.typing import NDArray
from verilated_bench import build_bench

from hw.compute import Compute
from hw.isa import Instruction, assemble
from hw.machine import Machine
from hw.scratchpad import PORT_B_LATENCY, READ_LATENCY

HARNESS = Path(__file__).with_name("compute_harness.cpp")


@dataclass
class Record:
    """What one instruction did; cycles are counted from reset.

    Instructions overlap: busy and waiting cycles are those until the next one was taken.
    """

    start: int
    end: int
    busy: int
    token_wait: int
    weight_wait: int
    wait_mask: int
    signal_mask: int


@dataclass
class Outcome:
    """What a script did: a record and the scratchpad after each instruction."""

    records: list[Record]
    snapshots: NDArray[np.uint8]
    collisions: int
    outside: int
    weight_words: int
    cycles: int


class VerilatedCompute:
    """The compute unit of one machine, compiled into a folder."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        source = folder / "compute.v"
        source.write_text(verilog.convert(Compute(machine), name="top"))
        options = ("-O3", "--x-assign", "unique", "--x-initial", "unique")
        self._bench = build_bench(folder, [source, HARNESS], options)

    def run(self, instructions: list[Instruction], blocks: list[bytes], kinds: list[bool],
            scratch: NDArray[np.uint8], *, seed: int = 0, weight_stall: int = 0, instruction_stall: int = 0,
            token_stall: int = 0) -> Outcome:
        """Run instructions with their weight stream (blocks, and which of them are parameters)."""
        machine = self.machine
        size = machine.weight_word_bytes
        weights = b"".join(
            block[offset:offset + size] + bytes([kind])
            for block, kind in zip(blocks, kinds, strict=True) for offset in range(0, len(block), size))
        count = len(weights) // (size + 1)
        script, result = self.folder / "script.bin", self.folder / "result.bin"
        script.write_bytes(
            struct.pack("<13I", len(instructions), count, machine.word_bytes, size,
                        len(scratch), machine.input_lanes, READ_LATENCY, PORT_B_LATENCY, seed,
                        weight_stall, instruction_stall, token_stall, 20_000)
            + scratch.tobytes() + b"".join(map(assemble, instructions)) + weights)
        command = [str(self._bench), str(script), str(result)]
        subprocess.run(command, check=True, timeout=120)
        content = result.read_bytes()
        done, collisions, outside, taken, cycles = struct.unpack_from("<5I", content)
        assert done == len(instructions), f"stopped after {done} of {len(instructions)} instructions"
        records = [Record(*struct.unpack_from("<7I", content, 20 + 28 * number)) for number in range(done)]
        snapshots = np.frombuffer(content, np.uint8, offset=20 + 28 * done)
        return Outcome(records, snapshots.reshape(done, *scratch.shape), collisions, outside, taken, cycles)
