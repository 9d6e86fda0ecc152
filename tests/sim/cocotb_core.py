"""The whole core with cocotbext-axi on both of its buses.

Run by `test_core_cocotb.py`, which leaves in the folder ``$BENCH``: ``small.prog``, ``inputs.npy``
(images, C, H, W) and ``expected.npz`` (for each tensor the images' values).
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bench import pauses, quiet, reset, start_clock
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave, MemoryRegion

from hw.isa import Instruction, Opcode, assemble
from hw.program_file import ProgramFile
from hw.registers import COUNTERS, Control, Register, Status

_FOLDER = Path(os.environ["BENCH"])


class FaultyMemory(MemoryRegion):
    """Memory that fails in some address ranges; cocotbext-axi answers SLVERR then."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.bad_reads = range(0)
        self.bad_writes = range(0)

    async def _read(self, address: int, length: int, **kwargs: object) -> bytes:
        if address in self.bad_reads:
            raise ValueError("injected read error")
        return await super()._read(address, length, **kwargs)

    async def _write(self, address: int, data: bytes, **kwargs: object) -> None:
        if address in self.bad_writes:
            raise ValueError("injected write error")
        await super()._write(address, data, **kwargs)


class Bench:
    """Clock, reset, memory, registers, and the program."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.program = ProgramFile.load(_FOLDER / "small.prog")
        self.inputs = np.load(_FOLDER / "inputs.npy")
        self.expected = dict(np.load(_FOLDER / "expected.npz"))
        self.memory = FaultyMemory(1 << 18)
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=self.memory)
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        quiet(self.slave.write_if, self.slave.read_if, self.registers.write_if, self.registers.read_if)
        start_clock(dut)

    async def reset(self) -> None:
        await reset(self.dut)

    def stall(self, seed: int) -> None:
        """Random pauses on the five channels of the memory bus and the five of the register bus."""
        numbers = itertools.count(1000 * seed)
        for channel in (
            self.slave.write_if.aw_channel,
            self.slave.write_if.w_channel,
            self.slave.write_if.b_channel,
            self.slave.read_if.ar_channel,
            self.slave.read_if.r_channel,
            self.registers.write_if.aw_channel,
            self.registers.write_if.w_channel,
            self.registers.write_if.b_channel,
            self.registers.read_if.ar_channel,
            self.registers.read_if.r_channel,
        ):
            channel.set_pause_generator(pauses(next(numbers)))

    def load(self) -> None:
        """Random bytes everywhere, then the program and its weights."""
        self.memory[0 : self.memory.size] = np.random.default_rng(7).bytes(self.memory.size)
        for segment in self.program.segments:
            self.memory[segment.address : segment.address + len(segment.content)] = segment.content

    def put_input(self, image: int) -> None:
        place = self.program.input
        content = place.pack(self.inputs[image], self.program.machine.word_bytes)
        self.memory[place.address : place.address + len(content)] = content

    async def start(self, address: int | None = None) -> None:
        await self.registers.write_dword(
            Register.PROGRAM_ADDRESS, self.program.program_address if address is None else address
        )
        await self.registers.write_dword(Register.CONTROL, int(Control.START))

    async def status(self) -> Status:
        return Status(await self.registers.read_dword(Register.STATUS))

    async def counter(self, register: Register) -> int:
        low = await self.registers.read_dword(register)
        return low | await self.registers.read_dword(register + 4) << 32

    async def finish(self, limit: int = 60_000) -> Status:
        """The status when the done output is high."""
        for _ in range(limit // 16):
            await ClockCycles(self.dut.clk, 16)
            if int(self.dut.done.value):
                return await self.status()
        raise AssertionError(f"not done after {limit} cycles; layer {int(self.dut.layer.value)}")

    def check(self, image: int) -> None:
        """Every layer's tensor equals the reference."""
        word = self.program.machine.word_bytes
        for layer in self.program.layers:
            place = layer.tensor
            found = place.unpack(
                bytes(self.memory[place.address : place.address + place.byte_count(word)]), word
            )
            wrong = np.argwhere(found != self.expected[place.name][image])
            assert not len(wrong), (
                f"layer {layer.number} {layer.name}, {wrong[0]}: {found[tuple(wrong[0])]}, not "
                f"{self.expected[place.name][image][tuple(wrong[0])]}; {len(wrong)} differ"
            )

    async def run(self, image: int) -> None:
        self.put_input(image)
        await self.start()
        status = await self.finish()
        assert status == Status.DONE, status
        self.check(image)


async def ready_bench(dut, stall: int | None = None) -> Bench:
    bench = Bench(dut)
    await bench.reset()
    bench.load()
    if stall is not None:
        bench.stall(stall)
    return bench


@cocotb.test()
async def registers(dut) -> None:
    bench = await ready_bench(dut, stall=99)
    machine = bench.program.machine
    identity = await bench.registers.read_dword(Register.ID_LOW)
    identity |= await bench.registers.read_dword(Register.ID_HIGH) << 32
    assert identity == machine.digest()
    assert await bench.status() == Status(0)
    for counter in COUNTERS:
        assert await bench.counter(counter) == 0
    for value in (0x12345640, 0xFFFFFFC0, 0):
        await bench.registers.write_dword(Register.PROGRAM_ADDRESS, value)
        assert await bench.registers.read_dword(Register.PROGRAM_ADDRESS) == value
    for register in (Register.ID_LOW, Register.STATUS, Register.LAYER, Register.CYCLES):
        before = await bench.registers.read_dword(register)
        await bench.registers.write_dword(register, 0xFFFFFFFF)
        assert await bench.registers.read_dword(register) == before
    assert await bench.registers.read_dword(Register.CONTROL) == 0


