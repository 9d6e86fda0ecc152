"""The SDRAM controller: LiteDRAM's Verilog, generated for a memory size, a clock and a set of ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from boards.generator_process import ControllerError, run_generator
from boards.sdram_timing import SDRAMTiming, sdram_timing

__all__ = ["MEMORIES", "ControllerError", "Geometry", "MemoryController", "generate"]


@dataclass(frozen=True)
class Geometry:
    """An SDRAM's data pins in bits, and its row and column address bits; four banks."""

    data_bits: int
    row_bits: int
    column_bits: int


#: Sizes of the SDRAM, in MiB, and its geometry.  A controller for 32 MiB also works, with half the memory,
#: on a board that carries 64.
MEMORIES = {8: Geometry(32, 11, 8), 32: Geometry(16, 13, 9), 64: Geometry(16, 13, 10)}


@dataclass(frozen=True)
class MemoryController:
    """A generated controller.

    Attributes
    ----------
    verilog : str
        Source of the module ``litedram_core``; the same for simulation and for the board.
    ports : dict
        Name of each AXI4 port and its data width in bits.
    registers : dict
        Byte addresses on its control bus.
    timing : SDRAMTiming
        What the memory's mode register must say, when its clock must rise.
    memory_bytes, data_bits, row_bits, column_bits : int
        Size of the memory, its data pins and its address lines.
    """

    verilog: str
    ports: dict[str, int]
    registers: dict[str, int]
    timing: SDRAMTiming
    memory_bytes: int
    data_bits: int
    row_bits: int
    column_bits: int

    @property
    def address_bits(self) -> int:
        """Bits of a byte address on the AXI4 ports."""
        return (self.memory_bytes - 1).bit_length()


def generate(
    megabytes: int, clock_hz: float, ports: Mapping[str, int], device: str = "LFE5U-85F-6BG381C"
) -> MemoryController:
    """Generate a controller with its ECP5 pins.

    Parameters
    ----------
    megabytes : int
        Size of the memory in MiB, one of `MEMORIES`.
    clock_hz : float
        System and memory clock.
    ports : dict
        Name and data width in bits of each AXI4 port.

    Raises
    ------
    ControllerError
        If there is no such memory, the clock is out of its range, or LiteDRAM is missing or fails.
    """
    if megabytes not in MEMORIES:
        raise ControllerError(f"megabytes must be 8, 32 or 64, not {megabytes!r}")
    if not 10e6 <= clock_hz <= 100e6:
        raise ControllerError(f"the memory clock must be 10 to 100 MHz, not {clock_hz / 1e6:g}")
    timing = sdram_timing(clock_hz)
    settings = {
        "geometry": asdict(MEMORIES[megabytes]),
        "clock_hz": clock_hz,
        "read_latency": timing.read_latency,
        "device": device,
        "ports": dict(ports),
    }
    verilog, described = run_generator("boards.litedram_generator", settings)
    return MemoryController(verilog=verilog, ports=dict(ports), timing=timing, **described)
