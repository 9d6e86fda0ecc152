"""The table of operators is complete, and the page in the documentation is its print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from quant.operators import OPERATORS, operators_page
from quant.passes.host_tail import HOST_OPERATORS
from quant.passes.interpreter import LOWERINGS

ROOT = Path(__file__).parents[2]


def test_the_table_names_what_the_importer_knows() -> None:
    names = [operator.name for operator in OPERATORS]
    assert len(set(names)) == len(names)
    assert set(names) == {*LOWERINGS, *HOST_OPERATORS, "If"}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_every_entry_is_an_onnx_operator_with_a_place(operator) -> None:
    assert onnx.defs.has(operator.name)
    assert operator.place in ("array", "FC engine", "post-processing", "host", "folded")
    assert operator.becomes


def test_the_committed_page_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "operators.md").read_text() == operators_page()


def test_the_module_prints_the_page() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "quant.operators"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == operators_page()
