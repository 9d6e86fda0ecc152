"""Runs a generator of LiteDRAM cores as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from boards.litedram import ControllerError

__all__ = ["run_generator"]


def run_generator(module: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The Verilog of ``litedram_core`` and what the generator says of it.

    Parameters
    ----------
    module : str
        Started as ``python -m module SETTINGS.json FOLDER``; writes ``litedram_core.v`` and
        ``controller.json`` into the folder.
    settings : dict

    Raises
    ------
    ControllerError
        If LiteDRAM is missing or fails.
    """
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory(prefix="litedram") as name:
        folder = Path(name)
        (folder / "settings.json").write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, "-m", module, "settings.json", "."],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        described = folder / "controller.json"
        if done.returncode or not described.exists():
            last = (done.stdout.strip().splitlines() or ["no output"])[-1]
            hint = (
                "the PLL cannot make this clock; choose a round fraction of the board's"
                if "No PLL config" in last
                else "install pointshift[board]"
            )
            raise ControllerError(f"LiteDRAM's generator failed: {last}; {hint}")
        return (folder / "litedram_core.v").read_text(), json.loads(described.read_text())
