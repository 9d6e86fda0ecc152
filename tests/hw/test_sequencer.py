"""The sequencer's words against the loops of `docs/machine.md`, with weights and tokens that come late."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.isa import Instruction, Mode
from hw.machine import Machine
from hw.sequencer import PASS_CYCLES, Sequencer

sys.path.append(str(Path(__file__).parent))
from compute_model import passes, random_instruction

MACHINE = Machine(input_lanes=4, output_lanes=8, bus_width=32, scratchpad_words=1024, accumulator_depth=64)


def words(code: Instruction) -> list[tuple[int, ...]]:
    """Address, row, column, half, pixel, new_tile, new_block, first, last, row_end, block_end, end."""
    found = []
    dense = code["mode"] == Mode.DENSE.value
    for ob in range(code["output_blocks"]):
        schedule = iter(passes(code))
        for ib in range(code["input_blocks"]):
            plane, half = divmod(code["first_block"] + ib, MACHINE.blocks_per_word)
            plane = plane if dense else ob
            for ky in range(code["kernel_rows"]):
                for kx in range(code["kernel_columns"]):
                    now = next(schedule)
                    for r in range(code["output_rows"]):
                        for c in range(code["output_columns"]):
                            start = r == 0 and c == 0
                            row_end = c == code["output_columns"] - 1
                            block_end = row_end and r == code["output_rows"] - 1 and now.last
                            found.append((
                                (code["source_address"] + plane * code["source_plane_step"]
                                 + r * code["source_row_step"] + ky * code["source_tap_row_step"]
                                 + c * code["stride_columns"] + kx * code["dilation_columns"]) % 65536,
                                code["origin_row"] + r * code["stride_rows"] + ky * code["dilation_rows"],
                                code["origin_column"] + c * code["stride_columns"]
                                + kx * code["dilation_columns"],
                                half, r * code["output_columns"] + c, int(start and now.tile),
                                int(start and now.first), int(now.first), int(now.last), int(row_end),
                                int(block_end), int(block_end and ob == code["output_blocks"] - 1)))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes: list[Instruction] = []
    while len(codes) < 6:
        code = random_instruction(MACHINE, rng)
        if len(words(code)) < 400 and not code["average"]:
            codes.append(code)
    if seed == 0:  # the farthest positions that fit
        codes[0].fields |= {"origin_row": -32768, "origin_column": 32767, "stride_rows": 255,
                            "dilation_rows": 255, "stride_columns": 255, "dilation_columns": 255}
    dut = Sequencer(MACHINE)
    stall = (0.0, 0.5, 0.9, 0.2)[seed]

    async def source(ctx: SimulatorContext) -> None:
        for code in codes:
            ctx.set(dut.instructions.valid, 1)
            for name, value in {**code.fields, "wait": code.wait, "signal": code.signal}.items():
                ctx.set(dut.instructions.payload[name], value)
            await ctx.tick().until(dut.instructions.ready)
            ctx.set(dut.instructions.valid, 0)

    async def checker(ctx: SimulatorContext) -> None:
        cycle = 0
        for code in codes:
            expected = words(code)
            granted, number, last_start, turn = code.wait == 0, 0, -PASS_CYCLES, None
            while number < len(expected):
                # availability only goes away when claimed
                for flag, claim in ((dut.tile_available, dut.claim_tile),
                                    (dut.parameters_available, dut.claim_parameters)):
                    if not ctx.get(flag) and rng.random() >= stall:
                        ctx.set(flag, 1)
                    claimed = ctx.get(claim)
                    assert not (claimed and not ctx.get(flag))
                if ctx.get(dut.issue_valid):
                    assert granted
                    issue = dut.issue
                    flags = ("new_tile", "new_block", "first", "last", "row_end", "block_end", "end")
                    got = tuple(ctx.get(issue[name])
                                for name in ("address", "row", "column", "half", "pixel"))
                    got += tuple(ctx.get(issue.flags[name]) for name in flags)
                    assert got == expected[number], f"word {number} of {code}"
                    if got[4] == 0:
                        assert cycle - last_start >= PASS_CYCLES
                        last_start = cycle
                    if code["residual"] and got[8]:
                        turn = cycle % 2 if turn is None else turn
                        assert cycle % 2 == turn, "residual words in both kinds of cycles"
                    number += 1
                claims = [flag for flag, claim in ((dut.tile_available, dut.claim_tile),
                                                   (dut.parameters_available, dut.claim_parameters))
                          if ctx.get(claim)]
                if ctx.get(dut.tokens.wait_valid):
                    assert ctx.get(dut.tokens.wait) == code.wait
                    granting = not granted and rng.random() >= stall
                    ctx.set(dut.tokens.wait_ready, int(granting))
                    granted = granted or granting
                assert not ctx.get(dut.tokens.signal_valid)
                await ctx.tick()
                cycle += 1
                ctx.set(dut.tokens.wait_ready, 0)
                for flag in claims:
                    ctx.set(flag, int(rng.random() >= stall))
            for _ in range(int(rng.integers(0, 5))):
                assert not ctx.get(dut.issue_valid)
                assert not ctx.get(dut.tokens.signal_valid)
                await ctx.tick()
                cycle += 1
            ctx.set(dut.finished, 1)
            await ctx.tick()
            ctx.set(dut.finished, 0)
            assert ctx.get(dut.tokens.signal_valid)
            assert ctx.get(dut.tokens.signal) == code.signal
            await ctx.tick()
            cycle += 2
        assert ctx.get(dut.idle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(checker)
    simulator.run()
