"""Microseconds of processor time per replicate of fits with several grouping factors that are not balanced, one pinned core.

python tests/benchmarks/cross_products.py [--quick]

Of each design one block of 256 replicates: the normal deviates of its errors (and of a redrawn predictor) are drawn, rows
added up, models fitted by REML with standard errors; two columns say what Satterthwaite's and Kenward and Roger's rules add.
The last two: fits of one data set at a time (`fit.several`), and how many times faster ours are; without these where --quick.
Best of 7 rounds after one that compiles; BLAS threads at 1.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from nestlab.fit.cross import CrossDesign, CrossMethod, CrossRows, Hypotheses, compile_cross, fit, infer
from nestlab.fit.cross import fits as fits_module
from nestlab.simulate.deviates import standard_normal

R, ROUNDS, ONE_BY_ONE = 256, 7, 8


def crossed(draw, rng, sizes=(30, 10, 2), *, slopes=False, missing=0.1):
    J, K, n = sizes
    a, b = np.repeat(np.arange(J), K * n), np.tile(np.repeat(np.arange(K), n), J)
    N, x = len(a), (b % 2) - 0.5
    c = np.tile([-0.5, 0.5], N // 2)
    e, u, v = draw((N, R)), draw((J, R)), draw((K, R))
    y = 0.7 * u[a] + 0.5 * v[b] + e
    columns = (0, 2) if slopes else (0,)
    start = np.diag(([0.5, 0.05] if slopes else [0.5]) + ([0.25, 0.05] if slopes else [0.25]))
    kept = (rng.random((J, K, R)) >= missing)[a, b]
    method = CrossMethod(((0, columns), (1, columns)), (0, 2 if slopes else 1), start=start)
    return compile_cross(CrossDesign(N, (a, b), (J, K)), method), CrossRows((np.ones(N), x, c), y, kept), N


def three_levels(draw, rng, *, unequal):
    sizes = np.clip(rng.poisson(10, 80), 2, None) if unequal else np.full(80, 10)
    class_, school = np.repeat(np.arange(80), sizes), np.repeat(np.arange(80) // 4, sizes)
    N = len(class_)
    x = (class_ % 2) - 0.5 if unequal else draw((N, R))
    y = 0.5 * draw((20, R))[school] + 0.4 * draw((80, R))[class_] + draw((N, R))
    method = CrossMethod(((0, (0,)), (1, (0,))), (0, 1), start=np.diag([0.25, 0.16]))
    deviates = N if unequal else 2 * N
    return compile_cross(CrossDesign(N, (school, class_), (20, 80)), method), CrossRows((np.ones(N), x), y), deviates


DESIGNS = {
    "crossed 30 x 10 x 2, 10 % of cells missing": crossed,
    "three levels 20 x 4 x 10, unequal": lambda draw, rng: three_levels(draw, rng, unequal=True),
    "three levels 20 x 4 x 10, x redrawn": lambda draw, rng: three_levels(draw, rng, unequal=False),
    "crossed slopes 30 x 10 x 2, missing": lambda draw, rng: crossed(draw, rng, slopes=True),
    "crossed 50 x 20 x 2, missing": lambda draw, rng: crossed(draw, rng, (50, 20, 2)),
    "crossed 300 x 60 x 1, missing": lambda draw, rng: crossed(draw, rng, (300, 60, 1)),
}


def microseconds(work, replicates=R, rounds=ROUNDS):
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / replicates * 1e6


def one_by_one(plan, block):
    few = block.take(list(range(ONE_BY_ONE)))
    before = fits_module.MOST_EFFECTS
    fits_module.MOST_EFFECTS = 0
    try:
        return microseconds(lambda: fit(plan, few, 0, ONE_BY_ONE), ONE_BY_ONE, 1)
    finally:
        fits_module.MOST_EFFECTS = before


def main() -> None:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if not threads.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **threads})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    quick = "--quick" in sys.argv
    print("| design | draw | add up | fit | total | Satterthwaite | Kenward-Roger | one at a time | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, make in list(DESIGNS.items())[: 3 if quick else None]:
        generator, rng = np.random.Generator(np.random.SFC64(1)), np.random.default_rng(2)
        plan, block, deviates = make(lambda shape, g=generator: standard_normal(g, shape), rng)
        drawn = microseconds(lambda g=generator, n=deviates: standard_normal(g, (n, R)))
        added = microseconds(lambda b=block, p=plan: b.add_up(p))
        rounds = ROUNDS if plan.structure.effects.max() < 100 else 2
        fitted = microseconds(lambda b=block, p=plan: fit(p, b, 0, R), rounds=rounds)
        fits, hypotheses = fit(plan, block, 0, R), Hypotheses.of(2)
        rules = [
            microseconds(lambda b=block, p=plan, f=fits, h=hypotheses, r=r: infer(p, b, f, 0, R, h, [r]), rounds=2)
            for r in ("satterthwaite", "kenward-roger")
        ]
        total = drawn + added + fitted
        one = float("nan") if quick else one_by_one(plan, block)
        cells = [drawn, added, fitted, total, *rules, one]
        print(
            f"| {name} | " + " | ".join(f"{c:,.1f}" for c in cells) + f" | {one / (added + fitted):,.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
