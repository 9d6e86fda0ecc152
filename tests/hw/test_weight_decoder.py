"""The weight decoder alone: random encodings with stalls on all sides, and random words, which it takes."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.machine import Machine
from hw.weight_decoder import WeightDecoder
from hw.weight_stream import BlockHeader, Encoding, encode_tiles, encodings_of

MACHINE = Machine(input_lanes=4, output_lanes=8, bus_width=32, weight_decoder=True)
WORD = MACHINE.weight_word_bytes
PIECE = MACHINE.tile_piece_bytes


def simulate(words: list[tuple[bytes, bool]], *, stall: float, slow: float, seed: int,
             cycles: int = 20_000) -> tuple[list[bytes], list[bytes], int]:
    """Pieces and parameter words that come out, and how often a tile was announced."""
    rng = np.random.default_rng(seed)
    dut = WeightDecoder(MACHINE)
    pieces: list[bytes] = []
    parameters: list[bytes] = []
    announced = 0
    given = False

    async def source(ctx: SimulatorContext) -> None:
        nonlocal given
        for data, is_parameter in words:
            while rng.random() < stall:
                await ctx.tick()
            ctx.set(dut.weights.payload.data, int.from_bytes(data, "little"))
            ctx.set(dut.weights.payload.parameters, int(is_parameter))
            ctx.set(dut.weights.valid, 1)
            await ctx.tick().until(dut.weights.ready)
            ctx.set(dut.weights.valid, 0)
        given = True

    async def sink(ctx: SimulatorContext) -> None:
        nonlocal announced
        quiet = 0
        for _ in range(cycles):
            for port in (dut.pieces, dut.parameters):
                ctx.set(port.ready, int(rng.random() >= slow))
            announced += ctx.get(dut.tile_comes)
            for port, found, size in ((dut.pieces, pieces, PIECE), (dut.parameters, parameters, WORD)):
                if ctx.get(port.valid) and ctx.get(port.ready):
                    found.append(int(ctx.get(port.payload)).to_bytes(size, "little"))
                    quiet = 0
            quiet += given
            if quiet > 200:
                return
            await ctx.tick()
        raise AssertionError("the decoder stands still")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(sink)
    simulator.run()
    return pieces, parameters, announced


def as_words(content: bytes, is_parameter: bool) -> list[tuple[bytes, bool]]:
    return [(content[at : at + WORD], is_parameter) for at in range(0, len(content), WORD)]


@pytest.mark.parametrize(("stall", "slow"), [(0, 0), (0.6, 0), (0, 0.6), (0.3, 0.3)])
def test_blocks(stall: float, slow: float) -> None:
    rng = np.random.default_rng(3)
    words: list[tuple[bytes, bool]] = []
    expected, headers, loaded = b"", b"", b""
    for number in range(16):
        values = rng.integers(-128, 128, (1, 2, 4, 15, 30)[number % 5])
        shape = (1, int(rng.integers(1, 12)), MACHINE.tile_bytes)
        tiles = (rng.choice(values, shape) * (rng.random(shape) < rng.choice([0, 0.1, 1]))).astype(np.int8)
        found = encodings_of(tiles, MACHINE)
        encoding = Encoding(int(rng.choice(list(found))))
        book = found[encoding].tobytes()
        brings = encoding.has_codebook and book != loaded
        block = rng.integers(0, 256, (MACHINE.output_lanes, 8)).astype(np.uint8)
        block[0, 7] = BlockHeader(encoding, brings).to_byte()
        words += as_words(block.tobytes(), True)
        headers += block.tobytes()
        if brings:
            loaded = book
            words += as_words(book, False)
        [stream] = encode_tiles(tiles, encoding, found[encoding], MACHINE)
        words += as_words(stream, False)
        expected += tiles.tobytes()
    pieces, parameters, announced = simulate(words, stall=stall, slow=slow, seed=4)
    assert b"".join(parameters) == headers
    assert b"".join(pieces) == expected
    assert announced == len(expected) // MACHINE.tile_bytes


@pytest.mark.parametrize("seed", range(5))
def test_random_words_do_not_stop_it(seed: int) -> None:
    """What comes out of them is not said; but they are taken, and so are the next program's."""
    rng = np.random.default_rng(seed)
    words = [(rng.bytes(WORD), bool(rng.random() < 0.1)) for _ in range(300)]
    simulate(words, stall=0.1, slow=0.2, seed=seed)
