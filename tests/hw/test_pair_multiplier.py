"""The multiplier for two weights of 4 bits: its arithmetic for every operand, and the portable form's RTL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal, signed
from amaranth.sim import Simulator, SimulatorContext

from hw.machine import Machine
from hw.multiplier import LATENCY, OPERAND_PINS, MultiplierKind
from hw.pair_multiplier import HALF_PRODUCT_BITS, PairMultiplier, pair_products, weight_operand
from hw.weight_pairs import pair_tiles

ACTIVATIONS = np.arange(-256, 256)


def primitive(operand: int) -> np.ndarray:
    """The 36 bits of a MULT18X18D's product of every activation, aligned as `PairMultiplier` connects it."""
    assert -1 << OPERAND_PINS - 1 <= operand < 1 << OPERAND_PINS - 1
    return (ACTIVATIONS.astype(np.int64) << 9) * operand & (1 << 2 * OPERAND_PINS) - 1


def field(product: np.ndarray, low: int) -> np.ndarray:
    """Signed bits of a product from ``low`` on."""
    bits = product >> low & (1 << HALF_PRODUCT_BITS) - 1
    return bits - (bits >> HALF_PRODUCT_BITS - 1 << HALF_PRODUCT_BITS)


class Primitive(Elaboratable):
    """A MULT18X18D with registers at operands, product and output, as far as it is used here."""

    def __init__(self, name: str, **arguments: Any) -> None:
        assert name == "MULT18X18D"
        assert all(arguments[f"i_{name}"].value == 1 for name in ("CE0", "SIGNEDA", "SIGNEDB"))
        self.arguments = arguments

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b, pipeline, product = (Signal(signed(bits)) for bits in (18, 18, 36, 36))
        pins = {name: Cat(*(self.arguments[f"i_{name}{bit}"] for bit in range(18))) for name in "AB"}
        with m.If(self.arguments["i_CE1"]):
            m.d.sync += b.eq(pins["B"])
        m.d.sync += [a.eq(pins["A"]), pipeline.eq(a * b), product.eq(pipeline)]
        m.d.comb += [self.arguments[f"o_P{bit}"].eq(product[bit])
                     for bit in range(36) if f"o_P{bit}" in self.arguments]
        return m


def test_every_pair_of_products() -> None:
    """Two plain products come out of the one, for all 2^8 pairs of weights and all activations."""
    machine = Machine(input_lanes=4, output_lanes=8, bus_width=32)
    for upper in range(-8, 8):
        for lower in range(-8, 8):
            weights = np.repeat([lower, upper], 4)[None, :, None].repeat(8, axis=2)
            byte = int(pair_tiles(weights, machine)[0, 0, 0]) & 255
            product = primitive(weight_operand(byte, True))
            low, high = field(product, 9), field(product, 9 + HALF_PRODUCT_BITS)
            assert np.array_equal(low, ACTIVATIONS * lower)
            assert np.array_equal(high + (low < 0), ACTIVATIONS * upper)


def test_every_weight_of_eight_bits() -> None:
    """One weight in two halves."""
    for weight in range(-128, 128):
        product = primitive(weight_operand(weight & 255, False))
        low, high = field(product, 9), field(product, 9 + HALF_PRODUCT_BITS)
        assert np.array_equal(16 * (high + (low < 0)) + low, ACTIVATIONS * weight)


@pytest.mark.parametrize("kind", ["portable", "ecp5"])
def test_both_forms(kind: MultiplierKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight byte of both kinds in RTL, with extreme and random activations, held for random times."""
    monkeypatch.setattr("hw.multiplier.Instance", Primitive)
    rng = np.random.default_rng(0)
    dut = PairMultiplier(kind)
    bytes_ = [(byte, paired) for byte in range(256) for paired in (False, True)]
    rng.shuffle(bytes_)
    operands = [(int(a), byte, bool(paired), number == 0)
                for byte, paired in bytes_
                for number, a in enumerate([-256, 255, -1, *rng.integers(-256, 256, rng.integers(0, 4))])]

    async def bench(ctx: SimulatorContext) -> None:
        expected: list[tuple[int, int]] = []
        for number, (activation, byte, paired, load) in enumerate(operands):
            expected.append(pair_products(activation, byte, paired))
            ctx.set(dut.activation, activation)
            # what is not loaded must not matter
            ctx.set(dut.weight, byte if load else int(rng.integers(0, 256)))
            ctx.set(dut.paired, int(paired if load else rng.integers(0, 2)))
            ctx.set(dut.load_weight, int(load))
            await ctx.tick()
            if number >= LATENCY - 1:
                assert (ctx.get(dut.low), ctx.get(dut.high)) == expected[number - LATENCY + 1]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_operand_of_the_primitive() -> None:
    """What the RTL makes of a weight byte is `weight_operand`, for every byte of both kinds."""
    dut = PairMultiplier()

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(dut.activation, 1)
        ctx.set(dut.load_weight, 1)
        for byte in range(256):
            for paired in (False, True):
                ctx.set(dut.weight, byte)
                ctx.set(dut.paired, int(paired))
                await ctx.tick().repeat(LATENCY)
                found = (ctx.get(dut.high) << HALF_PRODUCT_BITS) + (ctx.get(dut.low) & 0x1FFF)
                assert found == weight_operand(byte, paired)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
