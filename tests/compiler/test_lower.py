"""Every kind of node on every machine: what the program computes equals the reference."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

from compiler.error import CompileError
from compiler.lower import lower
from hw.isa import Mode
from hw.machine import Machine
from quant.graph import Activation
from quant.number_format import Format


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "dilation"),
    [
        ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((5, 2), (2, 3), (2, 0, 1, 1), (1, 1)),
        ((3, 3), (1, 2), (2, 2, 2, 2), (2, 2)),
        ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((1, 7), (1, 1), (0, 3, 0, 3), (1, 1)),
        ((2, 2), (1, 1), (5, 4, 3, 6), (3, 1)),  # windows that lie outside altogether
    ],
)
def test_dense_convolution(check, machine, kernel, stride, pads, dilation):
    build = NetworkBuilder((11, 13, 9))
    out = build.convolution("input", 21, kernel, stride=stride, pads=pads, dilation=dilation)
    check(build.model(out), machine, build.image())


@pytest.mark.parametrize(
    ("channels", "outputs", "groups"),
    [(6, 6, 6), (40, 40, 40), (12, 24, 12), (24, 36, 4), (66, 22, 2), (1, 1, 1)],
)
def test_grouped_and_depthwise_convolution(check, machine, channels, outputs, groups):
    build = NetworkBuilder((channels, 7, 6), Format(7, True, 3))
    out = build.convolution("input", outputs, (3, 2), groups=groups, pads=(1, 1, 1, 0))
    compilation = check(build.model(out), machine, build.image())
    operation = compilation.lowered.layers[0].operations[0]
    assert (operation.mode is Mode.DEPTHWISE) == (groups == channels == outputs > 1)


def test_grouped_convolution_skips_other_groups():
    build = NetworkBuilder((64, 4, 4))
    out = build.convolution("input", 64, (1, 1), groups=4)
    operation = lower(build.model(out), Machine()).layers[0].operations[0]
    assert [operation.passes(Machine(), block, 0) for block in range(4)] == [2, 2, 2, 2]


def test_fully_connected(check, machine):
    build = NetworkBuilder((9, 4, 5))
    hidden = build.fully_connected("input", 37)
    out = build.fully_connected(hidden, 10, activation=Activation())
    compilation = check(build.model(out), machine, build.image())
    assert [layer.kind for layer in compilation.program.layers] == ["fully connected"] * 2


@pytest.mark.parametrize("fl", [-45, -9, 0, 12, 60])
def test_extreme_weight_fractional_lengths(check, fl):
    """Shifts past the machine's range saturate or vanish exactly as the reference's."""
    build = NetworkBuilder((3, 5, 5), Format(8, True, 0))
    out = build.convolution("input", 5, fl=fl, activation=Activation())
    check(build.model(out), Machine(), build.image())


def test_shifts_per_channel(check, machine):
    build = NetworkBuilder((5, 6, 6))
    out = build.convolution("input", 19, (3, 3))
    build.weights["conv0"].fl[:] += build.random.integers(-6, 7, 19)
    check(build.model(out), machine, build.image())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("fl", [-1, 0, 2])
def test_max_pool(check, machine, signed, fl):
    build = NetworkBuilder((18, 9, 11), Format(8, signed, 0))
    out = build.max_pool("input", (3, 2), (2, 2), (1, 0, 1, 1), form=Format(8, signed, fl))
    check(build.model(out), machine, build.image())


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "include"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), False),
        ((3, 3), (1, 1), (1, 1, 1, 1), False),
        ((3, 3), (2, 1), (1, 1, 1, 1), True),
        ((3, 5), (2, 2), (2, 3, 1, 0), False),
        ((10, 9), (1, 1), (0, 0, 0, 0), False),
    ],
)
@pytest.mark.parametrize("fl", [-3, 0, 4])
def test_average_pool(check, machine, kernel, stride, pads, include, fl):
    build = NetworkBuilder((18, 10, 9), Format(8, True, 1))
    out = build.average_pool("input", kernel, stride, pads, include, form=Format(8, True, 1 + fl))
    check(build.model(out), machine, build.image())


def test_average_over_a_power_of_two_needs_no_divider(check):
    build = NetworkBuilder((4, 8, 8))
    out = build.average_pool("input", (8, 8), form=Format(8, False, 1))
    compilation = check(build.model(out), Machine(average_pooling=False), build.image())
    assert compilation.lowered.layers[0].operations[0].average is None


def test_large_global_average(check):
    """130 x 126 elements: more than a divisor holds, before powers of two are taken out of it."""
    build = NetworkBuilder((3, 130, 126))
    out = build.average_pool("input", (130, 126), form=Format(8, False, 0))
    check(build.model(out), Machine(scratchpad_words=32768), build.image())


def test_addition_fused(check, machine):
    build = NetworkBuilder((20, 8, 7), Format(8, False, 2))
    main = build.convolution("input", 20, pads=(1, 1, 1, 1), form=Format(8, True, 4), activation=Activation())
    out = build.add(main, "input", form=Format(8, False, 1), activation=Activation(low=0.0, high=50.0))
    compilation = check(build.model(out), machine, build.image())
    assert [layer.kind for layer in compilation.program.layers] == ["convolution + add"]


def test_addition_of_two_convolutions(check, machine):
    build = NetworkBuilder((10, 8, 7), Format(8, False, 2))
    one = build.convolution("input", 20, (1, 1), form=Format(8, False, 1))
    two = build.convolution("input", 20, pads=(1, 1, 1, 1), form=Format(8, True, -2), activation=Activation())
    out = build.add(one, two, form=Format(8, True, -3))
    compilation = check(build.model(out), machine, build.image())
    assert len(compilation.program.layers) == 2


def test_addition_of_a_tensor_to_itself(check, machine):
    build = NetworkBuilder((20, 6, 5))
    inner = build.convolution("input", 12, (1, 1))
    twice = build.add(inner, inner, form=Format(8, False, -1))
    out = build.add(twice, twice, form=Format(8, False, -2))
    check(build.model(out), machine, build.image())


def test_addition_whose_operands_are_read_elsewhere(check, machine):
    build = NetworkBuilder((20, 6, 5))
    one = build.convolution("input", 20, (1, 1))
    two = build.convolution("input", 20, (1, 1))
    total = build.add(one, two)
    joined = build.concat(one, two, total)
    out = build.convolution(joined, 4, (1, 1))
    compilation = check(build.model(out), machine, build.image())
    assert "add" in {layer.kind for layer in compilation.program.layers}


def test_pooling_takes_an_addition_along(check, machine):
    build = NetworkBuilder((20, 8, 8))
    small = build.convolution("input", 20, (1, 1), stride=(2, 2))
    pooled = build.max_pool("input")
    averaged = build.average_pool("input", (2, 2), (2, 2))
    out = build.add(build.add(pooled, small), averaged)
    compilation = check(build.model(out), machine, build.image())
    # the 2x2 average is a shift, so that it too can add
    assert [layer.kind for layer in compilation.program.layers] == [
        "convolution",
        "maximum pooling + add",
        "average pooling + add",
    ]


@pytest.mark.parametrize(("fl", "fl_out"), [(14, 12), (17, -20), (25, 20), (31, 31), (-16, 0)])
def test_addition_of_operands_far_apart(check, fl, fl_out):
    build = NetworkBuilder((4, 5, 5), Format(8, True, 0))
    far = build.convolution("input", 4, (1, 1), form=Format(8, True, fl), activation=Activation())
    out = build.add("input", far, form=Format(8, True, fl_out))
    check(build.model(out), Machine(), build.image())


def test_addition_of_operands_too_far_apart():
    build = NetworkBuilder((4, 5, 5), Format(8, True, 0))
    far = build.convolution("input", 4, (1, 1), form=Format(8, True, 18), activation=Activation())
    with pytest.raises(CompileError, match=r"^add1: .*fractional lengths 18 and 0 are more than 15 apart"):
        lower(build.model(build.add("input", far, form=Format(8, True, 5))), Machine())


def test_concatenation_in_place(check):
    """Aligned inputs of the same format are written where they belong; nothing is copied."""
    build = NetworkBuilder((16, 8, 8))
    squeezed = build.convolution("input", 16, (1, 1))
    one = build.convolution(squeezed, 32, (1, 1))
    two = build.convolution(squeezed, 23, pads=(1, 1, 1, 1))
    joined = build.concat(one, two)
    out = build.convolution(joined, 5, (1, 1))
    compilation = check(build.model(out), Machine(), build.image())
    assert "concatenation" not in {layer.kind for layer in compilation.program.layers}


def test_nested_concatenation_in_place(check):
    build = NetworkBuilder((16, 8, 8))
    first = build.convolution("input", 16, (1, 1))
    second = build.convolution(first, 32, (1, 1))
    inner = build.concat(first, second)
    third = build.convolution(inner, 16, (1, 1))
    outer = build.concat(inner, third)
    out = build.convolution(outer, 5, (1, 1))
    compilation = check(build.model(out), Machine(), build.image())
    assert "concatenation" not in {layer.kind for layer in compilation.program.layers}


@pytest.mark.parametrize("sizes", [(5, 3, 2), (16, 7, 9, 40), (33, 1, 1), (4, 4, 4)])
def test_concatenation_with_copies(check, machine, sizes):
    build = NetworkBuilder((6, 5, 4))
    parts = [
        build.convolution(
            "input", size, (1, 1), form=Format(8, number % 2 == 1, number % 3), activation=Activation()
        )
        for number, size in enumerate(sizes)
    ]
    out = build.concat(*parts, form=Format(6, True, 1), activation=Activation(high=9.0))
    check(build.model(out), machine, build.image())


def test_concatenation_whose_bounds_exclude_zero(check, machine):
    build = NetworkBuilder((6, 5, 4))
    parts = [build.convolution("input", size, (1, 1)) for size in (5, 30, 3)]
    out = build.concat(*parts, activation=Activation(low=3.0, high=100.0))
    check(build.model(out), machine, build.image())


def test_concatenation_of_a_tensor_with_itself_and_the_input(check, machine):
    build = NetworkBuilder((16, 5, 4))
    part = build.convolution("input", 16, (1, 1))
    out = build.concat("input", part, part, "input")
    check(build.model(out), machine, build.image())


@pytest.mark.parametrize(
    ("start", "step", "size", "pad"),
    [
        ((0, 0, 0), (1, 1, 1), (40, 9, 8), (0, 0)),
        ((0, 0, 0), (1, 2, 2), (40, 5, 4), (8, 8)),
        ((16, 1, 2), (1, 3, 2), (20, 3, 3), (0, 3)),
        ((3, 0, 1), (2, 1, 1), (17, 9, 7), (5, 0)),
        ((39, 8, 7), (1, 1, 1), (1, 1, 1), (33, 40)),
    ],
)
def test_select(check, machine, start, step, size, pad):
    build = NetworkBuilder((40, 9, 8), Format(8, True, 3))
    out = build.select(
        "input",
        start=start,
        step=step,
        size=size,
        pad=pad,
        form=Format(8, False, 4),
        activation=Activation(low=0.0, high=6.0),
    )
    check(build.model(out), machine, build.image())


def test_refusals_are_listed_at_once():
    build = NetworkBuilder((4, 5, 5), Format(16, True, 0))
    one = build.convolution("input", 4, form=Format(9, True, 0))
    out = build.convolution(one, 4, bits=12)
    with pytest.raises(CompileError) as error:
        lower(build.model(out), Machine())
    message = str(error.value)
    for part in (
        "input: activations of 16 bits",
        "conv0_out: activations of 9 bits",
        "conv1: weights of 12 bits",
    ):
        assert part in message


def test_sums_past_32_bits_are_refused():
    build = NetworkBuilder((70000, 1, 1))
    out = build.convolution("input", 1, (1, 1), values=np.full((1, 70000, 1, 1), -128))
    with pytest.raises(CompileError, match=r"^conv0: sums can reach \d+, past the 32-bit accumulator"):
        lower(build.model(out), Machine())


def test_largest_sum_that_fits(check):
    """65,792 products of 255 x 128 are just below 2^31."""
    channels = 65792
    build = NetworkBuilder((channels, 1, 1))
    out = build.convolution(
        "input", 1, (1, 1), values=np.full((1, channels, 1, 1), -128), fl=24, activation=Activation()
    )
    build.weights["conv0"].bias[:] = 0
    machine = Machine(input_lanes=16, output_lanes=64, scratchpad_words=2048)
    with pytest.raises(CompileError, match="more than 65520 input channels"):
        lower(build.model(out), machine)
    build = NetworkBuilder((1028, 8, 8))
    out = build.convolution(
        "input", 1, (8, 8), values=np.full((1, 1028, 8, 8), -128), fl=24, activation=Activation()
    )
    build.weights["conv0"].bias[:] = 0
    check(build.model(out), Machine(), np.full((1028, 8, 8), 255))


def test_kernel_past_its_field():
    build = NetworkBuilder((1, 300, 3))
    out = build.average_pool("input", (300, 3))
    with pytest.raises(CompileError, match=r"^average0: kernel 300x3, the machine has at most 255"):
        lower(build.model(out), Machine())


def test_average_without_divider():
    build = NetworkBuilder((1, 3, 3))
    with pytest.raises(CompileError, match=r"^average0: windows of 9 elements .*average_pooling"):
        lower(build.model(build.average_pool("input", (3, 3))), Machine(average_pooling=False))


def test_average_out_of_range():
    build = NetworkBuilder((1, 3, 3))
    out = build.average_pool("input", (3, 3), form=Format(8, False, 20))
    with pytest.raises(CompileError, match=r"^average0: .* pass the divider's range"):
        lower(build.model(out), Machine())
