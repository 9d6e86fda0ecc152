# amaranth: UnusedElaboratable=no
"""The bridge against the protocol's own Python, with memory and register buses that stall and fail."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from amaranth.sim import Simulator

from hw.serial_bridge import SerialBridge
from hw.serial_protocol import (
    FLAG,
    MAXIMUM_DATA,
    Command,
    FrameReader,
    Identity,
    Request,
    Response,
    ResponseStatus,
)

MEMORY_BYTES = 1 << 20
CLOCK_HZ = 50_000_000
BAD_ADDRESS = 0xF000  # the memory bus answers this beat with an error
BAD_REGISTER = 0x7C  # and the register bus this register


class Bench:
    """Owns the bridge, a memory, registers, and what was sent back."""

    def __init__(self, seed: int, *, ready: int = 1) -> None:
        self.random = random.Random(seed)
        self.bridge = SerialBridge(MEMORY_BYTES, CLOCK_HZ)
        self.memory = bytearray(MEMORY_BYTES)
        self.registers: dict[int, int] = {}
        self.register_writes: list[tuple[int, int]] = []
        self.reader = FrameReader()
        self.responses: list[Response] = []
        self.ready = ready

    def run(self, stimulus: Callable, stall: float = 0.3) -> None:
        bridge = self.bridge

        async def pause(ctx) -> None:
            while self.random.random() < stall:
                await ctx.tick()

        async def take(ctx, valid, ready, *values):
            """One handshake on a channel on which the bridge is the sender."""
            await pause(ctx)
            ctx.set(ready, 1)
            done = False
            while not done:  # not `until`: a background bench is abandoned in the middle of it
                _, _, done, *got = await ctx.tick().sample(valid, *values)
            ctx.set(ready, 0)
            return got

        async def give(ctx, valid, ready, **signals) -> None:
            await pause(ctx)
            ctx.set(valid, 1)
            done = False
            while not done:
                _, _, done = await ctx.tick().sample(ready)
            ctx.set(valid, 0)

        async def memory_writes(ctx):
            while True:
                if self.random.random() < 0.5:
                    (address,) = await take(
                        ctx, bridge.m_axi.awvalid, bridge.m_axi.awready, bridge.m_axi.awaddr
                    )
                    (data,) = await take(ctx, bridge.m_axi.wvalid, bridge.m_axi.wready, bridge.m_axi.wdata)
                else:
                    (data,) = await take(ctx, bridge.m_axi.wvalid, bridge.m_axi.wready, bridge.m_axi.wdata)
                    (address,) = await take(
                        ctx, bridge.m_axi.awvalid, bridge.m_axi.awready, bridge.m_axi.awaddr
                    )
                self.memory[address : address + 8] = data.to_bytes(8, "little")
                ctx.set(bridge.m_axi.bresp, 2 if address == BAD_ADDRESS else 0)
                await give(ctx, bridge.m_axi.bvalid, bridge.m_axi.bready)

        async def memory_reads(ctx):
            while True:
                (address,) = await take(ctx, bridge.m_axi.arvalid, bridge.m_axi.arready, bridge.m_axi.araddr)
                ctx.set(bridge.m_axi.rdata, int.from_bytes(self.memory[address : address + 8], "little"))
                ctx.set(bridge.m_axi.rresp, 2 if address == BAD_ADDRESS else 0)
                await give(ctx, bridge.m_axi.rvalid, bridge.m_axi.rready)

        async def register_writes(ctx):
            while True:
                (address,) = await take(
                    ctx, bridge.m_axil.awvalid, bridge.m_axil.awready, bridge.m_axil.awaddr
                )
                (data,) = await take(ctx, bridge.m_axil.wvalid, bridge.m_axil.wready, bridge.m_axil.wdata)
                self.registers[address] = data
                self.register_writes.append((address, data))
                ctx.set(bridge.m_axil.bresp, 3 if address == BAD_REGISTER else 0)
                await give(ctx, bridge.m_axil.bvalid, bridge.m_axil.bready)

        async def register_reads(ctx):
            while True:
                (address,) = await take(
                    ctx, bridge.m_axil.arvalid, bridge.m_axil.arready, bridge.m_axil.araddr
                )
                ctx.set(bridge.m_axil.rdata, self.registers.get(address, 0))
                ctx.set(bridge.m_axil.rresp, 3 if address == BAD_REGISTER else 0)
                await give(ctx, bridge.m_axil.rvalid, bridge.m_axil.rready)

        async def line(ctx):
            while True:
                (byte,) = await take(ctx, bridge.sent.valid, bridge.sent.ready, bridge.sent.payload)
                self.responses += [Response.decode(content) for content in self.reader.feed(bytes([byte]))]

        async def host(ctx):
            ctx.set(bridge.memory_ready, self.ready)
            await stimulus(ctx)

        simulator = Simulator(bridge)
        simulator.add_clock(1e-6)
        simulator.add_testbench(host)
        for service in (memory_writes, memory_reads, register_writes, register_reads, line):
            simulator.add_testbench(service, background=True)
        simulator.run()
        assert self.reader.damaged == 0

    async def put(self, ctx, content: bytes, gap: int = 12) -> None:
        """Bytes from the line, one every ``gap`` cycles."""
        for byte in content:
            ctx.set(self.bridge.received, byte)
            ctx.set(self.bridge.received_valid, 1)
            await ctx.tick()
            ctx.set(self.bridge.received_valid, 0)
            await ctx.tick().repeat(gap)

    async def idle(self, ctx, cycles: int = 200) -> None:
        """Wait until the bridge has been idle for a while."""
        quiet = 0
        while quiet < cycles:
            await ctx.tick()
            quiet = 0 if ctx.get(self.bridge.executing) else quiet + 1

    async def ask(self, ctx, request: Request) -> Response:
        before = len(self.responses)
        await self.put(ctx, request.encode())
        await self.idle(ctx)
        assert len(self.responses) == before + 1, request
        return self.responses[-1]


def test_commands() -> None:
    bench = Bench(1)
    content = bytes([0x7E, 0x7D, 0x5E, 0x5D]) * 2 + bench.random.randbytes(56)

    async def stimulus(ctx):
        answer = await bench.ask(ctx, Request(1, Command.IDENTIFY))
        assert answer.sequence == 1
        assert Identity.decode(answer.data) == Identity(MEMORY_BYTES, CLOCK_HZ, True)
        assert await bench.ask(ctx, Request(2, Command.WRITE_MEMORY, 0x40, 64, content)) == Response(2, 0)
        assert await bench.ask(ctx, Request(3, Command.READ_MEMORY, 0x40, 64)) == Response(3, 0, content)
        assert await bench.ask(ctx, Request(4, Command.READ_MEMORY, 0x48, 8)) == Response(4, 0, content[8:16])
        last = MEMORY_BYTES - 8
        assert await bench.ask(ctx, Request(5, Command.WRITE_MEMORY, last, 8, b"\x7e" * 8)) == Response(5, 0)
        assert await bench.ask(ctx, Request(6, Command.READ_MEMORY, last, 8)) == Response(6, 0, b"\x7e" * 8)
        assert await bench.ask(
            ctx, Request(7, Command.WRITE_REGISTER, 0x10, 4, b"\x7d\x7e\x01\x80")
        ) == Response(7, 0)
        assert await bench.ask(ctx, Request(8, Command.READ_REGISTER, 0x10, 4)) == Response(
            8, 0, b"\x7d\x7e\x01\x80"
        )
        assert await bench.ask(ctx, Request(0x7E, Command.READ_REGISTER, 0x14, 4)) == Response(
            0x7E, 0, bytes(4)
        )

    bench.run(stimulus)
    assert bench.memory[0x40:0x80] == content
    assert bench.memory[:0x40] == bytes(0x40)
    assert bench.memory[0x80:0x100] == bytes(0x80)
    assert bench.register_writes == [(0x10, 0x80017E7D)]


def test_longest_request_and_answer() -> None:
    bench = Bench(2)
    content = bench.random.randbytes(MAXIMUM_DATA)

    async def stimulus(ctx):
        request = Request(9, Command.WRITE_MEMORY, 0x100, MAXIMUM_DATA, content)
        await bench.put(ctx, request.encode(), gap=1)
        await bench.idle(ctx)
        await bench.ask(ctx, Request(10, Command.READ_MEMORY, 0x100, MAXIMUM_DATA))

    bench.run(stimulus, stall=0)
    assert bench.responses == [Response(9, 0), Response(10, 0, content)]


@pytest.mark.parametrize(
    "request_",
    [
        Request(1, 5),
        Request(1, 255),
        Request(1, Command.IDENTIFY, 0, 8),
        Request(1, Command.IDENTIFY, 0, 0, b"x"),
        Request(1, Command.READ_MEMORY, 4, 8),
        Request(1, Command.READ_MEMORY, 0, 12),
        Request(1, Command.READ_MEMORY, 0, 0),
        Request(1, Command.READ_MEMORY, 0, MAXIMUM_DATA + 8),
        Request(1, Command.READ_MEMORY, MEMORY_BYTES, 8),
        Request(1, Command.READ_MEMORY, MEMORY_BYTES - 8, 16),
        Request(1, Command.READ_MEMORY, 0xFFFFFFF8, 16),
        Request(1, Command.READ_MEMORY, 0, 8, bytes(8)),
        Request(1, Command.WRITE_MEMORY, 0, 16, bytes(8)),
        Request(1, Command.WRITE_MEMORY, 0, 8, bytes(16)),
        Request(1, Command.WRITE_MEMORY, 2, 8, bytes(8)),
        Request(1, Command.READ_REGISTER, 2, 4),
        Request(1, Command.READ_REGISTER, 0x100, 4),
        Request(1, Command.READ_REGISTER, 0, 8),
        Request(1, Command.WRITE_REGISTER, 0, 4, bytes(3)),
        Request(1, Command.WRITE_REGISTER, 0, 8, bytes(8)),
    ],
    ids=str,
)
def test_requests_that_are_refused(request_: Request) -> None:
    bench = Bench(3)

    async def stimulus(ctx):
        assert await bench.ask(ctx, request_) == Response(1, ResponseStatus.BAD_REQUEST)
        assert await bench.ask(ctx, Request(2, Command.READ_REGISTER, 0, 4)) == Response(2, 0, bytes(4))

    bench.run(stimulus)
    assert bench.memory == bytes(MEMORY_BYTES)
    assert bench.register_writes == []


def test_memory_that_is_not_ready() -> None:
    bench = Bench(4, ready=0)

    async def stimulus(ctx):
        assert not Identity.decode((await bench.ask(ctx, Request(1, Command.IDENTIFY))).data).memory_ready
        assert (
            await bench.ask(ctx, Request(2, Command.READ_MEMORY, 0, 8))
        ).status == ResponseStatus.NOT_READY
        assert (
            await bench.ask(ctx, Request(3, Command.WRITE_MEMORY, 0, 8, b"12345678"))
        ).status == ResponseStatus.NOT_READY
        assert (await bench.ask(ctx, Request(4, Command.READ_REGISTER, 0, 4))).status == ResponseStatus.OKAY

    bench.run(stimulus)
    assert bench.memory[:8] == bytes(8)


def test_bus_errors_are_told_and_forgotten() -> None:
    bench = Bench(5)

    async def stimulus(ctx):
        error = ResponseStatus.BUS_ERROR
        assert await bench.ask(ctx, Request(1, Command.READ_MEMORY, BAD_ADDRESS - 16, 64)) == Response(
            1, error
        )
        assert await bench.ask(ctx, Request(2, Command.READ_MEMORY, 0, 8)) == Response(2, 0, bytes(8))
        assert await bench.ask(ctx, Request(3, Command.WRITE_MEMORY, BAD_ADDRESS, 16, bytes(16))) == Response(
            3, error
        )
        assert await bench.ask(ctx, Request(4, Command.WRITE_MEMORY, 0, 8, bytes(8))) == Response(4, 0)
        assert await bench.ask(ctx, Request(5, Command.READ_REGISTER, BAD_REGISTER, 4)) == Response(5, error)
        assert await bench.ask(
            ctx, Request(6, Command.WRITE_REGISTER, BAD_REGISTER, 4, bytes(4))
        ) == Response(6, error)
        assert await bench.ask(
            ctx, Request(6, Command.WRITE_REGISTER, BAD_REGISTER, 4, bytes(4))
        ) == Response(6, error)
        assert await bench.ask(ctx, Request(7, Command.WRITE_REGISTER, 0, 4, bytes(4))) == Response(7, 0)

    bench.run(stimulus)
    assert bench.register_writes == [(BAD_REGISTER, 0), (0, 0)]


def test_a_repeated_register_write_is_done_once() -> None:
    bench = Bench(6)
    start = Request(0x31, Command.WRITE_REGISTER, 8, 4, b"\1\0\0\0")

    async def stimulus(ctx):
        for _ in range(3):
            assert await bench.ask(ctx, start) == Response(0x31, 0)
        assert await bench.ask(ctx, Request(0x32, Command.READ_REGISTER, 8, 4)) == Response(
            0x32, 0, b"\1\0\0\0"
        )
        assert await bench.ask(ctx, start) == Response(0x31, 0)  # another request lies between: a new one

    bench.run(stimulus)
    assert bench.register_writes == [(8, 1), (8, 1)]


def test_first_request_is_never_a_repetition() -> None:
    bench = Bench(7)

    async def stimulus(ctx):
        assert await bench.ask(ctx, Request(0, Command.WRITE_REGISTER, 8, 4, b"\1\0\0\0")) == Response(0, 0)

    bench.run(stimulus)
    assert bench.register_writes == [(8, 1)]


@pytest.mark.parametrize("seed", range(3))
def test_damage_of_every_kind(seed: int) -> None:
    """Whole requests are answered, whatever lies between them; damaged ones do nothing."""
    bench = Bench(100 + seed)
    expected: list[Response] = []
    model = bytearray(MEMORY_BYTES)

    async def stimulus(ctx):
        await bench.put(ctx, bench.random.randbytes(20))
        for number in range(25):
            kind = bench.random.choice(["whole", "flipped", "cut", "garbage", "long"])
            data = bench.random.randbytes(8 * bench.random.randint(1, 6))
            address = 8 * bench.random.randint(0, 40)
            request = Request(number, Command.WRITE_MEMORY, address, len(data), data)
            frame = bytearray(request.encode())
            if kind == "flipped":
                for _ in range(bench.random.randint(1, 3)):
                    frame[bench.random.randrange(1, len(frame) - 1)] ^= 1 << bench.random.randrange(8)
                if bytes(frame) == request.encode():
                    continue
            elif kind == "cut":
                start = bench.random.randrange(1, len(frame) - 1)
                del frame[start : bench.random.randint(start + 1, len(frame))]
            elif kind == "garbage":
                frame = bytearray(bench.random.randbytes(bench.random.randint(1, 80)))
            elif kind == "long":
                frame[10:10] = b"\x55" * (MAXIMUM_DATA + 60) if number % 8 == 0 else b"\x55" * 60
            before = len(expected)
            if kind == "whole":
                model[address : address + len(data)] = data
                expected.append(Response(number, 0))
                expected.append(Response(200, 0, bytes(model[address : address + len(data)])))
            await bench.put(ctx, bytes(frame), gap=2)
            await bench.idle(ctx, 60)
            if kind == "whole":
                await bench.put(ctx, Request(200, Command.READ_MEMORY, address, len(data)).encode(), gap=2)
                await bench.idle(ctx, 60)
            assert len(bench.responses) == len(expected), (kind, before)

    bench.run(stimulus, stall=0.1)
    assert bench.responses == expected
    assert bench.memory == model


def test_requests_that_follow_at_once() -> None:
    """The second request arrives while the first is executed and answered."""
    bench = Bench(8)

    async def stimulus(ctx):
        for number in range(0, 20, 2):
            both = (
                Request(number, Command.READ_REGISTER, 0x10, 4).encode()
                + Request(number + 1, Command.WRITE_MEMORY, 8 * number, 8, bytes([number]) * 8).encode()
            )
            await bench.put(ctx, both, gap=8)
            await bench.idle(ctx)

    bench.run(stimulus, stall=0)
    assert [response.sequence for response in bench.responses] == list(range(20))
    assert all(bench.memory[8 * n : 8 * n + 8] == bytes([n]) * 8 for n in range(0, 20, 2))


def test_flags_between_frames_may_be_shared_or_many() -> None:
    bench = Bench(9)

    async def stimulus(ctx):
        first = Request(1, Command.READ_REGISTER, 0, 4).encode()
        await bench.put(ctx, bytes([FLAG] * 5) + first + first[1:] + bytes([FLAG] * 3), gap=40)
        await bench.idle(ctx)

    bench.run(stimulus, stall=0)
    assert bench.responses == [Response(1, 0, bytes(4))] * 2


@pytest.mark.parametrize(("memory_bytes", "clock_hz"), [(0, 1), (4, 1), (1 << 32, 1), (64, 0), (64, 1 << 32)])
def test_parameters_that_are_refused(memory_bytes: int, clock_hz: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        SerialBridge(memory_bytes, clock_hz)
