"""Huffman codes of bytes: back to the same bytes, short, and errors for what no encoder makes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.huffman_stream import (
    LONGEST_CODE,
    HuffmanStreamError,
    HuffmanTable,
    huffman_decode,
    huffman_encode,
)
from hw.machine import Machine
from quant.encoding.huffman import canonical_codes, code_lengths

MACHINES = [
    Machine(weight_decoder=True, huffman_decoder=True),
    Machine(input_lanes=4, output_lanes=32, bus_width=32, weight_decoder=True, huffman_decoder=True),
    Machine(input_lanes=16, output_lanes=16, bus_width=128, weight_decoder=True, huffman_decoder=True),
]


def lengths_of(content: bytes, longest: int = LONGEST_CODE) -> np.ndarray:
    return code_lengths(np.bincount(np.frombuffer(content, np.uint8), minlength=256), longest)


@st.composite
def blocks(draw):
    """A machine, bytes of some distribution, whole weight words, and their code lengths."""
    machine = draw(st.sampled_from(MACHINES))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    count = draw(st.integers(1, 60)) * machine.weight_word_bytes
    shares = rng.random(draw(st.sampled_from([1, 2, 3, 20, 256]))) ** draw(st.integers(0, 9))
    values = rng.permutation(256)[: len(shares)]
    content = rng.choice(values, count, p=shares / shares.sum()).astype(np.uint8)
    if draw(st.booleans()):  # some lanes have much longer codes than others
        content = np.sort(content.reshape(-1, machine.bus_bytes), axis=1)
    return machine, content.tobytes(), lengths_of(content.tobytes(), draw(st.sampled_from([8, 10])))


@settings(max_examples=150, deadline=None)
@given(blocks())
def test_back_to_the_same_bytes(case):
    machine, content, lengths = case
    table = HuffmanTable.from_lengths(lengths)
    codes, found = table.codes
    assert np.array_equal(found, lengths)
    assert np.array_equal(codes, canonical_codes(lengths) << (LONGEST_CODE - lengths.astype(np.uint32)))
    again, rest = HuffmanTable.from_bytes(table.to_bytes(machine) + b"rest", machine)
    assert (again, rest) == (table, b"rest")
    coded = huffman_encode(content, table, machine)
    word = machine.weight_word_bytes
    assert len(coded) % word == 0
    # no more than the counts, and what lanes have asked for when the longest ends
    bits = lengths[np.frombuffer(content, np.uint8)].reshape(-1, machine.bus_bytes).sum(axis=0, dtype=int)
    assert len(coded) <= word + machine.bus_bytes * (bits // machine.bus_width + 3).sum() + word
    for behind in (0, 2 * word):
        assert huffman_decode(coded + bytes(behind), table, machine) == content


@settings(max_examples=150, deadline=None)
@given(blocks(), st.data())
def test_what_no_encoder_makes_is_an_error_or_bytes(case, data):
    machine, content, lengths = case
    table = HuffmanTable.from_lengths(lengths)
    coded = bytearray(huffman_encode(content, table, machine))
    for _ in range(data.draw(st.integers(1, 3))):
        # but not a count of billions
        place = data.draw(st.integers(0, len(coded) - 1).filter(lambda at: at in (0, 4) or at >= 8))
        coded[place] ^= 1 << data.draw(st.integers(0, 7))
    cut = len(coded) - machine.weight_word_bytes * data.draw(st.integers(0, 2))
    try:
        found = huffman_decode(bytes(coded[: max(cut, 0)]), table, machine)
    except HuffmanStreamError:
        return
    assert len(found) % machine.weight_word_bytes == 0


def test_the_order_of_beats_is_that_of_the_lanes_needs():
    """A lane of codes of eight bits and seven of one bit: it takes eight beats for each one of theirs."""
    machine = MACHINES[0]
    content = np.zeros((640, 8), np.uint8)
    content[:, 3] = np.tile(np.arange(1, 129), 5)
    table = HuffmanTable.from_lengths(np.array([1] + [8] * 128 + [0] * 127))
    coded = huffman_encode(content.tobytes(), table, machine)
    beats = np.frombuffer(coded, "<u8")[2:]
    assert np.array_equal(beats[:16] != 0, np.tile(np.arange(8) == 3, 2))
    # 80 beats of lane 3, 10 of each other one and two that it asks for before lane 3 asks for its last
    assert (beats != 0).sum() == 80
    assert len(beats) == 80 + 7 * 12
    assert huffman_decode(coded, table, machine) == content.tobytes()


@pytest.mark.parametrize(
    ("lengths", "words"),
    [(np.zeros(256, int), "the largest 1 to 10"), (np.full(256, 11), "the largest 1 to 10"),
     (np.ones(255, int), "256 code lengths"), (np.full(256, 7), "over-subscribed")],
)
def test_bad_lengths(lengths, words):
    with pytest.raises(HuffmanStreamError, match=words):
        HuffmanTable.from_lengths(lengths)


def test_bytes_without_codes():
    machine = MACHINES[0]
    table = HuffmanTable.from_lengths(np.array([1, 1] + [0] * 254))
    with pytest.raises(HuffmanStreamError, match="no code"):
        huffman_encode(bytes([0, 1, 2, 3] * 4), table, machine)
    lone = HuffmanTable.from_lengths(np.array([1] + [0] * 255))
    coded = bytearray(huffman_encode(bytes(16), lone, machine))
    coded[16] = 1
    with pytest.raises(HuffmanStreamError, match="no symbol"):
        huffman_decode(bytes(coded), lone, machine)
    with pytest.raises(HuffmanStreamError, match="ends in its table"):
        HuffmanTable.from_bytes(lone.to_bytes(machine)[:32], machine)
