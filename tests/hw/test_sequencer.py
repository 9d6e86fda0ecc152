"""The sequencer's words against the loops of `docs/machine.md`, with weights and tokens that come late."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator, SimulatorContext

from hw.isa import COMPUTE, Instruction, Mode
from hw.machine import Machine
from hw.pass_loops import PASS_CYCLES
from hw.sequencer import Sequencer

sys.path.append(str(Path(__file__).parent))
from compute_model import passes, random_chain, random_instruction

MACHINE = Machine(input_lanes=4, output_lanes=16, bus_width=32, scratchpad_words=1024, accumulator_depth=64,
                  weight_pairs=True)


FLAGS = ("new_tile", "new_block", "first", "last", "chain", "maximum", "row_end", "block_end", "end")
COPIES = ("mode", "thin_channels", "input_signed", "image_rows", "image_columns", "pairs")

#: Offset, row and column of each slot; None if it is not used.
Slots = tuple[tuple[int, int, int] | None, ...]


def slots(code: Instruction, pass_number: int) -> tuple[int, Slots]:
    """First channel and slots of a pass where input lanes are taps."""
    channels = code["thin_channels"] if code["mode"] == Mode.THIN.value else 1
    first, phase = divmod(pass_number * (MACHINE.input_lanes << code["pairs"]), channels)
    found = []
    for slot in range(first, first + MACHINE.input_lanes):
        row, column = divmod(slot, code["slot_columns"])
        used = row < code["kernel_rows"] and column < code["kernel_columns"]
        offset = (row * code["source_tap_row_step"] + column) % 65536
        found.append((offset, row, column) if used else None)
    return phase, tuple(found)


def words(code: Instruction) -> list[tuple[bool, tuple]]:
    """Whether a pass begins, and address, row, column, half, phase, pixel, flags, copied fields, slots."""
    found = []
    mode = Mode(code["mode"])
    pixels = code["output_rows"] * code["output_columns"]
    stacked = code["partial"] or code["continues"]
    for ob in range(code["output_blocks"]):
        schedule = iter(passes(code))
        for ib in range(code["input_blocks"]):
            plane, half = divmod(code["first_block"] + ib, MACHINE.blocks_per_word >> code["pairs"])
            taps = [(ky, kx) for ky in range(code["kernel_rows"]) for kx in range(code["kernel_columns"])]
            phase, present = 0, ((0, 0, 0), *[None] * (MACHINE.input_lanes - 1))
            if mode is Mode.MAXIMUM:
                plane = ob
            if mode.reads_taps:
                plane, half, taps = 0 if mode is Mode.THIN else ob, 0, [(0, 0)]
                phase, present = slots(code, ib)
            for ky, kx in taps:
                now = next(schedule)
                for r, c in np.ndindex(code["output_rows"], code["output_columns"]):
                    start = r == 0 and c == 0
                    row_end = c == code["output_columns"] - 1
                    block_end = row_end and r == code["output_rows"] - 1 and now.last
                    pass_end = row_end and r == code["output_rows"] - 1
                    fold = bool(code["fold"])
                    flags = ((start or fold) and now.tiles > 0, start and now.first,
                             now.first and not code["continues"] and (start or not fold),
                             now.last and not code["partial"] and (pass_end or not fold),
                             fold and not (start and now.first), mode is Mode.MAXIMUM, row_end, block_end,
                             block_end and ob == code["output_blocks"] - 1)
                    found.append((start, (
                        (code["source_address"] + plane * code["source_plane_step"]
                         + r * code["source_row_step"] + ky * code["source_tap_row_step"]
                         + c * code["stride_columns"] + kx * code["dilation_columns"]) % 65536,
                        code["origin_row"] + r * code["stride_rows"] + ky * code["dilation_rows"],
                        code["origin_column"] + c * code["stride_columns"] + kx * code["dilation_columns"],
                        half, phase, 0 if fold else r * code["output_columns"] + c + ob * pixels * stacked,
                        *map(int, flags), *(code[name] for name in COPIES), present)))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_words(seed: int) -> None:
    """Words of instructions that overlap; results of each are written some time after its last word."""
    rng = np.random.default_rng(seed)
    codes: list[Instruction] = []
    while len(codes) < 8:
        more = random_chain(MACHINE, rng) if rng.random() < 0.2 else [random_instruction(MACHINE, rng)]
        if all(len(words(code)) < 400 and not code["average"] for code in more):
            codes += more
    if seed == 0:  # the farthest positions that fit
        code = next(code for code in codes if not Mode(code["mode"]).reads_taps)
        code.fields |= {"origin_row": -32768, "origin_column": 32767, "stride_rows": 255,
                        "dilation_rows": 255, "stride_columns": 255, "dilation_columns": 255}
    dut = Sequencer(MACHINE)
    stall = (0.0, 0.5, 0.9, 0.2, 0.0, 0.3)[seed]
    slowest = (0, 30, 3, 60, 12, 0)[seed]  # cycles from the last word to its result, at most

    async def source(ctx: SimulatorContext) -> None:
        for code in codes:
            ctx.set(dut.instructions.valid, 1)
            fields = {name: code[name] for name in COMPUTE}
            for name, value in {**fields, "wait": code.wait, "signal": code.signal}.items():
                ctx.set(dut.instructions.payload[name], value)
            await ctx.tick().until(dut.instructions.ready)
            ctx.set(dut.instructions.valid, 0)

    async def checker(ctx: SimulatorContext) -> None:
        expected = [(number, *word) for number, code in enumerate(codes) for word in words(code)]
        issued = granted = done = 0         # words, instructions that have their tokens, that have ended
        last_start, last_pixel, turn = -PASS_CYCLES, 0, (-1, 0)
        finish_at: list[int] = []           # when the results of instructions will have been written
        signal_due = writes = -1
        present: Slots = ()
        slots_due: tuple[int, bool, Slots] | None = None  # word, whether its pass is new, what they are
        state = 0
        cycle = 0
        while done < len(codes):
            # availability only goes away when claimed
            for flag, claim in ((dut.tile_available, dut.claim_tile),
                                (dut.parameters_available, dut.claim_parameters)):
                if not ctx.get(flag) and rng.random() >= stall:
                    ctx.set(flag, 1)
                assert not (ctx.get(claim) and not ctx.get(flag))
            if ctx.get(dut.start):
                writes += 1
                assert writes == done, "settings of post-processing change while they are used"
                assert ctx.get(dut.writing["signal"]) == codes[writes].signal
                assert ctx.get(dut.writing.destination_address) == codes[writes]["destination_address"]
            # the slots of the word that was issued in the cycle before
            if slots_due is not None:
                number, new_pass, wanted = slots_due
                slots_due = None
                if new_pass:
                    present = tuple(tuple(ctx.get(slot[name]) for name in ("offset", "row", "column"))
                                    if ctx.get(slot.used) else None for slot in dut.slots)
                    state = int(ctx.get(Value.cast(dut.slots)))
                assert ctx.get(Value.cast(dut.slots)) == state
                assert present == wanted, f"slots of word {number} of all"
            if ctx.get(dut.issue_valid):
                number, new_pass, word = expected[issued]
                assert number < granted, "words are read before the tokens are taken"
                issue = dut.issue
                got = tuple(ctx.get(issue[name]) for name in ("address", "row", "column", "half", "phase",
                                                              "pixel"))
                if not Mode(codes[number]["mode"]).reads_taps:
                    got = (*got[:4], 0, got[5])  # nobody looks at the phase
                got += tuple(ctx.get(issue.flags[name]) for name in FLAGS)
                got += tuple(int(ctx.get(Value.cast(issue[name]))) for name in COPIES)
                slots_due = (issued, new_pass, word[-1])
                assert got == word[:-1], f"word {issued} of all, of {codes[number]}"
                first, last, chain, end = (got[6 + FLAGS.index(name)]
                                           for name in ("first", "last", "chain", "end"))
                if new_pass:
                    # sums that begin need none of the pass before, those of another block lie elsewhere,
                    # and a chain's need no memory
                    others = got[5] != last_pixel
                    assert first or chain or others or cycle - last_start >= PASS_CYCLES
                    last_start, last_pixel = cycle, got[5]
                if last or end:
                    assert number == done, "results before those of the instruction before have been written"
                if codes[number]["residual"] and last:
                    turn = turn if turn[0] == number else (number, cycle % 2)
                    assert cycle % 2 == turn[1], "residual words in both kinds of cycles"
                if end:
                    finish_at.append(cycle + 4 + int(rng.integers(0, slowest + 1)))
                issued += 1
            claims = [flag for flag, claim in ((dut.tile_available, dut.claim_tile),
                                               (dut.parameters_available, dut.claim_parameters))
                      if ctx.get(claim)]
            if ctx.get(dut.tokens.wait_valid):
                wait = codes[granted].wait
                assert ctx.get(dut.tokens.wait) == wait
                ready = rng.random() >= stall
                ctx.set(dut.tokens.wait_ready, int(ready))
                granted += bool(ready or not wait)
            else:
                ctx.set(dut.tokens.wait_ready, 0)
            assert ctx.get(dut.tokens.signal_valid) == (cycle == signal_due)
            if cycle == signal_due:
                assert ctx.get(dut.tokens.signal) == codes[done].signal
                done += 1
            assert not ctx.get(dut.idle) or not issued or issued == sum(
                number < done for number, *_ in expected)
            finished = bool(finish_at) and finish_at[0] <= cycle
            ctx.set(dut.finished, int(finished))
            if finished:
                finish_at.pop(0)
                signal_due = cycle + 1
            await ctx.tick()
            cycle += 1
            for flag in claims:
                ctx.set(flag, int(rng.random() >= stall))
        assert issued == len(expected)
        await ctx.tick()
        assert ctx.get(dut.idle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(checker)
    simulator.run()
