"""What a board tells the rest: one `Board` for each, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from boards.parts import Part
from hw.accelerator import AcceleratorMultiplier
from hw.machine import Machine

__all__ = [
    "DEFAULT_BAUD",
    "Board",
    "BoardBuild",
    "ExternalMemory",
    "Files",
    "machine_text",
]

DEFAULT_BAUD = 1_000_000

#: Content of each file that synthesis and the router read.
Files = dict[str, str | bytes]


@dataclass(frozen=True)
class BoardBuild:
    """What to build; `Board.job` fills in what is not asked for.

    Attributes
    ----------
    board : str
        Name of a board.
    machine : Machine
    clock_mhz : float
        System clock; an error if the routed design does not reach it.
    megabytes : int
        Size of the external memory; 0 where there is no choice.
    multiplier : str
        ``"ecp5"`` and ``"ice40"`` instantiate the DSP blocks, ``"portable"`` leaves them to inference:
        slower, but without our reading of the block's data sheet.
    baud : int
        Rate of the serial line.
    seed : int
        Where placement starts.
    tries : int
        Seeds to try, from ``seed`` on, until the clock is reached.
    """

    board: str
    machine: Machine
    clock_mhz: float
    megabytes: int
    multiplier: AcceleratorMultiplier
    baud: int = DEFAULT_BAUD
    seed: int = 1
    tries: int = 3


@dataclass(frozen=True)
class ExternalMemory:
    """What estimates need to know of a board's memory.

    Attributes
    ----------
    kind : str
        ``"sdram"``: at the system clock; ``"ddr3"``: at twice the system clock; ``"spram"``: on the chip.
    data_bits : int
        Data pins.
    megabytes : float
        Its size, the smallest where boards carry several.
    """

    kind: Literal["sdram", "ddr3", "spram"]
    data_bits: int
    megabytes: float

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.megabytes * (1 << 20))


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
        On the command line.
    title : str
        Maker and model.
    part : Part
    memory, link : str
        Its external memory and its connection to the host, in a few words.
    external : ExternalMemory
        The same memory in figures.
    machine : Machine
        What is built unless asked otherwise.
    clock_mhz : float
        The default system clock.
    design : callable
        Makes the files that synthesis and the router read; raises a ValueError of this package for what
        the board cannot do.
    multipliers : tuple of str
        Kinds of multiplier, the default first.
    megabytes : tuple of int
        Sizes of the external memory to choose from, the default first; empty if there is no choice.
    aliases : tuple of str
        Other names on the command line.
    caveat : str
        What whoever wants to build for it should know before; empty if nothing.
    """

    name: str
    title: str
    part: Part
    memory: str
    link: str
    external: ExternalMemory
    machine: Machine
    clock_mhz: float
    design: Callable[[BoardBuild], Files]
    multipliers: tuple[AcceleratorMultiplier, ...] = ("ecp5", "portable")
    megabytes: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()
    caveat: str = ""

    def job(self, **wanted: Any) -> BoardBuild:
        """A build of this board; what is missing or None is the board's default."""
        defaults: dict[str, Any] = {
            "machine": self.machine,
            "clock_mhz": self.clock_mhz,
            "megabytes": (*self.megabytes, 0)[0],
            "multiplier": self.multipliers[0],
        }
        return BoardBuild(
            self.name, **defaults | {name: value for name, value in wanted.items() if value is not None}
        )

    def to_json(self) -> dict[str, Any]:
        """The board for `boards list --json`."""
        resources: Mapping[str, int] = self.part.resources
        return {
            "name": self.name,
            "aliases": list(self.aliases),
            "title": self.title,
            "part": self.part.name,
            **dict(resources),
            "memory": self.memory,
            "link": self.link,
            "machine": self.machine.to_json(),
            "multipliers": self.machine.multipliers,
            "clock_mhz": self.clock_mhz,
            "baud": DEFAULT_BAUD,
            "caveat": self.caveat,
        }


def machine_text(machine: Machine) -> str:
    """A machine in a few words: its array, bus and scratchpad."""
    kilobytes = machine.scratchpad_words * machine.word_bytes / 1024
    return f"{machine.input_lanes}x{machine.output_lanes}, bus {machine.bus_width}, {kilobytes:g} KB"
