"""The weight stream, byte for byte as `docs/machine.md` describes it."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_networks import NetworkBuilder

from compiler.lower import lower
from compiler.weights import block_tiles, weight_stream
from hw.machine import Machine

MACHINE = Machine(input_lanes=4, output_lanes=8)


def _stream(operation, first, blocks, *more) -> bytes:
    tiles = block_tiles(MACHINE, operation, first, blocks, *more)
    return weight_stream(MACHINE, operation, first, [block.tobytes() for block in tiles])


def _blocks(stream: bytes, tiles: int):
    size = MACHINE.parameter_bytes + tiles * MACHINE.tile_bytes
    assert len(stream) % size == 0
    for start in range(0, len(stream), size):
        yield (
            stream[start : start + MACHINE.parameter_bytes],
            np.frombuffer(stream[start + MACHINE.parameter_bytes : start + size], np.int8),
        )


def test_dense_stream():
    build = NetworkBuilder((6, 5, 5))
    model = build.model(build.convolution("input", 11, (2, 3)))
    operation = lower(model, MACHINE).layers[0].operations[0]
    weights = model.weights["conv0"]
    found = list(_blocks(_stream(operation, 0, 2), 2 * 2 * 3))
    assert len(found) == 2
    for block, (parameters, tiles) in enumerate(found):
        for lane in range(8):
            output = block * 8 + lane
            entry = parameters[8 * lane : 8 * lane + 8]
            exists = output < 11
            assert int.from_bytes(entry[:4], "little", signed=True) == (weights.bias[output] if exists else 0)
            shift = model.formats["input"].fl + weights.fl[0] - model.formats["conv0_out"].fl
            assert int.from_bytes(entry[4:5], "little", signed=True) == (shift if exists else 0)
            assert entry[5:] == bytes(3)
            for number, (ib, ky, kx) in enumerate(np.ndindex(2, 2, 3)):
                for i in range(4):
                    channel = 4 * ib + i
                    wanted = weights.values[output, channel, ky, kx] if exists and channel < 6 else 0
                    assert tiles[number * MACHINE.tile_bytes + lane * 4 + i] == wanted


@pytest.mark.parametrize("slot_columns", [3, 4, 6])
@pytest.mark.parametrize(("channels", "groups"), [(11, 11), (3, 1), (1, 1)])
def test_lanes_are_taps(channels, groups, slot_columns):
    """Depthwise and thin layers: product k on input lane k mod 4, zero where a slot is no tap."""
    build = NetworkBuilder((channels, 5, 5))
    model = build.model(build.convolution("input", 11, (2, 3), groups=groups))
    operation = lower(model, MACHINE).layers[0].operations[0]
    each = 1 if groups > 1 else channels
    passes = operation.passes(MACHINE, 0, slot_columns)
    assert passes == -(-(slot_columns + 3) * each // 4)
    stream = _stream(operation, 0, 2, slot_columns)
    for block, (_, tiles) in enumerate(_blocks(stream, passes)):
        tiles = tiles.reshape(passes, 8, 4)
        for output, lane, k in np.ndindex(8, 4, passes):
            slot, channel = divmod(4 * k + lane, each)
            ky, kx = divmod(slot, slot_columns)
            exists = 8 * block + output < 11 and ky < 2 and kx < 3
            wanted = model.weights["conv0"].values[8 * block + output, channel, ky, kx] if exists else 0
            assert tiles[k, output, lane] == wanted


@pytest.mark.parametrize(("channels", "tail"), [(11, 3), (9, 1), (12, 0), (8, 0), (3, 0)])
def test_last_channels_are_a_tail(channels, tail):
    """Few channels that begin a plane: THIN passes with the weights of these channels alone."""
    build = NetworkBuilder((channels, 5, 5))
    model = build.model(build.convolution("input", 11, (2, 3)))
    operation = lower(model, MACHINE).layers[0].operations[0]
    if not tail:
        assert operation.tail is None
        return
    assert operation.tail is not None
    assert operation.tail.channels == tail
    # a pitch of 7 takes 3 slots a row, one of 6 takes 6: more passes than the six of a DENSE block
    dense = 6 * -(-channels // 4)
    for pitch, slots in ((7, 3), (6, 6)):
        assert operation.slot_columns(MACHINE, pitch) == slots
        passes = -(-(slots + 3) * tail // 4)
        taken = passes if passes < 6 else 0
        assert operation.tail_passes(MACHINE, slots) == taken
        assert operation.passes(MACHINE, 0, slots) == (dense - 6 + taken if taken else dense)
    passes = operation.tail_passes(MACHINE, 3)
    stream = _stream(operation, 0, 2, 3, None, operation.tail.weights)
    for block, (_, tiles) in enumerate(_blocks(stream, passes)):
        tiles = tiles.reshape(passes, 8, 4)
        for output, lane, k in np.ndindex(8, 4, passes):
            slot, channel = divmod(4 * k + lane, tail)
            ky, kx = divmod(slot, 3)
            exists = 8 * block + output < 11 and ky < 2
            values = model.weights["conv0"].values[:, -tail:]
            assert tiles[k, output, lane] == (values[8 * block + output, channel, ky, kx] if exists else 0)


@pytest.mark.parametrize(("groups", "kernel", "dilation"), [(11, (2, 3), 1), (1, (1, 1), 1), (1, (2, 2), 2)])
def test_no_tail(groups, kernel, dilation):
    """Only ordinary convolutions with several taps have one."""
    build = NetworkBuilder((11, 5, 5))
    tensor = build.convolution("input", 11, kernel, groups=groups, dilation=(dilation, dilation))
    assert lower(build.model(tensor), MACHINE).layers[0].operations[0].tail is None


def test_dilated_depthwise_kernels_are_written_out():
    build = NetworkBuilder((11, 9, 9))
    model = build.model(build.convolution("input", 11, (2, 3), groups=11, dilation=(3, 2)))
    operation = lower(model, MACHINE).layers[0].operations[0]
    assert (operation.kernel, operation.dilation) == ((4, 5), (1, 1))
    values = operation.weights.values
    assert np.array_equal(values[:, ::3, ::2], model.weights["conv0"].values[:, 0])
    assert np.count_nonzero(values) == np.count_nonzero(model.weights["conv0"].values)


def test_groups_are_blocks_with_zeros():
    build = NetworkBuilder((24, 2, 2))
    model = build.model(build.convolution("input", 24, (1, 1), groups=8))  # three channels each
    operation = lower(model, MACHINE).layers[0].operations[0]
    full = np.zeros((24, 24), np.int64)
    for output in range(24):
        group = output // 3
        full[output, 3 * group : 3 * group + 3] = model.weights["conv0"].values[output, :, 0, 0]
    for block in range(3):
        first, count = operation.weights.source_blocks(block)
        tiles = operation.weights.tiles(block, 0)
        found = tiles.transpose(1, 0, 2).reshape(8, 4 * count)
        assert np.array_equal(found, full[8 * block : 8 * block + 8, 4 * first : 4 * (first + count)])
        left_out = np.delete(full[8 * block : 8 * block + 8], np.s_[4 * first : 4 * (first + count)], axis=1)
        assert not left_out.any()


def test_maximum_stream_is_ones():
    build = NetworkBuilder((11, 4, 4))
    operation = lower(build.model(build.max_pool("input")), MACHINE).layers[0].operations[0]
    parameters, tiles = next(_blocks(_stream(operation, 1, 1), 1))
    assert parameters == bytes(MACHINE.parameter_bytes)
    assert (tiles.reshape(8, 4)[:, 0] == 1).all()
    assert not tiles.reshape(8, 4)[:, 1:].any()
