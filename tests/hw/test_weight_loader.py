"""The weight loader: whatever the stalls on both sides, blocks come out whole and in order."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.machine import Machine
from hw.weight_loader import WeightLoader

#: Cycles from a claim to its use, as long as the sequencer and the array make them.
TAKE_AFTER = 4
RELEASE_AFTER = 9

MACHINES = [
    Machine(input_lanes=4, output_lanes=4, bus_width=32),
    Machine(input_lanes=4, output_lanes=8, bus_width=64),
    Machine(input_lanes=4, output_lanes=16, bus_width=128),
]


@pytest.mark.parametrize("machine", MACHINES, ids=["32", "64", "128"])
@pytest.mark.parametrize(("source_stall", "sink_stall"), [(0, 0), (0.7, 0), (0, 0.8), (0.4, 0.4)])
def test_blocks(machine: Machine, source_stall: float, sink_stall: float) -> None:
    rng = np.random.default_rng(4)
    # output blocks of one parameter block and some tiles
    blocks: list[tuple[bool, bytes]] = []
    for tiles in (1, 5, 1, 1, 3, 2):
        blocks.append((True, rng.integers(0, 256, machine.parameter_bytes, dtype=np.uint8).tobytes()))
        blocks += [(False, rng.integers(0, 256, machine.tile_bytes, dtype=np.uint8).tobytes())
                   for _ in range(tiles)]
    tiles = [block for parameters, block in blocks if not parameters]
    parameters = [block for is_parameters, block in blocks if is_parameters]
    first_tiles = {sum(not p for p, _ in blocks[:i]) for i, (p, _) in enumerate(blocks) if p}
    dut = WeightLoader(machine)

    async def source(ctx: SimulatorContext) -> None:
        for is_parameters, block in blocks:
            for offset in range(0, len(block), machine.weight_word_bytes):
                while rng.random() < source_stall:
                    await ctx.tick()
                ctx.set(dut.weights.valid, 1)
                ctx.set(dut.weights.payload.parameters, int(is_parameters))
                ctx.set(dut.weights.payload.data,
                        int.from_bytes(block[offset:offset + machine.weight_word_bytes], "little"))
                await ctx.tick().until(dut.weights.ready)
                ctx.set(dut.weights.valid, 0)

    async def sink(ctx: SimulatorContext) -> None:
        claims: dict[int, int] = {}          # cycle of the take: tile
        releases: dict[int, int] = {}
        claimed = taken = released = claimed_parameters = cycle = 0
        next_claim = 0
        while taken < len(tiles) or released < len(parameters):
            needs_parameters = claimed in first_tiles
            ready = bool(ctx.get(dut.tile_available)
                         and (not needs_parameters or ctx.get(dut.parameters_available)))
            claim = ready and cycle >= next_claim and rng.random() >= sink_stall
            ctx.set(dut.claim_tile, int(claim))
            ctx.set(dut.claim_parameters, int(claim and needs_parameters))
            ctx.set(dut.take_tile, int(cycle + 2 in claims))
            ctx.set(dut.release_parameters, int(cycle in releases))
            if cycle in claims:
                assert ctx.get(dut.tile) == int.from_bytes(tiles[claims[cycle]], "little")
                taken += 1
            if cycle in releases:
                block = np.frombuffer(parameters[releases[cycle]], np.uint8).reshape(-1, 8)
                bias = [int(value) for value in block[:, :4].copy().view("<i4")[:, 0]]
                assert [ctx.get(dut.bias[lane]) for lane in range(machine.output_lanes)] == bias
                shift = [int(value) for value in (block[:, 4] << 1).view(np.int8) >> 1]
                assert [ctx.get(dut.shift[lane]) for lane in range(machine.output_lanes)] == shift
                released += 1
            if claim:
                next_claim = cycle + int(rng.integers(1, 5))
                claims[cycle + TAKE_AFTER] = claimed
                claimed += 1
                if needs_parameters:
                    releases[cycle + RELEASE_AFTER] = claimed_parameters
                    claimed_parameters += 1
            await ctx.tick()
            cycle += 1
            assert cycle < 5000, "the loader stands still"
        ctx.set(dut.take_tile, 0)
        ctx.set(dut.release_parameters, 0)
        assert not ctx.get(dut.tile_available)
        assert not ctx.get(dut.parameters_available)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(sink)
    simulator.run()
