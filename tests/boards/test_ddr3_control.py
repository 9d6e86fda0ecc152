"""The host's way to a DDR3 controller, against a model of the controller's bus."""

from __future__ import annotations

import pytest
from amaranth.sim import Simulator

from boards.ddr3_control import DDR3Control
from boards.sdram_start import Step
from hw.ddr3_description import CONTROL, DESCRIPTION, SCRIPT, DDR3Description, Phase

DESCRIPTION_USED = DDR3Description(2, 8, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, (Phase(10, 11), Phase(12, 13)))
SCRIPTS = [
    [Step(0x1000, 0, 100), Step(0x1008, 0xFFFF_FFFF), Step(0x3FFC, 7, 3)],
    [Step(0x814, 1)],
]


class Bench:
    """A controller of registers that take their time, and the host's bus."""

    def __init__(self, delay: int) -> None:
        self.dut = DDR3Control(DESCRIPTION_USED, SCRIPTS)
        self.delay = delay
        self.writes: list[tuple[int, int, int]] = []  # cycle, byte address, value
        self.cycle = 0
        self.registers = {0x20: 0x12345678}

    async def controller(self, ctx) -> None:
        dut, waited = self.dut, 0
        async for _, _reset, request, write, address, value, acknowledge in ctx.tick().sample(
            dut.bus_request, dut.bus_write, dut.bus_address, dut.bus_data, dut.bus_acknowledge
        ):
            self.cycle += 1
            if request and acknowledge and write:
                self.writes.append((self.cycle, 4 * address, value))
                self.registers[4 * address] = value
            waited = waited + 1 if request and not acknowledge else 0
            ctx.set(dut.bus_acknowledge, waited > self.delay)
            ctx.set(dut.bus_read_data, self.registers.get(4 * address, 0))

    async def read(self, ctx, address: int) -> tuple[int, int]:
        bus = self.dut.bus
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        ctx.set(bus.rready, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        return await ctx.tick().sample(bus.rdata, bus.rresp).until(bus.rvalid)

    async def write(self, ctx, address: int, value: int) -> int:
        bus = self.dut.bus
        ctx.set(bus.awaddr, address)
        ctx.set(bus.wdata, value)
        ctx.set(bus.awvalid, 1)
        ctx.set(bus.wvalid, 1)
        ctx.set(bus.bready, 1)
        await ctx.tick().until(bus.awready & bus.wready)
        ctx.set(bus.awvalid, 0)
        ctx.set(bus.wvalid, 0)
        (response,) = await ctx.tick().sample(bus.bresp).until(bus.bvalid)
        return response


@pytest.mark.parametrize("delay", [0, 3])
def test_registers_scripts_and_description(delay: int) -> None:
    bench = Bench(delay)

    async def host(ctx) -> None:
        assert await bench.read(ctx, CONTROL + 0x20) == (0x12345678, 0)
        assert await bench.write(ctx, CONTROL + 0x1014, 0xDEADBEEF) == 0
        assert await bench.read(ctx, CONTROL + 0x1014) == (0xDEADBEEF, 0)
        assert bench.writes[-1][1:] == (0x1014, 0xDEADBEEF)

        words = DESCRIPTION_USED.encode()
        for index, word in enumerate(words):
            assert await bench.read(ctx, DESCRIPTION + 4 * index) == (word, 0)
        assert (await bench.read(ctx, DESCRIPTION + 4 * len(words)))[1] != 0
        assert await bench.write(ctx, DESCRIPTION, 1) != 0

        bench.writes.clear()
        assert await bench.write(ctx, SCRIPT, 0) == 0
        assert await bench.read(ctx, SCRIPT) == (1, 0)
        assert await bench.write(ctx, SCRIPT, 1) != 0  # not while one is played
        # a register is read after the script has ended
        assert await bench.read(ctx, CONTROL + 0x3FFC) == (7, 0)
        assert await bench.read(ctx, SCRIPT) == (0, 0)
        assert [write[1:] for write in bench.writes] == [(step.address, step.value) for step in SCRIPTS[0]]
        assert bench.writes[1][0] - bench.writes[0][0] > 100

        bench.writes.clear()
        assert await bench.write(ctx, SCRIPT, 1) == 0
        assert await bench.read(ctx, CONTROL + 0x814) == (1, 0)
        assert [write[1:] for write in bench.writes] == [(0x814, 1)]
        assert await bench.write(ctx, SCRIPT, 2) != 0  # there is none

    simulator = Simulator(bench.dut)
    simulator.add_clock(1e-6)
    simulator.add_process(bench.controller)
    simulator.add_testbench(host)
    simulator.run()
