"""Blocks read one after another: codebooks and tables stay, and errors say what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from hw.huffman_stream import LONGEST_CODE, HuffmanTable, huffman_encode
from hw.machine import Machine
from hw.weight_block import WeightBlockReader, block_front
from hw.weight_stream import BlockHeader, Encoding, WeightStreamError, encode_tiles, encodings_of
from quant.encoding.huffman import code_lengths

MACHINE = Machine(weight_decoder=True, huffman_decoder=True)
TILES = np.random.default_rng(0).choice([-3, 0, 0, 0, 7], (3, 4, 128)).astype(np.int8)
BOOK = encodings_of(TILES, MACHINE)[Encoding.FOUR_BITS]
STREAMS = encode_tiles(TILES, Encoding.FOUR_BITS, BOOK, MACHINE)
TABLE = HuffmanTable.from_lengths(
    code_lengths(np.bincount(np.frombuffer(b"".join(STREAMS), np.uint8), minlength=256), LONGEST_CODE)
)


@pytest.mark.parametrize("huffman", [False, True])
def test_codebook_and_table_stay(huffman: bool) -> None:
    reader = WeightBlockReader(MACHINE)
    for number, stream in enumerate(STREAMS):
        first = number == 0
        header = BlockHeader(Encoding.FOUR_BITS, first, huffman, first and huffman)
        content = huffman_encode(stream, TABLE, MACHINE) if huffman else stream
        if first:
            content = block_front(BOOK.tobytes(), TABLE if huffman else None, MACHINE) + content
        assert np.array_equal(reader.read(header, content, 4), TILES[number])


@pytest.mark.parametrize(
    ("machine", "header", "content", "words"),
    [
        (Machine(), BlockHeader(Encoding.SPARSE_VALUES), b"", "no weight decoder"),
        (Machine(weight_decoder=True), BlockHeader(huffman=True), b"", "no Huffman decoder"),
        (MACHINE, BlockHeader(table=True), b"", "a table and no codes"),
        (MACHINE, BlockHeader(Encoding.SPARSE, codebook=True), b"", "ends in its codebook"),
        (MACHINE, BlockHeader(huffman=True, table=True), bytes(32), "ends in its table"),
        (MACHINE, BlockHeader(huffman=True), b"", "there has been no table"),
        (MACHINE, BlockHeader(Encoding.FOUR_BITS), STREAMS[0], "there has been no codebook"),
        (MACHINE, BlockHeader(huffman=True, table=True), TABLE.to_bytes(MACHINE), "front of its coded words"),
    ],
)
def test_errors(machine: Machine, header: BlockHeader, content: bytes, words: str) -> None:
    with pytest.raises(WeightStreamError, match=words):
        WeightBlockReader(machine).read(header, content, 4)
