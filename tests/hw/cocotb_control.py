"""The control registers with cocotbext-axi as the host and this bench as the units.

Run by `test_control_cocotb.py`; ``$MACHINE`` is the machine in JSON.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import pauses, quiet, reset, start_clock
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from hw.machine import Machine
from hw.registers import COUNTERS, Control, Register, Status

MACHINE = Machine.from_json(json.loads(os.environ["MACHINE"]))

ERRORS = (Status.READ_ERROR, Status.WRITE_ERROR, Status.BAD_OPCODE, Status.TOKEN_ERROR)
EVENTS = tuple(counter for counter in COUNTERS if counter is not Register.CYCLES)
INPUTS = (
    *(str(error.name).lower() for error in ERRORS),
    *(counter.name.lower() for counter in EVENTS),
    "finished",
    "layer",
)


class Bench:
    """Host and units."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.seeds = iter(range(1000 * seed, 1000 * seed + 1000))
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        quiet(self.host.write_if, self.host.read_if)
        self.starts: list[int] = []  # program addresses
        self.tasks: list[Any] = []

    async def reset(self) -> None:
        await reset(self.dut, self.tasks, INPUTS)
        self.starts.clear()
        self.tasks = [cocotb.start_soon(self._watch())]

    async def _watch(self) -> None:
        dut = self.dut
        edge = RisingEdge(dut.clk)
        before = 0
        held: dict[str, tuple[int, ...] | None] = {"b": None, "r": None}
        while True:
            await edge
            start = int(dut.start.value)
            if start:
                assert not before, "start is a strobe"
                self.starts.append(int(dut.program_address.value))
            before = start
            for channel, names in (("b", ("resp",)), ("r", ("resp", "data"))):
                offered = None
                if int(getattr(dut, f"s_axil_{channel}valid").value):
                    offered = tuple(int(getattr(dut, f"s_axil_{channel}{name}").value) for name in names)
                assert held[channel] in (None, offered), f"{channel} changed before it was taken"
                held[channel] = None if int(getattr(dut, f"s_axil_{channel}ready").value) else offered

    def stall(self) -> None:
        """Random pauses of the host on all five channels, so that addresses and data come in any order."""
        write, read = self.host.write_if, self.host.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
            channel.set_pause_generator(pauses(next(self.seeds)))

    async def read(self, address: int) -> int:
        answer = await self.host.read(address, 4)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, address: int, content: int, length: int = 4) -> None:
        answer = await self.host.write(address, content.to_bytes(length, "little"))
        assert answer.resp == AxiResp.OKAY

    async def counter(self, counter: Register) -> int:
        return await self.read(counter) | await self.read(counter + 4) << 32

    async def status(self) -> Status:
        return Status(await self.read(Register.STATUS))

    async def pulse(self, name: str, cycles: int = 1) -> None:
        getattr(self.dut, name).value = 1
        await ClockCycles(self.dut.clk, cycles)
        getattr(self.dut, name).value = 0
        await RisingEdge(self.dut.clk)


async def ready_bench(dut: Any, seed: int) -> Bench:
    start_clock(dut)
    bench = Bench(dut, seed)
    await bench.reset()
    bench.stall()
    return bench


@cocotb.test()
@cocotb.parametrize(seed=[1, 2])
async def every_address(dut: Any, seed: int) -> None:
    """Registers hold what they should; all other addresses read zero; only two registers can be written."""
    bench = await ready_bench(dut, seed)
    dut.layer.value = 0xBEEF
    expected = dict.fromkeys(range(0, 256, 4), 0)
    expected[Register.ID_LOW] = MACHINE.digest() & 0xFFFFFFFF
    expected[Register.ID_HIGH] = MACHINE.digest() >> 32
    expected[Register.LAYER] = 0xBEEF
    addresses = list(expected)
    for _ in range(2):
        bench.rng.shuffle(addresses)
        for address in addresses:
            assert await bench.read(address) == expected[address], f"{address:#x}"
        for address in addresses:
            if address != Register.CONTROL:
                content = bench.rng.getrandbits(32)
                await bench.write(address, content)
                if address == Register.PROGRAM_ADDRESS:
                    expected[address] = content
                elif address == Register.COUNTED_LAYER:
                    expected[address] = content & 0x1FFFF
    assert not bench.starts


@cocotb.test()
@cocotb.parametrize(seed=[3])
async def byte_strobes(dut: Any, seed: int) -> None:
    """Any consecutive bytes, also with several writes and reads on their way at once."""
    bench = await ready_bench(dut, seed)
    model = bytearray(4)
    for _ in range(60):
        first = bench.rng.randrange(4)
        content = bench.rng.randbytes(bench.rng.randint(1, 4 - first))
        answer = await bench.host.write(Register.PROGRAM_ADDRESS + first, content)
        assert answer.resp == AxiResp.OKAY
        model[first : first + len(content)] = content
        assert (await bench.host.read(Register.PROGRAM_ADDRESS, 4)).data == bytes(model)
    # START is in byte 0: writes of the others start nothing
    for first in (1, 2, 3):
        await bench.host.write(Register.CONTROL + first, bytes([0xFF]))
    await bench.write(Register.CONTROL, 0xFFFFFFFE)
    assert not bench.starts
    # a write of many words goes to each in turn
    await bench.host.write(Register.CONTROL, bytes(8) + (0x12345678).to_bytes(4, "little") + bytes(12))
    assert await bench.read(Register.PROGRAM_ADDRESS) == 0x12345678
    pending = [cocotb.start_soon(bench.read(Register.PROGRAM_ADDRESS)) for _ in range(5)]
    pending += [cocotb.start_soon(bench.read(Register.ID_LOW)) for _ in range(5)]
    found = [await task for task in pending]
    assert found == [0x12345678] * 5 + [MACHINE.digest() & 0xFFFFFFFF] * 5


