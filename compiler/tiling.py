"""The sizes of the pieces that an operation is cut into (`compiler.tile` chooses them)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.strips import Strips

__all__ = ["Tiling", "strip_heights"]

#: The last stores of an operation are made smaller down to so many words.
LEAST_LAST_WORDS = 8


@dataclass(frozen=True)
class Tiling:
    """Sizes of the pieces and of the places for them.

    Attributes
    ----------
    tile_rows, tile_columns : int
        Output pixels computed together, at most ``accumulator_depth``.
    group_blocks : int
        Output blocks that share the input planes of one load.
    chunk_blocks : int
        Output blocks between two stores.
    source_slots, source_words : int
        Places for input tiles in the scratchpad and the words of each; 0 if the whole map is there.
    destination_slots, destination_words : int
        The same for outputs.
    cycles : int
        Modelled duration, for comparison only.
    first_rows, last_rows : int
        Rows of the first group's first and the last group's last strip of tiles where they are lower, so
        that less of loading and storing stands alone; 0 where not.
    source_pitch : int
        Least words from row to row in a source slot; 0: as many as the row has.
    strips : Strips
        Rows of each strip of each group, where they are of many heights (`compiler.strips`); else empty.
    """

    tile_rows: int
    tile_columns: int
    group_blocks: int
    chunk_blocks: int
    source_slots: int
    source_words: int
    destination_slots: int
    destination_words: int
    cycles: int
    first_rows: int = 0
    last_rows: int = 0
    source_pitch: int = 0
    strips: Strips = ()

    def heights(self, rows: int, group: int, groups: int) -> Sequence[int]:
        """Rows of each strip of tiles of an output of ``rows`` rows, from the top, for one of the groups."""
        return self.strips[group] if self.strips else self.ramp(rows, group == 0, group == groups - 1)

    def ramp(self, rows: int, first: bool, last: bool) -> list[int]:
        """Those without ``strips``, for the first, the last or another group."""
        return strip_heights(rows, self.tile_rows, first * self.first_rows, last * self.last_rows)

    def chunks(self, blocks: int, together: int, last: bool) -> list[int]:
        """Output blocks of each store of a tile, the first one of ``together`` if that is not 0; the ``last``
        tile of an operation ends with fewer and fewer, so that little is left to store in the end."""
        whole, rest = divmod(blocks - together, self.chunk_blocks)
        sizes = [together] * (together > 0) + [self.chunk_blocks] * whole + [rest] * (rest > 0)
        if last and (len(sizes) > 1 or not together):
            left = sizes.pop()
            least = LEAST_LAST_WORDS // (self.tile_rows * self.tile_columns)
            while left > max(least, 1):
                sizes.append(-(-left // 2))
                left //= 2
            sizes.append(left)
        return sizes

    @property
    def words(self) -> int:
        """Scratchpad words of all slots."""
        return self.source_slots * self.source_words + self.destination_slots * self.destination_words


def strip_heights(rows: int, tile_rows: int, first: int, last: int) -> list[int]:
    """Rows of each strip: the first and last of so many rows unless that is 0, others as high as a tile."""
    whole, rest = divmod(rows - first - last, tile_rows)
    return [height for height in (first, *[tile_rows] * whole, rest, last) if height]
