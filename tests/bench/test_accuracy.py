"""The accuracy of this version against the committed figures, `bench/accuracy.json`."""

import json
from pathlib import Path

import pytest

from bench.accuracy import BARS, SETTINGS, Row, measure, table
from bench.accuracy_data import networks, shared_folder
from bench.accuracy_score import float_answers
from quant.search import Search

BASELINE = Path(__file__).parents[2] / "bench" / "accuracy.json"
ROWS = {(row["network"], row["setting"]): row for row in json.loads(BASELINE.read_text())}
CASES = [
    pytest.param(name, setting, marks=() if name == "lenet5" else pytest.mark.slow, id=f"{name} {setting[0]}")
    for name in BARS
    for setting in SETTINGS
]


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_as_good_as_the_committed_figures(name, setting):
    shared = shared_folder()
    if name != "lenet5" and shared is None:
        pytest.skip("the folder of models and images that POINTSHIFT_SHARED names is missing")
    [network] = networks(shared, only=[name])
    graph = network.graph()
    found = measure(network, graph, setting, Search(), float_answers(network, graph))
    expected = ROWS[name, setting[0]]
    assert found.weight_bytes == pytest.approx(expected["weight_bytes"], rel=0.02)
    # other processors add floats in another order, which turns close decisions
    few = 3 * 100 / len(network.evaluation)
    assert found.agreement == pytest.approx(expected["agreement"], abs=max(1.0, few))
    if found.top1 is not None:
        assert found.float_top1 == pytest.approx(expected["float_top1"], abs=few / 2)
        assert found.top1 == pytest.approx(expected["top1"], abs=max(0.8, few))


def test_every_bar_has_a_figure():
    assert {(name, setting) for name, settings in BARS.items() for setting in settings} <= set(ROWS)
    assert all(row["met"] is not None for key, row in ROWS.items() if key[1] in BARS[key[0]])


def test_table_names_what_is_missed():
    rows = [
        Row("net", "8/8", "greedy", 10, 90.0, 88.0, 91.0, False),
        Row("b", "4/4", "greedy", 1, None, None, 5.0, None),
    ]
    lines = table(rows).splitlines()
    assert lines[1].endswith("MISSED")
    assert lines[2].endswith("5.00")
