"""What a board with DDR3 tells the host of its memory controller, so that the host can calibrate it.

Declared once for the gateware (`boards.ddr3_control`) and the driver (`sw_driver.ddr3`).  Registers below
`CONTROL` are the accelerator's; from there on come the memory controller's own, then a register that
plays a script, then the description, one word after another.

This module needs nothing but the standard library.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from enum import IntEnum

__all__ = [
    "CONTROL",
    "DESCRIPTION",
    "HARDWARE_CONTROL",
    "MAGIC",
    "REGISTER_ADDRESS_BITS",
    "SCRIPT",
    "TRANSFERS",
    "DDR3Description",
    "Phase",
    "Script",
]

#: Registers lie below two to the power of this on a board with DDR3.
REGISTER_ADDRESS_BITS = 16
#: First byte of the memory controller's registers: CONTROL + x is its register at x.
CONTROL = 0x8000
#: Write a `Script` here to play it; reads 1 while one is being played.
SCRIPT = 0xC000
#: First byte of the description.
DESCRIPTION = 0xC100
#: Its first word.
MAGIC = int.from_bytes(b"DDR3", "little")


#: Transfers of each data pin that one phase's register holds.
TRANSFERS = 4
#: Written to `DDR3Description.control`: the memory is the controller's, no longer the host's.
HARDWARE_CONTROL = 1


class Script(IntEnum):
    """Sequences that the board plays in exact time."""

    START = 0  #: power-up and mode registers
    TEST = 1  #: writes the burst of the write registers, reads it into the read registers


@dataclass(frozen=True)
class Phase:
    """Addresses of one phase's data registers.

    A register holds `TRANSFERS` bytes of each lane: the lanes' first transfers, lane 0 first, then their
    second ones, and so on from its lowest byte up; its highest word is at the lowest address.
    """

    write_data: int
    read_data: int


@dataclass(frozen=True)
class DDR3Description:
    """Geometry of the PHY, and the addresses of its registers relative to `CONTROL`.

    Attributes
    ----------
    lanes : int
        Bytes on the data pins; each has delays and bitslips of its own.
    delays, bitslips : int
        Settings of each.
    control, ready, failed : int
        Who has control; calibrated; not to be used.
    lane_select : int
        One bit for each lane that the next four apply to.
    delay_reset, delay_step, bitslip_reset, bitslip_step : int
        Written to move a setting.
    bursts_seen : int
        One bit for each lane whose strobe was seen in the last read.
    phases : tuple of Phase
    """

    lanes: int
    delays: int
    bitslips: int
    control: int
    ready: int
    failed: int
    lane_select: int
    delay_reset: int
    delay_step: int
    bitslip_reset: int
    bitslip_step: int
    bursts_seen: int
    phases: tuple[Phase, ...]

    def encode(self) -> list[int]:
        """The words from `DESCRIPTION` on."""
        numbers = astuple(self)[:-1]
        return [
            MAGIC,
            *numbers,
            len(self.phases),
            *(value for phase in self.phases for value in (phase.write_data, phase.read_data)),
        ]

    @classmethod
    def decode(cls, words: list[int]) -> DDR3Description | None:
        """The description in these words, which may be too many; None if it is not one."""
        count = len(fields(cls)) - 1
        if len(words) < count + 2 or words[0] != MAGIC:
            return None
        numbers, phases, rest = words[1 : count + 1], words[count + 1], words[count + 2 :]
        if len(rest) < 2 * phases:
            return None
        pairs = tuple(Phase(rest[2 * number], rest[2 * number + 1]) for number in range(phases))
        return cls(*numbers, phases=pairs)

    @property
    def words(self) -> int:
        """How many words the description takes."""
        return len(fields(self)) + 1 + 2 * len(self.phases)
