"""The multiplier array against its twin, with tiles, modes and selections that change between words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext
from numpy.random import Generator

from hw.array import OPERAND_LATENCY, MultiplierArray, array_latency, array_twin, sum_bits
from hw.isa import Mode
from hw.machine import Machine
from hw.slots import THIN_CHANNELS, phases

SMALLEST = Machine(input_lanes=4, output_lanes=4, bus_width=32)
MACHINES = {
    "4x4": SMALLEST,
    "4x8": Machine(input_lanes=4, output_lanes=8, bus_width=32),
    "4x16": Machine(input_lanes=4, output_lanes=16, bus_width=32),
    "8x8": Machine(input_lanes=8, output_lanes=8, bus_width=32),
    "16x16": Machine(input_lanes=16, output_lanes=16, bus_width=32),
    "4x8-pairs": Machine(input_lanes=4, output_lanes=8, bus_width=32, weight_pairs=True),
    "4x16-pairs": Machine(input_lanes=4, output_lanes=16, bus_width=32, weight_pairs=True),
}


@dataclass
class Step:
    """What the array gets in one cycle; ``tile``: what it holds for these words."""

    words: list[bytes]
    inside: list[bool]
    half: int
    mode: Mode
    input_signed: bool
    thin_channels: int
    phase: int
    load: bool
    tile: bytes
    pairs: bool = False

    def sums(self, machine: Machine) -> list[int]:
        return array_twin(
            machine,
            self.words,
            self.tile,
            inside=self.inside,
            half=self.half,
            mode=self.mode,
            input_signed=self.input_signed,
            thin_channels=self.thin_channels,
            phase=self.phase,
            pairs=self.pairs,
        )


def random_steps(machine: Machine, rng: Generator, modes: Sequence[Mode], *, stays: float) -> list[Step]:
    """Steps in these modes in random order, each as often; THIN with all its channels and phases.

    ``stays`` is the probability that a mode is the same as before.
    """
    lanes = machine.input_lanes
    every = [
        (channels, phase) for channels in range(1, THIN_CHANNELS + 1) for phase in phases(machine, channels)
    ]
    kinds: list[tuple[Mode, int, int]] = []
    for mode in modes:
        for channels, phase in every:
            if mode is not Mode.THIN:  # any that can be encoded
                channels, phase = int(rng.integers(0, 8)), int(rng.integers(0, THIN_CHANNELS))
            kinds.append((mode, channels, phase))
    rng.shuffle(kinds)
    steps: list[Step] = []
    while kinds:
        same = [kind for kind in kinds if steps and kind[0] is steps[-1].mode]
        kind = same[0] if same and rng.random() < stays else kinds[0]
        kinds.remove(kind)
        mode, channels, phase = kind
        inside = (rng.random(lanes) < rng.choice((0.2, 0.8, 1.0))).tolist()
        if mode is Mode.MAXIMUM:  # the other slots are no taps
            inside[1:] = [False] * (lanes - 1)
        pairs = machine.weight_pairs and mode.shares_inputs and bool(rng.random() < 0.7)
        pairs = pairs and not (mode is Mode.THIN and channels == 1)
        load = not steps or rng.random() < 0.4 or pairs != steps[-1].pairs
        tile = rng.integers(-128, 128, machine.tile_bytes).astype(np.int8).tobytes()
        words = [rng.bytes(machine.word_bytes) for _ in range(lanes)]
        extreme = rng.random()
        if extreme < 0.1:
            tile = bytes([128] * machine.tile_bytes)
        if extreme < 0.2:
            words = [bytes([int(rng.choice((127, 128, 255)))] * machine.word_bytes) for _ in range(lanes)]
        steps.append(
            Step(
                words,
                inside,
                int(rng.integers(0, machine.blocks_per_word >> pairs)),
                mode,
                bool(rng.integers(0, 2)),
                channels,
                phase,
                load,
                tile if load else steps[-1].tile,
                pairs,
            )
        )
    return steps


def check(machine: Machine, steps: Sequence[Step]) -> None:
    """The array gives each step's sums, `array_latency` cycles later."""
    dut = MultiplierArray(machine)
    latency = array_latency(machine)

    async def bench(ctx: SimulatorContext) -> None:
        for cycle in range(-2, len(steps) + latency):
            if cycle + 2 < len(steps):
                step = steps[cycle + 2]
                selection = {
                    "inside": sum(bit << slot for slot, bit in enumerate(step.inside)),
                    "phase": step.phase,
                    "mode": step.mode,
                    "thin_channels": step.thin_channels,
                    "input_signed": int(step.input_signed),
                }
                if machine.blocks_per_word > 1:
                    selection["half"] = step.half
                if machine.weight_pairs:
                    selection["pairs"] = int(step.pairs)
                ctx.set(dut.selection, selection)
            if 0 <= cycle < len(steps):
                ctx.set(dut.words, [int.from_bytes(word, "little") for word in steps[cycle].words])
            coming, operand = (cycle + delay - OPERAND_LATENCY for delay in (2, 0))
            ctx.set(dut.load_tile, int(0 <= coming < len(steps) and steps[coming].load))
            loading = 0 <= operand < len(steps) and steps[operand].load
            # what is not loaded must not matter
            tile = steps[operand].tile if loading else bytes([0x55] * machine.tile_bytes)
            ctx.set(dut.tile, int.from_bytes(tile, "little"))
            done = cycle - latency
            if done >= 0:
                found = [ctx.get(dut.sums[column]) for column in range(machine.output_lanes)]
                if machine.weight_pairs:
                    carries = ctx.get(dut.carries)
                    found = [total + (carries >> column & 1) for column, total in enumerate(found)]
                assert found == steps[done].sums(machine), (done, steps[done])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("name", ["4x4", "4x8", "4x16", "8x8", "4x16-pairs"])
