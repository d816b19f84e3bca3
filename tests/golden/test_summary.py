"""Every measure, its MCSE and its counts, from replicates, from sums and paired, as they were when they were frozen.

summary.csv holds them for made-up results: all kinds of estimands and tests, truths of each replicate's own, 0 to 3 replicates,
constant columns, means of 1e6. `python tests/golden/test_summary.py` writes it again. Measures that are newer are not in it.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from nestlab.measure.assurance import Drawn
from nestlab.measure.collect import collect
from nestlab.measure.paired import as_table, compare
from nestlab.measure.performance import Estimates, MethodResults, measure, measure_sums

FROZEN = Path(__file__).with_name("summary.csv")
TRUTH = {
    "x": 0.5,
    "big": 1e6,
    "v": 2.0,
    "margin": 0.0,
    "less": 0.3,
    "zero": 0.0,
    "joint": math.nan,
    "own": 0.3,
    "nowhere": math.nan,
}
#: What the numbers are differences of: 100 % of these, 1e6 of `big`.
PERCENT = ("relbias", "relerror", "relprec")
#: The measures whose MCSE is another one with mcse = "morris".
TABLE_6 = ("empse", "relerror", "relprec")
#: Estimands of the cases that are about numbers of replicates and the like.
FEW = ("x", "big", "v", "less", "own")
LIMIT = 1e-12


def normal(rng: np.random.Generator, size: int) -> np.ndarray:
    return ndtri(rng.random(size))


def results(size: int, seed: int, *, holes: bool, priors: bool = False, constant: bool = False) -> list[MethodResults]:
    """Three methods of the same data: t with all kinds of estimands, z with other ones, and one that selects."""
    rng = np.random.default_rng(seed)
    shared, scale = normal(rng, size) ** 2 * 0.4 + 0.1, np.exp(0.3 * normal(rng, size))
    own = 0.3 + 0.2 * normal(rng, size)
    made = [_method(name, rng, shared, scale, own, k, holes, constant) for k, name in enumerate(("a", "b/z", "c"))]
    return [replace(m, drawn=Drawn([own])) for m in made] if priors else made


def _method(name, rng, shared, scale, own, k, holes, constant):
    size = len(shared)

    def column(values, share=0.05):
        return np.where(rng.random(size) < share, np.nan, values) if holes and k < 2 else values

    x = shared + 0.2 * k * normal(rng, size)
    se, df = 0.3 * scale * (1 + x), 3 + 37 * rng.random(size)
    width = -np.log(rng.random(size))
    if constant:
        x, se, df, width = (np.full(size, value) for value in (0.7, 0.2, 9.0, 0.3))
    estimands = {
        "x": Estimates(column(x), column(se), column(df), null=0.1),
        "big": Estimates(column(x + 1e6), column(se), np.inf),
        "v": Estimates(column(x), lower=column(x - width), upper=column(x + 2 * width)),
        "margin": Estimates(column(x - 0.4), 0.3 * se, 20.0, equivalence=(-0.9, 0.9)),
        "less": Estimates(-x, column(se), df, null=0.2, alternative="less"),
        "zero": Estimates(column(x - 0.5), se, df, alternative="greater"),
        "joint": Estimates(p=column(rng.random(size) ** (k + 1))),
        "own": Estimates(column(x + own), column(se), column(df), null=0.05, truth=own),
        "own v": Estimates(column(x + own), lower=own + x - width, upper=own + x + width, truth=np.abs(own)),
        "nowhere": Estimates(column(x), se, p=rng.random(size)),
    }
    if k == 2:
        del estimands["zero"]
    failed = (rng.random(size) < 0.04) & holes
    converged = ~failed & (rng.random(size) < 0.95)
    flags = {"converged": converged, "failed": failed, "singular": converged & (rng.random(size) < 0.3)}
    unsure = ~failed & (rng.random(size) < 0.1) if k != 1 else None
    selected = np.where(rng.random(size) < 0.1, np.nan, rng.random(size) < 0.4) if k == 2 else None
    return MethodResults(
        name, np.arange(size), estimands=estimands, inference_failed=unsure, selected=selected,
        truth={"v": 1.8} if k == 1 else {}, meanings={"less": "other"} if k == 2 else {}, **flags,
    )  # fmt: skip


def cases() -> dict[str, list[MethodResults]]:
    no = np.zeros(5, dtype=bool)
    small = {
        "other replicates": [_cut(m, slice(40, None)) if m.name == "b/z" else m for m in results(120, 2, holes=True)],
        "constant": results(20, 3, holes=False, constant=True),
        **{f"{n}": results(n, 4 + n, holes=False) for n in (1, 2, 3)},
        "none": [
            replace(m, failed=~no, converged=no, singular=no, inference_failed=None) for m in results(5, 9, holes=False)
        ],
    }
    few = {
        case: [replace(m, estimands={name: m.estimands[name] for name in FEW}) for m in methods[:2]]
        for case, methods in small.items()
    }
    return {"all": results(300, 1, holes=True, priors=True), **few}


def _cut(m: MethodResults, rows: slice) -> MethodResults:
    columns = ("estimate", "se", "df", "lower", "upper", "p", "truth")
    estimands = {
        name: replace(e, **{c: v[rows] if np.ndim(v := getattr(e, c)) else v for c in columns})
        for name, e in m.estimands.items()
    }
    flags = {
        f: None if (v := getattr(m, f)) is None else v[rows]
        for f in ("converged", "singular", "failed", "inference_failed")
    }
    return replace(m, replicate=m.replicate[rows], estimands=estimands, **flags)


def rows_now() -> Iterator[tuple[str, ...]]:
    """(case, path, method, estimand, subset, measure, value, mcse, n, successes, missing)."""
    for case, methods in cases().items():
        for mcse in ("distribution-free", "morris"):
            made = {"replicates": measure(methods, TRUTH, mcse=mcse)}
            if len({len(m.replicate) for m in methods}) == 1:
                own = {m.name: m.truth for m in methods}
                made["sums"] = measure_sums(collect(methods, TRUTH).total(), TRUTH, mcse=mcse, own=own)
            for path, rows in made.items():
                for r in rows:
                    m = r.measured
                    missing = math.nan if r.missing is None else r.missing
                    where = (case, f"{path} {mcse}", r.method, r.estimand, r.subset, m.measure)
                    if mcse != "morris" or m.measure in TABLE_6:
                        yield (*where, *map(float, (m.value, m.mcse, m.n, m.successes, missing)))
        for d in compare(methods, TRUTH):
            where = (case, "paired", f"{d.method} - {d.reference}", d.estimand, "", d.measure)
            low, high = d.limits or (math.nan, math.nan)
            yield (*where, *map(float, (d.value, d.mcse, d.n, d.gained, d.missing)))
            yield (*where, *map(float, (d.reference_value, d.unpaired_mcse, low, d.lost, high)))
        table = as_table(compare(methods, TRUTH))
        assert table["measure"].tolist() == [d.measure for d in compare(methods, TRUTH)]


def by_case(rows) -> dict[tuple[str, str], list[tuple]]:
    found: dict[tuple[str, str], list[tuple]] = {}
    for row in rows:
        found.setdefault((row[0], row[1]), []).append(tuple(row[2:]))
    return found


def frozen() -> dict[tuple[str, str], list[tuple]]:
    with FROZEN.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return by_case((*row[:6], *(float(v) if v else math.nan for v in row[6:])) for row in rows)


THEN = frozen() if FROZEN.exists() else {}


@pytest.fixture(scope="module")
def now():
    return by_case(rows_now())


@pytest.mark.parametrize("case", THEN, ids=" ".join)
def test_measures_are_the_frozen_ones(now, case):
    known = {row[3] for row in THEN[case]}
    rows = [row for row in now[case] if row[3] in known]
    assert [row[:4] for row in rows] == [row[:4] for row in THEN[case]], "which measures there are, and their order"
    for row, then in zip(rows, THEN[case], strict=True):
        scale = 100.0 if row[3] in PERCENT else 1e6 if row[1] == "big" else 0.0
        found, wanted = np.array(row[4:]), np.array(then[4:])
        assert np.isfinite(found).tolist() == np.isfinite(wanted).tolist(), (case, row[:4], found, wanted)
        limit = 1e-8 if row[3].startswith("power_") else LIMIT  # they are found by iterations
        if row[3] == "relprec" and case[1].endswith("morris") and row[4 + 2] == 2:
            found[1], wanted[1] = round(found[1], 4), round(wanted[1], 4)  # 0: two points have a correlation of 1
        np.testing.assert_allclose(found, wanted, rtol=limit, atol=LIMIT * scale + 1e-15, err_msg=f"{case} {row[:4]}")


def test_all_that_can_be_measured_was_frozen():
    assert {case[1].split()[0] for case in THEN} == {"replicates", "sums", "paired"}
    whole = [row[3] for row in THEN["all", "replicates distribution-free"]]
    assert len(set(whole)) == 27


if __name__ == "__main__":
    with FROZEN.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            ("case", "path", "method", "estimand", "subset", "measure", "value", "mcse", "n", "successes", "missing")
        )
        for row in rows_now():
            writer.writerow((*row[:6], *("" if v != v else f"{v:.15g}" for v in row[6:])))
