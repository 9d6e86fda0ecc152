"""The slots of one pass after another, against products counted in plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator, SimulatorContext
from numpy.random import Generator

from hw.isa import Mode
from hw.machine import Machine
from hw.slots import THIN_CHANNELS, Slots, phases

MACHINES = {
    lanes: Machine(input_lanes=lanes, output_lanes=max(lanes, 8), bus_width=32) for lanes in (4, 8, 16)
}
every_machine = pytest.mark.parametrize("lanes", list(MACHINES))

#: A slot: 16 bits of its offset, 9 of its row, 9 of its column, and whether it is used.
USED = 34
SLOT_BITS = 35


@dataclass
class Pass:
    """The slots, the first one lowest, in those bits that ``mask`` has; the phase."""

    slots: int
    mask: int
    phase: int


@dataclass
class Layer:
    """What `Slots` sees of an instruction; ``channels`` of DEPTHWISE is any number, and does not count."""

    mode: Mode
    channels: int
    rows: int
    columns: int
    slot_columns: int
    row_step: int
    pairs: bool = False

    @property
    def taps(self) -> int:
        """Up to the last one of the kernel, those between its rows included."""
        return (self.rows - 1) * self.slot_columns + self.columns

    def products(self) -> int:
        return self.taps * (self.channels if self.mode is Mode.THIN else 1)

    def slot(self, tap: int) -> tuple[int, int]:
        """A slot, and a mask of what counts of it: beyond all kernels its place does not."""
        row, column = divmod(tap, self.slot_columns)
        if row > 255:
            return 0, 1 << USED
        used = row < self.rows and column < self.columns
        offset = (row * self.row_step + column) % 65536
        return offset | row << 16 | column << 25 | used << USED, (1 << SLOT_BITS) - 1

    def passes(self, lanes: int) -> Iterator[Pass]:
        """Of an output block: product ``k`` is ``tap * channels + channel``, pass p begins at p * lanes."""
        channels = self.channels if self.mode is Mode.THIN else 1
        first = 0
        while True:
            tap, phase = divmod(first, channels)
            slots = mask = 0
            for number in range(lanes):
                slot, counts = self.slot(tap + number)
                slots |= slot << SLOT_BITS * number
                mask |= counts << SLOT_BITS * number
            yield Pass(slots, mask, phase)
            first += 2 * lanes if self.pairs else lanes


def random_layer(rng: Generator) -> Layer:
    mode = rng.choice([Mode.DEPTHWISE, Mode.THIN])
    largest = int(rng.choice([4, 12, 255]))
    columns = int(rng.integers(1, largest + 1))
    slot_columns = int(rng.choice([columns, rng.integers(columns, columns + 16), rng.integers(columns, 512)]))
    return Layer(
        mode,
        int(rng.integers(1, THIN_CHANNELS + 1)) if mode is Mode.THIN else int(rng.integers(0, 8)),
        int(rng.integers(1, largest + 1)),
        columns,
        slot_columns,
        int(rng.integers(0, 65536)),
    )


class Bench:
    """Asks for passes, and looks at all outputs in every cycle.

    ``idle``: how many cycles a pass may stay before the next one is asked for.
    """

    def __init__(
        self, dut: Slots, ctx: SimulatorContext, rng: Generator, idle: Sequence[int] = (0, 0, 1, 5, 30)
    ) -> None:
        self.idle = idle
        self.dut = dut
        self.ctx = ctx
        self.rng = rng
        self.lanes = dut.machine.input_lanes

    def begin(self, layer: Layer) -> None:
        code = self.dut.instruction
        for name, value in (
            ("mode", layer.mode),
            ("thin_channels", layer.channels),
            ("kernel_rows", layer.rows),
            ("kernel_columns", layer.columns),
            ("slot_columns", layer.slot_columns),
            ("source_tap_row_step", layer.row_step),
            ("pairs", int(layer.pairs)),
        ):
            self.ctx.set(code[name], value)

    async def fill(self, *, first: bool) -> None:
        """Ask, and watch it being done: `input_lanes` cycles for the taps and the one of ``done``."""
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.fill, 1)
        ctx.set(dut.first, first)
        await ctx.tick()
        ctx.set(dut.fill, 0)
        ctx.set(dut.first, int(self.rng.integers(0, 2)))  # counts with `fill` only
        for cycle in range(self.lanes + 1):
            assert ctx.get(dut.filling)
            assert ctx.get(dut.done) == (cycle == self.lanes)
            await ctx.tick()

    async def expect(self, expected: Pass, layer: Layer) -> None:
        """The pass is there from this cycle on, up to that of the next ``fill``."""
        for _ in range(int(self.rng.choice(self.idle))):
            self._compare(expected, layer)
            await self.ctx.tick()
        self._compare(expected, layer)

    def _compare(self, expected: Pass, layer: Layer) -> None:
        ctx, dut = self.ctx, self.dut
        assert not ctx.get(dut.filling)
        assert not ctx.get(dut.done)
        found = ctx.get(dut.slots.as_value()) & expected.mask
        for number in range(self.lanes):
            of = [slots >> SLOT_BITS * number & (1 << SLOT_BITS) - 1 for slots in (found, expected.slots)]
            assert of[0] == of[1], f"slot {number}: {of[0]:#x}, not {of[1]:#x} in {layer}"
        assert ctx.get(dut.phase) == expected.phase, layer

    async def block(self, layer: Layer, count: int) -> None:
        """The first passes of an output block."""
        for number, expected in enumerate(islice(layer.passes(self.lanes), count)):
            await self.fill(first=number == 0)
            await self.expect(expected, layer)


def simulate(
    lanes: int,
    seed: int,
    layers: Sequence[tuple[Layer, Sequence[int]]],
    idle: Sequence[int] = (0, 0, 1, 5, 30),
    machine: Machine | None = None,
) -> None:
    """Layers one after another, each with the passes of its output blocks."""
    dut = Slots(machine or MACHINES[lanes])

    async def run(ctx: SimulatorContext) -> None:
        bench = Bench(dut, ctx, np.random.default_rng(seed), idle)
        for layer, blocks in layers:
            bench.begin(layer)
            await ctx.tick().repeat(int(bench.rng.integers(1, 4)))
            for count in blocks:
                await bench.block(layer, count)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()


@every_machine
@pytest.mark.parametrize("seed", range(3))
def test_random_layers(lanes: int, seed: int) -> None:
    """Some passes of each block, or all and several past the end of the kernel, where no slot is used."""
    rng = np.random.default_rng(100 * lanes + seed)
    layers = []
    while len(layers) < 12:
        layer = random_layer(rng)
        whole = -(-layer.products() // lanes) + 3
        blocks = [min(whole, int(count)) for count in (rng.integers(1, 12), rng.integers(1, 4), 40)]
        layers.append((layer, blocks))
    simulate(lanes, seed, layers)


@every_machine
@pytest.mark.parametrize("channels", range(1, THIN_CHANNELS + 1))
def test_small_kernels(lanes: int, channels: int) -> None:
    """Usual kernels with no, one and many columns behind each row, to the end and beyond."""
    rng = np.random.default_rng(channels)
    layers = []
    for rows, columns in ((1, 1), (1, 3), (3, 1), (3, 3), (5, 5), (7, 7)):
        for behind in (0, 1, lanes - 1):
            for mode in (Mode.THIN, Mode.DEPTHWISE) if channels == 1 else (Mode.THIN,):
                layer = Layer(mode, channels, rows, columns, columns + behind, int(rng.integers(0, 65536)))
                whole = -(-layer.products() // lanes)
                layers.append((layer, (whole, whole + 3)))
    simulate(lanes, channels, layers)


@every_machine
def test_pairs(lanes: int) -> None:
    """Passes of twice as many products, between layers of ordinary ones."""
    rng = np.random.default_rng(lanes)
    machine = Machine(input_lanes=lanes, output_lanes=2 * lanes, bus_width=32, weight_pairs=True)
    layers = []
    for size in (1, 3, 5):
        for channels in range(1, THIN_CHANNELS + 1):
            pairs = channels > 1
            layer = Layer(Mode.THIN, channels, size, size, size + int(rng.integers(0, lanes)), 77, pairs)
            whole = -(-layer.products() // (2 * lanes if pairs else lanes))
            layers.append((layer, (whole, whole + 2)))
    rng.shuffle(layers)
    simulate(lanes, 9, layers, machine=machine)


@pytest.mark.parametrize(
    ("lanes", "layer"),
    [
        (16, Layer(Mode.DEPTHWISE, 7, 255, 255, 255, 0xFFFF)),
        (16, Layer(Mode.THIN, 1, 255, 1, 1, 0x8001)),
        (16, Layer(Mode.THIN, 4, 1, 255, 511, 0)),
        (8, Layer(Mode.THIN, 3, 255, 1, 2, 65535)),
        (8, Layer(Mode.THIN, 3, 4, 255, 511, 40000)),
        (4, Layer(Mode.THIN, 2, 3, 255, 511, 65000)),
        (4, Layer(Mode.DEPTHWISE, 0, 255, 2, 3, 12345)),
    ],
)
def test_large_kernels(lanes: int, layer: Layer) -> None:
    """To the end of kernels as large as an instruction can say, of rows as long as it can say."""
    simulate(lanes, 0, [(layer, (-(-layer.products() // lanes) + 2, 3))], idle=(0,))


@every_machine
def test_far_past_the_end(lanes: int) -> None:
    """No slot is used again, however many passes there are."""
    layers = [
        (Layer(Mode.DEPTHWISE, 1, 1, 1, 1, 1), (1040 // lanes,)),
        (Layer(Mode.THIN, 1, 255, 1, 1, 1), (1040 // lanes, 3)),
    ]
    simulate(lanes, 0, layers, idle=(0,))


@every_machine
def test_reset_in_the_middle(lanes: int) -> None:
    """What was being filled is forgotten, and the next block is right."""
    slots = Slots(MACHINES[lanes])
    reset = Signal()
    top = Module()
    top.submodules.slots = ResetInserter(reset)(slots)
    rng = np.random.default_rng(lanes)
    layer = Layer(Mode.THIN, 3, 5, 5, 5, 100)

    async def run(ctx: SimulatorContext) -> None:
        bench = Bench(slots, ctx, rng)
        bench.begin(layer)
        for cycles in range(lanes + 1):
            await bench.block(layer, 2)
            ctx.set(slots.fill, 1)
            ctx.set(slots.first, 0)
            await ctx.tick()
            ctx.set(slots.fill, 0)
            for _ in range(cycles):
                await ctx.tick()
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for _ in range(lanes + 2):
                assert not ctx.get(slots.filling)
                assert not ctx.get(slots.done)
                await ctx.tick()

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()


@every_machine
@pytest.mark.parametrize("channels", range(1, THIN_CHANNELS + 1))
def test_phases(lanes: int, channels: int) -> None:
    found = phases(MACHINES[lanes], channels)
    assert found == [number * lanes % channels for number in range(len(found))]
    assert len(set(found)) == len(found)
    assert len(found) * lanes % channels == 0
    if channels > 1:
        pairs = phases(MACHINES[lanes], channels, pairs=True)
        assert pairs == [number * 2 * lanes % channels for number in range(len(pairs))]
