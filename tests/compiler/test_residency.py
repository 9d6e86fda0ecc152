"""Resident maps never overlap in space and time, and everything is planned."""

from __future__ import annotations

import itertools

from fixed_networks import NetworkBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from random_network import random_network

from compiler.compile import place_instructions
from compiler.error import CompileError
from compiler.lower import lower
from compiler.residency import plan
from hw.isa import Opcode
from hw.machine import Machine


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(2, 12), st.sampled_from([256, 1024, 8192]))
def test_residencies_do_not_overlap(seed, size, words):
    machine = Machine(scratchpad_words=words)
    operations = [
        operation
        for layer in lower(random_network(seed, size), machine).layers
        for operation in layer.operations
    ]
    try:
        planned = plan(operations, machine)
    except CompileError:
        return
    assert [step.operation for step in planned.steps] == operations
    for number, step in enumerate(planned.steps):
        taken = [
            (residency.base, residency.base + residency.words)
            for residency in planned.residencies
            if residency.first <= number <= residency.last
        ]
        taken.append((step.slots_base, step.slots_base + step.tiling.words))
        taken.sort()
        assert taken[-1][1] <= words
        for (_, end), (start, _) in itertools.pairwise(taken):
            assert end <= start
        for residency, view in (
            (step.source, step.operation.source),
            (step.destination, step.operation.destination),
        ):
            if residency is not None:
                assert residency.storage == view.storage
                assert residency.first <= number <= residency.last


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(2, 12), st.sampled_from([256, 1024, 8192]), st.booleans())
def test_what_a_plan_stores_is_what_the_program_stores(seed, size, words, store_all):
    model = random_network(seed, size)
    try:
        placed = place_instructions(model, Machine(scratchpad_words=words), store_all=store_all)
    except CompileError:
        return
    storages = {step.operation.destination.storage for step in placed.plan.steps}
    wanted = {step.operation.destination.storage for step in placed.plan.steps if step.stored}
    assert placed.schedule.stored == wanted
    assert not store_all or wanted == storages


def test_a_result_that_nobody_reads_in_memory_is_computed_at_once():
    """Blocks of a layer's last tile come one by one only where each is stored while the next is computed."""
    build = NetworkBuilder((64, 6, 6))
    out = "input"
    for groups in (64, 1, 64):
        out = build.convolution(out, 64, (3, 3) if groups > 1 else (1, 1), groups=groups)
    model = build.model(out)

    def computes(store_all: bool) -> int:
        program = place_instructions(model, Machine(), store_all=store_all).instructions
        return sum(code.opcode is Opcode.COMPUTE and code.layer == 1 for code in program)

    assert computes(store_all=False) == 1
    assert computes(store_all=True) > 1
