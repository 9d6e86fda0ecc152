"""The control registers over AXI4-Lite: order of address and data, strobes, stalls, counters, errors."""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.control import ControlRegisters
from hw.machine import Machine
from hw.registers import COUNTERS, Control, Register, Status, counted_layer

MACHINE = Machine()
COUNTED = [counter for counter in COUNTERS if counter is not Register.CYCLES]


class Host:
    """AXI4-Lite manager that moves address, data and answers at random times."""

    def __init__(self, ctx: Any, bus: Any, rng: random.Random, wait: int) -> None:
        self.ctx, self.bus, self.rng, self.wait = ctx, bus, rng, wait

    async def write(self, address: int, value: int, strobes: int = 15) -> None:
        ctx, bus = self.ctx, self.bus
        address_at, data_at, ready_at = (self.rng.randint(0, self.wait) for _ in range(3))
        cycle, address_done, data_done = 0, False, False
        while True:
            ctx.set(bus.awvalid, cycle >= address_at and not address_done)
            ctx.set(
                bus.awaddr, address if cycle >= address_at and not address_done else self.rng.randrange(256)
            )
            ctx.set(bus.wvalid, cycle >= data_at and not data_done)
            ctx.set(bus.wdata, value if cycle >= data_at and not data_done else self.rng.getrandbits(32))
            ctx.set(bus.wstrb, strobes if cycle >= data_at and not data_done else self.rng.randrange(16))
            ready = address_done and data_done and cycle >= ready_at
            ctx.set(bus.bready, ready)
            _, _, aw, w, b, response = await ctx.tick().sample(bus.awready, bus.wready, bus.bvalid, bus.bresp)
            if b:
                assert (address_done, data_done) == (True, True), "answered too early"
                assert response == 0
            if b and ready:
                break
            address_done |= bool(aw and cycle >= address_at)
            data_done |= bool(w and cycle >= data_at)
            cycle += 1
            assert cycle < 100
        ctx.set(bus.bready, 0)
        await ctx.delay(1e-8)
        assert not ctx.get(bus.bvalid), "answered twice"

    async def read(self, address: int) -> int:
        ctx, bus = self.ctx, self.bus
        await ctx.tick().repeat(self.rng.randint(1, self.wait + 1))
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        ctx.set(bus.araddr, self.rng.randrange(256))
        await ctx.tick().repeat(self.rng.randint(1, self.wait + 1))
        ctx.set(bus.rready, 1)
        value, response = await ctx.tick().sample(bus.rdata, bus.rresp).until(bus.rvalid)
        ctx.set(bus.rready, 0)
        assert response == 0
        await ctx.delay(1e-8)
        assert not ctx.get(bus.rvalid), "answered twice"
        return value

    async def read_counter(self, counter: Register) -> int:
        low = await self.read(counter)
        await self.ctx.tick().repeat(self.rng.randint(1, 20))
        return low | await self.read(counter + 4) << 32


Story = Callable[[Any, Host, ControlRegisters], Awaitable[None]]


def run(story: Story, wait: int, machine: Machine = MACHINE) -> None:
    dut = ControlRegisters(machine)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx: Any) -> None:
        await story(ctx, Host(ctx, dut.bus, random.Random(wait), wait), dut)

    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("wait", [0, 1, 5])
