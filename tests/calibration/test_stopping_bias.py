"""What stopping at targets does to a share: its bias, its spread and the coverage of Wilson's interval, against a fixed n.

Studies are Bernoulli streams, looked at by the code that decides (`run.stopping.half_width` at `spec.stopping.Stopping.looks`).
By Wald's identity E[n (share - p)] = 0, so that the bias is -cov(n, share) / E(n), about
-(1 - 2p) / E(n) where many looks are near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from nestlab.measure.intervals import wilson
from nestlab.run.stopping import half_width
from nestlab.spec.stopping import Stopping

pytestmark = pytest.mark.calibration

STUDIES, BLOCK, LEAST, MOST = 100_000, 256, 1000, 1_000_000


@dataclass(frozen=True)
class Stopped:
    """Over STUDIES studies: mean n, bias and spread of the share, coverage of Wilson's interval; fixed: the same at a fixed n."""

    n: float
    bias: float
    spread: float
    coverage: float
    fixed: float


def studies(p: float, target: float, seed: int = 1) -> Stopped:
    rng = np.random.default_rng(seed)
    hits, done = np.zeros(STUDIES), np.zeros(STUDIES, dtype=bool)
    at, found = np.zeros(STUDIES), np.zeros(STUDIES)
    before = 0
    for n in Stopping((), LEAST, MOST).looks(BLOCK):
        hits, before = hits + rng.binomial(n - before, p, STUDIES), n
        stops = ~done & ((half_width(hits, n) <= target) | (n == MOST))
        at[stops], found[stops] = n, hits[stops]
        done |= stops
        if done.all():
            break
    share = found / at
    fixed = np.full(STUDIES, round(at.mean()))
    same = rng.binomial(fixed, p).astype(float)
    return Stopped(at.mean(), share.mean() - p, share.std(), covers(found, at, p), covers(same, fixed, p))


def covers(hits: np.ndarray, n: np.ndarray, p: float) -> float:
    lower, upper = wilson(hits, n)
    return float(((lower <= p) & (p <= upper)).mean())


#: Rate and target: 0.005 whatever the rate, and finer.
CASES = [
    (0.005, 0.005), (0.005, 0.002), (0.005, 0.001), (0.005, 0.0005), (0.05, 0.005), (0.05, 0.002), (0.05, 0.001),
    (0.5, 0.01), (0.5, 0.005), (0.5, 0.002),
]  # fmt: skip


@pytest.mark.parametrize(("p", "target"), CASES)
def test_stopping_hardly_moves_a_share(p: float, target: float) -> None:
    """In units of the MCSE asked for the bias is at most 0.14, or 0.25 where that is more than a tenth of the rate."""
    found = studies(p, target)
    noise = 4 * found.spread / math.sqrt(STUDIES)
    most = 0.14 if target <= p / 10 else 0.25
    assert abs(found.bias) < most * target + noise
    if target == 0.005 or p == 0.5:
        assert abs(found.bias) < 0.04 * target + noise
    assert math.hypot(found.spread, found.bias) < 1.05 * target + noise
    assert 0.935 < found.coverage < 0.98
    assert abs(found.coverage - found.fixed) < 0.015
    if p == 0.005 and target < 0.005:
        assert found.bias < -noise, "the bias is seen by this many studies"


if __name__ == "__main__":
    for rate, goal in CASES:
        s = studies(rate, goal)
        print(
            f"    | {rate:g} | {goal:g} | {s.n:,.0f} | {s.bias:+.6f} | {s.bias / goal:+.2f} | "
            f"{math.hypot(s.spread, s.bias):.6f} | {s.coverage:.3f} | {s.fixed:.3f} |"
        )
