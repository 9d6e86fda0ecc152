"""Resident maps never overlap in space and time, and everything is planned."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from random_network import random_network

from compiler.error import CompileError
from compiler.lower import lower
from compiler.residency import plan
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