def test_registers(wait: int) -> None:
    async def story(ctx: Any, host: Host, dut: ControlRegisters) -> None:
        digest = MACHINE.digest()
        assert await host.read(Register.ID_LOW) == digest & 0xFFFFFFFF
        assert await host.read(Register.ID_HIGH) == digest >> 32
        held = 0
        for _ in range(20):
            value, strobes = host.rng.getrandbits(32), host.rng.randrange(16)
            mask = sum(0xFF << 8 * n for n in range(4) if strobes >> n & 1)
            held = held & ~mask | value & mask
            await host.write(Register.PROGRAM_ADDRESS, value, strobes)
            assert ctx.get(dut.program_address) == held
            assert await host.read(Register.PROGRAM_ADDRESS) == held
        # what is read only, or does not exist, is not written
        for address in (Register.ID_LOW, Register.STATUS, Register.LAYER, Register.CYCLES, 0x1C, 0x80, 0xFC):
            before = await host.read(address)
            await host.write(address, 0xFFFFFFFF)
            assert await host.read(address) == before
        assert await host.read(0x1C) == await host.read(0xFC) == await host.read(Register.CONTROL) == 0
        await host.write(Register.COUNTED_LAYER, 0xFFFF1234)
        await host.write(Register.COUNTED_LAYER, 0xFF5678, 2)
        assert await host.read(Register.COUNTED_LAYER) == counted_layer(0x5634)
        await host.write(Register.COUNTED_LAYER, 0, 4)
        assert await host.read(Register.COUNTED_LAYER) == 0x5634
        ctx.set(dut.layer, 0xABCD)
        assert await host.read(Register.LAYER) == 0xABCD
        assert await host.read(Register.PROGRAM_ADDRESS) == held

    run(story, wait)


@pytest.mark.parametrize("wait", [0, 4])
def test_a_program(wait: int) -> None:
    async def story(ctx: Any, host: Host, dut: ControlRegisters) -> None:
        ctx.set(dut.finished, 1)  # idle units, before a program and in its first cycles
        for strobes, value in ((15, 0), (14, Control.START), (15, 0xFFFFFFFE)):
            await host.write(Register.CONTROL, value, strobes)
            assert await host.read(Register.STATUS) == 0
        for _ in range(2):
            ctx.set(dut.finished, 0)
            await host.write(Register.CONTROL, Control.START)
            assert await host.read(Register.STATUS) == Status.BUSY
            assert not ctx.get(dut.done)
            errors = Status(0)
            for error in (Status.BAD_OPCODE, Status.WRITE_ERROR, Status.TOKEN_ERROR, Status.READ_ERROR):
                assert error.name
                strobe = getattr(dut, error.name.lower())
                ctx.set(strobe, 1)
                await ctx.tick()
                ctx.set(strobe, 0)
                errors |= error
                assert await host.read(Register.STATUS) == Status.BUSY | errors
            await host.write(Register.CONTROL, Control.START)  # ignored: the errors stay
            assert await host.read(Register.STATUS) == Status.BUSY | errors
            ctx.set(dut.finished, 1)
            await ctx.tick().repeat(3)
            assert ctx.get(dut.done)
            assert await host.read(Register.STATUS) == Status.DONE | errors
            cycles = await host.read_counter(Register.CYCLES)
            assert cycles > 10
            await ctx.tick().repeat(20)
            assert await host.read_counter(Register.CYCLES) == cycles

    run(story, wait)


def test_start_is_one_strobe() -> None:
    dut = ControlRegisters(MACHINE)
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    strobes = 0

    async def testbench(ctx: Any) -> None:
        await Host(ctx, dut.bus, random.Random(0), 0).write(Register.CONTROL, Control.START)
        await ctx.tick().repeat(10)

    async def counter(ctx: Any) -> None:
        nonlocal strobes
        async for _, _, start in ctx.tick().sample(dut.start):
            strobes += start

    sim.add_testbench(testbench)
    sim.add_process(counter)
    sim.run()
    assert strobes == 1


@pytest.mark.parametrize("wait", [0, 5])
def test_counters(wait: int) -> None:
    async def story(ctx: Any, host: Host, dut: ControlRegisters) -> None:
        await host.write(Register.CONTROL, Control.START)
        expected = dict.fromkeys(COUNTED, 0)
        for _ in range(300):
            for counter in COUNTED:
                event = host.rng.random() < 0.3
                expected[counter] += event
                ctx.set(getattr(dut, counter.name.lower()), event)
            await ctx.tick()
        for counter in COUNTED:
            ctx.set(getattr(dut, counter.name.lower()), 0)
        for counter in COUNTED:
            assert await host.read_counter(counter) == expected[counter]
        first = await host.read_counter(Register.CYCLES)
        assert await host.read_counter(Register.CYCLES) > first > 300
        ctx.set(dut.finished, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.finished, 0)
        await host.write(Register.CONTROL, Control.START)
        for counter in COUNTED:
            assert await host.read_counter(counter) == 0

    run(story, wait)


