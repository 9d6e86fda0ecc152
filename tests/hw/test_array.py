"""The multiplier array against its twin, with tiles that change between words."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.array import OPERAND_LATENCY, MultiplierArray, array_latency, array_twin
from hw.isa import Mode
from hw.machine import Machine


@pytest.mark.parametrize("machine", [
    Machine(input_lanes=4, output_lanes=4, bus_width=32),
    Machine(input_lanes=4, output_lanes=8, bus_width=32),
], ids=["4x4", "4x8"])
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("input_signed", [False, True])
def test_against_twin(machine: Machine, mode: Mode, input_signed: bool) -> None:
    rng = np.random.default_rng(mode.value)
    dut = MultiplierArray(machine)
    latency = array_latency(machine)
    count = 60
    words = [rng.integers(0, 256, machine.word_bytes, dtype=np.uint8).tobytes() for _ in range(count)]
    words[0], words[1] = bytes([128] * machine.word_bytes), bytes([255] * machine.word_bytes)
    inside = [number < 2 or rng.random() < 0.8 for number in range(count)]
    halves = [int(rng.integers(0, machine.blocks_per_word)) for _ in range(count)]
    loads = [number == 0 or rng.random() < 0.3 for number in range(count)]
    tiles: list[bytes] = []
    for load in loads:
        fresh = rng.integers(-128, 128, machine.tile_bytes).astype(np.int8).tobytes()
        if not tiles:
            fresh = bytes([128] * machine.tile_bytes)
        tiles.append(fresh if load else tiles[-1])

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(dut.mode, mode)
        ctx.set(dut.input_signed, int(input_signed))
        for cycle in range(count + latency):
            if cycle < count:
                ctx.set(dut.word, int.from_bytes(words[cycle], "little"))
                ctx.set(dut.inside, int(inside[cycle]))
                ctx.set(dut.half, halves[cycle])
            operand = cycle - OPERAND_LATENCY
            loading = 0 <= operand < count and loads[operand]
            ctx.set(dut.load_tile, int(loading))
            # what is not loaded must not matter
            tile = tiles[operand] if loading else bytes([0x55] * machine.tile_bytes)
            ctx.set(dut.tile, int.from_bytes(tile, "little"))
            done = cycle - latency
            if done >= 0:
                expected = array_twin(machine, words[done], tiles[done], inside=inside[done],
                                      half=halves[done], mode=mode, input_signed=input_signed)
                assert [ctx.get(dut.sums[lane]) for lane in range(machine.output_lanes)] == expected
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
