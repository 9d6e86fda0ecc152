"""Feature maps that are not alive at the same time share memory.

For machines whose whole memory is on the chip: a lean program's maps then take what the largest neighbours
take together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from compiler.operation import Operation, Storage
from compiler.placement import MEMORY_ALIGNMENT

__all__ = ["packed_offsets"]


@dataclass
class _Life:
    """A map is in memory from operation ``first`` to operation ``last``; ``together``: all in its place."""

    first: int
    last: int
    together: list[Storage]


def packed_offsets(
    operations: list[Operation],
    needed: Collection[Storage],
    inputs: Iterable[Storage],
    outputs: Collection[Storage],
    word_bytes: int,
) -> dict[str, int]:
    """Byte offset of each of the ``needed`` storages, by name.

    ``inputs`` are there before the first operation, ``outputs`` stay to the end.  A sum takes the place of
    its second operand where that is not needed any more: of each pixel, the operand is read before the sum
    is written.
    """
    lives = {storage: _Life(-1, -1, [storage]) for storage in inputs if storage in needed}
    for number, operation in enumerate(operations):
        residual = operation.residual.view if operation.residual is not None else None
        used = [operation.source.storage, *([residual.storage] if residual else [])]
        for storage in (*used, operation.destination.storage):
            if storage in needed:
                life = lives.setdefault(storage, _Life(number, number, [storage]))
                life.last = number
    for storage in outputs:
        if storage in lives:
            lives[storage].last = len(operations)
    for number, operation in enumerate(operations):
        own = operation.destination
        if operation.residual is None:
            continue
        view = operation.residual.view
        old, new = lives.get(view.storage), lives.get(own.storage)
        if (
            old is not None
            and new is not None
            and old is not new
            and old.last == new.first == number
            and view.storage != operation.source.storage
            and (view.first_plane, view.planes) == (own.first_plane, own.planes) == (0, own.storage.planes)
            and view.storage.planes == own.storage.planes
        ):
            old.last = new.last
            old.together += new.together
            for storage in new.together:
                lives[storage] = old

    def size(life: _Life) -> int:
        most = max(storage.byte_count(word_bytes) for storage in life.together)
        return -(-most // MEMORY_ALIGNMENT) * MEMORY_ALIGNMENT

    places: list[tuple[_Life, int]] = []
    offsets: dict[str, int] = {}
    for life in sorted({id(life): life for life in lives.values()}.values(), key=size, reverse=True):
        taken = sorted(
            (place, place + size(other))
            for other, place in places
            if other.first <= life.last and life.first <= other.last
        )
        place = 0
        for low, high in taken:
            if low - place >= size(life):
                break
            place = max(place, high)
        places.append((life, place))
        offsets |= {storage.name: place for storage in life.together}
    return offsets
