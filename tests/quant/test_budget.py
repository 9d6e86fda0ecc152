"""The trade-off of weight widths against exhaustive search, and budgets that can be read and met."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.budget import WIDTHS, Budget, BudgetError, cheapest_within, trade_off, weight_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48000", Budget("bytes", 48000)),
        ("48kB", Budget("bytes", 48000)),
        ("1.5 MB", Budget("bytes", 1.5e6)),
        ("64KiB", Budget("bytes", 65536)),
        ("5bits", Budget("bits", 5)),
        ("4.5 bit", Budget("bits", 4.5)),
        ("0.5points", Budget("points", 0.5)),
        (".3pt", Budget("points", 0.3)),
    ],
)
def test_budgets(text, expected):
    assert Budget.parse(text) == expected


@pytest.mark.parametrize("text", ["", "kB", "-5bits", "5 apples", "1e3", "5,bits", "nan", "0x10"])
def test_what_is_no_budget(text):
    with pytest.raises(BudgetError, match="is no budget; write bytes of weights"):
        Budget.parse(text)


def test_bytes_of_a_budget():
    assert Budget("bits", 5).bytes_of(1001) == 625
    assert Budget("bytes", 700.9).bytes_of(1001) == 700


layers = st.dictionaries(
    st.sampled_from("abcde"),
    st.tuples(st.integers(1, 500), st.floats(0, 1), st.floats(0, 5), st.floats(0, 50)),
    min_size=1,
)


def network(found):
    weights = {name: count for name, (count, *_) in found.items()}
    costs = {
        name: {8: base, 4: base + more, 2: base + more + most}
        for name, (_, base, more, most) in found.items()
    }
    return weights, costs


@settings(max_examples=200, deadline=None)
@given(layers)
def test_curve_goes_from_widest_to_narrowest_and_only_down(found):
    weights, costs = network(found)
    curve = trade_off(weights, costs)
    assert set(curve[0].bits.values()) == {WIDTHS[0]}
    assert set(curve[-1].bits.values()) == {WIDTHS[-1]}
    for before, after in itertools.pairwise(curve):
        assert after.weight_bytes <= before.weight_bytes
        assert after.cost >= before.cost - 1e-9
        assert sum(before.bits[name] != after.bits[name] for name in weights) == 1
    for point in curve:
        assert point.weight_bytes == sum(-(-weights[name] * width // 8) for name, width in point.bits.items())
        assert point.cost == pytest.approx(sum(costs[name][width] for name, width in point.bits.items()))


@settings(max_examples=200, deadline=None)
@given(layers, st.floats(0, 1))
def test_choice_fits_and_is_near_the_best_of_all(found, place):
    weights, costs = network(found)
    curve = trade_off(weights, costs)
    least, most = curve[-1].weight_bytes, curve[0].weight_bytes
    limit = int(least + place * (most - least))
    chosen = cheapest_within(curve, limit, weights, costs)
    assert chosen.weight_bytes == weight_bytes(weights, chosen.bits) <= limit
    all_choices = itertools.product(WIDTHS, repeat=len(weights))
    best = min(
        sum(costs[name][width] for name, width in zip(weights, choice))
        for choice in all_choices
        if weight_bytes(weights, dict(zip(weights, choice))) <= limit
    )
    # the greedy walk is exact at the corners of the curve, and at most one layer's step off between them
    assert best - 1e-9 <= chosen.cost <= best + max(row[2] - row[8] for row in costs.values()) + 1e-9
    if limit >= most:
        assert chosen.cost == pytest.approx(best)


def test_room_that_is_left_is_used():
    weights, costs = {"a": 100, "b": 10}, {"a": {8: 0, 4: 1, 2: 9}, "b": {8: 0.0, 4: 0.5, 2: 4}}
    chosen = cheapest_within(trade_off(weights, costs), 60, weights, costs)
    assert chosen.bits == {"a": 4, "b": 8}


def test_budget_that_nothing_meets():
    weights, costs = {"a": 100}, {"a": {8: 0, 4: 1, 2: 9}}
    with pytest.raises(BudgetError, match="do not fit 24 bytes: with 2 bits everywhere they take 25;"):
        cheapest_within(trade_off(weights, costs), 24, weights, costs)
