"""Machine descriptions: limits, derived sizes, digest."""

import dataclasses
import json

import pytest

from hw.machine import IN_ORDER, OPTIONS, Machine, MachineError


@pytest.mark.parametrize("fields", [
    {"input_lanes": 3}, {"input_lanes": 8.0}, {"output_lanes": 24}, {"output_lanes": 4},
    {"output_lanes": 128}, {"bus_width": 16}, {"bus_width": 256},
    {"input_lanes": 4, "output_lanes": 4, "bus_width": 64}, {"scratchpad_words": 255},
    {"scratchpad_words": 131072}, {"accumulator_depth": 8}, {"accumulator_depth": 100},
    {"weight_fifo_words": 16}, {"weight_decoder": 1}, {"huffman_decoder": None}, {"huffman_decoder": True},
    {"weight_fifo_words": 33}, {"average_pooling": 1},
    {"input_lanes": 16, "output_lanes": 64, "bus_width": 32, "weight_fifo_words": 256},
    {"input_lanes": 8, "output_lanes": 8, "weight_pairs": True}, {"weight_pairs": 1},
    {"kept_weight_words": 1000}, {"kept_weight_words": 66560}, {"kept_weight_words": -1024},
    {"kept_weight_words": True},
])
def test_rejects(fields):
    with pytest.raises(MachineError, match=f"^{list(fields)[-1]} must be "):
        Machine(**fields)


def test_sizes():
    machine = Machine(input_lanes=8, output_lanes=16, bus_width=32)
    assert machine.multipliers == 128
    assert machine.word_bytes == 16
    assert machine.beats_per_word == 4
    assert machine.blocks_per_word == 2
    assert machine.parameter_bytes == 128
    assert machine.products == 128
    assert dataclasses.replace(machine, weight_pairs=True).products == 256


def test_json_round_trip():
    machine = Machine(input_lanes=4, output_lanes=8, bus_width=32, average_pooling=False)
    assert Machine.from_json(json.loads(json.dumps(machine.to_json()))) == machine
    older = {name: value for name, value in machine.to_json().items() if name not in OPTIONS}
    assert Machine.from_json(older) == machine
    for broken in (None, {}, {**machine.to_json(), "more": 1}):
        with pytest.raises(MachineError, match="exactly the fields"):
            Machine.from_json(broken)


def test_digest_names_every_field():
    machine = Machine()
    other = {"input_lanes": 4, "output_lanes": 32, "bus_width": 32, "scratchpad_words": 4096,
             "accumulator_depth": 256, "weight_fifo_words": 1024, "average_pooling": False,
             "weight_decoder": True, "huffman_decoder": True, "weight_pairs": True,
             "kept_weight_words": 2048}
    digests = {dataclasses.replace(machine, weight_decoder=True, **{name: other[name]}).digest()
               for name in machine.to_json() if name not in ("weight_decoder", "in_order")}
    digests |= {machine.digest(), dataclasses.replace(machine, weight_decoder=True).digest()}
    digests |= {IN_ORDER.digest(), dataclasses.replace(IN_ORDER, in_order=False).digest()}
    assert len(digests) == len(other) + 3
    assert all(0 <= digest < 1 << 64 for digest in digests)
