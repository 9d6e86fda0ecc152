"""Shared by the tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from quant.fixed_model import FixedModel


@pytest.fixture(scope="session")
def small_model() -> FixedModel:
    """A tiny network with a node of every kind (`small_network.py`)."""
    specification = importlib.util.spec_from_file_location(
        "small_network", Path(__file__).parent / "small_network.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.small_network()