@cocotb.test()
@cocotb.parametrize(seed=[4])
async def addresses_and_data_in_any_order(dut: Any, seed: int) -> None:
    """The address long before the data, and the other way round."""
    bench = await ready_bench(dut, seed)
    channels = bench.host.write_if.aw_channel, bench.host.write_if.w_channel
    for channel in channels:
        channel.clear_pause_generator()
        channel.pause = False
    for late in (0, 1, 0, 1):
        channels[late].pause = True
        content = bench.rng.getrandbits(32)
        task = cocotb.start_soon(bench.write(Register.PROGRAM_ADDRESS, content))
        await ClockCycles(dut.clk, 30)
        assert not task.done()
        assert await bench.read(Register.PROGRAM_ADDRESS) != content
        channels[late].pause = False
        await task
        assert await bench.read(Register.PROGRAM_ADDRESS) == content


@cocotb.test()
@cocotb.parametrize(seed=[5])
async def counters_latch_their_high_word(dut: Any, seed: int) -> None:
    """The low word is about to run over: low and high read one after the other belong together."""
    bench = await ready_bench(dut, seed)
    await bench.write(Register.CONTROL, int(Control.START))
    for counter in EVENTS:
        getattr(dut, counter.name.lower()).value = 1
    for counter in COUNTERS:
        high = bench.rng.getrandbits(31)
        register = getattr(dut, f"count_{counter.name.lower()}")
        seen_over = False
        for distance in (1, 5, 20, 40, 100):
            await RisingEdge(dut.clk)
            start = high << 32 | (1 << 32) - distance
            register.value = start
            await RisingEdge(dut.clk)
            low = await bench.read(counter)
            await ClockCycles(dut.clk, 200)  # by now it has run over
            # another register between both words changes nothing
            assert await bench.read(Register.ID_LOW) == MACHINE.digest() & 0xFFFFFFFF
            value = low | await bench.read(counter + 4) << 32
            assert start <= value < start + 400, f"{counter.name}: {value:#x} after {start:#x}"
            seen_over |= value < (high + 1) << 32
        assert seen_over, "never read before it ran over"
        # the high word is of the counter whose low word was read last
        await RisingEdge(dut.clk)
        register.value = 7 << 32
        await RisingEdge(dut.clk)
        await bench.read(counter)
        assert await bench.read(counter + 4) == 7


@cocotb.test()
@cocotb.parametrize(seed=[6, 7])
async def counters_count_their_events(dut: Any, seed: int) -> None:
    """Random events while a program runs; they stay until the next start clears them."""
    bench = await ready_bench(dut, seed)
    for _ in range(2):
        await bench.write(Register.CONTROL, int(Control.START))
        counted = dict.fromkeys(EVENTS, 0)
        chances = {counter: bench.rng.random() for counter in EVENTS}
        for _ in range(500):
            for counter in EVENTS:
                event = bench.rng.random() < chances[counter]
                getattr(dut, counter.name.lower()).value = int(event)
                counted[counter] += event
            await RisingEdge(dut.clk)
        for counter in EVENTS:
            getattr(dut, counter.name.lower()).value = 0
        await bench.pulse("finished")
        for counter, expected in counted.items():
            assert await bench.counter(counter) == expected, counter.name
        cycles = await bench.counter(Register.CYCLES)
        assert 500 <= cycles < 800
        assert await bench.counter(Register.CYCLES) == cycles, "CYCLES counts when no program runs"


@cocotb.test()
@cocotb.parametrize(seed=[8])
async def status_of_a_program(dut: Any, seed: int) -> None:
    """START while busy is ignored, errors stay until the next start, `finished` counts only while busy."""
    bench = await ready_bench(dut, seed)
    await bench.pulse("finished", 3)
    assert await bench.status() == Status(0)
    runs = ([], [Status.READ_ERROR], [Status.BAD_OPCODE, Status.TOKEN_ERROR], list(ERRORS), [])
    for started, errors in enumerate(runs, 1):
        address = bench.rng.randrange(1 << 26) * 64
        await bench.write(Register.PROGRAM_ADDRESS, address)
        await bench.write(Register.CONTROL, int(Control.START))
        assert await bench.status() == Status.BUSY
        assert not int(dut.done.value)
        assert bench.starts[-1] == address
        held = Status.BUSY
        for error in errors:
            await bench.pulse(str(error.name).lower())
            held |= error
            # another start neither starts nor clears anything
            cycles = await bench.counter(Register.CYCLES)
            await bench.write(Register.CONTROL, int(Control.START))
            assert await bench.status() == held
            assert await bench.counter(Register.CYCLES) > cycles
        assert len(bench.starts) == started
        await bench.pulse("finished")
        assert int(dut.done.value)
        assert await bench.status() == held ^ Status.BUSY | Status.DONE
    # reset in the middle of a program
    await bench.write(Register.CONTROL, int(Control.START))
    await bench.reset()
    assert await bench.status() == Status(0)
    assert await bench.counter(Register.CYCLES) == 0
    assert await bench.read(Register.PROGRAM_ADDRESS) == 0
