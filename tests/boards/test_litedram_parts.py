"""What is put in LiteDRAM's place, each part alone: nothing lost, doubled or out of order, and how fast."""

from __future__ import annotations

import random
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("litedram", reason="LiteDRAM is not installed")

from litedram.common import LiteDRAMNativePort
from litex.soc.interconnect.axi import AXIStreamInterface, ax_description
from migen import Module, run_simulation

from boards.litedram_axi import BurstToBeats
from boards.litedram_bank import BankMachine
from boards.litedram_converter import DownConverter

Bench = Generator[Any, Any, None]


@pytest.mark.parametrize("taken", [1.0, 0.6])
@pytest.mark.parametrize("offered", [1.0, 0.5])
@pytest.mark.parametrize("ratio", [2, 4])
def test_down_converter(ratio: int, offered: float, taken: float) -> None:
    rng = random.Random(ratio)
    wide = LiteDRAMNativePort("both", address_width=20, data_width=16 * ratio)
    narrow = LiteDRAMNativePort("both", address_width=20 + ratio // 2, data_width=16)
    dut = DownConverter(wide, narrow)
    commands = [(rng.getrandbits(20), rng.getrandbits(1)) for _ in range(60)]
    got: list[tuple[int, int]] = []
    cycles = 0

    def feed() -> Bench:
        for address, we in commands:
            while rng.random() >= offered:
                yield
            yield wide.cmd.addr.eq(address)
            yield wide.cmd.we.eq(we)
            yield wide.cmd.valid.eq(1)
            yield
            while not (yield wide.cmd.ready):
                yield
            yield wide.cmd.valid.eq(0)

    def take() -> Bench:
        nonlocal cycles
        while len(got) < ratio * len(commands):
            yield narrow.cmd.ready.eq(rng.random() < taken)
            yield
            cycles += 1
            if (yield narrow.cmd.valid) and (yield narrow.cmd.ready):
                got.append(((yield narrow.cmd.addr), (yield narrow.cmd.we)))

    run_simulation(dut, [feed(), take()])
    assert got == [(address * ratio + part, we) for address, we in commands for part in range(ratio)]
    if ratio == 4 and offered == taken == 1.0:
        assert cycles <= 4 * len(commands) + 4, "a cycle is lost between commands"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ratio", [2, 4])
@pytest.mark.parametrize("pauses", [0.0, 0.5])
def test_down_converter_writes(ratio: int, pauses: float, reverse: bool) -> None:
    """Data is not taken before its command, and is there three cycles after the narrow one's."""
    rng = random.Random(ratio)
    wide = LiteDRAMNativePort("both", address_width=20, data_width=16 * ratio)
    narrow = LiteDRAMNativePort("both", address_width=20 + ratio // 2, data_width=16)
    dut = DownConverter(wide, narrow, reverse)
    words = [rng.getrandbits(16 * ratio) for _ in range(40)]
    strobes = [rng.getrandbits(2 * ratio) for _ in words]
    order = range(ratio - 1, -1, -1) if reverse else range(ratio)
    expected = [
        (word >> 16 * part & 0xFFFF, strobe >> 2 * part & 3)
        for word, strobe in zip(words, strobes, strict=True)
        for part in order
    ]
    got: list[tuple[int, int]] = []
    commanded, taken, due = 0, 0, 0

    def commands() -> Bench:
        nonlocal commanded
        for number in range(len(words)):
            while rng.random() < pauses:
                yield
            yield wide.cmd.addr.eq(number)
            yield wide.cmd.we.eq(1)
            yield wide.cmd.valid.eq(1)
            yield
            while not (yield wide.cmd.ready):
                yield
            commanded += 1
            yield wide.cmd.valid.eq(0)

    def data() -> Bench:
        nonlocal taken
        for word, strobe in zip(words, strobes, strict=True):
            yield wide.wdata.data.eq(word)
            yield wide.wdata.we.eq(strobe)
            yield wide.wdata.valid.eq(1)
            yield
            while not (yield wide.wdata.ready):
                yield
            taken += 1
            assert taken <= commanded
        yield wide.wdata.valid.eq(0)

    def memory() -> Bench:
        nonlocal due
        soon = [0] * 3
        yield narrow.cmd.ready.eq(1)
        while len(got) < len(expected):
            yield
            if (yield narrow.wdata.ready):
                assert (yield narrow.wdata.valid)
                got.append(((yield narrow.wdata.data), (yield narrow.wdata.we)))
                due -= 1
            soon.append(int((yield narrow.cmd.valid)))
            due += soon.pop(0)
            yield narrow.wdata.ready.eq(due > 0)

    run_simulation(dut, [commands(), data(), memory()])
    assert got == expected


@pytest.mark.parametrize("taken", [1.0, 0.5])
def test_bursts(taken: float) -> None:
    rng = random.Random(3)
    burst = AXIStreamInterface(layout=ax_description(28), id_width=1)
    beat = AXIStreamInterface(layout=ax_description(28), id_width=1)
    dut = Module()
    dut.submodules += BurstToBeats(burst, beat)
    bursts = [(rng.getrandbits(20) << 3, rng.choice((0, 1, 2, 7, 63)), rng.getrandbits(1)) for _ in range(20)]
    expected = [
        (address + 8 * number, number == 0, number == length, identity)
        for address, length, identity in bursts
        for number in range(length + 1)
    ]
    got: list[tuple[int, bool, bool, int]] = []
    cycles = 0

    def feed() -> Bench:
        yield burst.size.eq(3)
        yield burst.burst.eq(1)
        for address, length, identity in bursts:
            yield burst.addr.eq(address)
            yield burst.len.eq(length)
            yield burst.id.eq(identity)
            yield burst.valid.eq(1)
            yield
            while not (yield burst.ready):
                yield
        yield burst.valid.eq(0)

    def take() -> Bench:
        nonlocal cycles
        while len(got) < len(expected):
            yield beat.ready.eq(rng.random() < taken)
            yield
            cycles += 1
            if (yield beat.valid) and (yield beat.ready):
                first, last = bool((yield beat.first)), bool((yield beat.last))
                got.append(((yield beat.addr), first, last, (yield beat.id)))

    run_simulation(dut, [feed(), take()])
    assert got == expected
    if taken == 1.0:
        assert cycles <= len(expected) + 5


@pytest.mark.parametrize("automatic", [True, False])
def test_bank(automatic: bool) -> None:
    """Every access finds its row open, in order, through refreshes."""
    rng = random.Random(automatic)
    settings = SimpleNamespace(
        geom=SimpleNamespace(bankbits=2, addressbits=13, colbits=9),
        phy=SimpleNamespace(cwl=0, nphases=1),
        timing=SimpleNamespace(tWR=2, tCCD=1, tRC=7, tRAS=5, tRP=3, tRCD=3),
        cmd_buffer_depth=8,
        with_auto_precharge=automatic,
    )
    dut = BankMachine(1, address_width=22, address_align=0, nranks=1, settings=settings)
    rows = [rng.choice((0, 0, 5, 0x1FFF)) for _ in range(8)]
    accesses = [(rng.choice(rows) << 9 | rng.getrandbits(9), rng.getrandbits(1)) for _ in range(300)]
    done: list[tuple[int, int]] = []
    refreshed = 0

    def feed() -> Bench:
        for address, we in accesses:
            while rng.random() < 0.3:
                yield
            yield dut.req.addr.eq(address)
            yield dut.req.we.eq(we)
            yield dut.req.valid.eq(1)
            yield
            while not (yield dut.req.ready):
                yield
            yield dut.req.valid.eq(0)

    def refresh() -> Bench:
        nonlocal refreshed
        while len(done) < len(accesses):
            for _ in range(rng.randrange(30, 90)):
                yield
            yield dut.refresh_req.eq(1)
            yield
            while not (yield dut.refresh_gnt):
                yield
            for _ in range(4):
                yield
                assert (yield dut.refresh_gnt)
            yield dut.refresh_req.eq(0)
            yield
            yield
            assert not (yield dut.refresh_gnt)
            refreshed += 1

    def take() -> Bench:
        row: int | None = None
        moved = ""
        while len(done) < len(accesses):
            yield dut.cmd.ready.eq(rng.random() < 0.7)
            yield
            # the crossbar is told a cycle after the command
            assert (yield dut.req.wdata_ready) == (moved == "write")
            assert (yield dut.req.rdata_valid) == (moved == "read")
            moved = ""
            if (yield dut.refresh_gnt):
                row = None  # a refresh precharges all banks
            if not ((yield dut.cmd.valid) and (yield dut.cmd.ready)):
                continue
            ras, cas, we = (yield dut.cmd.ras), (yield dut.cmd.cas), (yield dut.cmd.we)
            address = yield dut.cmd.a
            if ras and not cas and not we:
                assert row is None
                row = address
            elif ras and we and not cas:
                assert row is not None
                assert not address >> 10 & 1
                row = None
            else:
                assert cas
                assert not ras
                assert row is not None
                moved = "write" if we else "read"
                done.append((row << 9 | address & 0x1FF, we))
                if address >> 10 & 1:
                    assert automatic
                    row = None

    run_simulation(dut, [feed(), refresh(), take()])
    assert done == accesses
    assert refreshed > 5