def test_the_high_word_belongs_to_the_low_word() -> None:
    """A counter that passes 2^32 between the reads of its two words."""
    dut = ControlRegisters(MACHINE)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def testbench(ctx: Any) -> None:
        host = Host(ctx, dut.bus, random.Random(1), 0)
        await ctx.tick()  # after a reset counters are cleared
        ctx.set(dut._counters[Register.LOAD_BUSY], (1 << 32) - 3)
        low = await host.read(Register.LOAD_BUSY)
        ctx.set(dut.load_busy, 1)
        await ctx.tick().repeat(10)
        ctx.set(dut.load_busy, 0)
        assert low == (1 << 32) - 3
        assert await host.read(Register.LOAD_BUSY + 4) == 0
        assert await host.read_counter(Register.LOAD_BUSY) == (1 << 32) + 7

    sim.add_testbench(testbench)
    sim.run()


def test_cycles_of_one_layer() -> None:
    """The same run for each layer: every cycle is counted for one of them, those before the first for 0."""
    layers = [4, 0, 0, 1, 1, 1, 2, 4, 4]  # in each cycle; first what the run before left
    found = {}

    async def story(ctx: Any, host: Host, dut: ControlRegisters) -> None:
        for layer in (None, *range(5)):
            await host.write(Register.COUNTED_LAYER, 0 if layer is None else counted_layer(layer))
            ctx.set(dut.layer, layers[0])
            ctx.set(dut.load_busy, 1)
            ctx.set(dut.finished, 0)
            await host.write(Register.CONTROL, Control.START)
            for number in layers[1:]:
                ctx.set(dut.layer, number)
                await ctx.tick()
            ctx.set(dut.finished, 1)
            await ctx.tick().repeat(3)
            ctx.set(dut.load_busy, 0)
            found[layer] = [await host.read_counter(one) for one in (Register.CYCLES, Register.LOAD_BUSY)]

    run(story, 0)
    for which in (0, 1):
        assert sum(found[layer][which] for layer in range(5)) == found[None][which] > 8
    assert [found[layer][0] for layer in (1, 2, 3)] == [3, 1, 0]


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_counter_bits() -> None:
    with pytest.raises(ValueError, match="counter_bits must be 32 to 64, not 31"):
        ControlRegisters(MACHINE, counter_bits=31)
    gc.collect()


@pytest.mark.parametrize("wait", [0, 3])
def test_kept_weights(wait: int) -> None:
    async def story(ctx: Any, host: Host, dut: ControlRegisters) -> None:
        await host.write(Register.PROGRAM_ADDRESS, 0x12340)
        await host.write(Register.KEPT_ADDRESS, 0xABCDE00)
        await host.write(Register.KEPT_ADDRESS, 0x00120000, 4)
        assert await host.read(Register.KEPT_ADDRESS) == ctx.get(dut.kept_address) == 0xA12DE00
        assert await host.read(Register.PROGRAM_ADDRESS) == 0x12340
        for control, kept in (
            (Control.START, 0),
            (Control.START | Control.KEPT, 1),
            (Control.START | Control.KEPT, 1),
            (Control.START, 0),
        ):
            ctx.set(dut.finished, 0)
            await host.write(Register.CONTROL, control)
            assert await host.read(Register.STATUS) == Status.BUSY
            # it stays as it is while the program runs
            await host.write(Register.CONTROL, Control.START | (Control.KEPT * (1 - kept)))
            assert ctx.get(dut.kept) == kept
            ctx.set(dut.finished, 1)
            await ctx.tick().repeat(3)
            assert await host.read(Register.STATUS) == Status.DONE

    run(story, wait, Machine(kept_weight_words=1024))