@cocotb.test()
async def runs_without_stalls_and_counts(dut) -> None:
    bench = await ready_bench(dut)
    beats = {"read": 0, "write": 0}
    cycles = {
        "compute_busy": 0,
        "load_busy": 0,
        "store_busy": 0,
        "compute_token_wait": 0,
        "compute_weight_wait": 0,
    }

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            beats["read"] += int(dut.m_axi_rvalid.value) & int(dut.m_axi_rready.value)
            beats["write"] += int(dut.m_axi_wvalid.value) & int(dut.m_axi_wready.value)
            if not int(dut.done.value):
                for name in cycles:
                    cycles[name] += int(getattr(dut, name).value)

    watcher = cocotb.start_soon(watch())
    await bench.run(0)
    watcher.cancel()
    assert await bench.counter(Register.READ_BEATS) == beats["read"]
    assert await bench.counter(Register.WRITE_BEATS) == beats["write"] > 0
    for name, expected in cycles.items():
        assert await bench.counter(Register[name.upper()]) == expected, name
    total = await bench.counter(Register.CYCLES)
    assert max(cycles.values()) < total < 60_000
    assert await bench.counter(Register.CYCLES) == total, "the counter still runs"
    assert await bench.registers.read_dword(Register.LAYER) == bench.program.layers[-1].number


@cocotb.test()
async def back_to_back_with_stalls(dut) -> None:
    bench = await ready_bench(dut, stall=1)
    for image in range(len(bench.inputs)):
        await bench.run(image)
        first = await bench.counter(Register.CYCLES)
        assert first > 0
    bench.stall(2)
    await bench.run(0)


@cocotb.test()
async def start_while_busy_is_ignored(dut) -> None:
    bench = await ready_bench(dut)
    bench.put_input(0)
    await bench.start()
    for _ in range(5):
        await ClockCycles(dut.clk, 20)
        await bench.registers.write_dword(Register.CONTROL, int(Control.START))
        assert await bench.status() == Status.BUSY
    assert await bench.finish() == Status.DONE
    bench.check(0)


@cocotb.test()
async def reset_in_the_middle_of_a_run(dut) -> None:
    bench = await ready_bench(dut, stall=3)
    await bench.run(0)
    cycles = await bench.counter(Register.CYCLES)
    for moment in (13, cycles // 20, cycles // 3, 3 * cycles // 4):
        bench.put_input(0)
        await bench.start()
        await ClockCycles(dut.clk, moment)
        assert await bench.status() & Status.BUSY
        await bench.reset()
        assert await bench.status() == Status(0)
        assert not int(dut.m_axi_arvalid.value)
        assert not int(dut.m_axi_awvalid.value)
        assert await bench.counter(Register.CYCLES) == 0
    bench.load()
    await bench.run(1)


@cocotb.test()
async def bus_errors_are_reported_and_the_program_ends(dut) -> None:
    bench = await ready_bench(dut, stall=4)
    weights = max(bench.program.segments, key=lambda segment: len(segment.content))
    source = bench.program.input.address
    output = bench.program.output.address
    for bad_reads, bad_writes, expected in (
        (range(weights.address + 64, weights.address + 65), range(0), Status.READ_ERROR),
        (range(source, source + 16), range(0), Status.READ_ERROR),
        (range(0), range(output, output + 16), Status.WRITE_ERROR),
        (range(source, source + 16), range(output, output + 16), Status.READ_ERROR | Status.WRITE_ERROR),
    ):
        bench.load()
        bench.memory.bad_reads, bench.memory.bad_writes = bad_reads, bad_writes
        bench.put_input(0)
        await bench.start()
        status = await bench.finish()
        assert status == Status.DONE | expected, (status, expected)
        bench.memory.bad_reads = bench.memory.bad_writes = range(0)
    bench.load()
    await bench.run(0)  # the error bits are gone


@cocotb.test()
async def bad_opcode_stops_the_program(dut) -> None:
    bench = await ready_bench(dut, stall=5)
    empty = 0x30000
    # some instructions of the program, then garbage; tokens and weights that nobody took are forgotten
    code = next(
        segment
        for segment in bench.program.segments
        if segment.address <= bench.program.program_address < segment.address + len(segment.content)
    )
    offset = bench.program.program_address - code.address
    for opcode in (5, 6, 7):
        head = code.content[offset : offset + 64 * (opcode - 5)]
        bench.memory[empty : empty + len(head) + 64] = head + bytes([opcode]) + bytes(63)
        bench.put_input(0)
        await bench.start(empty)
        status = await bench.finish(5000)
        assert status == Status.DONE | Status.BAD_OPCODE, status
    bench.memory[empty : empty + 64] = assemble(Instruction(Opcode.END))
    await bench.start(empty)
    assert await bench.finish(2000) == Status.DONE
    bench.load()
    await bench.run(0)
