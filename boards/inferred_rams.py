"""Block RAMs of the memories that are left to Yosys, by the memories' names."""

from __future__ import annotations

from hw.fetch import READ_AHEAD
from hw.isa import INSTRUCTION_BYTES
from hw.load import DEPTH as LOAD_BEATS
from hw.machine import Machine
from hw.repeating_fifo import SECTION, part_width, storage_name
from hw.store import DEPTH as STORE_WORDS

__all__ = ["LINK_RAMS", "inferred_rams"]

#: Those of the serial link, below the system.
LINK_RAMS = {"link.bridge.buffer": 1}

#: Depth and width of a block RAM with one port for each direction.
_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
#: What Yosys takes a memory of 16 x 4 bits in LUTs and a block RAM to cost.
_LUT_MEMORY_COST, _BLOCK_RAM_COST = 4, 128


def inferred_rams(machine: Machine) -> dict[str, int]:
    """How many block RAMs each memory of the core takes, except the scratchpad's and the weight decoders'.

    Names are below the core; memories without any are left out.
    """
    beat = machine.bus_width + 2
    found = {f"compute.accumulators.ram{lane}": _block_rams(32, machine.accumulator_depth)
             for lane in range(machine.output_lanes)}
    fetched = READ_AHEAD * INSTRUCTION_BYTES // machine.bus_bytes
    queues = {
        # the weight FIFO gives two beats in a cycle
        "weights.client": (machine.bus_width + beat, machine.weight_fifo_words // 2),
        "load.client": (beat, LOAD_BEATS),
        "fetch.client": (beat, fetched),
        "store": (8 * machine.word_bytes, STORE_WORDS),
    }
    for unit, (width, depth) in queues.items():
        for name, blocks in _queue(width, depth).items():
            found[f"{unit}.queue.fifo.{name}"] = blocks
    return {name: blocks for name, blocks in found.items() if blocks}


def _queue(width: int, depth: int) -> dict[str, int]:
    """Block RAMs of each memory of a queue."""
    wide = part_width(depth)
    return {storage_name(depth, part, section): _block_rams(min(wide, width - first), min(depth, SECTION))
            for part, first in enumerate(range(0, width, wide))
            for section in range(-(-depth // SECTION))}


def _block_rams(width: int, depth: int) -> int:
    """Block RAMs of a memory with one port for each direction: none if LUTs cost less."""
    blocks = min(-(-width // wide) * -(-depth // deep) for deep, wide in _SHAPES)
    lut_memories = -(-width // 4) * -(-depth // 16)
    return 0 if lut_memories * _LUT_MEMORY_COST < blocks * _BLOCK_RAM_COST else blocks
