"""Beats, bursts and turns on the memory bus."""

import pytest

from compiler.traffic import Bus, Transfer, transfer_of
from hw.isa import Instruction, Opcode
from hw.machine import Machine
from sim.memory_settings import MemorySettings, memory_settings, ulx3s

MACHINE = Machine()


def _load(**fields):
    return transfer_of(Instruction(Opcode.LOAD, {"planes": 1, "rows": 1, "words": 1, **fields}), MACHINE)


def test_bursts_end_at_multiples_of_their_size():
    assert _load(words=32) == Transfer(64, 1, 1)
    assert _load(words=32, memory_address=16) == Transfer(64, 2, 1)
    assert _load(words=65) == Transfer(130, 3, 1)
    # rows of 10 words, 30 words apart: every one is a run, and some of them cross a boundary
    strided = _load(planes=2, rows=3, words=10, memory_row_step=480, memory_plane_step=2048)
    assert strided == Transfer(2 * 3 * 20, 2 * (1 + 2 + 2), 6)


@pytest.mark.parametrize(("bus_width", "beats", "bursts"), [(32, 40, 2), (64, 20, 1), (128, 10, 1)])
def test_narrow_loads_have_fewer_beats_and_write_a_word_a_cycle(bus_width, beats, bursts):
    machine = Machine(bus_width=bus_width)
    fields = {"memory_address": 128, "memory_row_step": 1024, "planes": 1, "rows": 3, "words": 40}
    found = transfer_of(Instruction(Opcode.LOAD, fields | {"narrow": 1}), machine)
    assert found == Transfer(3 * beats, 3 * bursts, 3, bus_width // 32)
    wide = transfer_of(Instruction(Opcode.LOAD, fields), machine)
    assert (wide.beats, wide.beat_cycles) == (3 * 40 * machine.beats_per_word, 1)


def test_weights_are_a_parameter_block_and_tiles():
    weights = Instruction(Opcode.WEIGHTS, {"memory_address": 0, "blocks": 2, "words": 24})
    assert transfer_of(weights, MACHINE) == Transfer(2 * 64, 4, 1)
    only_parameters = Instruction(Opcode.WEIGHTS, {"memory_address": 0, "blocks": 4, "words": 0})
    assert transfer_of(only_parameters, MACHINE) == Transfer(64, 4, 1)


def test_beats_of_each_memory():
    assert Bus(MACHINE, memory_settings("ideal")).beat_cycles == 1
    assert Bus(MACHINE, memory_settings("stalling")).beat_cycles == pytest.approx(19 / 15)
    assert 4 < Bus(MACHINE, ulx3s()).beat_cycles < 4.3
    plain = MemorySettings(sdram_bytes=4, sdram_row_miss=10)
    assert Bus(MACHINE, plain).beat_cycles == 2
    # 512 bytes are a quarter of a row; a run that begins elsewhere opens another
    assert Bus(MACHINE, plain).burst_cycles(Transfer(64, 1, 1)) == 64 * 2 + 10
    assert Bus(MACHINE, plain).burst_cycles(Transfer(1024, 16, 1)) == 64 * 2 + 10 / 4


def test_who_takes_turns():
    reads = [(1.0, 64.0), (2.0, 8.0)]
    own_channels = Bus(MACHINE, memory_settings("ideal"))
    assert own_channels.turns(reads, 64.0, 1.0) == (80.0, 64.0)
    one_bus = Bus(MACHINE, MemorySettings(sdram_bytes=2, sdram_turnaround=4))
    assert one_bus.turns(reads, None, 1.0) == (80.0, 0.0)
    assert one_bus.turns([], 64.0, 0.5) == (0.0, 128.0)
    # a write after every read, two turnarounds
    period = 80 / 3 + 64 + 8
    assert one_bus.turns(reads, 64.0, 1.0) == pytest.approx((3 * period, period))


def test_readers_share_what_the_memory_accepts():
    bus = Bus(MACHINE, MemorySettings(outstanding=16))
    assert bus.shares([8.0, 64.0]) == [8.0, 9.0]
    assert bus.shares([20.0, 64.0]) == [17.0, 0.0]
