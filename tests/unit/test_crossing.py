"""Where a curve reaches a target: against exact curves with binomial noise, and where the designs do not say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from nestlab.search.crossing import Tried, cross, from_axis, monotone, to_axis


def tried(x: float, p: float, n: int, generator: np.random.Generator | None = None) -> Tried:
    """A design with power p, exact or drawn."""
    value = p if generator is None else generator.binomial(n, p) / n
    return Tried(x, value, math.sqrt(value * (1 - value) / n), n)


def probit_in_root(x: float) -> float:
    return float(ndtr(0.5 * math.sqrt(x) - 1.96))  # .8 where sqrt(x) = 2 (1.96 + .8416)


ROOT = (2 * (1.96 + 0.8416212335729143)) ** 2


def test_cross_exact_line() -> None:
    designs = [tried(x, probit_in_root(x), 100_000) for x in (20, 28, 36, 44)]
    found = cross(designs, 0.8, kind="proportion", scale="sqrt")
    assert found is not None
    assert found.x == pytest.approx(ROOT, rel=1e-4)
    assert found.slope == pytest.approx(0.5, rel=1e-3)
    assert found.lower < ROOT < found.upper


def test_cross_interval_covers() -> None:
    generator = np.random.default_rng(1)
    covered, widths = 0, []
    for _ in range(400):
        designs = [tried(x, probit_in_root(x), n, generator) for x, n in ((8, 400), (24, 4000), (32, 4000), (40, 4000))]
        found = cross(designs, 0.8, kind="proportion", scale="sqrt")
        assert found is not None
        covered += found.lower <= ROOT <= found.upper
        widths.append(found.upper - found.lower)
    assert 0.93 <= covered / 400 <= 0.995  # conservative: designs away from the target count less than they tell
    assert np.median(widths) < 2.5


def test_cross_falling_and_positive() -> None:
    designs = [Tried(x, 3 / math.sqrt(x), 0.001, 1000) for x in (10, 20, 40, 80)]
    found = cross(designs, 0.5, kind="positive", scale="log")
    assert found is not None
    assert found.x == pytest.approx(36, rel=1e-3)
    assert found.slope < 0


def test_cross_unknown() -> None:
    assert cross([tried(10, 0.5, 100)], 0.8, kind="proportion", scale="sqrt") is None
    flat = [tried(x, 0.05, 500) for x in (10, 20, 40)]
    assert cross(flat, 0.8, kind="proportion", scale="sqrt") is None
    nothing = [Tried(x, math.nan, math.nan, 0) for x in (10, 20)]
    assert cross(nothing, 0.8, kind="proportion", scale="sqrt") is None


def test_cross_few_replications_leave_the_interval_open() -> None:
    designs = [tried(20, 0.78, 30), tried(21, 0.82, 30)]
    found = cross(designs, 0.8, kind="proportion", scale="sqrt")
    assert found is not None
    assert math.isinf(found.lower) or math.isinf(found.upper) or found.upper - found.lower > 5


@pytest.mark.parametrize("scale", ["sqrt", "log", "linear"])
def test_axis_inverse(scale: str) -> None:
    x = np.array([0.5, 2.0, 300.0])
    assert from_axis(to_axis(x, scale), scale) == pytest.approx(x)  # type: ignore[arg-type]


def test_monotone_pools() -> None:
    designs = [tried(10, 0.3, 100), tried(20, 0.6, 100), tried(30, 0.5, 300), tried(40, 0.9, 100)]
    x, curve = monotone(designs, kind="proportion", scale="linear")
    assert list(x) == [10, 20, 30, 40]
    assert (np.diff(curve) >= 0).all()
    assert curve[1] == curve[2]
    assert 0.5 < curve[1] < 0.6
    falling = [Tried(t.x, 1 - t.value, t.mcse, t.n) for t in designs]
    assert (np.diff(monotone(falling, kind="proportion", scale="linear")[1]) <= 0).all()