@pytest.mark.parametrize("mode", list(Mode))
def test_one_mode(name: str, mode: Mode) -> None:
    machine = MACHINES[name]
    rng = np.random.default_rng(mode.value)
    check(machine, random_steps(machine, rng, [mode] * 8, stays=1))


@pytest.mark.parametrize("name", ["4x4", "4x8", "8x8", "16x16", "4x8-pairs", "4x16-pairs"])
def test_modes_word_by_word(name: str) -> None:
    """The mode is each word's, whatever those before and after it have."""
    machine = MACHINES[name]
    rng = np.random.default_rng(10)
    steps = random_steps(machine, rng, list(Mode) * (3 if machine.input_lanes > 8 else 5), stays=0.3)
    pairs = {(one.mode, other.mode) for one, other in pairwise(steps)}
    assert len(pairs) == len(Mode) ** 2
    check(machine, steps)


@pytest.mark.parametrize("byte", [0x77, 0x88, 0x78, 0x87, 0xF7, 0x08])
def test_largest_sums_of_pairs(byte: int) -> None:
    """Pairs of weights at the ends of their range, by activations at the ends of theirs: plain products."""
    machine = MACHINES["4x8-pairs"]
    lanes, columns = 2 * machine.input_lanes, machine.output_lanes
    lower = (byte & 15 ^ 8) - 8
    upper = ((byte - lower >> 4) & 15 ^ 8) - 8
    steps = []
    for activation, input_signed in ((127, True), (128, True), (255, False), (0, False)):
        words = [bytes([activation] * columns)] * machine.input_lanes
        tile = bytes([byte] * machine.tile_bytes)
        step = Step(words, [True] * machine.input_lanes, 0, Mode.DENSE, input_signed, 1, 0, True, tile, True)
        value = activation - 256 if input_signed and activation > 127 else activation
        assert step.sums(machine) == [value * lower * lanes] * 4 + [value * upper * lanes] * 4
        steps.append(step)
    check(machine, steps)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("input_signed", [False, True])
def test_largest_sums(mode: Mode, input_signed: bool) -> None:
    """Every operand and weight at the end of its range; sums need all of `sum_bits`' bits but one."""
    machine = SMALLEST
    lanes, columns = machine.input_lanes, machine.output_lanes
    steps = []
    largest = 0
    for byte in (127, 128, 255, 0):
        for weight in (127, 128):
            for inside in (True, False):
                taps = [inside] + [inside and mode is not Mode.MAXIMUM] * (lanes - 1)
                step = Step(
                    [bytes([byte] * columns)] * lanes,
                    taps,
                    0,
                    mode,
                    input_signed,
                    1,
                    0,
                    True,
                    bytes([weight] * machine.tile_bytes),
                )
                steps.append(step)
                largest = max(largest, *map(abs, step.sums(machine)))
    by_hand = (128 if input_signed else 255) * 128 * lanes
    assert largest == (256 * 128 if mode is Mode.MAXIMUM else by_hand)
    assert largest < 1 << (sum_bits(machine) - 1)
    check(machine, steps)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("channels", range(1, THIN_CHANNELS + 1))
def test_thin_passes_are_a_convolution(lanes: int, channels: int) -> None:
    """The twin's passes over a window, with slots as `hw.slots` counts them, sum up to its dot product."""
    machine = Machine(input_lanes=lanes, output_lanes=16, bus_width=32)
    rng = np.random.default_rng(channels)
    taps = 3 * lanes + 5
    window = rng.integers(0, 256, (taps, channels))
    kernel = rng.integers(-128, 128, (machine.output_lanes, taps * channels))
    pixels = [bytes([*tap, *rng.integers(0, 256, machine.word_bytes - channels)]) for tap in window.tolist()]
    rest = -kernel.shape[1] % lanes
    weights = np.pad(kernel, ((0, 0), (0, rest)), constant_values=99).astype(np.int8)
    total = np.zeros(machine.output_lanes, np.int64)
    found = []
    for first in range(0, taps * channels, lanes):
        tap, phase = divmod(first, channels)
        found.append(phase)
        here = range(tap, tap + lanes)
        total += array_twin(
            machine,
            [pixels[at] if at < taps else rng.bytes(machine.word_bytes) for at in here],
            weights[:, first : first + lanes].tobytes(),
            inside=[at < taps for at in here],
            half=0,
            mode=Mode.THIN,
            input_signed=False,
            thin_channels=channels,
            phase=phase,
        )
    assert total.tolist() == (kernel @ window.reshape(-1)).tolist()
    repeated = phases(machine, channels)
    assert found == [repeated[number % len(repeated)] for number in range(len(found))]
