"""Lossless encodings of weights: codebook, relative indices, canonical Huffman codes (`docs/compression.md`).

Only numpy.  The stream that `encode_layer` makes is the one definition for files, compiler and decoder.
"""

from quant.encoding.bit_code import BitCode, decode_fields, encode_fields
from quant.encoding.codebook import LARGEST_CODEBOOK, look_up, nearest_entries, split_into_codebook
from quant.encoding.error import EncodingError
from quant.encoding.huffman import LENGTH_LIMIT, canonical_codes, check_lengths, code_lengths
from quant.encoding.layer_stream import EncodedLayer, IndexWidths, decode_layer, encode_layer
from quant.encoding.published_file import read_published_file
from quant.encoding.relative_index import LARGEST_INDEX_BITS, positions_of, relative_indices
from quant.encoding.weight_file import StoredLayer, read_weight_file, weight_file_bytes

__all__ = [
    "LARGEST_CODEBOOK",
    "LARGEST_INDEX_BITS",
    "LENGTH_LIMIT",
    "BitCode",
    "EncodedLayer",
    "EncodingError",
    "IndexWidths",
    "StoredLayer",
    "canonical_codes",
    "check_lengths",
    "code_lengths",
    "decode_fields",
    "decode_layer",
    "encode_fields",
    "encode_layer",
    "look_up",
    "nearest_entries",
    "positions_of",
    "read_published_file",
    "read_weight_file",
    "relative_indices",
    "split_into_codebook",
    "weight_file_bytes",
]
