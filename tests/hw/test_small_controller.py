"""The small core's controller and its assembler, against a twin in Python."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.small_assembler import (
    DATA_WORDS,
    PROGRAM_WORDS,
    Assembler,
    Condition,
    In,
    Operand,
    Operation,
    Port,
    accumulator,
    immediate,
    indexed,
    memory,
    port,
)
from hw.small_controller import SmallController
from hw.small_firmware import small_firmware

PROGRAM_ADDRESS = 0x89AB_CDC0


def twin(words: list[int], beats: list[int]) -> list[tuple[int, int]]:
    """What a program writes: (port, value), up to `Port.DONE`."""
    a = carry = x = place = 0
    data, written, beats = [0] * DATA_WORDS, [], list(beats)
    while True:
        word = words[place]
        place += 1
        operation, operand = Operation(word >> 12), word & 0x1FF
        address = (operand + (x if word >> 11 & 1 else 0)) % DATA_WORDS
        source = word >> 9 & 3
        b = (data[address], (operand - 512 if operand > 255 else operand) & 0xFFFF, 0, a)[source]
        if operation < Operation.ST and source == 2:
            program = (PROGRAM_ADDRESS & 0xFFFF, PROGRAM_ADDRESS >> 16)
            b = program[operand & 1] if operand & 2 else beats[0] >> 16 * (operand & 1) & 0xFFFF
            if not operand & 2 and operand & 1:
                beats.pop(0)
        total = 0
        match operation:
            case Operation.LD:
                a = b
            case Operation.ADD | Operation.ADC:
                total = a + b + (carry if operation is Operation.ADC else 0)
            case Operation.SUB:
                total = a + (b ^ 0xFFFF) + 1
            case Operation.AND:
                a &= b
            case Operation.SHR:
                a = b >> 1
            case Operation.HIGH:
                a = b >> 8
            case Operation.ST:
                data[address] = a
            case Operation.OUT:
                written.append((operand, a))
                if operand == Port.DONE:
                    return written
            case Operation.LDX:
                x = a & 0xFF
        if operation in (Operation.ADD, Operation.ADC, Operation.SUB):
            a, carry = total & 0xFFFF, total >> 16
        jumps = {Operation.JMP: True, Operation.JZ: a == 0, Operation.JNZ: a != 0, Operation.JC: carry == 1}
        if jumps.get(operation):
            place = operand


def random_program(rng: random.Random) -> tuple[list[int], int]:
    """A program that ends, and the beats that it takes."""
    code, taken = Assembler(), 0
    for number in range(60):
        code.label(f"part {number}")
        for _ in range(rng.randint(1, 5)):
            kind = rng.randrange(10)
            operand: Operand = rng.choice(
                (memory(rng.randrange(32)), indexed(rng.randrange(16)), immediate(rng.randint(-256, 255)),
                 accumulator, port(rng.choice((In.PROGRAM_LOW, In.PROGRAM_HIGH)))))
            if kind < 6:
                code.do(rng.choice(list(Operation)[: Operation.ST]), operand)
            elif kind == 6:
                code.store(rng.choice((memory(rng.randrange(32)), indexed(rng.randrange(16)))))
            elif kind == 7:
                code.load(immediate(rng.randrange(16)))
                code.index()
            elif kind == 8:
                code.load(port(In.BEAT_LOW))
                code.do(Operation.ADD, port(In.BEAT_HIGH))
                taken += 1
            else:
                code.wait(rng.choice(list(Condition)))
        code.out(rng.randrange(Port.DONE))
        later = f"part {min(number + rng.randint(1, 3), 60)}"
        jump = rng.choice((Operation.JMP, Operation.JZ, Operation.JNZ, Operation.JC))
        code.jump(later, jump)
    code.label("part 60")
    code.out(Port.DONE)
    return code.words(), taken


@pytest.mark.parametrize("seed", range(4))
def test_random_programs(seed: int) -> None:
    rng = random.Random(seed)
    words, taken = random_program(rng)
    beats = [rng.randrange(1 << 32) for _ in range(taken + 1)]
    wanted = twin(words, beats)
    dut = SmallController(words)
    found: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.program_address, PROGRAM_ADDRESS)
        for _ in range(2):  # it starts again from the beginning; memory and X are as they were
            found.clear()
            left = list(beats)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(20_000):
                ctx.set(dut.met, rng.randrange(16))
                ctx.set(dut.beat, left[0])
                valid = rng.random() < 0.6
                ctx.set(dut.beat_valid, valid)
                strobes, taken_now = ctx.get(dut.written), ctx.get(dut.beat_taken)
                found.extend((number, ctx.get(dut.value)) for number in range(Port.DONE + 1)
                             if strobes >> number & 1)
                await ctx.tick()
                if valid and taken_now:
                    left.pop(0)
                if not ctx.get(dut.running):
                    break
            if not first:
                first.extend(found)

    first: list[tuple[int, int]] = []
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert first == wanted
    assert found[-1][0] == Port.DONE


def test_assembler_errors() -> None:
    code = Assembler()
    code.label("here")
    with pytest.raises(ValueError, match="label here twice"):
        code.label("here")
    code.jump("there")
    with pytest.raises(ValueError, match="no label there"):
        code.words()
    with pytest.raises(ValueError, match="an immediate must be -256 to 255, not 256"):
        immediate(256)
    code = Assembler()
    for _ in range(PROGRAM_WORDS + 1):
        code.index()
    with pytest.raises(ValueError, match=f"{PROGRAM_WORDS + 1} words, there is room for {PROGRAM_WORDS}"):
        code.words()


def test_firmware_fits() -> None:
    words = small_firmware()
    assert 0 < len(words) <= PROGRAM_WORDS
    assert all(0 <= word < 1 << 16 for word in words)
