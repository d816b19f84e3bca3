"""How measures are printed."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import nestlab as nl
from nestlab.show.summary import overview, value_with_mcse


@pytest.mark.parametrize(
    ("value", "mcse", "text"),
    [
        (0.8123, 0.0056, "0.812 (0.006)"),
        (0.8123, 0.0123, "0.812 (0.012)"),
        (0.81234, 0.00184, "0.8123 (0.0018)"),
        (0.81234, 0.00196, "0.812 (0.002)"),
        (-0.0001, 0.003, "0.000 (0.003)"),
        (12.3456, 3.2, "12 (3)"),
        (1.0, 0.0, "1 (0)"),
        (0.25, math.nan, "0.25"),
        (math.nan, 0.1, "-"),
    ],
)
def test_value_with_mcse(value: float, mcse: float, text: str) -> None:
    assert value_with_mcse(value, mcse) == text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_overview_fits_the_terminal(two_arms: dict[str, Any], tmp_path: Path, width: int) -> None:
    results = nl.Study.from_dict(two_arms).run(out=tmp_path, replications=50)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(overview(results, width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "two-arms: 50 replications a condition" in text
    assert "power" in text
    assert "converged: at least" in text
    for measure in ("cover", "bias"):
        assert measure in text, "shown, or named among what is left out"
