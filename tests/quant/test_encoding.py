"""Codebooks, relative indices, Huffman codes and the file: lossless for anything, an error for damage."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.encoding import (
    LENGTH_LIMIT,
    BitCode,
    EncodingError,
    StoredLayer,
    canonical_codes,
    check_lengths,
    code_lengths,
    decode_fields,
    decode_layer,
    encode_fields,
    encode_layer,
    nearest_entries,
    positions_of,
    read_weight_file,
    relative_indices,
    split_into_codebook,
    weight_file_bytes,
)
from quant.encoding.weight_file import MAGIC

RANDOM = np.random.default_rng(1)


def sparse_weights(size: int, kept: float, values: int) -> np.ndarray:
    book = RANDOM.normal(size=values).astype(np.float32)
    return np.where(RANDOM.random(size) < kept, RANDOM.choice(book, size), 0).astype(np.float32)


LAYERS = {
    "empty": np.zeros((0, 3), np.float32),
    "one weight": np.full((1, 1, 1, 1), 0.5, np.float32),
    "one symbol": np.full((4, 5), -0.25, np.float32),
    "all zero": np.zeros((7, 3, 3, 3), np.float32),
    "ternary": RANDOM.choice(np.float32([-0.5, 0, 0.75]), (8, 4, 3, 3)),
    "sparse": sparse_weights(5000, 0.05, 31).reshape(50, 100),
    "dense": sparse_weights(500, 1.0, 256).reshape(5, 100),
    "255 values and 0": np.arange(512).clip(0, 255).astype(np.float32),
    "last only": np.append(np.zeros(999, np.float32), np.float32(1)),
    "first only": np.append(np.float32(1), np.zeros(999, np.float32)),
}


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and (ours.view(np.uint32) == (theirs + 0).view(np.uint32)).all()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_bit_for_bit(name: str) -> None:
    weights = LAYERS[name]
    encoded = encode_layer(weights)
    assert same(decode_layer(encoded), weights)
    for bits in (1, 3, 5, 8):
        assert same(decode_layer(encode_layer(weights, (bits,))), weights)
    bias = RANDOM.normal(size=3).astype(np.float32)
    content = weight_file_bytes([StoredLayer(name, encoded, bias), StoredLayer("ü", encoded, bias[:0])])
    first, second = read_weight_file(content)
    assert (first.name, second.name) == (name, "ü")
    assert (first.bias == bias).all()
    assert not len(second.bias)
    assert same(decode_layer(first.weights), weights)
    assert same(decode_layer(second.weights), weights)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7),
        elements=st.one_of(
            st.just(0.0), st.just(-0.0), st.floats(width=32, allow_nan=False, allow_infinity=False)
        ),
    ),
    st.one_of(st.none(), st.integers(1, 8).map(lambda bits: (bits,))),
)
@settings(max_examples=150, deadline=None)
def test_any_array_comes_back(weights: np.ndarray, index_bits: tuple[int, ...] | None) -> None:
    try:
        encoded = encode_layer(weights, index_bits)
    except EncodingError:
        assert len(np.unique(weights)) > 255
        return
    (layer,) = read_weight_file(weight_file_bytes([StoredLayer("w", encoded, np.zeros(0, np.float32))]))
    assert same(decode_layer(layer.weights), weights)


def test_too_many_values_and_values_that_are_no_number() -> None:
    with pytest.raises(EncodingError, match="share weights first"):
        encode_layer(np.arange(1, 300, dtype=np.float32))
    with pytest.raises(EncodingError, match="finite"):
        encode_layer(np.float32([1, np.nan]))


# relative indices


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_gaps_at_the_filler_boundary(bits: int) -> None:
    span = 1 << bits
    for zeros, fillers in [(0, 0), (span - 1, 0), (span, 1), (2 * span - 1, 1), (2 * span, 2)]:
        gaps, sources = relative_indices([zeros], bits)
        assert (sources == -1).sum() == fillers
        assert gaps.max() < span
        assert positions_of(gaps)[-1] == zeros


def test_the_example_of_the_paper() -> None:
    # figure 2: 3-bit differences 1, 3, 8 (filler) and 3, counted from 1 there, from the entry before
    gaps, sources = relative_indices([1, 4, 15], 3)
    assert (gaps + 1).tolist() == [2, 3, 8, 3]
    assert sources.tolist() == [0, 1, -1, 2]


@given(st.lists(st.integers(0, 2000), unique=True), st.integers(1, 8))
@settings(deadline=None)
def test_positions_come_back(positions: list[int], bits: int) -> None:
    gaps, sources = relative_indices(sorted(positions), bits)
    assert positions_of(gaps)[sources >= 0].tolist() == sorted(positions)


@pytest.mark.parametrize(("positions", "bits"), [([3, 2], 4), ([-2], 4), ([1, 1], 4), ([1], 0), ([1], 9)])
def test_refused_positions(positions: list[int], bits: int) -> None:
    with pytest.raises(EncodingError):
        relative_indices(positions, bits)


# Huffman codes


def huffman_cost(counts: list[int]) -> int:
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    return cost


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
@settings(deadline=None)
def test_lengths_are_optimal_and_codes_prefix_free(counts: list[int]) -> None:
    lengths = code_lengths(counts)
    check_lengths(lengths)
    assert ((lengths > 0) == (np.array(counts) > 0)).all()
    if np.count_nonzero(counts) > 1:
        assert int((lengths.astype(int) * counts).sum()) == huffman_cost(counts)
    codes = [f"{code:0{length}b}" for code, length in zip(canonical_codes(lengths), lengths) if length]
    assert not any(b.startswith(a) for a, b in itertools.permutations(codes, 2))


def test_the_limit_on_lengths_holds_and_costs_little() -> None:
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])  # the deepest tree
    lengths = code_lengths(counts)
    assert lengths.max() == LENGTH_LIMIT
    check_lengths(lengths)
    assert code_lengths([5, 1, 1, 1], 2).tolist() == [2, 2, 2, 2]
    with pytest.raises(EncodingError, match="do not fit"):
        code_lengths([1] * 5, 2)


def test_canonical_codes_are_those_of_deflate() -> None:
    # the example of RFC 1951, 3.2.2
    assert canonical_codes([3, 3, 3, 3, 3, 2, 4, 4]).tolist() == [2, 3, 4, 5, 6, 0, 14, 15]
    # the first code is sent from its most significant bit: 010 is the byte 0b010 backwards
    assert encode_fields((np.array([0]),), (BitCode.of_lengths([3, 3, 3, 3, 3, 2, 4, 4]),)) == (b"\x02", 3)
    assert encode_fields((np.array([6]),), (BitCode.plain(3),)) == (b"\x06", 3)


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 2], [2], [16, 1]])
def test_lengths_that_are_no_code(lengths: list[int]) -> None:
    with pytest.raises(EncodingError):
        BitCode.of_lengths(lengths)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=300))
@settings(deadline=None)
def test_rows_of_two_codes_come_back(rows: list[tuple[int, int]]) -> None:
    table = np.array(rows, np.int64).reshape(-1, 2)
    codes = BitCode.plain(2), BitCode.of_lengths(code_lengths(np.bincount(table[:, 1], minlength=1)))
    stream, bits = encode_fields((table[:, 0], table[:, 1]), codes)
    first, second = decode_fields(stream, bits, len(table), codes)
    assert np.array_equal(first, table[:, 0])
    assert np.array_equal(second, table[:, 1])


def test_long_streams_are_decoded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.encoding.bit_code._CHUNK", 64)
    weights = LAYERS["sparse"]
    assert same(decode_layer(encode_layer(weights)), weights)


@given(st.binary(max_size=80), st.integers(0, 700), st.integers(0, 400), st.lists(st.integers(0, 15)))
@settings(max_examples=300, deadline=None)
def test_random_bits_give_symbols_or_an_error(
    content: bytes, bits: int, rows: int, lengths: list[int]
) -> None:
    try:
        code = BitCode.of_lengths(lengths)
    except EncodingError:
        code = BitCode.of_lengths([2, 2, 2, 3, 3])
    try:
        first, second = decode_fields(content, bits, rows, (code, BitCode.plain(3)))
    except EncodingError:
        return
    assert len(first) == len(second) == rows


# codebooks


def test_codebooks() -> None:
    book, indices = split_into_codebook([0.5, -0.0, 0.5, -1], zero_first=True)
    assert book.tolist() == [0, -1, 0.5]
    assert indices.tolist() == [2, 0, 2, 1]
    assert nearest_entries([-5, 0.2, 0.25, 0.3, 9], np.float32([0.5, 0, 1])).tolist() == [1, 1, 1, 0, 2]


# the file


def whole_file() -> bytes:
    return weight_file_bytes(
        [StoredLayer(name, encode_layer(LAYERS[name]), np.zeros(4, np.float32)) for name in LAYERS]
    )


def test_every_truncation_is_an_error() -> None:
    content = whole_file()
    for length in [*range(64), *range(64, len(content), 37), len(content) - 1]:
        with pytest.raises(EncodingError):
            read_weight_file(content[:length])


def test_every_flipped_bit_is_found() -> None:
    content = bytearray(whole_file())
    for place in range(0, len(content), 13):
        content[place] ^= 1 << place % 8
        with pytest.raises(EncodingError):
            read_weight_file(bytes(content))
        content[place] ^= 1 << place % 8


def decode_all(content: bytes) -> None:
    for layer in read_weight_file(content):
        decode_layer(layer.weights)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_under_a_right_checksum_is_a_result_or_an_error(data: st.DataObject) -> None:
    content = bytearray(
        weight_file_bytes(
            [
                StoredLayer("a", encode_layer(LAYERS["ternary"]), np.zeros(2, np.float32)),
                StoredLayer("b", encode_layer(LAYERS["sparse"][:2]), np.zeros(2, np.float32)),
            ]
        )[:-4]
    )
    for place in data.draw(st.lists(st.integers(4, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(EncodingError):
        decode_all(bytes(content) + struct.pack("<I", zlib.crc32(content)))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_noise_under_a_right_checksum_is_a_result_or_an_error(noise: bytes) -> None:
    content = MAGIC + noise
    with contextlib.suppress(EncodingError):
        decode_all(content + struct.pack("<I", zlib.crc32(content)))


def test_other_files_and_versions() -> None:
    with pytest.raises(EncodingError, match="not a file of compressed weights"):
        read_weight_file(b"\x08\x0aonnx", "net.onnx")
    with pytest.raises(EncodingError, match="version 9"):
        read_weight_file(b"PSW\x09" + bytes(20))
