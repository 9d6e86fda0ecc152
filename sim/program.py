"""The program simulator: executes a program's memory image, instruction by instruction, in numpy.

Every instruction does what `docs/machine.md` says, bit for bit.  Besides, it finds what would go wrong
in hardware: addresses outside the scratchpad, words that nobody wrote, sums past 32 bits, tokens that
are missing or left over, and accesses of two units that no token orders (`sim.hazards`).  How many cycles a
run would take is estimated from what it executed (`compiler.estimate`).
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from compiler.estimate import estimate
from compiler.layer_estimate import Estimate
from hw.isa import INSTRUCTION_BYTES, NARROW_BYTES, Instruction, Opcode
from hw.machine import Machine
from hw.program_code import ProgramDecoder
from hw.program_file import ProgramFile, TensorPlace
from hw.small_firmware import BLOCK_BEATS, WEIGHTS_AHEAD
from hw.weight_block import WeightBlockReader
from hw.weight_stream import BlockHeader
from sim.hazards import HazardCheck
from sim.memory_settings import memory_settings
from sim.program_compute import ADDRESSES, ComputeSimulation

__all__ = ["ProgramSimulator", "ProgramSimulatorError"]


class ProgramSimulatorError(ValueError):
    """A program does what no machine may do; the message names the instruction."""


class ProgramSimulator:
    """One machine with its external memory.

    Parameters
    ----------
    machine : Machine
    memory_bytes : int
        Size of the external memory.
    check : bool
        Check words that nobody wrote and the order that tokens give (`sim.hazards`).

    Attributes
    ----------
    memory : uint8 array
        The external memory; read feature maps from it with `read`.
    scratchpad : uint8 array (words, output_lanes)
    executed : list of Instruction
        By the newest run, without its END.
    """

    def __init__(self, machine: Machine, memory_bytes: int, *, check: bool = True) -> None:
        self.machine = machine
        self.memory = np.zeros(-(-memory_bytes // 64) * 64, np.uint8)
        self.scratchpad = np.zeros((machine.scratchpad_words, machine.output_lanes), np.uint8)
        self.check = check
        self.executed: list[Instruction] = []
        self._program: ProgramFile | None = None
        self._program_address = 0
        self._known = np.zeros(len(self.memory) // machine.word_bytes, np.bool_)
        self._scratch_known = np.zeros(machine.scratchpad_words, np.bool_)
        #: bytes of output blocks that WEIGHTS has read and no COMPUTE has taken: parameters, then tiles
        self._weight_blocks: deque[NDArray[np.uint8]] = deque()
        self._block_reader = WeightBlockReader(machine)
        #: blocks of each WEIGHTS that a machine that executes in order remembers, and those of the one begun
        self._runs_ahead: deque[int] = deque()
        self._blocks_begun = 0
        self._hazards: HazardCheck | None = None
        #: sums (pixels, lanes) of each output block that a partial COMPUTE has left for the next one
        self.partial_sums: list[NDArray[np.int64]] = []

    def load(self, program: ProgramFile) -> None:
        """Put a program's segments into the memory.

        Raises
        ------
        ProgramSimulatorError
            If it was compiled for another machine or needs more memory.
        """
        if program.machine.digest() != self.machine.digest():
            raise ProgramSimulatorError(
                f"{program.name}: compiled for another machine; compile it for this one"
            )
        if program.memory_bytes > len(self.memory):
            raise ProgramSimulatorError(
                f"{program.name}: needs {program.memory_bytes} bytes of memory, there are {len(self.memory)}"
            )
        for segment in program.segments:
            self.write_memory(segment.address, segment.content)
        self._program = program
        self._program_address = program.program_address

    def write_memory(self, address: int, content: bytes) -> None:
        """What a host does: write bytes."""
        self.memory[address : address + len(content)] = np.frombuffer(content, np.uint8)
        word = self.machine.word_bytes
        self._known[address // word : -(-(address + len(content)) // word)] = True

    def read(self, place: TensorPlace) -> NDArray[np.int64]:
        """The (C, H, W) integers of a tensor in memory."""
        count = place.byte_count(self.machine.word_bytes)
        return place.unpack(
            self.memory[place.address : place.address + count].tobytes(), self.machine.word_bytes
        )

    def run(self, integers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Write the input (C, H, W), execute the loaded program, return the output (C, H, W).

        Raises
        ------
        ProgramSimulatorError
            If no program is loaded or the program does what no machine may do.
        """
        if self._program is None:
            raise ProgramSimulatorError("no program is loaded")
        program = self._program
        self.write_memory(program.input.address, program.input.pack(integers, self.machine.word_bytes))
        self.execute(self._program_address)
        return self.read(program.output)

    def estimate(self, memory: str = "ideal") -> Estimate:
        """Cycles of the newest run, and of each layer, with one of `sim.memory_settings`.

        Raises
        ------
        MemorySettingsError
            If there is no such setting.
        """
        return estimate(self.executed, self.machine, memory_settings(memory))

    def execute(self, address: int) -> None:
        """Execute instructions from a byte address to END, in their order."""
        self._scratch_known[:] = False
        self._weight_blocks.clear()
        self._runs_ahead.clear()
        self._blocks_begun = 0
        self.partial_sums = []
        self._hazards = HazardCheck(len(self._scratch_known), len(self._known)) if self.check else None
        self.executed = []
        decoder = ProgramDecoder()
        while True:
            number = len(self.executed)
            name = "unknown"
            try:
                code = self.memory[address : address + INSTRUCTION_BYTES].tobytes()
                instruction, size = decoder.next(code)
                name = instruction.opcode.name
                self.require(
                    not (self.machine.in_order and instruction.left_out),
                    "leaves out words, on a machine that executes in order",
                )
                if instruction.opcode is Opcode.END:
                    break
                self._execute(number, instruction)
            except ValueError as error:
                raise ProgramSimulatorError(f"instruction {number} ({name}): {error}") from None
            self.executed.append(instruction)
            address += size
        if self._weight_blocks:
            raise ProgramSimulatorError(f"END: weights of {len(self._weight_blocks)} blocks are left over")
        if self.partial_sums:
            raise ProgramSimulatorError("END: sums are left that no COMPUTE continues")
        if self._hazards is not None and (left := self._hazards.leftover()):
            raise ProgramSimulatorError(f"END: tokens are left over: {left}")

    def _execute(self, number: int, instruction: Instruction) -> None:
        if self._hazards is not None:
            self._hazards.start(number, instruction)
        match instruction.opcode:
            case Opcode.LOAD | Opcode.STORE:
                self._transfer(instruction)
            case Opcode.WEIGHTS:
                self._weights(instruction)
            case Opcode.COMPUTE:
                ComputeSimulation(self, instruction).execute()
        if self._hazards is not None:
            self._hazards.finish(number, instruction)

    # accesses

    def require(self, condition: bool, message: str) -> None:
        """Raise ProgramSimulatorError with this message unless the condition holds."""
        if not condition:
            raise ProgramSimulatorError(message)

    def scratch_read(self, addresses: NDArray[np.int64], *, late: bool = False) -> NDArray[np.uint8]:
        """Words of the scratchpad, with all checks; ``late`` as in `HazardCheck.scratch`."""
        self._check_scratch(addresses)
        if self.check:
            unknown = ~self._scratch_known[addresses]
            if unknown.any():
                raise ProgramSimulatorError(
                    f"reads scratchpad word {int(addresses[unknown][0])}, which nobody has written"
                )
        if self._hazards is not None:
            self._hazards.scratch(addresses, writing=False, late=late)
        return self.scratchpad[addresses]

    def scratch_write(self, addresses: NDArray[np.int64], words: NDArray[np.uint8]) -> None:
        """Write words of the scratchpad, with all checks."""
        self._check_scratch(addresses)
        if self._hazards is not None:
            self._hazards.scratch(addresses, writing=True)
        self._scratch_known[addresses] = True
        self.scratchpad[addresses] = words

    def _check_scratch(self, addresses: NDArray[np.int64]) -> None:
        if addresses.size:
            highest = int(addresses.max())
            self.require(
                highest < len(self.scratchpad),
                f"scratchpad word {highest} does not exist, there are {len(self.scratchpad)}",
            )

    def _transfer(self, instruction: Instruction) -> None:
        word_bytes = self.machine.word_bytes
        counts = [instruction[name] for name in ("planes", "rows", "words")]
        self.require(min(counts) >= 1, "planes, rows and words must be at least 1")
        planes, rows, words = (np.arange(count) for count in counts)
        narrow = instruction.opcode is Opcode.LOAD and instruction["narrow"] == 1
        size, unit = (NARROW_BYTES, self.machine.bus_bytes) if narrow else (word_bytes, word_bytes)
        for name in ("memory_address", "memory_plane_step", "memory_row_step"):
            self.require(instruction[name] % unit == 0, f"{name} is not a multiple of {unit}")
        self.require(counts[2] * size % unit == 0, f"{counts[2]} words of {size} bytes are not whole beats")
        memory = (
            instruction["memory_address"]
            + planes[:, None, None] * instruction["memory_plane_step"]
            + rows[:, None] * instruction["memory_row_step"]
            + words * size
        ).astype(np.int64)
        scratch = (
            instruction["scratch_address"]
            + planes[:, None, None] * instruction["scratch_plane_step"]
            + rows[:, None] * instruction["scratch_row_step"]
            + words
        ) % ADDRESSES
        addresses, scratch = memory.ravel(), scratch.ravel()
        memory = addresses // word_bytes
        self.require(int(memory.max()) < len(self._known), f"memory ends at byte {len(self.memory)}")
        target = scratch if instruction.opcode is Opcode.LOAD else memory
        self.require(len(np.unique(target)) == len(target), "writes two words to the same place")
        words_of_memory = self.memory.reshape(-1, word_bytes)
        if instruction.opcode is Opcode.LOAD:
            if self.check and not self._known[memory].all():
                raise ProgramSimulatorError(
                    f"reads byte {int(addresses[~self._known[memory]][0])} of memory, "
                    "which nobody has written"
                )
            if self._hazards is not None:
                self._hazards.memory(np.unique(memory), writing=False)
            content = np.zeros((len(scratch), word_bytes), np.uint8)
            content[:, :size] = self.memory.reshape(-1, size)[addresses // size]
            self.scratch_write(scratch, content)
        else:
            if self._hazards is not None:
                self._hazards.memory(memory, writing=True)
            words_of_memory[memory] = self.scratch_read(scratch)
            self._known[memory] = True

    def _weights(self, instruction: Instruction) -> None:
        machine = self.machine
        address = instruction["memory_address"]
        self.require(address % 64 == 0, "memory_address is not a multiple of 64")
        size = machine.parameter_bytes + instruction["words"] * machine.weight_word_bytes
        count = instruction["blocks"] * size
        if machine.in_order and count:
            self.require(len(self._runs_ahead) < WEIGHTS_AHEAD, f"more than {WEIGHTS_AHEAD} WEIGHTS ahead")
            beats = size // machine.bus_bytes
            self.require(beats <= BLOCK_BEATS, f"a block of {beats} beats")
            self._runs_ahead.append(instruction["blocks"])
        self.require(address + count <= len(self.memory), f"memory ends at byte {len(self.memory)}")
        words = np.arange(address // machine.word_bytes, -(-(address + count) // machine.word_bytes))
        if self.check and not self._known[words].all():
            raise ProgramSimulatorError("reads weights that nobody has written")
        if self._hazards is not None:
            self._hazards.unordered_read(words)
        if repeats := instruction["repeats"]:
            words = count // machine.weight_word_bytes
            self.require(not machine.in_order, "repeats on a machine that executes in order")
            self.require(0 < instruction["repeated_words"] == words, f"repeated_words is not {words}")
            self.require(
                words * machine.weight_word_bytes <= machine.weight_fifo_words * machine.bus_bytes,
                f"{words} words to be repeated, more than the FIFO has",
            )
        for _ in range(repeats + 1):
            self._weight_blocks.extend(self.memory[address : address + count].copy().reshape(-1, size))

    def take_block(self, tiles: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """An output block from the weight FIFO: parameters (output lanes, 8), and its tiles."""
        machine = self.machine
        if not self._weight_blocks:
            raise ProgramSimulatorError("takes more weights than WEIGHTS instructions before it brought")
        content = self._weight_blocks.popleft()
        if machine.in_order:
            self._blocks_begun = (self._blocks_begun or self._runs_ahead.popleft()) - 1
        parameters = content[: machine.parameter_bytes].reshape(-1, 8)
        self.require(
            not parameters[:, 5:7].any() and not parameters[1:, 7].any(), "parameter padding is not zero"
        )
        header = BlockHeader.from_byte(int(parameters[0, 7]))
        found = self._block_reader.read(header, content[machine.parameter_bytes :].tobytes(), tiles)
        return parameters, found.reshape(tiles, machine.output_lanes, machine.input_lanes)
