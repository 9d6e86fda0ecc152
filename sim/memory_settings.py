"""How the external memory behaves in a simulation: latency, bandwidth and stalls.

The model itself is C++ (`sim/axi_memory.h`); reads and writes are answered in order, up to
``outstanding`` bursts of each direction are accepted ahead, and their latencies overlap.

========== ==========================================================================================
`ideal`    one beat a cycle in each direction; the first one 10 cycles after its address
`stalling` the same, but data is held back (in both directions) in 4 of every 19 cycles
`ulx3s`    a 16-bit SDRAM behind LiteDRAM, shared by both directions (`ulx3s`)
`random`   random latencies and stalls on all five channels, from a seed: finds bugs, measures nothing
========== ==========================================================================================
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields, replace

__all__ = [
    "MEMORY_NAMES",
    "MemorySettings",
    "MemorySettingsError",
    "board_settings",
    "memory_settings",
    "ulx3s",
]

#: What `memory_settings` accepts.
MEMORY_NAMES = ("ideal", "stalling", "ulx3s", "random")


class MemorySettingsError(ValueError):
    """A memory setting was asked for that does not exist."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Behaviour of the memory model; times in core cycles (`sim/axi_memory.h` has the same fields).

    Attributes
    ----------
    read_latency, write_latency : int
        From the accepted address to the first data beat; from the last write beat to its response.
        With an SDRAM these come on top of the time that the SDRAM itself needs.
    stall_cycles, stall_period : int
        Data is held back in the first ``stall_cycles`` of every ``stall_period`` cycles.
    outstanding : int
        Bursts of each direction that are accepted before the first one has ended.
    random : int
        1: random stalls and latencies from ``seed``.
    sdram_bytes : int
        Bytes that an SDRAM behind the bus moves in a cycle; 0: no SDRAM, and the rest is unused.
    sdram_beat_overhead : int
        Cycles that the controller loses with every beat of the bus.
    sdram_row_bytes, sdram_banks : int
        Rows of consecutive addresses, one open in each bank; neighbouring rows are in different banks.
    sdram_row_miss, sdram_row_open : int
        Cycles to change the open row of a bank, and to open one in a bank without.
    sdram_turnaround : int
        Cycles lost between a read and a write.
    sdram_refresh_period, sdram_refresh : int
        Cycles between refreshes, and of one refresh, which closes all rows.
    """

    read_latency: int = 10
    write_latency: int = 10
    stall_cycles: int = 0
    stall_period: int = 0
    outstanding: int = 16
    random: int = 0
    sdram_bytes: int = 0
    sdram_beat_overhead: int = 0
    sdram_row_bytes: int = 2048
    sdram_banks: int = 4
    sdram_row_miss: int = 0
    sdram_row_open: int = 0
    sdram_turnaround: int = 0
    sdram_refresh_period: int = 0
    sdram_refresh: int = 0
    seed: int = 0

    def as_structure(self) -> ctypes.Structure:
        """The C struct ``MemorySettings`` with these values."""
        return _Structure(**{field.name: getattr(self, field.name) for field in fields(self)})


class _Structure(ctypes.Structure):
    _fields_ = [
        *((field.name, ctypes.c_uint32) for field in fields(MemorySettings) if field.name != "seed"),
        ("seed", ctypes.c_uint64),
    ]


def ulx3s(clock_mhz: float = 80.0) -> MemorySettings:
    """What LiteDRAM gives on the ULX3S' SDRAM with controller, SDRAM and core at one clock.

    Assumptions: AS4C32M16 with the timing of LiteDRAM's ``modules.py`` (16 bits, 4 banks, rows of
    1,024 columns, tRP = tRCD = 18 ns, tRFC = 60 ns, tREFI = 7.8 us) behind ``GENSDRPHY``, one word
    a cycle, CAS latency 2, address mapping row-bank-column.  Each nanosecond figure is rounded up
    to cycles, plus one as LiteDRAM does.  A row change drains the port, because LiteDRAM lets a
    port use one bank at a time; three cycles are its command pipeline.  Reads and writes share the
    port in turns of whole bursts, and a change costs that as well.  The latency (14) is that of the burst
    splitter, width converter, crossbar, bank machine, CAS, read registers and buffer, without contention.

    Measured on the board's gateware with LiteDRAM's Verilog and an SDRAM at its pins (80 MHz, 8x16
    lanes, 64-bit bus): a 64-bit beat takes four cycles (`boards.litedram_converter`).  Cycle counts are
    within 5 % of the gateware's: a fully connected layer -0.4 %, pooling and a depthwise layer, both bound by
    loads and stores, -0.1 and +0.7 %, convolutions of 3x3 and 1x1 -0.9 and -0.2 %; a small network whose
    loads and weights come in turns from different banks, between which the port changes, -4.4 %.
    """

    def cycles(nanoseconds: float) -> int:
        return -int(-nanoseconds * clock_mhz // 1000) + 1

    precharge = activate = cycles(18)
    return MemorySettings(
        read_latency=14,
        write_latency=6,
        outstanding=16,
        sdram_bytes=2,
        sdram_row_bytes=2048,
        sdram_banks=4,
        sdram_row_miss=precharge + activate + 3,
        sdram_row_open=activate + 3,
        sdram_turnaround=8,
        sdram_refresh_period=int(7812.5 * clock_mhz / 1000),
        sdram_refresh=precharge + cycles(60) + 3,
    )


def board_settings(kind: str, data_bits: int, clock_mhz: float) -> MemorySettings:
    """What LiteDRAM gives on a board whose memory is not simulated.

    Parameters
    ----------
    kind : str
        ``"sdram"``: as `ulx3s`, with other data pins; ``"ddr3"``: at twice the system clock, two words in
        each of its cycles, nothing lost between beats of up to four words.  That is LiteDRAM's data path;
        its latency (20) and the cost of a row change (that of `ulx3s`) are assumptions.  ``"spram"``: what
        `boards.spram_memory` gives, which is no LiteDRAM.
    data_bits : int
        Data pins.
    clock_mhz : float
        System clock.

    Raises
    ------
    MemorySettingsError
        If the kind is another one.
    """
    if kind == "spram":
        return MemorySettings(read_latency=2, write_latency=1, outstanding=1)
    settings = replace(ulx3s(clock_mhz), sdram_bytes=data_bits // 8)
    if kind == "sdram":
        return settings
    if kind == "ddr3":
        words_a_cycle = 4
        return replace(
            settings,
            read_latency=20,
            sdram_bytes=words_a_cycle * settings.sdram_bytes,
            sdram_beat_overhead=0,
            sdram_banks=8,
        )
    raise MemorySettingsError(f"memory of the kind {kind!r} has no settings; there are sdram, ddr3 and spram")


def memory_settings(name: str, seed: int = 0) -> MemorySettings:
    """The settings with this name (`MEMORY_NAMES`); ``seed`` is for `random`.

    Raises
    ------
    MemorySettingsError
        If there is no such name.
    """
    if name == "ideal":
        return MemorySettings()
    if name == "stalling":
        return MemorySettings(stall_cycles=4, stall_period=19)
    if name == "ulx3s":
        return ulx3s()
    if name == "random":
        return replace(MemorySettings(random=1), seed=seed)
    raise MemorySettingsError(f"there is no memory setting {name!r}; choose {', '.join(MEMORY_NAMES)}")
