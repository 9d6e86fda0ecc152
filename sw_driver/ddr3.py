"""Calibrates a board's DDR3 memory: start sequence, read leveling, a first memory test.

For each byte lane the PHY has a bitslip (by how many transfers the data are late) and a delay of the
window in which the memory's strobe is listened to.  Of all pairs some read the memory right; the one
in the middle of the widest row of them is chosen (docs/ddr3.md).
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

from hw.ddr3_description import (
    CONTROL,
    DESCRIPTION,
    HARDWARE_CONTROL,
    MAGIC,
    SCRIPT,
    TRANSFERS,
    DDR3Description,
    Script,
)
from sw_driver.link import Link, LinkError

__all__ = ["Calibration", "CalibrationError", "Lane", "calibrate"]

#: Patterns that each setting must read back without an error.
_SEEDS = (42, 84, 36)
#: How often the chosen settings must read all patterns.
_REPEATS = 4
#: More than the start sequence takes at any clock.
_START_SECONDS = 5.0
_DESCRIPTION_WORDS = 64
_TEST_BYTES = 2048


@dataclass(frozen=True)
class Lane:
    """What was found for one byte lane.

    Attributes
    ----------
    errors : list of list of int
        Wrong bits for each bitslip and delay; a strobe that was not seen counts as one.
    bitslip, delay : int or None
        What was chosen; None if nothing reads right.
    first, last : int or None
        Delays that read right around the chosen one.
    strobe_seen : bool
        Whether the memory's strobe was seen with any setting.
    """

    errors: list[list[int]]
    strobe_seen: bool
    bitslip: int | None = None
    delay: int | None = None
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.bitslip is None:
            return "no setting reads right" + ("" if self.strobe_seen else ", its strobe was never seen")
        return f"bitslip {self.bitslip}, delay {self.delay} of {self.first} to {self.last}"

    def chart(self) -> list[str]:
        """One line for each bitslip: a dot for a delay that reads right, x for one that does not."""
        return [
            f"bitslip {bitslip}: |" + "".join("." if count == 0 else "x" for count in row) + "|"
            for bitslip, row in enumerate(self.errors)
        ]


@dataclass(frozen=True)
class Calibration:
    """The settings of all byte lanes."""

    lanes: list[Lane]

    def __str__(self) -> str:
        return "; ".join(f"lane {number}: {lane}" for number, lane in enumerate(self.lanes))

    def to_json(self) -> list[dict[str, Any]]:
        """The lanes as JSON objects."""
        return [asdict(lane) for lane in self.lanes]


class CalibrationError(LinkError):
    """The memory cannot be calibrated; the message says which byte lane fails and how.

    Attributes
    ----------
    calibration : Calibration or None
        What was measured.
    """

    def __init__(self, message: str, calibration: Calibration | None = None) -> None:
        super().__init__(message)
        self.calibration = calibration


def calibrate(link: Link) -> Calibration:
    """Start and calibrate the memory, test some of it, and hand it to the accelerator.

    What the memory held is lost.

    Raises
    ------
    CalibrationError
        If the memory does not work, or this board has none that needs calibration.
    LinkError
        If the board does not answer.
    """
    phy = _Phy(link)
    phy.start()
    lanes = phy.scan()
    calibration = Calibration(lanes)
    bad = [number for number, lane in enumerate(lanes) if lane.bitslip is None]
    if bad:
        phy.give_up()
        charts = " ".join(f"lane {number} {' '.join(lanes[number].chart())}" for number in bad)
        raise CalibrationError(_fault(link, f"{calibration} ({charts})"), calibration)
    phy.choose(lanes)
    for _ in range(_REPEATS):
        for lane, (count, _) in enumerate(phy.errors()):
            if count:
                phy.give_up()
                raise CalibrationError(
                    _fault(link, f"lane {lane} does not keep reading right with {lanes[lane]}"), calibration
                )
    phy.hand_over()
    written = random.Random(1).randbytes(_TEST_BYTES)
    link.write_memory(0, written)
    read = link.read_memory(0, _TEST_BYTES)
    if read != written:
        phy.give_up()
        wrong = [index for index, (one, other) in enumerate(zip(written, read)) if one != other]
        raise CalibrationError(
            _fault(
                link, f"{len(wrong)} of {_TEST_BYTES} bytes wrong after calibration, first at {wrong[0]:#x}"
            ),
            calibration,
        )
    return calibration


def _fault(link: Link, what: str) -> str:
    return (
        f"{link.name}: DDR3 calibration: {what}; the external memory, its pins or its clock are at fault, "
        "not the array: check that the bitstream was built for this board, or build it with another clock"
    )


class _Phy:
    """The PHY's registers, as operations."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.description = self._describe()
        self._patterns = [
            random.Random(seed).randbytes(TRANSFERS * self.description.lanes * len(self.description.phases))
            for seed in _SEEDS
        ]

    def _describe(self) -> DDR3Description:
        try:
            words = [self._link.read_register(DESCRIPTION)]
        except LinkError as error:
            raise CalibrationError(
                f"{self._link.name}: this board's memory needs no calibration ({error})"
            ) from None
        if words[0] == MAGIC:
            found = None
            while found is None and len(words) < _DESCRIPTION_WORDS:
                words.append(self._link.read_register(DESCRIPTION + 4 * len(words)))
                found = DDR3Description.decode(words)
            if found is not None:
                return found
        raise CalibrationError(
            f"{self._link.name}: the board does not describe its memory; build bitstream and driver from the "
            "same source"
        )

    def _write(self, register: int, value: int) -> None:
        self._link.write_register(CONTROL + register, value)

    def start(self) -> None:
        """The start sequence, from reset on."""
        self._link.write_register(SCRIPT, Script.START)
        waited = 0.0
        while self._link.read_register(SCRIPT):
            if waited > _START_SECONDS:
                raise CalibrationError(_fault(self._link, "the start sequence does not end"))
            self._link.pause(0.01)
            waited += 0.01

    def _move(self, lanes: int, *registers: int) -> None:
        """Write to these registers for the lanes in a mask, and let all lanes begin anew together."""
        everyone = (1 << self.description.lanes) - 1
        self._write(self.description.lane_select, lanes)
        for register in registers:
            self._write(register, 1)
        for mask in (0, everyone, 0):
            self._write(self.description.lane_select, mask)

    def errors(self) -> list[tuple[int, bool]]:
        """For each lane: wrong bits over all patterns, and whether its strobe was seen each time."""
        description = self.description
        totals = [(0, True)] * description.lanes
        size = TRANSFERS * description.lanes
        for pattern in self._patterns:
            for number, phase in enumerate(description.phases):
                self._write_data(phase.write_data, pattern[number * size : (number + 1) * size])
            self._link.write_register(SCRIPT, Script.TEST)
            read = b"".join(self._read_data(phase.read_data, size) for phase in description.phases)
            seen = self._link.read_register(CONTROL + description.bursts_seen)
            for lane in range(description.lanes):
                wrong = sum(
                    (one ^ other).bit_count()
                    for one, other in zip(pattern[lane :: description.lanes], read[lane :: description.lanes])
                )
                strobe = bool(seen >> lane & 1)
                count, always = totals[lane]
                totals[lane] = (count + wrong + (not strobe), always and strobe)
        return totals

    def _write_data(self, register: int, content: bytes) -> None:
        for offset in range(0, len(content), 4):
            word = int.from_bytes(content[len(content) - 4 - offset : len(content) - offset], "little")
            self._write(register + offset, word)

    def _read_data(self, register: int, count: int) -> bytes:
        words = [self._link.read_register(CONTROL + register + offset) for offset in range(0, count, 4)]
        return b"".join(word.to_bytes(4, "little") for word in reversed(words))

    def scan(self) -> list[Lane]:
        """Try every setting, all lanes at once, and choose."""
        description = self.description
        everyone = (1 << description.lanes) - 1
        found: list[list[list[int]]] = [[] for _ in range(description.lanes)]
        seen = [False] * description.lanes
        self._move(everyone, description.bitslip_reset)
        for bitslip in range(description.bitslips):
            if bitslip:
                self._move(everyone, description.bitslip_step)
            for rows in found:
                rows.append([])
            self._move(everyone, description.delay_reset)
            for delay in range(description.delays):
                if delay:
                    self._move(everyone, description.delay_step)
                for lane, (count, strobe) in enumerate(self.errors()):
                    found[lane][-1].append(count)
                    seen[lane] |= strobe
        return [_choose(rows, strobe) for rows, strobe in zip(found, seen)]

    def choose(self, lanes: list[Lane]) -> None:
        """Set every lane to what was chosen for it."""
        description = self.description
        for number, lane in enumerate(lanes):
            assert lane.bitslip is not None
            assert lane.delay is not None
            self._move(
                1 << number,
                description.bitslip_reset,
                *[description.bitslip_step] * lane.bitslip,
                description.delay_reset,
                *[description.delay_step] * lane.delay,
            )

    def hand_over(self) -> None:
        """Give the memory to its controller, and open the ports to it."""
        self._write(self.description.control, HARDWARE_CONTROL)
        self._write(self.description.ready, 1)

    def give_up(self) -> None:
        """Keep the ports closed."""
        self._write(self.description.ready, 0)
        self._write(self.description.failed, 1)


def _choose(errors: list[list[int]], strobe_seen: bool) -> Lane:
    """The middle of the widest row of delays without an error; the first of several."""
    best = (0, 0, 0)  # delays, bitslip, first delay
    for bitslip, row in enumerate(errors):
        first = 0
        for delay, count in enumerate(row):
            if count:
                first = delay + 1
            elif delay + 1 - first > best[0]:
                best = (delay + 1 - first, bitslip, first)
    width, bitslip, first = best
    if not width:
        return Lane(errors, strobe_seen)
    last = first + width - 1
    return Lane(errors, strobe_seen, bitslip, (first + last) // 2, first, last)
