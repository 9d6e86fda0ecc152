"""Parts of feature maps, and where they are in the scratchpad."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.operation import Operation

__all__ = ["ADDRESS_MASK", "Rectangle", "Scratch", "window_of"]

#: Scratchpad addresses count modulo 2^16.
ADDRESS_MASK = 0xFFFF


@dataclass(frozen=True)
class Rectangle:
    """Rows and columns of a feature map."""

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Scratch:
    """Where the word of plane 0, row 0, column 0 of something is in the scratchpad, and the steps."""

    base: int
    plane_step: int
    row_step: int


def window_of(operation: Operation, tile: Rectangle) -> Rectangle:
    """The part of an operation's input that a tile of its output is computed from."""
    row, row_end = operation.window(0, tile.row, tile.rows)
    column, column_end = operation.window(1, tile.column, tile.columns)
    return Rectangle(row, column, row_end - row, column_end - column)
