"""The program simulator against the words of `docs/machine.md`, written down literally, loop by loop."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.isa import COMPUTE, INSTRUCTION_BYTES, Instruction, Mode, Opcode, Unit, assemble
from hw.machine import Machine
from sim.program import ProgramSimulator, ProgramSimulatorError

MACHINES = (
    Machine(
        input_lanes=4,
        output_lanes=4,
        bus_width=32,
        scratchpad_words=256,
        accumulator_depth=16,
        weight_fifo_words=32,
    ),
    Machine(input_lanes=4, output_lanes=16, scratchpad_words=256, accumulator_depth=64, weight_pairs=True),
)


def _tile_words(machine: Machine) -> int:
    return machine.tile_bytes // machine.weight_word_bytes


def _weights(machine: Machine, blocks: int, tiles: int) -> dict[str, int]:
    return {"memory_address": 192, "blocks": blocks, "words": tiles * _tile_words(machine)}


def literal_compute(machine: Machine, i: Instruction, scratch: np.ndarray, stream: bytes) -> np.ndarray:
    """The scratchpad after a COMPUTE: a transcription of the page, one multiplication at a time."""
    scratch = scratch.copy()
    lanes, inputs = machine.output_lanes, machine.input_lanes
    if i["pairs"]:
        inputs *= 2
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return stream[position - count : position]

    def weight_of(tile: bytes, o: int, n: int) -> int:
        """Weight of output lane o and input lane n."""
        if not i["pairs"]:
            return as_signed(tile[o * inputs + n], 1)
        upper_half, lane = divmod(n, machine.input_lanes)
        upper, column = divmod(o, lanes // 2)
        byte = tile[(upper_half * lanes // 2 + column) * machine.input_lanes + lane]
        [pair] = [
            (lower, higher) for lower in range(-8, 8) for higher in range(-8, 8)
            if (16 * higher + lower) % 256 == byte
        ]  # fmt: skip
        return pair[upper]

    def rounded(value: Fraction) -> int:
        return round(value)

    def as_signed(byte: int, signed: int) -> int:
        return int(byte) - 256 if signed and byte >= 128 else int(byte)

    mode = Mode(i["mode"])
    per_word = lanes // inputs
    for ob in range(i["output_blocks"]):
        parameters = take(8 * lanes)
        bias = [int.from_bytes(parameters[8 * o : 8 * o + 4], "little", signed=True) for o in range(lanes)]
        shift = [
            int.from_bytes(parameters[8 * o + 4 : 8 * o + 5], "little", signed=True) for o in range(lanes)
        ]
        # of each pass: (plane, kernel row, kernel column, channel) of each input lane; channel None: the
        # output lane's own; None: nothing
        passes: list[list[tuple[int, int, int, int | None] | None]] = []
        for ib in range(i["input_blocks"]):
            if mode in (Mode.DEPTHWISE, Mode.THIN):
                reads = []
                for n in range(inputs):
                    tap, channel = divmod(ib * inputs + n, i["thin_channels"] if mode is Mode.THIN else 1)
                    ky, kx = divmod(tap, i["slot_columns"])
                    used = ky < i["kernel_rows"] and kx < i["kernel_columns"]
                    read = (0, ky, kx, channel) if mode is Mode.THIN else (ob, ky, kx, None)
                    reads.append(read if used else None)
                passes.append(reads)
                continue
            plane, half = divmod(i["first_block"] + ib, per_word)
            for ky in range(i["kernel_rows"]):
                for kx in range(i["kernel_columns"]):
                    if mode is Mode.DENSE:
                        passes.append([(plane, ky, kx, half * inputs + n) for n in range(inputs)])
                    else:
                        passes.append([(ob, ky, kx, None), *[None] * (inputs - 1)])
        acc: dict[tuple[int, int, int], int] = {}
        weight: list[list[int]] = []
        for number, reads in enumerate(passes):
            if number == 0 or not i["hold_weights"]:
                tile = take(machine.tile_bytes)
                weight = [[weight_of(tile, o, n) for n in range(inputs)] for o in range(lanes)]
            for r in range(i["output_rows"]):
                for c in range(i["output_columns"]):
                    words = []
                    for read in reads:
                        if read is None:
                            words.append([0] * lanes)
                            continue
                        plane, ky, kx, _ = read
                        row = i["origin_row"] + r * i["stride_rows"] + ky * i["dilation_rows"]
                        column = i["origin_column"] + c * i["stride_columns"] + kx * i["dilation_columns"]
                        address = (
                            i["source_address"]
                            + plane * i["source_plane_step"]
                            + r * i["source_row_step"]
                            + ky * i["source_tap_row_step"]
                            + c * i["stride_columns"]
                            + kx * i["dilation_columns"]
                        ) % 65536
                        if 0 <= row < i["image_rows"] and 0 <= column < i["image_columns"]:
                            words.append([as_signed(byte, i["input_signed"]) for byte in scratch[address]])
                        else:
                            words.append([-256 if mode is Mode.MAXIMUM else 0] * lanes)
                    for o in range(lanes):
                        p = 0
                        for n, read in enumerate(reads):
                            if read is not None:
                                p += words[n][o if read[3] is None else read[3]] * weight[o][n]
                        if number == 0:
                            acc[r, c, o] = p if mode is Mode.MAXIMUM else bias[o] + p
                        elif mode is Mode.MAXIMUM:
                            acc[r, c, o] = max(acc[r, c, o], p)
                        else:
                            acc[r, c, o] += p
        for r in range(i["output_rows"]):
            for c in range(i["output_columns"]):
                at = (
                    i["destination_address"]
                    + ob * i["destination_plane_step"]
                    + r * i["destination_row_step"]
                    + c
                ) % 65536
                word = []
                for o in range(lanes):
                    if i["average"]:
                        v = rounded(acc[r, c, o] * Fraction(2) ** i["divisor_shift"] / i["divisor"])
                    else:
                        v = rounded(acc[r, c, o] * Fraction(2) ** -shift[o])
                    v = max(i["low"], min(i["high"], v))
                    if i["residual"]:
                        z = as_signed(scratch[(at + i["residual_offset"]) % 65536][o], i["residual_signed"])
                        v = rounded(
                            ((v << i["own_shift"]) + (z << i["residual_shift"]))
                            * Fraction(2) ** -i["sum_shift"]
                        )
                        v = max(i["sum_low"], min(i["sum_high"], v))
                    word.append(v % 256)
                scratch[at] = word
    assert position == len(stream)
    return scratch


@st.composite
def computes(draw: st.DrawFn) -> tuple[Machine, Instruction, bytes, int]:
    machine = draw(st.sampled_from(MACHINES))
    number = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    mode = draw(st.sampled_from(list(Mode)))
    rows, columns = number(1, 4), number(1, 4)
    pairs = number(0, 1) if machine.weight_pairs and mode.shares_inputs else 0
    lanes = machine.input_lanes * (1 + pairs)
    per_word = machine.output_lanes // lanes
    first = number(0, per_word - 1) if mode is Mode.DENSE else 0
    inputs = number(1, 3) if mode is Mode.DENSE else 1
    outputs = number(1, 2)
    image_rows, image_columns = number(1, 5), number(1, 5)
    stride_rows, stride_columns = number(1, 3), number(1, 3)
    dilation_rows, dilation_columns = number(1, 3), number(1, 3)
    kernel_rows, kernel_columns = number(1, 3), number(1, 3)
    origin_row, origin_column = number(-4, 3), number(-4, 3)
    pitch = image_columns + number(0, 1)
    plane_step = pitch * image_rows + number(0, 2)
    base = number(0, 20)
    planes = (first + inputs - 1) // per_word + 1 if mode is Mode.DENSE else outputs
    slot_columns = thin_channels = 0
    if mode.reads_taps:
        dilation_rows = dilation_columns = 1
        slot_columns = kernel_columns + (
            (pitch - kernel_columns) % machine.input_lanes if kernel_rows > 1 else number(0, 3)
        )
        if mode is Mode.THIN:
            thin_channels, planes = number(1 + pairs, 4), 1
        products = ((kernel_rows - 1) * slot_columns + kernel_columns) * max(thin_channels, 1)
        inputs = -(-products // lanes) + number(0, 1)
    low, high = sorted((number(-128, 255), number(-128, 255)))
    sum_low, sum_high = sorted((number(-128, 255), number(-128, 255)))
    post = draw(st.sampled_from(["shift", "residual", "average"]))
    free = base + planes * plane_step + 1
    row_step = columns + number(0, 2)
    span = 2 * (row_step * rows + 2)
    # a residual lies in the same place, or in words that this instruction does not write
    before = post == "residual" and draw(st.booleans())
    destination = free + number(0, 5) + before * span
    fields = {
        "source_address": (base + origin_row * pitch + origin_column) & 0xFFFF,
        "source_plane_step": plane_step,
        "source_row_step": stride_rows * pitch,
        "source_tap_row_step": dilation_rows * pitch,
        "image_rows": image_rows,
        "image_columns": image_columns,
        "origin_row": origin_row,
        "origin_column": origin_column,
        "stride_rows": stride_rows,
        "stride_columns": stride_columns,
        "dilation_rows": dilation_rows,
        "dilation_columns": dilation_columns,
        "kernel_rows": kernel_rows,
        "kernel_columns": kernel_columns,
        "slot_columns": slot_columns,
        "thin_channels": thin_channels,
        "first_block": first,
        "input_blocks": inputs,
        "output_blocks": outputs,
        "mode": mode.value,
        "pairs": pairs,
        "input_signed": number(0, 1),
        "hold_weights": number(0, 1),
        "output_rows": rows,
        "output_columns": columns,
        "destination_address": destination,
        "destination_plane_step": row_step * rows + number(0, 2),
        "destination_row_step": row_step,
        "low": low,
        "high": high,
    }
    if post == "residual":
        fields |= {
            "residual": 1,
            "residual_signed": number(0, 1),
            "residual_offset": -span & 0xFFFF if before else 0,
            "own_shift": number(0, 15),
            "residual_shift": number(0, 15),
            "sum_shift": number(-9, 31),
            "sum_low": sum_low,
            "sum_high": sum_high,
        }
    if post == "average":
        fields |= {"average": 1, "divisor": number(1, 16383), "divisor_shift": number(-8, 4)}
    assert set(fields) <= set(COMPUTE)
    random = np.random.default_rng(number(0, 1 << 30))
    taps = inputs if mode.reads_taps else kernel_rows * kernel_columns * inputs
    stream = b""
    for _ in range(outputs):
        parameters = np.zeros((machine.output_lanes, 8), np.uint8)
        if mode is not Mode.MAXIMUM:
            bias = random.integers(-1 << 18, 1 << 18, machine.output_lanes).astype("<i4")
            parameters[:, :4] = bias.view(np.uint8).reshape(-1, 4)
        parameters[:, 4] = random.integers(-9, 41, machine.output_lanes).astype(np.int8).view(np.uint8)
        tiles = random.integers(
            -128, 128, (1 if fields["hold_weights"] else taps, machine.output_lanes, machine.input_lanes)
        ).astype(np.int8)
        if mode is Mode.MAXIMUM:
            tiles[:, :, 1:] = 0
            tiles[:, :, 0] = 1
        stream += parameters.tobytes() + tiles.tobytes()
    return machine, Instruction(Opcode.COMPUTE, fields), stream, taps


def _simulator(
    machine: Machine, instructions: list[Instruction], stream: bytes = b"", *, check: bool = False
) -> ProgramSimulator:
    """Instructions at 0, the stream after them, 64 KiB of other memory."""
    start = (len(instructions) + 1) * INSTRUCTION_BYTES
    simulator = ProgramSimulator(machine, start + len(stream) + 65536, check=check)
    code = b"".join(assemble(instruction) for instruction in [*instructions, Instruction(Opcode.END)])
    simulator.write_memory(0, code + stream)
    return simulator


@settings(max_examples=150, deadline=None)
@given(computes(), st.integers(0, 1 << 30))
def test_compute_does_what_the_page_says(case, seed):
    machine, compute, stream, taps = case
    weights = Instruction(
        Opcode.WEIGHTS,
        {
            "memory_address": 3 * INSTRUCTION_BYTES,
            "blocks": compute["output_blocks"],
            "words": (1 if compute["hold_weights"] else taps) * _tile_words(machine),
        },
    )
    simulator = _simulator(machine, [weights, compute], stream)
    scratch = np.random.default_rng(seed).integers(0, 256, simulator.scratchpad.shape).astype(np.uint8)
    simulator.scratchpad[:] = scratch
    simulator.execute(0)
    assert np.array_equal(simulator.scratchpad, literal_compute(machine, compute, scratch, stream))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_transfers_do_what_the_page_says(data):
    machine = MACHINES[0]
    number = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    planes, rows, words = number(1, 3), number(1, 4), number(1, 5)
    row = words + number(0, 3)
    plane = row * rows + number(0, 4)
    scratch_row = words + number(0, 2)
    scratch_plane = scratch_row * rows + number(0, 2)
    base, address = number(0, 100), 4 * number(16 * 3, 16 * 3 + 100)
    fields = {
        "memory_address": address,
        "memory_plane_step": 4 * plane,
        "memory_row_step": 4 * row,
        "scratch_address": base,
        "scratch_plane_step": scratch_plane,
        "scratch_row_step": scratch_row,
        "planes": planes,
        "rows": rows,
        "words": words,
    }
    random = np.random.default_rng(number(0, 1 << 30))
    for opcode in (Opcode.LOAD, Opcode.STORE):
        simulator = _simulator(machine, [Instruction(opcode, fields)])
        simulator.memory[192:] = random.integers(0, 256, len(simulator.memory) - 192)
        simulator.scratchpad[:] = random.integers(0, 256, simulator.scratchpad.shape)
        memory, scratch = simulator.memory.copy(), simulator.scratchpad.copy()
        simulator.execute(0)
        for p in range(planes):
            for r in range(rows):
                for w in range(words):
                    byte = address + p * 4 * plane + r * 4 * row + w * 4
                    word = base + p * scratch_plane + r * scratch_row + w
                    if opcode is Opcode.LOAD:
                        scratch[word] = memory[byte : byte + 4]
                    else:
                        memory[byte : byte + 4] = scratch[word]
        assert np.array_equal(simulator.memory, memory)
        assert np.array_equal(simulator.scratchpad, scratch)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_narrow_loads_do_what_the_page_says(data):
    number = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    machine = replace(MACHINES[1], bus_width=data.draw(st.sampled_from([32, 64, 128])))
    bus, together = machine.bus_bytes, machine.bus_bytes // 4
    planes, rows, words = number(1, 3), number(1, 4), number(1, 3) * together
    row, plane = bus * number(0, 9), bus * number(0, 40)
    address, scratch_row = 192 + bus * number(0, 20), words + number(0, 2)
    fields = {
        "memory_address": address,
        "memory_plane_step": plane,
        "memory_row_step": row,
        "scratch_plane_step": scratch_row * rows,
        "scratch_row_step": scratch_row,
        "planes": planes,
        "rows": rows,
        "words": words,
        "narrow": 1,
    }
    simulator = _simulator(machine, [Instruction(Opcode.LOAD, fields)])
    random = np.random.default_rng(number(0, 1 << 30))
    simulator.memory[192:] = random.integers(0, 256, len(simulator.memory) - 192)
    simulator.scratchpad[:] = random.integers(0, 256, simulator.scratchpad.shape)
    scratch = simulator.scratchpad.copy()
    simulator.execute(0)
    for p, r, w in np.ndindex(planes, rows, words):
        byte = address + p * plane + r * row + w * 4
        word = (p * rows + r) * scratch_row + w
        scratch[word] = [*simulator.memory[byte : byte + 4], *[0] * 12]
    assert np.array_equal(simulator.scratchpad, scratch)


TRANSFER = {"memory_address": 1024, "planes": 1, "rows": 1, "words": 4}
POINT = {
    "image_rows": 1,
    "image_columns": 1,
    "stride_rows": 1,
    "stride_columns": 1,
    "dilation_rows": 1,
    "dilation_columns": 1,
    "kernel_rows": 1,
    "kernel_columns": 1,
    "input_blocks": 1,
    "output_blocks": 1,
    "output_rows": 1,
    "output_columns": 1,
    "high": 255,
    "destination_address": 9,
}


def _fails(
    instructions: list[Instruction],
    message: str,
    stream: bytes = b"",
    *,
    check: bool = True,
    machine: Machine = MACHINES[0],
) -> None:
    simulator = _simulator(machine, instructions, stream, check=check)
    simulator.write_memory(1024, bytes(256))
    with pytest.raises(ProgramSimulatorError, match=message):
        simulator.execute(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"scratch_address": 253},
            r"instruction 0 \(LOAD\): scratchpad word 256 does not exist, there are 256",
        ),
        ({"words": 0}, "must be at least 1"),
        ({"memory_address": 1 << 20}, "memory ends at byte"),
        ({"memory_address": 1025}, "memory_address is not a multiple of 4"),
        ({"memory_address": 4096}, "reads byte 4096 of memory, which nobody has written"),
        ({"planes": 2}, "writes two words to the same place"),
    ],
)
def test_bad_loads(fields, message):
    _fails([Instruction(Opcode.LOAD, {**TRANSFER, **fields})], message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory_address": 1028}, "memory_address is not a multiple of 8"),
        ({"memory_row_step": 20}, "memory_row_step is not a multiple of 8"),
        ({"words": 3}, "3 words of 4 bytes are not whole beats"),
        ({"memory_address": 1280 - 8}, "reads byte 1280 of memory, which nobody has written"),
        ({"memory_address": 1 << 20}, "memory ends at byte"),
    ],
)
def test_bad_narrow_loads(fields, message):
    code = Instruction(Opcode.LOAD, {**TRANSFER, "narrow": 1, **fields})
    _fails([code], message, machine=MACHINES[1])


def test_narrow_load_waits_for_stores():
    """A narrow LOAD reads a quarter of each word of 16 bytes that a STORE writes."""
    load = Instruction(Opcode.LOAD, TRANSFER, signal=1 << Unit.STORE)
    store = Instruction(Opcode.STORE, {**TRANSFER, "memory_address": 2048}, wait=1 << Unit.LOAD)
    narrow = Instruction(Opcode.LOAD, {**TRANSFER, "memory_address": 2056, "words": 2, "narrow": 1})
    message = r"instruction 2 \(LOAD\): reads memory word \d+, which instruction 1 \(STORE\) wrote"
    _fails([load, store, narrow], message, machine=MACHINES[1])


def test_storing_what_nobody_wrote():
    _fails(
        [Instruction(Opcode.STORE, TRANSFER)],
        r"instruction 0 \(STORE\): reads scratchpad word 0, which nobody",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output_rows": 17}, "17 output pixels, the accumulators hold 16"),
        ({"kernel_rows": 0}, "kernel_rows must be at least 1"),
        ({"low": 3, "high": 2}, "low is above high"),
        ({"mode": Mode.MAXIMUM.value, "input_blocks": 2}, "input_blocks must be 1"),
        ({"mode": Mode.DEPTHWISE.value, "first_block": 1}, "first_block must be 0"),
        ({"mode": Mode.DEPTHWISE.value, "slot_columns": 1, "dilation_rows": 2}, "dilation"),
        ({"mode": Mode.DEPTHWISE.value}, "slot_columns is below kernel_columns"),
        (
            {"mode": Mode.DEPTHWISE.value, "slot_columns": 2, "kernel_rows": 2, "source_tap_row_step": 1},
            "source_tap_row_step and slot_columns differ",
        ),
        ({"mode": Mode.DEPTHWISE.value, "slot_columns": 9, "kernel_columns": 9}, "1 passes for 9 products"),
        ({"mode": Mode.THIN.value, "slot_columns": 1}, "thin_channels must be 1 to 4"),
        ({"residual": 1, "average": 1, "divisor": 1}, "average and residual together"),
        ({"average": 1}, "divisor must be at least 1"),
        ({"pairs": 1}, "this machine takes no pairs of weights"),
        ({"source_address": 300}, "scratchpad word 300 does not exist"),
        ({"destination_address": 300}, "scratchpad word 300 does not exist"),
    ],
)
def test_bad_computes(fields, message):
    stream = bytes(MACHINES[0].parameter_bytes + MACHINES[0].tile_bytes)
    weights = Instruction(Opcode.WEIGHTS, _weights(MACHINES[0], 1, 1))
    _fails(
        [weights, Instruction(Opcode.COMPUTE, {**POINT, **fields})],
        r"instruction 1 \(COMPUTE\): .*" + message,
        stream,
        check=False,
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": Mode.MAXIMUM.value}, "another mode than DENSE and THIN"),
        ({"mode": Mode.THIN.value, "thin_channels": 1, "slot_columns": 1}, "with a single thin channel"),
        ({"first_block": 2}, "first_block is past the first word"),
    ],
)
def test_bad_pairs(fields, message):
    machine = MACHINES[1]
    weights = Instruction(Opcode.WEIGHTS, _weights(machine, 1, 1))
    compute = Instruction(Opcode.COMPUTE, {**POINT, "pairs": 1, **fields})
    simulator = _simulator(machine, [weights, compute], bytes(1024))
    with pytest.raises(ProgramSimulatorError, match=message):
        simulator.execute(0)


def test_weights_that_do_not_arrive_or_stay():
    machine = MACHINES[0]
    stream = bytes(3 * (machine.parameter_bytes + machine.tile_bytes))
    _fails([Instruction(Opcode.COMPUTE, POINT)], "takes more weights", check=False)
    weights = Instruction(Opcode.WEIGHTS, _weights(machine, 2, 1))
    _fails(
        [weights, Instruction(Opcode.COMPUTE, POINT)],
        "END: weights of 1 blocks are left over",
        stream,
        check=False,
    )


def test_accumulator_overflow_is_noticed():
    """Partial sums count, even if the whole sum fits again."""
    machine = MACHINES[0]
    compute = Instruction(Opcode.COMPUTE, {**POINT, "kernel_columns": 2, "image_columns": 2})
    weights = Instruction(Opcode.WEIGHTS, _weights(machine, 1, 2))
    parameters = np.zeros((4, 8), np.uint8)
    parameters[0, :4] = np.frombuffer(((1 << 31) - 100).to_bytes(4, "little"), np.uint8)
    for values, fits in (((1, -1), True), ((127, -127), False), ((-100, 120), False)):
        tiles = np.zeros((2, 4, 4), np.int8)
        tiles[0, 0, 0], tiles[1, 0, 0] = values
        simulator = _simulator(
            machine, [weights, compute], parameters.tobytes() + tiles.tobytes(), check=False
        )
        simulator.scratchpad[:2] = 90
        if fits:
            simulator.execute(0)
        else:
            with pytest.raises(ProgramSimulatorError, match=r"sum passes 32 bits"):
                simulator.execute(0)


def test_unknown_opcode():
    simulator = ProgramSimulator(MACHINES[0], 4096)
    simulator.write_memory(0, bytes([7]) + bytes(63))
    with pytest.raises(ProgramSimulatorError, match=r"\(unknown\): no instruction has opcode 7"):
        simulator.execute(0)


def test_hazards():
    """A load and a store of the same words need a token, in either order, in both memories."""
    load = Instruction(Opcode.LOAD, TRANSFER)
    store = Instruction(Opcode.STORE, {**TRANSFER, "memory_address": 2048})
    _fails(
        [load, store],
        r"instruction 1 \(STORE\): reads scratchpad word 0, which instruction 0 \(LOAD\) wrote, "
        "without a token between them",
    )
    signal, wait = (
        Instruction(Opcode.LOAD, TRANSFER, signal=4),
        Instruction(Opcode.STORE, store.fields, wait=1),
    )
    simulator = _simulator(MACHINES[0], [signal, wait], check=True)
    simulator.write_memory(1024, bytes(range(16)))
    simulator.execute(0)
    assert simulator.memory[2048:2064].tolist() == list(range(16))
    _fails(
        [signal, wait, load], "writes scratchpad word 0, which instruction 1 .STORE. read, without a token"
    )
    other = Instruction(Opcode.LOAD, {**TRANSFER, "memory_address": 2048, "scratch_address": 8})
    _fails([signal, wait, other], "reads memory word 512, which instruction 1 .STORE. wrote, without a token")


def test_too_many_tokens():
    load = Instruction(Opcode.LOAD, {**TRANSFER, "memory_address": 32768}, signal=4)
    simulator = _simulator(MACHINES[0], [load] * 256, check=True)
    simulator.write_memory(32768, bytes(16))
    with pytest.raises(
        ProgramSimulatorError,
        match=r"instruction 255 \(LOAD\): more than 255 tokens can wait between LOAD and STORE",
    ):
        simulator.execute(0)


def test_stored_weights_are_refused():
    fields = {**TRANSFER, "memory_address": 1088}
    program = [
        Instruction(Opcode.LOAD, TRANSFER, signal=4),
        Instruction(Opcode.STORE, fields, wait=1),
        Instruction(Opcode.WEIGHTS, {"memory_address": 1088, "blocks": 1, "words": 1}),
    ]
    _fails(program, "reads weights that the program itself writes")
    _fails([program[2], *program[:2]], "writes where weights are read from")
