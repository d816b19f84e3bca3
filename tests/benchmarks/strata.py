"""Microseconds a replicate of balanced designs with several factors: draw, fit with standard errors, Satterthwaite's df.

python tests/benchmarks/strata.py [PART OF A DESIGN'S NAME]

One pinned core, BLAS threads at 1, processor time, medians of ROUNDS rounds after one that compiles. Nothing is stored and no
column is made: these are the numbers of the numeric core alone. The last row is the one-factor kernel on a random slope of 20
clusters of 50, drawn and fitted, so that machines can be compared.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import numpy as np
from speed import SLOPE, THREADS, compiled

from nestlab.fit.inference import Hypotheses
from nestlab.fit.lmm import compile_plan, fit_gram
from nestlab.fit.strata.model import fit_cells, infer_cells
from nestlab.fit.strata.plan import CellEffect, CellPlan, CellTerm, compile_cells
from nestlab.simulate.gram import respond
from nestlab.simulate.strata.cells import Multiplier, cell_design
from nestlab.simulate.strata.draw import CellTruth, TrueTerm, draw_statistics
from nestlab.simulate.strata.structure import find_strata
from nestlab.simulate.streams import block_generator

ROUNDS, REPLICATES = 7, 1024
PAIR = np.array([[1.0, -0.5], [1.0, 0.5]])
FOUR = np.array([[1, a, b, 4 * a * b] for a in (-0.5, 0.5) for b in (-0.5, 0.5)])
SLOPES = np.array([[1.0, 0.3], [0.3, 0.5]])


def crossed(subjects: int, items: int, D: np.ndarray, columns: int, G: np.ndarray) -> tuple[CellPlan, CellTruth]:
    """Subjects x items with the first `columns` of D random for both."""
    subject, item = np.repeat(np.arange(subjects), items), np.tile(np.arange(items), subjects)
    design = cell_design(find_strata([subject, item]), D, [Multiplier.one(subjects * items)])
    A = np.eye(D.shape[1])[:, :columns]
    effects = [CellEffect(row, 0) for row in np.eye(D.shape[1])]
    plan = compile_cells(design, effects, [CellTerm(0, A), CellTerm(1, A)], start=[G, G / 2])
    return plan, CellTruth((TrueTerm(0, A, G), TrueTerm(1, A, G / 2)), 1.0)


def nested(schools: int, classes: int, pupils: int) -> tuple[CellPlan, CellTruth]:
    """Schools, half of them treated, and classes with a covariate; no predictor of pupils."""
    school, single = np.repeat(np.arange(schools), classes), np.arange(schools * classes)
    covariate = Multiplier.of(single, np.sin(np.arange(schools * classes)))
    multipliers = [Multiplier.one(schools * classes), Multiplier.of(school, np.arange(schools) % 2 - 0.5), covariate]
    design = cell_design(find_strata([school, single]), np.ones((pupils, 1)), multipliers)
    one, G = np.ones((1, 1)), [np.array([[0.2]]), np.array([[0.1]])]
    plan = compile_cells(
        design, [CellEffect(np.ones(1), m) for m in range(3)], [CellTerm(0, one), CellTerm(1, one)], start=G
    )
    return plan, CellTruth((TrueTerm(0, one, G[0]), TrueTerm(1, one, G[1])), 1.0)


CASES = {
    "crossed maximal 30 x 10 x 2": lambda: crossed(30, 10, PAIR, 2, SLOPES),
    "crossed maximal 50 x 20 x 2": lambda: crossed(50, 20, PAIR, 2, SLOPES),
    "crossed intercepts 30 x 10 x 2": lambda: crossed(30, 10, PAIR, 1, SLOPES[:1, :1]),
    "three levels 20 x 4 x 10": lambda: nested(20, 4, 10),
    "2 x 2 maximal, 30 x 20": lambda: crossed(30, 20, FOUR, 4, np.eye(4) * 0.6 + 0.2),
    "2 x 2 maximal, 60 x 40": lambda: crossed(60, 40, FOUR, 4, np.eye(4) * 0.6 + 0.2),
}


def measured(plan: CellPlan, truth: CellTruth) -> tuple[float, float, float, float, float]:
    """Draw, fit, Satterthwaite, microseconds a replicate; steps and the share of singular fits."""
    generator, hypotheses = block_generator(1, "0" * 64, 0), Hypotheses.of(plan.p)
    rounds = []
    for _ in range(ROUNDS + 1):
        times = [time.process_time()]
        found = draw_statistics(plan.design, truth, generator, REPLICATES)
        times.append(time.process_time())
        fits = fit_cells(plan, found, 0, REPLICATES)
        times.append(time.process_time())
        infer_cells(plan, found, fits, 0, REPLICATES, hypotheses, ["satterthwaite"])
        times.append(time.process_time())
        rounds.append([*np.diff(times) * 1e6 / REPLICATES, fits.iterations.mean(), (fits.status == 1).mean()])
    draw, fit, infer, steps, singular = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return draw, fit, infer, steps, singular


def one_factor() -> tuple[float, float]:
    """Draw and fit of the one-factor kernel."""
    work = compiled(SLOPE)
    size, plan = work.condition.block_size, compile_plan(work.source.design, work.methods[0])
    rounds = []
    for _ in range(ROUNDS + 1):
        times = [time.process_time()]
        for block in range(4):
            gram = respond(work.draw(block), work.source.design, plan.omitted, plan.multipliers)
            times.append(time.process_time())
            fit_gram(plan, gram, 0, size)
            times.append(time.process_time())
        steps = np.diff(times) * 1e6 / size
        rounds.append((steps[::2].mean(), steps[1::2].mean()))
    draw, fit = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return draw, fit


def main() -> None:
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("| design | draw | fit | draw + fit | Satterthwaite | steps | singular |\n" + "| --- " * 7 + "|")
    for name, make in CASES.items():
        if len(sys.argv) < 2 or sys.argv[1] in name:
            draw, fit, infer, steps, singular = measured(*make())
            row = f"| {name} | {draw:.2f} | {fit:.2f} | {draw + fit:.2f} | {infer:.2f} | {steps:.1f} | {singular:.0%} |"
            print(row, flush=True)
    draw, fit = one_factor()
    print(f"| one factor, random slope 20 x 50 | {draw:.2f} | {fit:.2f} | {draw + fit:.2f} | | | |")


if __name__ == "__main__":
    main()
