"""Where the small core's next word is: the pixels of a rectangle, row by row, or words in a row."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.machine import Machine

__all__ = ["SmallWalk"]


class SmallWalk(wiring.Component):
    """One address generator for sweeps, post-processing, loads and stores.

    Parameters
    ----------
    machine : Machine

    Members
    -------
    value : ``In(16)``
        For the strobes ``set_base``, ``set_row``, ``set_column`` (of the first pixel: its word, its place on
        the image), which count from the next ``start`` on, and ``set_row_step``, ``set_strides``,
        ``set_image_rows``, ``set_image_columns``, ``set_rows``, ``set_columns`` (the rectangle's size), which
        count at once.
    start, step : ``In(1)``
        Go to the first pixel; to the next one.
    linear : ``In(1)``
        The next one is the next word.
    address : ``Out(range(scratchpad_words))``
    inside : ``Out(1)``
        The pixel lies on the image.
    last : ``Out(1)``
        It is the rectangle's last.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        names = ("base", "row", "column", "row_step", "strides", "image_rows", "image_columns", "rows",
                 "columns")
        super().__init__(
            {
                "value": In(16),
                **{f"set_{name}": In(1) for name in names},
                "start": In(1),
                "step": In(1),
                "linear": In(1),
                "address": Out(range(machine.scratchpad_words)),
                "inside": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = len(self.address)
        count_bits = self.machine.accumulator_depth.bit_length()

        def setting(name: str, width: int) -> Signal:
            register = Signal(width, name=name)
            with m.If(getattr(self, f"set_{name}")):
                m.d.sync += register.eq(self.value)
            return register

        base, first_row, first_column = (setting("base", bits), setting("row", 16), setting("column", 16))
        row_step, strides = setting("row_step", bits), setting("strides", 16)
        image_rows, image_columns = setting("image_rows", 16), setting("image_columns", 16)
        rows, columns = setting("rows", count_bits), setting("columns", count_bits)

        row_address, row, column = Signal(bits), Signal(16), Signal(16)
        begin_column = Signal(16)
        rows_left, columns_left = Signal(count_bits), Signal(count_bits)
        row_ends = Signal()
        next_row_address = Signal(bits)
        m.d.comb += [
            row_ends.eq((columns_left == 1) & ~self.linear),
            self.last.eq((columns_left == 1) & (rows_left == 1)),
            self.inside.eq((row < image_rows) & (column < image_columns)),
            next_row_address.eq(row_address + row_step),
        ]
        with m.If(self.start):
            m.d.sync += [
                self.address.eq(base),
                row_address.eq(base),
                row.eq(first_row),
                column.eq(first_column),
                begin_column.eq(first_column),
                rows_left.eq(rows),
                columns_left.eq(columns),
            ]
        with m.Elif(self.step & row_ends):
            m.d.sync += [
                self.address.eq(next_row_address),
                row_address.eq(next_row_address),
                row.eq(row + strides[:8]),
                column.eq(begin_column),
                rows_left.eq(rows_left - 1),
                columns_left.eq(columns),
            ]
        with m.Elif(self.step):
            m.d.sync += [
                self.address.eq(self.address + Mux(self.linear, 1, strides[8:])),
                column.eq(column + strides[8:]),
                columns_left.eq(columns_left - 1),
            ]
        return m
