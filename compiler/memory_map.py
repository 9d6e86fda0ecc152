"""External memory from address 0: instructions, weight streams, feature maps.

Every storage keeps its own place, so that every layer can be checked after a run; where memory is short, lean
programs share it (`compiler.map_packing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from compiler.error import CompileError
from compiler.operation import Storage, View
from compiler.placement import MEMORY_ALIGNMENT
from hw.isa import NARROW_BYTES
from hw.machine import Machine
from hw.program_file import TensorPlace
from quant.number_format import Format

__all__ = ["MapArea", "MemoryMap", "align"]

_ADDRESS_LIMIT = 1 << 32


def align(address: int) -> int:
    """The next multiple of `MEMORY_ALIGNMENT`."""
    return -(-address // MEMORY_ALIGNMENT) * MEMORY_ALIGNMENT


@dataclass
class MapArea:
    """Feature maps one after another; offsets count from the area's own start."""

    machine: Machine
    offsets: dict[str, int] = field(default_factory=dict)
    byte_count: int = 0

    def place(self, storages: Iterable[Storage]) -> None:
        """Give every storage its place, in this order."""
        for storage in storages:
            if storage.name not in self.offsets:
                self.offsets[storage.name] = self.byte_count
                self.byte_count = align(self.byte_count + storage.byte_count(self.machine.word_bytes))

    def place_at(self, offsets: Mapping[str, int], storages: Iterable[Storage]) -> None:
        """Give storages these places; those without one are never in memory, and get the area's start."""
        for storage in storages:
            self.offsets[storage.name] = offsets.get(storage.name, 0)
            if storage.name in offsets:
                end = align(offsets[storage.name] + storage.byte_count(self.machine.word_bytes))
                self.byte_count = max(self.byte_count, end)

    @property
    def words(self) -> int:
        """Size in scratchpad words."""
        return -(-self.byte_count // self.machine.word_bytes)

    def offset_of(self, storage: Storage, plane: int, row: int, column: int) -> int:
        """Where a pixel of a plane is, in bytes from the area's start."""
        pixel = (plane * storage.rows + row) * storage.columns + column
        return self.offsets[storage.name] + pixel * storage.pixel_bytes(self.machine.word_bytes)


@dataclass(frozen=True)
class MemoryMap:
    """Byte addresses of the three areas and of the end."""

    instructions: int
    weights: int
    maps: int
    end: int

    @classmethod
    def of(
        cls,
        instruction_bytes: int,
        weight_bytes: int,
        map_bytes: int,
        weight_alignment: int = MEMORY_ALIGNMENT,
    ) -> MemoryMap:
        """Areas of these sizes; that of the weights starts at a multiple of ``weight_alignment``.

        Raises
        ------
        CompileError
            If they pass the 4 GiB that addresses reach.
        """
        weights = -(-instruction_bytes // weight_alignment) * weight_alignment
        maps = align(weights + weight_bytes)
        end = align(maps + map_bytes)
        if end > _ADDRESS_LIMIT:
            raise CompileError(
                f"the program takes {end} bytes of memory, addresses reach {_ADDRESS_LIMIT}; "
                "use a smaller network or a smaller input"
            )
        return cls(0, weights, maps, end)

    def tensor(
        self, area: MapArea, name: str, view: View, shape: tuple[int, int, int], form: Format
    ) -> TensorPlace:
        """Where a tensor is, for the program file."""
        address = self.maps + area.offset_of(view.storage, view.first_plane, 0, 0)
        pixel_bytes = NARROW_BYTES if view.storage.narrow else None
        return TensorPlace(name, shape, form.bits, form.signed, form.fl, address, pixel_bytes)
