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
from hw.isa import INSTRUCTION_BYTES, NARROW_BYTES, Instruction, Mode, Opcode
from hw.machine import Machine
from hw.program_code import ProgramDecoder
from hw.program_file import ProgramFile, TensorPlace
from hw.slots import THIN_CHANNELS
from hw.small_firmware import BLOCK_BEATS, WEIGHTS_AHEAD
from hw.weight_block import WeightBlockReader
from hw.weight_pairs import unpair_tiles
from hw.weight_stream import BlockHeader
from quant.number_format import round_half_even_divide, round_half_even_shift
from sim.hazards import HazardCheck
from sim.memory_settings import memory_settings

__all__ = ["ProgramSimulator", "ProgramSimulatorError"]

_ADDRESSES = 1 << 16
_INT32 = 1 << 31
#: Elements of the largest matrix that a COMPUTE builds at once.
_CHUNK = 1 << 24


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
                self._require(
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
                _Compute(self, instruction).execute()
        if self._hazards is not None:
            self._hazards.finish(number, instruction)

    # accesses

    def _require(self, condition: bool, message: str) -> None:
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
            self._require(
                highest < len(self.scratchpad),
                f"scratchpad word {highest} does not exist, there are {len(self.scratchpad)}",
            )

    def _transfer(self, instruction: Instruction) -> None:
        word_bytes = self.machine.word_bytes
        counts = [instruction[name] for name in ("planes", "rows", "words")]
        self._require(min(counts) >= 1, "planes, rows and words must be at least 1")
        planes, rows, words = (np.arange(count) for count in counts)
        narrow = instruction.opcode is Opcode.LOAD and instruction["narrow"] == 1
        size, unit = (NARROW_BYTES, self.machine.bus_bytes) if narrow else (word_bytes, word_bytes)
        for name in ("memory_address", "memory_plane_step", "memory_row_step"):
            self._require(instruction[name] % unit == 0, f"{name} is not a multiple of {unit}")
        self._require(counts[2] * size % unit == 0, f"{counts[2]} words of {size} bytes are not whole beats")
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
        ) % _ADDRESSES
        addresses, scratch = memory.ravel(), scratch.ravel()
        memory = addresses // word_bytes
        self._require(int(memory.max()) < len(self._known), f"memory ends at byte {len(self.memory)}")
        target = scratch if instruction.opcode is Opcode.LOAD else memory
        self._require(len(np.unique(target)) == len(target), "writes two words to the same place")
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
        self._require(address % 64 == 0, "memory_address is not a multiple of 64")
        size = machine.parameter_bytes + instruction["words"] * machine.weight_word_bytes
        count = instruction["blocks"] * size
        if machine.in_order and count:
            self._require(len(self._runs_ahead) < WEIGHTS_AHEAD, f"more than {WEIGHTS_AHEAD} WEIGHTS ahead")
            beats = size // machine.bus_bytes
            self._require(beats <= BLOCK_BEATS, f"a block of {beats} beats")
            self._runs_ahead.append(instruction["blocks"])
        self._require(address + count <= len(self.memory), f"memory ends at byte {len(self.memory)}")
        words = np.arange(address // machine.word_bytes, -(-(address + count) // machine.word_bytes))
        if self.check and not self._known[words].all():
            raise ProgramSimulatorError("reads weights that nobody has written")
        if self._hazards is not None:
            self._hazards.unordered_read(words)
        if repeats := instruction["repeats"]:
            words = count // machine.weight_word_bytes
            self._require(not machine.in_order, "repeats on a machine that executes in order")
            self._require(0 < instruction["repeated_words"] == words, f"repeated_words is not {words}")
            self._require(
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
        self._require(
            not parameters[:, 5:7].any() and not parameters[1:, 7].any(), "parameter padding is not zero"
        )
        header = BlockHeader.from_byte(int(parameters[0, 7]))
        found = self._block_reader.read(header, content[machine.parameter_bytes :].tobytes(), tiles)
        return parameters, found.reshape(tiles, machine.output_lanes, machine.input_lanes)


class _Compute:
    """One COMPUTE instruction, all pixels of a pass at once."""

    def __init__(self, simulator: ProgramSimulator, instruction: Instruction) -> None:
        self.simulator = simulator
        self.machine = simulator.machine
        self.i = instruction
        self.mode = Mode(instruction["mode"])
        self.rows, self.columns = instruction["output_rows"], instruction["output_columns"]
        self.pixels = self.rows * self.columns
        #: products of an output lane in one pass, and as many channels in a block
        self.lanes = self.machine.input_lanes * (2 if instruction["pairs"] else 1)
        #: where input lanes are taps: channels of each, and slots up to the last tap
        self.channels = instruction["thin_channels"] if self.mode is Mode.THIN else 1
        rows_before = instruction["kernel_rows"] - 1
        self.slots = rows_before * instruction["slot_columns"] + instruction["kernel_columns"]

    def _check(self) -> None:
        i, require = self.i, self.simulator._require
        for name in (
            "image_rows",
            "image_columns",
            "stride_rows",
            "stride_columns",
            "dilation_rows",
            "dilation_columns",
            "kernel_rows",
            "kernel_columns",
            "input_blocks",
            "output_blocks",
            "output_rows",
            "output_columns",
        ):
            require(i[name] >= 1, f"{name} must be at least 1")
        pixels = max(self.rows, self.columns) if i["fold"] else self.pixels
        require(
            pixels <= self.machine.accumulator_depth,
            f"{pixels} output pixels, the accumulators hold {self.machine.accumulator_depth}",
        )
        require(i["low"] <= i["high"], "low is above high")
        require(min(i["low"], i["sum_low"]) >= -128, "a lower bound is below -128")
        if self.machine.in_order:
            require(not self.mode.reads_taps, f"the small core has no mode {self.mode.name}")
            require(not i["average"], "the small core has no divider")
        if self.mode is not Mode.DENSE:
            require(i["first_block"] == 0, "first_block must be 0")
        if self.mode is Mode.MAXIMUM:
            require(i["input_blocks"] == 1, "input_blocks must be 1")
        if self.mode.reads_taps:
            banks = self.machine.input_lanes
            require(i["dilation_rows"] == i["dilation_columns"] == 1, "dilation where input lanes are taps")
            require(i["slot_columns"] >= i["kernel_columns"], "slot_columns is below kernel_columns")
            require(
                i["kernel_rows"] == 1 or (i["source_tap_row_step"] - i["slot_columns"]) % banks == 0,
                f"source_tap_row_step and slot_columns differ by no multiple of {banks}",
            )
            products = self.slots * self.channels
            require(
                i["input_blocks"] * self.lanes >= products,
                f"{i['input_blocks']} passes for {products} products of a window",
            )
        if self.mode is Mode.THIN:
            require(1 <= i["thin_channels"] <= THIN_CHANNELS, f"thin_channels must be 1 to {THIN_CHANNELS}")
        if i["partial"] or i["continues"]:
            sums = i["output_blocks"] * self.pixels
            require(
                sums <= self.machine.accumulator_depth,
                f"{sums} partial sums, the accumulators hold {self.machine.accumulator_depth}",
            )
            require(self.mode is not Mode.MAXIMUM, "partial sums of a maximum")
        if i["fold"]:
            others = ("residual", "average", "partial", "continues", "hold_weights")
            require(self.mode is Mode.DENSE and not any(i[name] for name in others), "fold with another mode")
            require(self.machine.weight_decoder, "fold needs a machine with a weight decoder")
        require(not (i["partial"] and (i["residual"] or i["average"])), "partial with residual or average")
        left = self.simulator.partial_sums
        require(bool(left) == bool(i["continues"]), "sums are left and not continued, or none are")
        require(
            not left or (len(left), len(left[0])) == (i["output_blocks"], self.pixels),
            "continues sums of another number of output blocks or pixels",
        )
        first = i["first_block"] * self.lanes
        require(first < self.machine.output_lanes, "first_block is past the first word")
        if i["pairs"]:
            require(self.machine.weight_pairs, "this machine takes no pairs of weights")
            require(self.mode.shares_inputs, "pairs of weights with another mode than DENSE and THIN")
            require(
                self.mode is Mode.DENSE or self.channels > 1, "pairs of weights with a single thin channel"
            )
        if i["residual"]:
            require(i["sum_low"] <= i["sum_high"], "sum_low is above sum_high")
            require(-9 <= i["sum_shift"] <= 31, "sum_shift must be -9 to 31")
            require(not i["average"], "average and residual together")
        if i["average"]:
            require(self.machine.average_pooling, "this machine has no divider")
            require(i["divisor"] >= 1, "divisor must be at least 1")
            require(-8 <= i["divisor_shift"] <= 8, "divisor_shift must be -8 to 8")

    def execute(self) -> None:
        self._check()
        i, machine = self.i, self.machine
        taps = 1 if self.mode.reads_taps else i["kernel_rows"] * i["kernel_columns"]
        shared: NDArray[np.float64] | None = None
        if self.mode is Mode.DENSE:
            last = i["first_block"] + i["input_blocks"] - 1
            planes = last * self.lanes // machine.output_lanes + 1
            lanes = np.concatenate([self._windows(plane) for plane in range(planes)], axis=1)
            # (pixels, channels, taps): only the blocks that are asked for
            first = i["first_block"] * self.lanes
            lanes = lanes[:, first : first + i["input_blocks"] * self.lanes]
            if i["fold"]:  # what would be pixels comes behind the taps
                lanes = lanes.transpose(1, 2, 0).reshape(1, lanes.shape[1], -1)
                taps, self.rows, self.columns, self.pixels = taps * self.pixels, 1, 1, 1
            # in the order of passes: block, tap, lane
            shared = (
                lanes.reshape(self.pixels, i["input_blocks"], self.lanes, taps)
                .transpose(0, 1, 3, 2)
                .reshape(self.pixels, -1)
                .astype(np.float64)
            )
        passes = taps * i["input_blocks"]
        tiles = 1 if i["hold_weights"] else passes
        if self.mode is Mode.THIN:
            window = self._windows(0)[:, : self.channels]
            shared = self._in_slots(window).transpose(0, 2, 1).reshape(self.pixels, -1).astype(np.float64)
            products = passes * self.lanes
            shared = np.pad(shared, ((0, 0), (0, products)))[:, :products]
        for block in range(i["output_blocks"]):
            parameters, weights = self.simulator.take_block(tiles)
            bias = parameters[:, :4].copy().view("<i4").ravel().astype(np.int64)
            shift = parameters[:, 4].view(np.int8).astype(np.int64)
            if i["pairs"]:
                weights = unpair_tiles(weights, machine)
            if i["hold_weights"]:
                weights = np.broadcast_to(weights, (passes, *weights.shape[1:]))
            start = self.simulator.partial_sums.pop(0) if i["continues"] else bias
            if shared is not None:
                sums = self._dense(shared, weights, start)
            else:
                sums = self._channelwise(block, weights, start)
            self.simulator._require(sums.min() >= -_INT32 and sums.max() < _INT32, "a sum passes 32 bits")
            if i["partial"]:
                self.simulator.partial_sums.append(sums)
            else:
                self._write(block, self._post(block, sums, shift))

    def _windows(self, plane: int) -> NDArray[np.int64]:
        """(pixels, output lanes, taps) inputs of one plane, zero or -256 outside the image."""
        i = self.i
        r, c = np.arange(self.rows)[:, None, None, None], np.arange(self.columns)[:, None, None]
        ky, kx = np.arange(i["kernel_rows"])[:, None], np.arange(i["kernel_columns"])
        row = i["origin_row"] + r * i["stride_rows"] + ky * i["dilation_rows"]
        column = i["origin_column"] + c * i["stride_columns"] + kx * i["dilation_columns"]
        inside = (row >= 0) & (row < i["image_rows"]) & (column >= 0) & (column < i["image_columns"])
        address = (
            i["source_address"]
            + plane * i["source_plane_step"]
            + r * i["source_row_step"]
            + ky * i["source_tap_row_step"]
            + c * i["stride_columns"]
            + kx * i["dilation_columns"]
        ) % _ADDRESSES
        inside, address = np.broadcast_arrays(inside, address)
        words = self.simulator.scratch_read(address[inside])
        values = np.full(
            (*inside.shape, self.machine.output_lanes), -256 if self.mode is Mode.MAXIMUM else 0, np.int64
        )
        values[inside] = words.view(np.int8) if i["input_signed"] else words
        taps = i["kernel_rows"] * i["kernel_columns"]
        return values.reshape(self.pixels, taps, self.machine.output_lanes).transpose(0, 2, 1)

    def _dense(
        self, inputs: NDArray[np.float64], weights: NDArray[np.int8], start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Sums (pixels, lanes) that start from (lanes,) or (pixels, lanes).

         float64 is exact: |sum| < 2^16 * passes * lanes < 2^53."""
        lanes = self.machine.output_lanes
        matrix = weights.transpose(0, 2, 1).reshape(-1, lanes).astype(np.float64)
        if inputs.shape[1] * 255 * 128 + int(np.abs(start).max()) >= _INT32:
            self._check_partial_sums(inputs, matrix, np.broadcast_to(start, (self.pixels, lanes)))
        return (inputs @ matrix).astype(np.int64) + start

    def _check_partial_sums(
        self, inputs: NDArray[np.float64], matrix: NDArray[np.float64], start: NDArray[np.int64]
    ) -> None:
        bound = np.abs(inputs) @ np.abs(matrix) + np.abs(start)
        for pixel in np.flatnonzero((bound >= _INT32).any(axis=1)):
            products = inputs[pixel][:, None] * matrix
            by_pass = products.reshape(-1, self.lanes, matrix.shape[1]).sum(axis=1)
            partial = np.cumsum(by_pass, axis=0) + start[pixel]
            self.simulator._require(
                partial.min() >= -_INT32 and partial.max() < _INT32, "a partial sum passes 32 bits"
            )

    def _in_slots(self, window: NDArray[np.int64]) -> NDArray[np.int64]:
        """(pixels, lanes, taps) with zeros where a slot is outside the kernel: (pixels, lanes, slots)."""
        rows, columns = self.i["kernel_rows"], self.i["kernel_columns"]
        pixels, lanes, _ = window.shape
        slots = np.zeros((pixels, lanes, rows, self.i["slot_columns"]), np.int64)
        slots[..., :columns] = window.reshape(pixels, lanes, rows, columns)
        return slots.reshape(pixels, lanes, -1)[..., : self.slots]

    def _channelwise(
        self, block: int, weights: NDArray[np.int8], start: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        window = self._windows(block)
        if self.mode is Mode.MAXIMUM:
            self.simulator._require(
                bool((weights[:, :, 0] == 1).all()) and not weights[:, :, 1:].any() and not start.any(),
                "maximum with weights other than 1 or biases",
            )
            return window.max(axis=2)
        # (lanes, slots), in the order of passes and input lanes
        by_slot = weights.transpose(1, 0, 2).reshape(self.machine.output_lanes, -1)[:, : self.slots]
        return (self._in_slots(window) * by_slot.astype(np.int64)).sum(axis=2) + start

    def _post(self, block: int, sums: NDArray[np.int64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
        i = self.i
        if i["average"]:
            left, right = max(i["divisor_shift"], 0), max(-i["divisor_shift"], 0)
            self.simulator._require(int(np.abs(sums).max()) << left < _INT32, "a dividend passes 32 bits")
            values = round_half_even_divide(sums << left, i["divisor"] << right)
        else:
            self.simulator._require(shift.min() >= -9 and shift.max() <= 40, "a shift is not -9 to 40")
            values = round_half_even_shift(sums, shift)
        values = np.clip(values, i["low"], i["high"])
        if i["residual"]:
            words = self.simulator.scratch_read(
                (self._destination(block) + i["residual_offset"]) % _ADDRESSES, late=True
            )
            other = (words.view(np.int8) if i["residual_signed"] else words).astype(np.int64)
            total = (values << i["own_shift"]) + (other << i["residual_shift"])
            values = np.clip(round_half_even_shift(total, i["sum_shift"]), i["sum_low"], i["sum_high"])
        return values

    def _destination(self, block: int) -> NDArray[np.int64]:
        i = self.i
        address = (
            i["destination_address"]
            + block * i["destination_plane_step"]
            + np.arange(self.rows)[:, None] * i["destination_row_step"]
            + np.arange(self.columns)
        )
        return address.ravel() % _ADDRESSES

    def _write(self, block: int, values: NDArray[np.int64]) -> None:
        self.simulator.scratch_write(self._destination(block), (values & 255).astype(np.uint8))
