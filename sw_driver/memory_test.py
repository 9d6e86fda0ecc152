"""Finds faults of the external memory, before anything is computed with it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sw_driver.accelerator import Accelerator, Progress

__all__ = ["MemoryFault", "used_regions", "exercise_memory", "exercised_bytes"]

Region = tuple[int, int]  #: first byte, number of bytes

#: A region longer than this is tested in blocks spread evenly over it.
_WHOLE_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 14


class MemoryFault(ValueError):
    """The external memory does not hold what was written; the message says where, and which bits."""


def used_regions(ranges: Iterable[Region]) -> list[Region]:
    """Sorted regions that do not touch, covering the given ones."""
    merged: list[Region] = []
    for address, count in sorted(ranges):
        if count and merged and address <= merged[-1][0] + merged[-1][1]:
            first, length = merged[-1]
            merged[-1] = (first, max(length, address + count - first))
        elif count:
            merged.append((address, count))
    return merged


def _pieces(regions: list[Region]) -> list[Region]:
    """Blocks to test: everything, or evenly spread blocks that add up to `_WHOLE_BYTES`."""
    blocks = [
        (start, min(_BLOCK_BYTES, address + count - start))
        for address, count in regions
        for start in range(address, address + count, _BLOCK_BYTES)
    ]
    most = _WHOLE_BYTES // _BLOCK_BYTES
    if len(blocks) > most:
        blocks = [blocks[index] for index in np.linspace(0, len(blocks) - 1, most).astype(int)]
    return blocks


def exercised_bytes(regions: list[Region]) -> int:
    """Bytes that `exercise_memory` moves, for its progress."""
    return 4 * sum(count for _, count in _pieces(regions))


def _pattern(address: int, count: int, inverted: bool = False) -> bytes:
    values = np.frombuffer(np.random.default_rng(address).bytes(count), np.uint8)
    return (values ^ (255 * inverted)).astype(np.uint8).tobytes()


def exercise_memory(accelerator: Accelerator, regions: list[Region], progress: Progress | None = None) -> int:
    """Write and read back patterns; what the regions held is lost.

    First each data bit alone, then each address bit alone over the whole memory, then
    pseudo-random bytes and their complement in all regions, all written before any is read, so that
    places that alias are found too.

    Returns
    -------
    int
        Bytes that were tested.

    Raises
    ------
    MemoryFault
        At the first difference.
    """
    link = accelerator.link
    walking = b"".join((1 << bit).to_bytes(16, "little") for bit in range(128))
    walking += bytes(byte ^ 255 for byte in walking)
    base = regions[0][0] if regions else 0
    walking = walking[: link.memory_bytes - base]
    link.write_memory(base, walking)
    _compare("data line", base, walking, link.read_memory(base, len(walking)))

    # one marker at 0 and one at each power of two: an address line that is stuck puts two in one place
    places = [0, *(1 << bit for bit in range(3, 32) if (1 << bit) + 8 <= link.memory_bytes)]
    for place in places:
        link.write_memory(place, _pattern(place, 8))
    for place in places:
        _compare("address line", place, _pattern(place, 8), link.read_memory(place, 8))

    pieces = _pieces(regions)
    for inverted in (False, True):  # each cell must hold a 0 and a 1
        for address, count in pieces:
            accelerator.write(address, _pattern(address, count, inverted), progress)
        for address, count in pieces:
            _compare(
                "cell",
                address,
                _pattern(address, count, inverted),
                accelerator.read(address, count, progress),
            )
    return sum(count for _, count in pieces)


def _compare(what: str, address: int, written: bytes, found: bytes) -> None:
    if written == found:
        return
    difference = np.frombuffer(written, np.uint8) ^ np.frombuffer(found, np.uint8)
    wrong = np.flatnonzero(difference)
    first = int(wrong[0])
    bits = int(np.bitwise_or.reduce(difference))
    raise MemoryFault(
        f"memory {what}s: {len(wrong)} of {len(written)} bytes wrong, the first at {address + first:#x}: "
        f"wrote {written[first]:#04x}, read {found[first]:#04x} (bits that differ anywhere: {bits:#04x}); "
        "the external memory or its controller is at fault, not the array: check that the bitstream was "
        "built for this board's memory, or build it with a lower clock"
    )
