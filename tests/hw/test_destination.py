"""Addresses of output words against their formula, for several instructions in a row."""

from __future__ import annotations

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from hw.destination import Destination


def test_addresses() -> None:
    rng = np.random.default_rng(0)
    dut = Destination()

    async def bench(ctx: SimulatorContext) -> None:
        for _ in range(12):
            base, row_step, plane_step = (int(value) for value in rng.integers(0, 65536, 3))
            blocks, rows, columns = (int(value) for value in rng.integers(1, 5, 3))
            ctx.set(dut.start, 1)
            ctx.set(dut.base, base)
            ctx.set(dut.row_step, row_step)
            ctx.set(dut.plane_step, plane_step)
            ctx.set(dut.word.valid, 0)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick()
            ctx.set(dut.base, 0)
            for block, row, column in np.ndindex(blocks, rows, columns):
                while rng.random() < 0.3:  # flags without a word mean nothing
                    ctx.set(dut.word.valid, 0)
                    ctx.set(dut.word.row_end, 1)
                    ctx.set(dut.word.block_end, int(rng.integers(2)))
                    await ctx.tick()
                ctx.set(dut.word.valid, 1)
                ctx.set(dut.word.row_end, int(column == columns - 1))
                ctx.set(dut.word.block_end, int(column == columns - 1 and row == rows - 1))
                expected = (base + block * plane_step + row * row_step + column) % 65536
                assert ctx.get(dut.address) == expected
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
