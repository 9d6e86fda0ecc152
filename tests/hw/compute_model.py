"""COMPUTE as `docs/machine.md` says it, in numpy, and random instructions: for tests only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hw.huffman_stream import LONGEST_CODE, HuffmanTable, huffman_encode
from hw.isa import Instruction, Mode, Opcode
from hw.machine import Machine
from hw.weight_block import block_front
from hw.weight_stream import BlockHeader, Encoding, encode_tiles, encodings_of
from quant.encoding.huffman import code_lengths

Bytes = NDArray[np.uint8]


def rounded_quotient(numerator: NDArray, denominator: NDArray | int) -> NDArray:
    floor, remainder = numerator // denominator, numerator % denominator
    return floor + ((2 * remainder > denominator) | ((2 * remainder == denominator) & (floor % 2 == 1)))


def rounded_shift(value: NDArray, shift: NDArray | int) -> NDArray:
    """``value * 2**-shift`` in Python integers, so that nothing overflows."""
    value, shift = np.broadcast_arrays(value.astype(object), np.asarray(shift, object))
    return rounded_quotient(value * 2 ** np.maximum(-shift, 0), 2 ** np.maximum(shift, 0)).astype(np.int64)


def signed_bytes(word: Bytes, signed: int) -> NDArray[np.int64]:
    return (word.view(np.int8) if signed else word).astype(np.int64)


@dataclass
class Pass:
    """One pass of an output block, and how many tiles it takes."""

    first: bool
    last: bool
    tiles: int


def passes(code: Instruction) -> list[Pass]:
    """The passes of one output block."""
    count = code["input_blocks"]
    if not Mode(code["mode"]).reads_taps:
        count *= code["kernel_rows"] * code["kernel_columns"]
    tiles = code["output_rows"] * code["output_columns"] if code["fold"] else 1
    return [Pass(k == 0, k == count - 1, 0 if k and code["hold_weights"] else tiles) for k in range(count)]


def beats_of(machine: Machine, code: Instruction, rng: Generator, shifts: NDArray | None = None,
             ) -> tuple[list[bytes], list[bool]]:
    """A random weight stream for an instruction: its parameter blocks and raw tiles, and which is which."""
    columns, lanes = machine.output_lanes, machine.input_lanes
    # a decoder's weights take few values, and many of them are zero
    values = rng.integers(-128, 128, int(rng.choice([1, 2, 3, 4, 15, 16, 40])))
    density = rng.choice([0.0, 0.02, 0.1, 0.5, 1.0])
    few = machine.weight_decoder and rng.random() < 0.9
    blocks: list[bytes] = []
    kinds: list[bool] = []
    for _ in range(code["output_blocks"]):
        large = code["average"] and code["divisor_shift"] > 0
        bias = rng.integers(-2**30, 2**30, columns) >> int(rng.integers(8 if large else 0, 28))
        bias = np.where(rng.random(columns) < 0.05, 2**30 if not large else 0, bias)
        shift = rng.integers(-9, 41, columns) if rng.random() < 0.2 else rng.integers(0, 16, columns)
        if code["mode"] == Mode.MAXIMUM.value:
            bias, shift = np.zeros(columns, np.int64), rng.integers(-2, 3, columns)
        block = np.zeros((columns, 8), np.uint8)
        block[:, :4] = bias.astype("<i4").view(np.uint8).reshape(columns, 4)
        block[:, 4] = (shift if shifts is None else shifts).astype(np.int8).view(np.uint8)
        blocks.append(block.tobytes())
        kinds.append(True)
        for one in passes(code):
            for _ in range(one.tiles):
                tile = rng.integers(-128, 128, (columns, lanes)).astype(np.int8)
                if few:
                    kept = rng.random(tile.shape) < density
                    tile = (rng.choice(values, tile.shape) * kept).astype(np.int8)
                if rng.random() < 0.1 and not few:
                    tile[:] = -128
                if code["mode"] == Mode.MAXIMUM.value:
                    tile[:, 1:] = 0
                    tile[:, 0] = 1
                blocks.append(tile.tobytes())
                kinds.append(False)
    return blocks, kinds


def encoded(machine: Machine, code: Instruction, blocks: list[bytes], rng: Generator,
            ) -> tuple[list[bytes], list[bool]]:
    """What `beats_of` gave, every block in an encoding that can hold it, and some as Huffman codes."""
    blocks, kinds, streams = blocks.copy(), [], []
    loaded, table = b"", None
    for _ in range(code["output_blocks"]):
        parameters = np.frombuffer(blocks.pop(0), np.uint8).reshape(-1, 8).copy()
        count = sum(one.tiles for one in passes(code))
        tiles = np.stack([np.frombuffer(blocks.pop(0), np.int8) for _ in range(count)])
        found = encodings_of(tiles, machine)
        encoding = Encoding(int(rng.choice(list(found))))
        codebook = found[encoding].tobytes()
        brings = encoding.has_codebook and (codebook != loaded or rng.random() < 0.3)
        [stream] = encode_tiles(tiles[None], encoding, found[encoding], machine)
        new_table = None
        huffman = machine.huffman_decoder and rng.random() < 0.6
        if huffman:
            counts = np.bincount(np.frombuffer(stream or b"?", np.uint8), minlength=256)
            if table is None or not table.codes[1][counts > 0].all() or rng.random() < 0.3:
                new_table = table = HuffmanTable.from_lengths(code_lengths(counts, LONGEST_CODE))
            stream = huffman_encode(stream, table, machine)
        parameters[0, 7] = BlockHeader(encoding, brings, huffman, new_table is not None).to_byte()
        streams.append(parameters.tobytes())
        kinds.append(True)
        if brings:
            loaded = codebook
        front = block_front(codebook if brings else b"", new_table, machine)
        if front:
            streams.append(front)
            kinds.append(False)
        streams.append(stream)
        kinds.append(False)
    assert not blocks
    return streams, kinds


#: One input lane's reads: plane, kernel row and column, and which channels of the word: that of each output
#: lane, or one for all.  Outside the kernel: ``ky`` is None.
Read = tuple[int, int | None, int, slice]


def operands(machine: Machine, code: Instruction, ob: int) -> Iterator[list[Read]]:
    """What the input lanes read in each pass of an output block."""
    lanes = machine.input_lanes << code["pairs"]
    per_word = machine.output_lanes // lanes
    kernel = code["kernel_rows"], code["kernel_columns"]
    mode = Mode(code["mode"])
    for ib in range(code["input_blocks"]):
        if mode.reads_taps:
            channels = code["thin_channels"] if mode is Mode.THIN else 1
            reads: list[Read] = []
            for lane in range(lanes):
                tap, channel = divmod(ib * lanes + lane, channels)
                ky, kx = divmod(tap, code["slot_columns"])
                inside = ky < kernel[0] and kx < kernel[1]
                own = slice(channel, channel + 1) if mode is Mode.THIN else slice(None)
                reads.append((0 if mode is Mode.THIN else ob, ky if inside else None, kx, own))
            yield reads
            continue
        plane, half = divmod(code["first_block"] + ib, per_word)
        for ky in range(kernel[0]):
            for kx in range(kernel[1]):
                if mode is Mode.MAXIMUM:
                    yield [(ob, ky, kx, slice(None))]
                else:
                    yield [(plane, ky, kx, slice(half * lanes + lane, half * lanes + lane + 1))
                           for lane in range(lanes)]


def weights_of(machine: Machine, code: Instruction, tiles: list[bytes]) -> NDArray[np.int64]:
    """(tiles, output lanes, input lanes) weights of tiles; with ``pairs`` there are two in a byte."""
    lanes, half = machine.input_lanes, machine.output_lanes // 2
    content = np.stack([np.frombuffer(tile, np.int8) for tile in tiles]).astype(np.int64)
    content = content.reshape(len(tiles), machine.output_lanes, lanes)
    if not code["pairs"]:
        return content
    lower = (content + 8) % 16 - 8
    upper = ((content - lower) // 16 + 8) % 16 - 8
    found = np.zeros((len(tiles), 2 * half, 2 * lanes), np.int64)
    for column in range(2 * half):
        inputs = slice(0, lanes) if column < half else slice(lanes, 2 * lanes)
        found[:, column % half, inputs] = lower[:, column]
        found[:, half + column % half, inputs] = upper[:, column]
    return found


def window(code: Instruction, scratch: Bytes, plane: int, ky: int | None, kx: int, mode: Mode,
           ) -> NDArray[np.int64]:
    """(rows, columns, output lanes) values that one tap reads for all output pixels."""
    rows = np.arange(code["output_rows"])[:, None]
    cols = np.arange(code["output_columns"])[None, :]
    if ky is None:
        return np.zeros((len(rows), cols.size, scratch.shape[1]), np.int64)
    row = code["origin_row"] + rows * code["stride_rows"] + ky * code["dilation_rows"]
    column = code["origin_column"] + cols * code["stride_columns"] + kx * code["dilation_columns"]
    address = (code["source_address"] + plane * code["source_plane_step"]
               + rows * code["source_row_step"] + ky * code["source_tap_row_step"]
               + cols * code["stride_columns"] + kx * code["dilation_columns"]) % 65536
    inside = ((row >= 0) & (row < code["image_rows"]) & (column >= 0) & (column < code["image_columns"]))
    x = signed_bytes(scratch[np.where(inside, address, 0)], code["input_signed"])
    return np.where(inside[..., None], x, -256 if mode is Mode.MAXIMUM else 0)


def execute(machine: Machine, code: Instruction, scratch: Bytes, stream: Iterator[bytes],
            sums: list[NDArray[np.int64]]) -> None:
    """Execute one instruction on the scratchpad (words, output_lanes), taking blocks from the stream.

    ``sums`` holds what a partial instruction leaves for the next one.
    """
    lanes, columns = machine.input_lanes << code["pairs"], machine.output_lanes
    mode = Mode(code["mode"])
    pixels = (1, 1) if code["fold"] else (code["output_rows"], code["output_columns"])
    rows, cols = np.arange(pixels[0])[:, None], np.arange(pixels[1])
    tile = np.zeros((1, 1, columns, lanes), np.int64)
    for ob in range(code["output_blocks"]):
        block = np.frombuffer(next(stream), np.uint8).reshape(columns, 8)
        bias = block[:, :4].copy().view("<i4")[:, 0].astype(np.int64)
        shift = block[:, 4].view(np.int8).astype(np.int64)
        acc = np.zeros((*pixels, columns), np.int64)
        if code["continues"]:
            acc = sums.pop(0)
        schedule = iter(passes(code))
        for now, reads in zip(schedule, operands(machine, code, ob), strict=True):
            if now.tiles:
                tile = weights_of(machine, code, [next(stream) for _ in range(now.tiles)])
                shape = (code["output_rows"], code["output_columns"]) if code["fold"] else (1, 1)
                tile = tile.reshape(*shape, columns, lanes)
            # x: (rows, columns, output lanes or 1, input lanes)
            x = np.stack([window(code, scratch, plane, ky, kx, mode)[..., channels]
                          for plane, ky, kx, channels in reads], axis=-1)
            product = (x * tile[..., :x.shape[-1]]).sum(axis=-1)
            if code["fold"]:
                product = product.sum(axis=(0, 1), keepdims=True)
            if mode is Mode.MAXIMUM:
                acc = product if now.first and not code["continues"] else np.maximum(acc, product)
            else:
                acc = (bias if now.first and not code["continues"] else acc) + product
        assert np.abs(acc).max() < 2**31
        if code["partial"]:
            sums.append(acc)
            continue
        if code["average"]:
            places = code["divisor_shift"]
            assert np.abs(acc).max() << max(places, 0) < 2**31
            value = rounded_quotient(acc << max(places, 0), code["divisor"] << max(-places, 0))
        else:
            value = rounded_shift(acc, shift)
        value = np.clip(value, code["low"], code["high"])
        target = (code["destination_address"] + ob * code["destination_plane_step"]
                  + rows * code["destination_row_step"] + cols) % 65536
        if code["residual"]:
            other = signed_bytes(scratch[(target + code["residual_offset"]) % 65536], code["residual_signed"])
            total = (value << code["own_shift"]) + (other << code["residual_shift"])
            value = np.clip(rounded_shift(total, code["sum_shift"]), code["sum_low"], code["sum_high"])
        scratch[target] = (value & 255).astype(np.uint8)


def random_instruction(machine: Machine, rng: Generator, mode: Mode | None = None) -> Instruction:
    """A legal instruction whose results do not depend on the order of its reads and writes.

    The lower half of the scratchpad holds its image, the upper half its results and residuals.
    """
    def some(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    modes = [Mode.DENSE, Mode.DENSE, Mode.DEPTHWISE, Mode.THIN, Mode.MAXIMUM]
    mode = rng.choice(modes) if mode is None else mode
    pairs = int(machine.weight_pairs and mode in (Mode.DENSE, Mode.THIN) and rng.random() < 0.6)
    per_word = machine.blocks_per_word >> pairs
    half_words = machine.scratchpad_words // 2
    while True:
        input_blocks = some(1, 2 * per_word + 1) if mode is Mode.DENSE else 1
        first_block = some(0, per_word - 1) if mode is Mode.DENSE else 0
        output_blocks = some(1, 3)
        planes = -(-(first_block + input_blocks) // per_word) if mode is Mode.DENSE else output_blocks
        kernel = (some(1, 4), some(1, 4))
        stride = (some(1, 3), some(1, 3))
        dilation = (some(1, 3), some(1, 2))
        image = (some(1, 12), some(1, 12))
        pitch = image[1] + some(0, 2)
        slot_columns, thin_channels = 0, 0
        if mode.reads_taps:
            dilation = (1, 1)
            # congruent with the row pitch if there are several rows
            slot_columns = kernel[1] + ((pitch - kernel[1]) % machine.input_lanes if kernel[0] > 1
                                        else some(0, 3))
            thin_channels = some(1 + pairs, 4) if mode is Mode.THIN else 0
            planes = 1 if mode is Mode.THIN else planes
            products = ((kernel[0] - 1) * slot_columns + kernel[1]) * max(thin_channels, 1)
            input_blocks = -(-products // (machine.input_lanes << pairs)) + int(rng.random() < 0.1)
        plane_step = image[0] * pitch + some(0, 3)
        if rng.random() < 0.25:
            output = (1, 1)
        else:
            output = (some(1, 9), some(1, 9))
        origin = (some(-4, 2), some(-4, 2))
        if output[0] * output[1] > machine.accumulator_depth or planes * plane_step > half_words:
            continue
        row_step = output[1] + some(0, 2)
        out_plane = output[0] * row_step + some(0, 2)
        result_words = output_blocks * out_plane
        if 2 * result_words > half_words:
            continue
        count = input_blocks * (1 if mode.reads_taps else kernel[0] * kernel[1])
        if count * output[0] * output[1] * output_blocks > 3000:
            continue
        break
    base = some(0, half_words - planes * plane_step)
    target = half_words + some(0, half_words // 2 - result_words)
    fields = {
        "source_address": (base + origin[0] * pitch + origin[1]) % 65536,
        "source_plane_step": plane_step,
        "source_row_step": stride[0] * pitch,
        "source_tap_row_step": dilation[0] * pitch,
        "image_rows": image[0], "image_columns": image[1],
        "origin_row": origin[0], "origin_column": origin[1],
        "stride_rows": stride[0], "stride_columns": stride[1],
        "dilation_rows": dilation[0], "dilation_columns": dilation[1],
        "kernel_rows": kernel[0], "kernel_columns": kernel[1],
        "slot_columns": slot_columns, "thin_channels": thin_channels,
        "first_block": first_block, "input_blocks": input_blocks, "output_blocks": output_blocks,
        "mode": mode.value, "input_signed": some(0, 1), "hold_weights": int(rng.random() < 0.3),
        "output_rows": output[0], "output_columns": output[1],
        "destination_address": target, "destination_plane_step": out_plane,
        "destination_row_step": row_step, "pairs": pairs,
    }
    fields["low"], fields["high"] = sorted((some(-128, 255), some(-128, 255)))
    kind = rng.random()
    if kind < 0.35:
        fields |= {"residual": 1, "residual_signed": some(0, 1),
                   "residual_offset": rng.choice([0, half_words // 2]),
                   "own_shift": some(0, 15) if rng.random() < 0.5 else 0, "residual_shift": some(0, 15),
                   "sum_shift": some(-9, 31) if rng.random() < 0.3 else some(0, 16)}
        fields["sum_low"], fields["sum_high"] = sorted((some(-128, 255), some(-128, 255)))
    elif kind < 0.5 and machine.average_pooling:
        fields |= {"average": 1, "divisor": some(1, 60) if rng.random() < 0.7 else some(1, 16383),
                   "divisor_shift": some(-8, 8)}
    elif kind < 0.65 and mode is Mode.DENSE and machine.weight_decoder:
        fields |= {"fold": 1, "hold_weights": 0}
    # the average's dividend is limited: few enough products, no large bias (beats_of)
    if fields.get("average", 0) and fields["divisor_shift"] > 0:
        fields["divisor_shift"] = min(fields["divisor_shift"], 4)
        fields["kernel_rows"] = min(fields["kernel_rows"], 2)
        if mode.reads_taps:
            fields["input_blocks"] = min(fields["input_blocks"], 2)
    return Instruction(Opcode.COMPUTE, {name: int(value) for name, value in fields.items()},
                       wait=some(0, 7), signal=some(0, 7), layer=some(0, 65535))


def random_chain(machine: Machine, rng: Generator) -> list[Instruction]:
    """Instructions that go on with each other's sums; the last one writes."""
    chain: list[Instruction] = []
    while len(chain) < int(rng.integers(2, 5)):
        code = random_instruction(machine, rng, rng.choice([Mode.DENSE, Mode.DEPTHWISE, Mode.THIN]))
        sums = code["output_blocks"] * code["output_rows"] * code["output_columns"]
        if code["average"] or code["fold"] or sums > machine.accumulator_depth:
            continue
        if chain:
            if code["output_blocks"] != chain[0]["output_blocks"]:
                continue
            # where results go suits the number of pixels
            code.fields |= {name: chain[0][name] for name in (
                "output_rows", "output_columns", "destination_address", "destination_plane_step",
                "destination_row_step")}
        chain.append(code)
    for code in chain[:-1]:
        code.fields |= {"partial": 1, "residual": 0}
    for code in chain[1:]:
        code.fields["continues"] = 1
    return chain
