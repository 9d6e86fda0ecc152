"""Places of words in the scratchpad, as benches give and read them: bits of `hw.scratchpad.place_layout`."""

from __future__ import annotations

from amaranth.utils import exact_log2

from hw.scratchpad import ADDRESS_WIDTH

__all__ = ["address_of", "place_of", "unwanted"]


def place_of(address: int, banks: int) -> int:
    """The place of the word with this address."""
    return address // banks | (1 << address % banks) << (ADDRESS_WIDTH - exact_log2(banks))


def address_of(place: int, banks: int) -> int:
    """The address of the word at this place; its bank must be one."""
    row_bits = ADDRESS_WIDTH - exact_log2(banks)
    bank = place >> row_bits
    assert bank.bit_count() == 1, f"not one bank: {bank:b}"
    return (place & ((1 << row_bits) - 1)) * banks + bank.bit_length() - 1


def unwanted(place: int, banks: int) -> int:
    """The same row, and nobody who wants it."""
    return place & ((1 << ADDRESS_WIDTH - exact_log2(banks)) - 1)
