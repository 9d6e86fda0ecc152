"""The whole accelerator in Amaranth's simulator: programs with a known result, errors, resets, counters."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.sim import Simulator

from hw.core import Core
from hw.isa import Instruction, Mode, Opcode, Unit, assemble
from hw.machine import Machine
from hw.registers import Control, Register, Status

sys.path.insert(0, str(Path(__file__).parent))
from axi_memory_model import AxiMemory

MEMORY_BYTES = 1 << 16
INPUT, OUTPUT, WEIGHTS, PROGRAM = 0x1000, 0x4000, 0x8000, 0xC000
LOAD_BIT, COMPUTE_BIT, STORE_BIT = (1 << unit for unit in (Unit.LOAD, Unit.COMPUTE, Unit.STORE))


class Host:
    """The processor on the AXI4-Lite port."""

    def __init__(self, ctx: Any, bus: Any) -> None:
        self.ctx, self.bus = ctx, bus

    async def write(self, address: int, value: int) -> None:
        ctx, bus = self.ctx, self.bus
        for signal, content in (
            (bus.awaddr, address),
            (bus.wdata, value),
            (bus.wstrb, 15),
            (bus.awvalid, 1),
            (bus.wvalid, 1),
            (bus.bready, 1),
        ):
            ctx.set(signal, content)
        address_ready, data_ready = False, False
        while not (address_ready and data_ready):
            _, _, aw, w = await ctx.tick().sample(bus.awready, bus.wready)
            address_ready, data_ready = address_ready or aw, data_ready or w
            ctx.set(bus.awvalid, not address_ready)
            ctx.set(bus.wvalid, not data_ready)
        await ctx.tick().until(bus.bvalid)
        ctx.set(bus.bready, 0)

    async def read(self, address: int) -> int:
        ctx, bus = self.ctx, self.bus
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        ctx.set(bus.rready, 1)
        (value,) = await ctx.tick().sample(bus.rdata).until(bus.rvalid)
        ctx.set(bus.rready, 0)
        return value

    async def start(self, program: int = PROGRAM) -> None:
        await self.write(Register.PROGRAM_ADDRESS, program)
        await self.write(Register.CONTROL, Control.START)

    async def finish(self, limit: int = 2000) -> int:
        for _ in range(limit):
            status = await self.read(Register.STATUS)
            if status & Status.DONE:
                return status
            assert status & Status.BUSY
        raise AssertionError("the program does not end")


def weights(machine: Machine, tiles: int) -> dict[str, int]:
    """The fields of a WEIGHTS of one block of raw tiles."""
    words = tiles * machine.tile_bytes // machine.weight_word_bytes
    return {"memory_address": WEIGHTS, "blocks": 1, "words": words}


def copy_program(machine: Machine, words: int, tiles: int = 4) -> list[Instruction]:
    """Load, multiply by the identity (every output is its input), store; ``tiles`` times, overlapping."""
    program: list[Instruction] = []
    blocks = machine.blocks_per_word
    half = machine.scratchpad_words // 2
    for n in range(tiles):
        source, destination = n % 2 * (half // 2), half + n % 2 * (half // 2)
        program += [
            Instruction(
                Opcode.LOAD,
                {
                    "memory_address": INPUT + n * words * machine.word_bytes,
                    "scratch_address": source,
                    "planes": 1,
                    "rows": 1,
                    "words": words,
                },
                wait=COMPUTE_BIT if n >= 2 else 0,
                signal=COMPUTE_BIT,
            ),
            Instruction(Opcode.WEIGHTS, weights(machine, blocks)),
            Instruction(
                Opcode.COMPUTE,
                {
                    "source_address": source,
                    "image_rows": 1,
                    "image_columns": words,
                    "stride_rows": 1,
                    "stride_columns": 1,
                    "dilation_rows": 1,
                    "dilation_columns": 1,
                    "kernel_rows": 1,
                    "kernel_columns": 1,
                    "input_blocks": blocks,
                    "output_blocks": 1,
                    "mode": Mode.DENSE.value,
                    "input_signed": 1,
                    "output_rows": 1,
                    "output_columns": words,
                    "destination_address": destination,
                    "low": -128,
                    "high": 127,
                },
                wait=LOAD_BIT | (STORE_BIT if n >= 2 else 0),
                signal=LOAD_BIT | STORE_BIT,
                layer=n + 1,
            ),
            Instruction(
                Opcode.STORE,
                {
                    "memory_address": OUTPUT + n * words * machine.word_bytes,
                    "scratch_address": destination,
                    "planes": 1,
                    "rows": 1,
                    "words": words,
                },
                wait=COMPUTE_BIT,
                signal=COMPUTE_BIT,
            ),
        ]
    return [*program, Instruction(Opcode.END)]


def identity_weights(machine: Machine) -> bytes:
    """A parameter block without bias and shift, then the tiles of the identity."""
    content = struct.pack("<ibBBB", 0, 0, 0, 0, 0) * machine.output_lanes
    for block in range(machine.blocks_per_word):
        for lane in range(machine.output_lanes):
            content += bytes(int(block * machine.input_lanes + i == lane) for i in range(machine.input_lanes))
    return content


class Bench:
    """A core, its memory and its host."""

    def __init__(
        self,
        machine: Machine,
        program: list[Instruction],
        *,
        seed: int = 0,
        stall: float = 0.0,
        latency: tuple[int, int] = (2, 12),
        **memory_options: Any,
    ) -> None:
        self.machine = machine
        self.dut = Core(machine)
        self.reset = Signal()
        self.memory = AxiMemory(
            bytearray(random.Random(seed).randbytes(MEMORY_BYTES)),
            machine.bus_bytes,
            seed,
            stall,
            latency,
            **memory_options,
        )
        self.write(WEIGHTS, identity_weights(machine))
        self.write(PROGRAM, b"".join(map(assemble, program)))

    def write(self, address: int, content: bytes) -> None:
        self.memory.content[address : address + len(content)] = content

    def bytes_at(self, address: int, count: int) -> bytes:
        return bytes(self.memory.content[address : address + count])

    def run(self, story: Any) -> None:
        top = Module()
        top.domains.sync = domain = ClockDomain("sync")
        top.submodules.core = self.dut
        top.d.comb += domain.rst.eq(self.reset)
        sim = Simulator(top)
        sim.add_clock(1e-6)
        self.memory.attach_read(sim, self.dut.m_axi)
        self.memory.attach_write(sim, self.dut.m_axi)

        async def testbench(ctx: Any) -> None:
            await story(ctx, Host(ctx, self.dut.s_axil))

        sim.add_testbench(testbench)
        sim.run()


MACHINES = [
    Machine(input_lanes=4, output_lanes=4, bus_width=32, scratchpad_words=256, average_pooling=False),
    Machine(scratchpad_words=512),
    Machine(input_lanes=8, output_lanes=16, bus_width=128, scratchpad_words=256),
]


@pytest.mark.parametrize(
    ("machine", "stall"), [(MACHINES[0], 0.0), (MACHINES[0], 0.3), (MACHINES[1], 0.3), (MACHINES[2], 0.1)]
)
def test_copy(machine: Machine, stall: float) -> None:
    words, tiles = 25, 3
    bench = Bench(machine, copy_program(machine, words, tiles), seed=3, stall=stall)
    count = words * tiles * machine.word_bytes

    async def story(ctx: Any, host: Host) -> None:
        digest = await host.read(Register.ID_LOW) | await host.read(Register.ID_HIGH) << 32
        assert digest == machine.digest()
        assert await host.read(Register.STATUS) == 0
        for again in range(2 if machine == MACHINES[0] else 1):
            bench.write(OUTPUT, bytes(count))
            await host.start()
            assert await host.finish() == Status.DONE
            assert ctx.get(bench.dut.done)
            assert bench.bytes_at(OUTPUT, count) == bench.bytes_at(INPUT, count), f"run {again}"
            assert bench.memory.unanswered == 0
        assert await host.read(Register.LAYER) == tiles
        weight_bytes = machine.parameter_bytes + machine.blocks_per_word * machine.tile_bytes
        beats = (count + tiles * weight_bytes) // machine.bus_bytes
        instruction_beats = 64 // machine.bus_bytes
        read_beats = await host.read(Register.READ_BEATS)
        assert read_beats % instruction_beats == beats % instruction_beats
        assert 0 <= read_beats - beats - (4 * tiles + 1) * instruction_beats <= 8 * instruction_beats
        assert await host.read(Register.WRITE_BEATS) == count // machine.bus_bytes
        assert await host.read(Register.COMPUTE_BUSY) == words * tiles * machine.blocks_per_word
        cycles = await host.read(Register.CYCLES)
        for counter in (Register.LOAD_BUSY, Register.STORE_BUSY, Register.COMPUTE_TOKEN_WAIT):
            assert 0 < await host.read(counter) < cycles

    bench.run(story)


def test_read_error_is_reported_and_the_program_ends() -> None:
    machine = MACHINES[0]
    bench = Bench(machine, copy_program(machine, 20), seed=4, bad_read=lambda address: address == INPUT + 64)

    async def story(ctx: Any, host: Host) -> None:
        await host.start()
        assert await host.finish() == Status.DONE | Status.READ_ERROR
        bench.memory.bad_read = lambda address: False
        await host.start()
        assert await host.finish() == Status.DONE

    bench.run(story)


def test_write_error_is_reported_and_the_program_ends() -> None:
    machine = MACHINES[0]
    bench = Bench(machine, copy_program(machine, 20), seed=5, bad_write=lambda address: True)

    async def story(ctx: Any, host: Host) -> None:
        await host.start()
        assert await host.finish() == Status.DONE | Status.WRITE_ERROR

    bench.run(story)


def test_error_past_the_end_does_not_matter() -> None:
    machine = MACHINES[0]
    program = copy_program(machine, 20)
    end = PROGRAM + 64 * len(program)
    bench = Bench(machine, program, seed=6, bad_read=lambda address: address >= end)

    async def story(ctx: Any, host: Host) -> None:
        await host.start()
        assert await host.finish() == Status.DONE
        bench.memory.bad_read = lambda address: end - 64 <= address
        await host.start()
        assert await host.finish() == Status.DONE | Status.READ_ERROR

    bench.run(story)


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_bad_opcode_stops_fetching(opcode: int) -> None:
    machine = MACHINES[0]
    program = copy_program(machine, 20)
    # the first tile whole, then weights that nobody takes (more than the FIFO holds), then the bad one
    cut = [*program[:4], Instruction(Opcode.WEIGHTS, weights(machine, 80))]
    bench = Bench(machine, program, seed=7)
    bench.write(
        PROGRAM + 0x2000,
        b"".join(map(assemble, cut)) + bytes([opcode]) + bytes(63) + b"".join(map(assemble, program[4:])),
    )
    count = 20 * machine.word_bytes

    async def story(ctx: Any, host: Host) -> None:
        bench.write(OUTPUT, bytes(4 * count))
        await host.start(PROGRAM + 0x2000)
        assert await host.finish() == Status.DONE | Status.BAD_OPCODE
        assert bench.bytes_at(OUTPUT, 4 * count) == bench.bytes_at(INPUT, count) + bytes(3 * count)
        # tokens and weights that are left over are gone
        await host.start()
        assert await host.finish() == Status.DONE
        assert bench.bytes_at(OUTPUT, 4 * count) == bench.bytes_at(INPUT, 4 * count)

    bench.run(story)


def test_too_many_tokens() -> None:
    machine = MACHINES[0]
    loads = [
        Instruction(
            Opcode.LOAD, {"memory_address": INPUT, "planes": 1, "rows": 1, "words": 1}, signal=STORE_BIT
        )
        for _ in range(256)
    ]
    program = 0x2000
    bench = Bench(machine, [], seed=8)
    bench.write(program, b"".join(map(assemble, [*loads, Instruction(Opcode.END)])))

    async def story(ctx: Any, host: Host) -> None:
        await host.start(program + 64)  # 255 of them
        assert await host.finish() == Status.DONE
        await host.start(program)
        assert await host.finish() == Status.DONE | Status.TOKEN_ERROR

    bench.run(story)


def test_start_while_busy_is_ignored() -> None:
    machine = MACHINES[0]
    bench = Bench(machine, copy_program(machine, 50), seed=9)
    count = 4 * 50 * machine.word_bytes

    async def story(ctx: Any, host: Host) -> None:
        await host.start()
        for _ in range(10):
            await host.start(0x100)  # where there is no program
            assert await host.read(Register.STATUS) == Status.BUSY
        assert await host.finish() == Status.DONE
        assert bench.bytes_at(OUTPUT, count) == bench.bytes_at(INPUT, count)

    bench.run(story)


def test_empty_program() -> None:
    bench = Bench(MACHINES[0], [Instruction(Opcode.END)], seed=10)

    async def story(ctx: Any, host: Host) -> None:
        for _ in range(3):
            await host.start()
            assert await host.finish() == Status.DONE

    bench.run(story)


def test_reset_in_the_middle() -> None:
    """After a reset of everything at any time, a program runs as if nothing had happened."""
    machine = MACHINES[0]
    bench = Bench(machine, copy_program(machine, 25, 3), seed=11, stall=0.2)
    count = 3 * 25 * machine.word_bytes
    rng = random.Random(11)

    async def story(ctx: Any, host: Host) -> None:
        for delay in [*(rng.randint(1, 500) for _ in range(8)), None]:
            bench.write(OUTPUT, bytes(count))
            await host.start()
            if delay is not None:
                await ctx.tick().repeat(delay)
                ctx.set(bench.reset, 1)
                await ctx.tick()
                await ctx.tick()
                ctx.set(bench.reset, 0)
                await ctx.tick()
                assert await host.read(Register.STATUS) == 0
                assert await host.read(Register.PROGRAM_ADDRESS) == 0
            else:
                assert await host.finish() == Status.DONE
        assert bench.bytes_at(OUTPUT, count) == bench.bytes_at(INPUT, count)
        assert bench.memory.unanswered == 0

    bench.run(story)
