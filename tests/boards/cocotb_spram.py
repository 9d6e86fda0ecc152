"""The SPRAM's AXI4 ports with cocotbext-axi as the core and the host.  Run by `test_spram.py`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Combine
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

MEMORY_BYTES = 1 << 17
#: Where the tests work: at the ends of different blocks.
REGION = 1 << 13
LOW, HIGH = (1 << 16) - REGION, MEMORY_BYTES - REGION
WIDTH = int(os.environ["WIDTH"])


def pauses(seed: int) -> Iterator[bool]:
    rng = random.Random(seed)
    while True:
        chance = rng.choice((0.0, 0.3, 0.8))
        for _ in range(50):
            yield rng.random() < chance


class Bench:
    """Both managers, and what memory must hold."""

    def __init__(self, dut: Any, seed: int, *, stalls: bool) -> None:
        self.dut = dut
        self.rng = random.Random(seed)
        self.core = AxiMaster(AxiBus.from_prefix(dut, "core"), dut.clk, dut.rst)
        self.host = AxiMaster(AxiBus.from_prefix(dut, "host"), dut.clk, dut.rst)
        for master in (self.core, self.host):
            for part in (master.write_if, master.read_if):
                part.log.setLevel("WARNING")
            if stalls:
                for number, channel in enumerate(
                    (
                        master.write_if.aw_channel,
                        master.write_if.w_channel,
                        master.write_if.b_channel,
                        master.read_if.ar_channel,
                        master.read_if.r_channel,
                    )
                ):
                    channel.set_pause_generator(pauses(10 * seed + number))
        self.content = bytearray(MEMORY_BYTES)

    async def reset(self) -> None:
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 3)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def fill(self) -> None:
        for address in (LOW, HIGH):
            self.content[address : address + REGION] = self.rng.randbytes(REGION)
            answer = await self.core.write(address, bytes(self.content[address : address + REGION]))
            assert answer.resp == AxiResp.OKAY

    async def core_work(self, first: int, last: int, count: int) -> None:
        """Random reads and writes of one region, of any length and alignment."""
        for _ in range(count):
            size = self.rng.choice((1, 3, WIDTH // 8, 64, self.rng.randint(1, 3000)))
            address = self.rng.randint(first, last - size)
            if self.rng.random() < 0.5:
                data = self.rng.randbytes(size)
                assert (await self.core.write(address, data)).resp == AxiResp.OKAY
                self.content[address : address + size] = data
            else:
                answer = await self.core.read(address, size)
                assert answer.resp == AxiResp.OKAY
                assert answer.data == self.content[address : address + size]

    async def host_work(self, first: int, last: int, count: int) -> None:
        """Single beats of one region."""
        for _ in range(count):
            address = self.rng.randrange(first, last, 8)
            if self.rng.random() < 0.5:
                data = self.rng.randbytes(8)
                assert (await self.host.write(address, data)).resp == AxiResp.OKAY
                self.content[address : address + 8] = data
            else:
                assert (await self.host.read(address, 8)).data == self.content[address : address + 8]


async def bench(dut: Any, seed: int, *, stalls: bool = True) -> Bench:
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    made = Bench(dut, seed, stalls=stalls)
    await made.reset()
    return made


@cocotb.test()
async def both_managers(dut: Any) -> None:
    made = await bench(dut, 1)
    await made.fill()
    await Combine(
        cocotb.start_soon(made.core_work(LOW, LOW + REGION, 40)),
        cocotb.start_soon(made.host_work(HIGH, HIGH + REGION, 60)),
    )
    # each sees what the other wrote
    answer = await made.core.read(HIGH, REGION)
    assert answer.data == made.content[HIGH:]
    for address in range(LOW, LOW + 256, 8):
        assert (await made.host.read(address, 8)).data == made.content[address : address + 8]


@cocotb.test()
async def word_a_cycle(dut: Any) -> None:
    made = await bench(dut, 2, stalls=False)
    words = 4096 // (WIDTH // 8)
    await ClockCycles(dut.clk, 1)
    for transfer in (lambda: made.core.write(0, bytes(4096)), lambda: made.core.read(0, 4096)):
        begin = cocotb.utils.get_sim_time("ns")
        await transfer()
        cycles = (cocotb.utils.get_sim_time("ns") - begin) / 10
        assert cycles < words + 8 * (words // 256 + 2), cycles


@cocotb.test()
async def past_the_end(dut: Any) -> None:
    made = await bench(dut, 3)
    await made.fill()
    for master in (made.core, made.host):
        for address in (MEMORY_BYTES, 1 << 31):
            assert (await master.write(address, bytes(8))).resp == AxiResp.DECERR
            assert (await master.read(address, 8)).resp == AxiResp.DECERR
        assert (await master.read(HIGH, 8)).resp == AxiResp.OKAY
    assert (await made.core.read(HIGH, REGION)).data == made.content[HIGH:]


@cocotb.test()
async def reset_in_the_middle(dut: Any) -> None:
    made = await bench(dut, 4)
    await made.fill()
    for round_number in range(4):
        made.core.init_write(HIGH, made.rng.randbytes(2000))
        made.core.init_read(LOW, 2000)
        made.host.init_read(0, 8)
        await ClockCycles(dut.clk, 20 + 37 * round_number)
        await made.reset()
        # what was being written is undefined; everything else is there
        assert (await made.core.read(LOW, REGION)).data == made.content[LOW : LOW + REGION]
        await made.core_work(LOW, LOW + REGION, 4)
        await made.host_work(LOW, LOW + REGION, 4)
