"""Encoded tiles: back to the same weights, no larger than said, and errors for what no encoder makes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.machine import Machine
from hw.weight_stream import (
    CODEBOOK_ENTRIES,
    BlockHeader,
    Encoding,
    WeightStreamError,
    decode_tiles,
    encode_tiles,
    encodings_of,
    least_bytes,
)

MACHINES = [
    Machine(weight_decoder=True),
    Machine(input_lanes=8, output_lanes=8, weight_decoder=True),
    Machine(input_lanes=4, output_lanes=32, bus_width=32, weight_decoder=True),
    Machine(input_lanes=16, output_lanes=16, bus_width=128, weight_decoder=True),
]


@st.composite
def blocks(draw):
    """A machine and (blocks, tiles, tile_bytes) weights of few values, some of them zero."""
    machine = draw(st.sampled_from(MACHINES))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 20)), machine.tile_bytes)
    values = rng.integers(-128, 128, draw(st.integers(1, 20)))
    # each lane as dense as it likes: they run far apart
    density = rng.choice([0.0, 0.01, 0.08, 0.5, 1.0], (1, 1, machine.bus_bytes))
    kept = rng.random(shape) < np.tile(density, (1, 1, machine.tile_bytes // machine.bus_bytes))
    return machine, (rng.choice(values, shape) * kept).astype(np.int8)


@settings(max_examples=200, deadline=None)
@given(blocks())
def test_back_to_the_same_weights(case):
    machine, tiles = case
    found = encodings_of(tiles, machine)
    distinct = len(np.unique(tiles))
    assert Encoding.RAW in found
    assert (Encoding.TWO_BITS in found) == (distinct <= 4)
    assert (Encoding.FOUR_BITS in found) == (distinct <= 16)
    for encoding, codebook in found.items():
        streams = encode_tiles(tiles, encoding, codebook, machine)
        for block, stream in zip(tiles, streams, strict=True):
            assert len(stream) % machine.weight_word_bytes == 0
            back = decode_tiles(stream, encoding, codebook, len(block), machine)
            assert np.array_equal(back, block)
            assert len(stream) >= least_bytes(block[None], encoding, machine)
            if encoding.is_sparse:  # words behind its end do nothing
                longer = stream + bytes(3 * machine.weight_word_bytes)
                assert np.array_equal(decode_tiles(longer, encoding, codebook, len(block), machine), block)
            else:
                share = {Encoding.RAW: 1, Encoding.FOUR_BITS: 2, Encoding.TWO_BITS: 4}[encoding]
                assert len(stream) * share == block.size
                assert len(stream) == least_bytes(block[None], encoding, machine)


def test_sparse_weights_are_a_beat_for_each_weight_of_the_densest_lanes():
    machine = MACHINES[0]
    rng = np.random.default_rng(1)
    tiles = (rng.integers(1, 16, (8, 64, 128)) * (rng.random((8, 64, 128)) < 0.08)).astype(np.int8)
    streams = encode_tiles(tiles, Encoding.SPARSE, encodings_of(tiles, machine)[Encoding.SPARSE], machine)
    beats = np.mean([len(stream) for stream in streams]) / machine.bus_bytes / 64
    assert beats < 2.1  # of 16 for raw ones; 0.08 * 128 / 8 = 1.28 without gaps and waiting


def test_one_encoding_without_a_decoder():
    assert list(encodings_of(np.zeros((1, 1, 128), np.int8), Machine())) == [Encoding.RAW]


def test_header():
    for encoding in Encoding:
        for flags in itertools.product((False, True), repeat=3):
            header = BlockHeader(encoding, *flags)
            assert BlockHeader.from_byte(header.to_byte()) == header
    for byte in (5, 7, 64):
        with pytest.raises(WeightStreamError, match="unknown bits"):
            BlockHeader.from_byte(byte)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(MACHINES), st.sampled_from(Encoding), st.integers(0, 5), st.binary(max_size=400))
def test_random_bytes_are_an_error_or_weights(machine, encoding, tiles, content):
    content = content[: len(content) // machine.weight_word_bytes * machine.weight_word_bytes]
    codebook = np.arange(CODEBOOK_ENTRIES, dtype=np.int8)
    try:
        found = decode_tiles(content, encoding, codebook, tiles, machine)
    except WeightStreamError:
        return
    assert found.shape == (tiles, machine.tile_bytes)
