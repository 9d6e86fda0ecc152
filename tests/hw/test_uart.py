# amaranth: UnusedElaboratable=no
"""Bytes through transmitter and receiver, with clocks that differ, glitches and broken stop bits."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hw.uart import BaudError, UARTReceiver, UARTTransmitter, clocks_per_bit


async def send_bits(ctx, receiver: UARTReceiver, byte: int, clocks: float, stop: int = 1) -> None:
    """Drive a byte on the line with bits of ``clocks`` cycles, which need not be whole."""
    sent = 0
    for number, bit in enumerate([0, *((byte >> i) & 1 for i in range(8)), stop], start=1):
        ctx.set(receiver.rx, bit)
        until = round(number * clocks)
        await ctx.tick().repeat(until - sent)
        sent = until


@pytest.mark.parametrize("clocks", [8, 9, 16, 25])
def test_every_byte_back_to_back(clocks: int) -> None:
    m = Module()
    m.submodules.tx = tx = UARTTransmitter(clocks)
    m.submodules.rx = rx = UARTReceiver(clocks)
    m.d.comb += rx.rx.eq(tx.tx)
    expected = random.Random(clocks).sample(range(256), 256)
    got: list[int] = []

    async def feed(ctx):
        for number, byte in enumerate(expected):
            if number % 7 == 3:
                await ctx.tick().repeat(number)
            ctx.set(tx.data.payload, byte)
            ctx.set(tx.data.valid, 1)
            await ctx.tick().until(tx.data.ready)
            ctx.set(tx.data.valid, 0)
        await ctx.tick().repeat(12 * clocks)

    async def collect(ctx):
        async for _, _, valid, data in ctx.tick().sample(rx.valid, rx.data):
            if valid:
                got.append(data)

    sim = Simulator(m)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.add_testbench(collect, background=True)
    sim.run()
    assert got == expected


@pytest.mark.parametrize("error", [-0.03, -0.015, 0.0, 0.015, 0.03])
def test_other_side_has_another_clock(error: float) -> None:
    rx = UARTReceiver(25)
    expected = [0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01, 0x7E, 0x7D] * 4
    got: list[int] = []

    async def feed(ctx):
        await ctx.tick().repeat(5)
        for byte in expected:
            await send_bits(ctx, rx, byte, 25 * (1 + error))
        await ctx.tick().repeat(300)

    async def collect(ctx):
        async for _, _, valid, data in ctx.tick().sample(rx.valid, rx.data):
            if valid:
                got.append(data)

    sim = Simulator(rx)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.add_testbench(collect, background=True)
    sim.run()
    assert got == expected


def test_glitches_and_low_stop_bits_are_dropped() -> None:
    rx = UARTReceiver(16)
    got: list[int] = []

    async def feed(ctx):
        ctx.set(rx.rx, 1)
        await ctx.tick().repeat(20)
        ctx.set(rx.rx, 0)  # too short for a start bit
        await ctx.tick().repeat(4)
        ctx.set(rx.rx, 1)
        await ctx.tick().repeat(200)
        await send_bits(ctx, rx, 0x42, 16)
        await send_bits(ctx, rx, 0x99, 16, stop=0)  # a break
        await ctx.tick().repeat(500)
        ctx.set(rx.rx, 1)
        await ctx.tick().repeat(40)
        await send_bits(ctx, rx, 0x43, 16)
        for bit in (0, *((0xA5 >> i) & 1 for i in range(8)), 1):  # one wrong sample in each bit's middle
            ctx.set(rx.rx, bit)
            await ctx.tick().repeat(7)
            ctx.set(rx.rx, 1 - bit)
            await ctx.tick()
            ctx.set(rx.rx, bit)
            await ctx.tick().repeat(8)
        await ctx.tick().repeat(100)

    async def collect(ctx):
        async for _, _, valid, data in ctx.tick().sample(rx.valid, rx.data):
            if valid:
                got.append(data)

    sim = Simulator(rx)
    sim.add_clock(1e-6)
    sim.add_testbench(feed)
    sim.add_testbench(collect, background=True)
    sim.run()
    assert got == [0x42, 0x43, 0xA5]


def test_rates_that_cannot_be_made() -> None:
    assert clocks_per_bit(50e6, 1_000_000) == 50
    assert clocks_per_bit(50e6, 3_000_000) == 17
    with pytest.raises(BaudError, match=r"at least 8\.000 MHz"):
        clocks_per_bit(7e6, 1_000_000)
    with pytest.raises(BaudError, match="choose another rate"):
        clocks_per_bit(8.5e6, 1_000_000)
    for unit in (UARTReceiver, UARTTransmitter):
        with pytest.raises(BaudError, match="at least 8"):
            unit(7)
