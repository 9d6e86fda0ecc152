"""The Huffman decoder alone: random codes with stalls, its speed, and random words, which it takes."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator, SimulatorContext

from hw.huffman_decoder import HuffmanDecoder
from hw.huffman_stream import LONGEST_CODE, HuffmanTable, huffman_encode
from hw.machine import Machine
from hw.weight_block import block_front
from hw.weight_stream import BlockHeader, Encoding
from quant.encoding.huffman import code_lengths

NARROW = Machine(input_lanes=4, output_lanes=8, bus_width=32, weight_decoder=True, huffman_decoder=True)
WIDE = Machine(input_lanes=8, output_lanes=8, weight_decoder=True, huffman_decoder=True)

#: A weight word, and whether it is one of parameters.
Word = tuple[bytes, bool]


def as_words(machine: Machine, content: bytes, is_parameter: bool) -> list[Word]:
    size = machine.weight_word_bytes
    return [(content[at : at + size], is_parameter) for at in range(0, len(content), size)]


def table_of(content: bytes) -> HuffmanTable:
    counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
    return HuffmanTable.from_lengths(code_lengths(counts, LONGEST_CODE))


def random_blocks(machine: Machine, rng: np.random.Generator, count: int) -> tuple[list[Word], list[Word]]:
    """Words of blocks, some of them coded, and what shall come of them."""
    given: list[Word] = []
    expected: list[Word] = []
    loaded: HuffmanTable | None = None
    for _ in range(count):
        size = int(rng.choice([0, 1, 2, 7, 60])) * machine.weight_word_bytes
        values = rng.permutation(256)[: int(rng.choice([1, 2, 9, 256]))]
        shares = rng.random(len(values)) ** rng.integers(0, 9)
        content = rng.choice(values, size, p=shares / shares.sum()).astype(np.uint8).tobytes()
        huffman, codebook = bool(rng.random() < 0.8), b""
        encoding = Encoding(int(rng.integers(0, 5)))
        if encoding.has_codebook and rng.random() < 0.5:
            codebook = rng.bytes(16)
        table = None
        if huffman:
            known = loaded is not None and loaded.codes[1][np.frombuffer(content, np.uint8)].all()
            if not known or rng.random() < 0.3:
                table = loaded = table_of(content or b"a")
        parameters = rng.integers(0, 256, (machine.output_lanes, 8)).astype(np.uint8)
        header = BlockHeader(encoding, bool(codebook), huffman, table is not None)
        parameters[0, 7] = header.to_byte()
        block = as_words(machine, parameters.tobytes(), True)
        given += block
        expected += block
        front = block_front(codebook, None, machine)
        expected += as_words(machine, front + content, False)
        given += as_words(machine, block_front(codebook, table, machine), False)
        if huffman:
            assert loaded is not None
            content = huffman_encode(content, loaded, machine)
            content += bytes(int(rng.integers(0, 3)) * machine.weight_word_bytes)
        given += as_words(machine, content, False)
    return given, expected


def simulate(machine: Machine, words: list[Word], *, stall: float, slow: float, seed: int,
             again: list[Word] | None = None) -> tuple[list[Word], int]:
    """Words that come out, and the cycle of the last one; after a reset, of the words ``again``."""
    rng = np.random.default_rng(seed)
    reset = Signal()
    dut = HuffmanDecoder(machine)
    found: list[Word] = []
    given, cycle, last = False, 0, 0

    async def source(ctx: SimulatorContext) -> None:
        nonlocal given
        for turn in (words, *([] if again is None else [again])):
            if turn is again:
                # whatever it waits for
                await ctx.tick().repeat(20)
                ctx.set(dut.weights.valid, 0)
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                found.clear()
            for data, is_parameter in turn:
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(dut.weights.payload.data, int.from_bytes(data, "little"))
                ctx.set(dut.weights.payload.parameters, int(is_parameter))
                ctx.set(dut.weights.valid, 1)
                await ctx.tick().until(dut.weights.ready)
                ctx.set(dut.weights.valid, 0)
        given = True

    async def sink(ctx: SimulatorContext) -> None:
        nonlocal cycle, last
        quiet = 0
        while quiet < 200:
            ctx.set(dut.output.ready, int(rng.random() >= slow))
            if ctx.get(dut.output.valid) and ctx.get(dut.output.ready):
                data = int(ctx.get(dut.output.payload.data)).to_bytes(machine.weight_word_bytes, "little")
                found.append((data, bool(ctx.get(dut.output.payload.parameters))))
                quiet, last = 0, cycle
            quiet += given
            cycle += 1
            assert cycle < 60_000, "the decoder stands still"
            await ctx.tick()

    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(sink)
    simulator.run()
    return found, last


@pytest.mark.parametrize("machine", [NARROW, WIDE], ids=["32", "64"])
@pytest.mark.parametrize(("stall", "slow"), [(0, 0), (0.6, 0), (0, 0.6), (0.3, 0.3)])
def test_blocks(machine: Machine, stall: float, slow: float) -> None:
    words, expected = random_blocks(machine, np.random.default_rng(int(10 * stall + 100 * slow)), 24)
    found, _ = simulate(machine, words, stall=stall, slow=slow, seed=3)
    assert found == expected


@pytest.mark.parametrize("machine", [NARROW, WIDE], ids=["32", "64"])
def test_a_beat_in_a_cycle(machine: Machine) -> None:
    """Of codes of about three bits, but for the cycles in which two lanes ask for a beat."""
    rng = np.random.default_rng(1)
    symbols = rng.integers(0, 32, 400 * machine.weight_word_bytes)
    content = np.where(rng.random(len(symbols)) < 0.7, 0, symbols).astype(np.uint8).tobytes()
    table = table_of(content)
    coded = huffman_encode(content, table, machine)
    assert 2 < len(content) / len(coded) < 4
    parameters = np.zeros((machine.output_lanes, 8), np.uint8)
    parameters[0, 7] = BlockHeader(huffman=True, table=True).to_byte()
    front = as_words(machine, parameters.tobytes(), True)
    words = front + as_words(machine, block_front(b"", table, machine) + coded, False)
    found, last = simulate(machine, words, stall=0, slow=0, seed=0)
    assert b"".join(data for data, _ in found[len(front) :]) == content
    overhead = len(words) - len(coded) // machine.weight_word_bytes + len(table.symbols) + 40
    assert last < 1.15 * len(content) / machine.bus_bytes + overhead


@pytest.mark.parametrize("seed", range(6))
def test_random_words_do_not_stop_it(seed: int) -> None:
    """What comes out of them is not said; but they are taken, and after a reset so is the next program."""
    rng = np.random.default_rng(seed)
    machine = (NARROW, WIDE)[seed % 2]
    words: list[Word] = []
    for _ in range(40):
        parameters = bytearray(rng.bytes(machine.parameter_bytes))
        parameters[7] = int(rng.integers(0, 64))
        # blocks end where they like, parameters too
        count = int(rng.integers(1, machine.parameter_bytes // machine.weight_word_bytes + 1))
        words += as_words(machine, bytes(parameters), True)[:: 1 if rng.random() < 0.8 else 2][:count]
        tiles = bytearray(rng.bytes(machine.weight_word_bytes * int(rng.integers(0, 40))))
        for at in range(0, len(tiles), machine.weight_word_bytes):
            if rng.random() < 0.5:  # words that count few words, if they are counts
                tiles[at + 1 : at + 4] = bytes(3)
        words += as_words(machine, bytes(tiles), False)
    again, expected = random_blocks(machine, rng, 6)
    found, _ = simulate(machine, words, stall=0.1, slow=0.2, seed=seed, again=again)
    assert found == expected


@pytest.mark.parametrize("seed", range(3))
def test_damaged_codes_do_not_stop_it(seed: int) -> None:
    """Right counts, but other bits, some of them of the table."""
    rng = np.random.default_rng(seed)
    machine = (NARROW, WIDE)[seed % 2]
    words, expected = random_blocks(machine, rng, 20)
    damaged = [
        (rng.bytes(len(data)) if not kind and rng.random() < 0.02 else data, kind) for data, kind in words
    ]
    again, expected = random_blocks(machine, rng, 6)
    found, _ = simulate(machine, damaged, stall=0, slow=0.1, seed=seed, again=again)
    assert found == expected
