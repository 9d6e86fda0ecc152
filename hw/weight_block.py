"""What comes behind a block's parameters: a codebook, a table, and tiles, each encoded as the header says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.huffman_stream import HuffmanStreamError, HuffmanTable, huffman_decode
from hw.machine import Machine
from hw.weight_stream import CODEBOOK_ENTRIES, BlockHeader, WeightStreamError, decode_tiles

__all__ = ["WeightBlockReader", "block_front"]


def block_front(codebook: bytes, table: HuffmanTable | None, machine: Machine) -> bytes:
    """What a block brings in front of its tiles: whole weight words.

    ``codebook``: empty if it brings none.
    """
    front = codebook + bytes(-len(codebook) % machine.weight_word_bytes)
    return front if table is None else front + table.to_bytes(machine)


class WeightBlockReader:
    """Reads blocks one after another, as the decoder does; keeps codebook and table.

    Parameters
    ----------
    machine : Machine
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._codebook: NDArray[np.int8] | None = None
        self._table: HuffmanTable | None = None

    def read(self, header: BlockHeader, content: bytes, tiles: int) -> NDArray[np.int8]:
        """The tiles of the next block, (tiles, tile_bytes).

        Raises
        ------
        WeightStreamError
            If the machine has not the decoder that it takes, or the content is not what an encoder makes.
        """
        machine = self.machine
        if header.huffman and not machine.huffman_decoder:
            raise WeightStreamError("this machine has no Huffman decoder")
        if header != BlockHeader() and not machine.weight_decoder:
            raise WeightStreamError("this machine has no weight decoder")
        if header.table and not header.huffman:
            raise WeightStreamError("a block has a table and no codes")
        if header.codebook:
            if len(content) < CODEBOOK_ENTRIES:
                raise WeightStreamError("a block ends in its codebook")
            self._codebook = np.frombuffer(content, np.int8, CODEBOOK_ENTRIES)
            content = content[len(block_front(content[:CODEBOOK_ENTRIES], None, machine)) :]
        try:
            if header.table:
                self._table, content = HuffmanTable.from_bytes(content, machine)
            if header.huffman:
                if self._table is None:
                    raise WeightStreamError("a block has codes, but there has been no table")
                content = huffman_decode(content, self._table, machine)
        except HuffmanStreamError as error:
            raise WeightStreamError(str(error)) from None
        if self._codebook is None and header.encoding.has_codebook:
            raise WeightStreamError("a block has indices, but there has been no codebook")
        codebook = np.zeros(CODEBOOK_ENTRIES, np.int8) if self._codebook is None else self._codebook
        return decode_tiles(content, header.encoding, codebook, tiles, machine)
