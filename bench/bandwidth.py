"""What a memory setting can carry, for streams of consecutive addresses: the roofs of the benchmark."""

from __future__ import annotations

from sim.memory_settings import MemorySettings, memory_settings

__all__ = ["bus_share", "carried"]


def carried(settings: MemorySettings, bus_bytes: int) -> float:
    """Bytes a cycle at most, of one direction, or of both together with an SDRAM, which they share.

    With an SDRAM: whole rows one after another, between refreshes.
    """
    stalled = settings.stall_cycles / settings.stall_period if settings.stall_period else 0.0
    if not settings.sdram_bytes:
        return bus_bytes * (1 - stalled)
    beat = max(bus_bytes // settings.sdram_bytes, 1) + settings.sdram_beat_overhead
    row = settings.sdram_row_bytes // bus_bytes * beat + settings.sdram_row_miss
    delivered = settings.sdram_row_bytes / row
    if settings.sdram_refresh_period:
        delivered *= 1 - settings.sdram_refresh / settings.sdram_refresh_period
    return delivered


def bus_share(memory: str, bus_bytes: int, read_bytes: float, write_bytes: float, cycles: float) -> float:
    """Share of what the setting could carry in so many cycles: of the busier direction, or of both
    together with an SDRAM."""
    settings = memory_settings(memory)
    moved = read_bytes + write_bytes if settings.sdram_bytes else max(read_bytes, write_bytes)
    return moved / (carried(settings, bus_bytes) * cycles) if cycles else 0.0
