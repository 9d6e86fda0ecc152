"""Heights of the strips of an operation that loads, computes and stores about equally long.

A strip is computed when all of it has come, and stored when all of it is computed.  So what a strip adds to
the last load is its own computing and storing, less what the strips behind it cost besides their words.
Strips that become lower by just that end together; the smaller the cost of a strip, the lower they may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["StripCosts", "Strips", "lower_strips"]

#: Rows of each strip of each group of output blocks, from the top.
Strips = tuple[tuple[int, ...], ...]

#: Cycles from the last beat of a load to the first word of the COMPUTE that waits for it, from its last word
#: to the first word of the STORE, and from that one's last beat to its end.
_LOADED, _COMPUTED, _STORED = 24, 40, 14
#: Words that are read before the first burst of a store is asked for.
_BURST_WORDS = 32
#: Strips whose instructions are read ahead, and how many beats of weights and instructions there are for one
#: of the words meanwhile.
_QUEUED, _OTHERS_SHARE = 8, 0.3
#: Beats' time that such a memory loses with each strip, to rows of its own and turns of the bus.
_TURN = 6
#: Cycles of a beat of a narrow memory; the weight of a fast one in the choice, as large as it is because
#: only there strips count for much, and the narrow one's traffic has been weighed when tiles were chosen.
_NARROW, _FAST_WEIGHT = 4.0, 0.7
#: Costs for which strips are tried, in beats.
_TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 56, 80)


@dataclass(frozen=True)
class StripCosts:
    """What rows and strips of an operation cost.

    Attributes
    ----------
    rows, groups, most : int
        Rows of the output, groups of output blocks, most rows of a strip.
    new_rows : float
        Input rows that a row of output brings.
    ahead : int
        Input rows that the first strip of a group needs besides.
    load_row, store_row : float
        Beats of an input row of one group, of an output row.
    loads_whole : bool
        Every strip loads all the rows that it reads, also those that the one before has read.
    compute_row, compute_strip : float
        Cycles of an output row; of a strip besides.
    strip, group : float
        Beats that are read for each strip, for each group, besides its words.
    slots : int
        Strips that may be computed and not stored; 0: any.
    """

    rows: int
    groups: int
    most: int
    new_rows: float
    ahead: int
    load_row: float
    store_row: float
    loads_whole: bool
    compute_row: float
    compute_strip: float
    strip: float
    group: float
    slots: int

    def _loads(self, strips: Strips) -> Iterator[tuple[float, int]]:
        """Beats of the words that each strip loads, and its rows."""
        for heights in strips:
            done, come = 0, 0.0
            for height in heights:
                done += height
                wanted = min(done * self.new_rows + self.ahead, self.rows * self.new_rows)
                yield (wanted - come) * self.load_row, height
                come = wanted - (self.ahead if self.loads_whole else 0)

    def _others(self, strips: Strips) -> float:
        """Beats of weights and instructions."""
        return self.groups * self.group + sum(map(len, strips)) * self.strip

    def fast(self, strips: Strips, slowness: float) -> float:
        """Cycles on a memory whose beats take so many and which reads and writes at once."""
        words = array = bus = 0.0
        ends, most = list[float](), self._others(strips)
        for number, (beats, height) in enumerate(self._loads(strips)):
            words += beats
            # of weights and instructions as many are read ahead as there is room for, or time
            others = self.groups * self.group + (number + 1 + _QUEUED) * self.strip
            others = min(others, most, self.group + self.strip * (number + 1) + words * _OTHERS_SHARE)
            start = max(slowness * (words + others) + _LOADED, array)
            if self.slots and len(ends) >= self.slots:
                start = max(start, ends[-self.slots])
            array = start + height * self.compute_row + self.compute_strip
            stored = height * self.store_row
            bus = max(array + _COMPUTED + min(stored, _BURST_WORDS), bus) + slowness * stored
            ends.append(bus + _STORED)
        return ends[-1]

    def narrow(self, strips: Strips, slowness: float) -> float:
        """Cycles on a memory that reads and writes in turn, and is busy all the time."""
        read = sum(beats for beats, _ in self._loads(strips)) + self._others(strips)
        read += sum(map(len, strips)) * _TURN
        written = self.groups * self.rows * self.store_row
        return slowness * (read + written) + strips[-1][-1] * self.compute_row


def _falling(costs: StripCosts, strip: float) -> Strips:
    """Strips of which each is lower than the one before by as much as ``strip`` beats make up."""
    row = costs.compute_row + costs.store_row
    least, most = 0.0, costs.rows * costs.groups * (row + strip)

    def strips(end: float) -> tuple[Strips, bool]:
        """Those that all end so long after the loads of the words alone; whether the last does."""
        found, before, height = list[tuple[int, ...]](), 0.0, 0
        for _ in range(costs.groups):
            heights = list[int]()
            while (left := costs.rows - sum(heights)) > 0:
                before += strip
                height = max(1, min(int((end - before) / row), costs.most, left))
                heights.append(height)
            found.append(tuple(heights))
        return tuple(found), before + height * row <= end

    for _ in range(20):
        middle = (least + most) / 2
        least, most = (least, middle) if strips(middle)[1] else (middle, most)
    return strips(most)[0]


def lower_strips(costs: StripCosts, present: Strips) -> Strips | None:
    """Strips that are better than the present ones by more than 2 %; None: there are none.

    Parameters
    ----------
    costs : StripCosts
    present : Strips
    """

    def relative(strips: Strips) -> float:
        fast = costs.fast(strips, 1.0) / costs.fast(present, 1.0)
        narrow = costs.narrow(strips, _NARROW) / costs.narrow(present, _NARROW)
        return _FAST_WEIGHT * fast + (1 - _FAST_WEIGHT) * narrow

    best = min((_falling(costs, strip) for strip in _TRIED), key=relative)
    return best if relative(best) < 0.98 * relative(present) else None
