"""Strata: structure, drawing, and fits against those of the rows of the same data (`fit.several`)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nestlab.fit.inference import Hypotheses
from nestlab.fit.problem import symmetric
from nestlab.fit.several.model import fit_factors
from nestlab.fit.several.products import FactorColumns
from nestlab.fit.status import Status
from nestlab.fit.strata.model import covariance_of_variances, fit_cells, infer_cells
from nestlab.fit.strata.plan import CellEffect, CellTerm, compile_cells
from nestlab.simulate.strata.cells import Multiplier, cell_design, reduce_cells
from nestlab.simulate.strata.structure import find_strata

RULES = ["satterthwaite", "kenward-roger", "between-within", "residual"]


def crossing(*levels: int):
    """Codes of crossed factors."""
    return [np.array(c) for c in zip(*product(*map(range, levels)), strict=True)]


class Case:
    """Codes of factors, rows D, multipliers (codes and values, None: redrawn), fixed effects and random terms."""

    def __init__(self, codes, D, multipliers, effects, terms):
        one = Multiplier.one(len(codes[0]))
        self.multipliers = [one, *(Multiplier.of(*m) for m in multipliers)]
        self.design = cell_design(find_strata(codes), D, self.multipliers)
        self.codes, self.D = codes, np.asarray(D, float)
        self.effects = [CellEffect(np.asarray(c, float), m) for c, m in effects]
        self.terms = [CellTerm(f, np.asarray(A, float)) for f, A in terms]

    def plan(self, reml, **options):
        return compile_cells(self.design, self.effects, self.terms, reml=reml, **options)

    def rows(self, r, R, drawn):
        """Multipliers, response and columns of replicate r as rows."""
        values = [
            (drawn[k][:, r] if m.values is None else m.values)[m.partition.codes]
            for k, m in enumerate(self.multipliers)
        ]
        X = np.stack([np.outer(values[e.multiplier], self.D @ e.combination).ravel() for e in self.effects], axis=1)
        factors: dict[int, list] = {}
        for t in self.terms:
            factors.setdefault(t.factor, []).append(np.tile(self.D @ t.columns, (len(self.codes[0]), 1)))
        n = len(self.D)
        return X, [
            FactorColumns(
                np.repeat(self.codes[f], n), int(self.codes[f].max()) + 1, np.hstack(Z), tuple(z.shape[1] for z in Z)
            )
            for f, Z in factors.items()
        ]

    def drawn_multipliers(self, rng, R):
        return {k: rng.normal(size=(m.partition.levels, R)) for k, m in enumerate(self.multipliers) if m.values is None}

    def responses(self, rng, R, size=1.0):
        """y (cells, n, R), random effects of sd `size` on all columns of the terms."""
        y = rng.normal(size=(len(self.codes[0]), len(self.D), R))
        for t in self.terms:
            u = size * rng.normal(size=(int(self.codes[t.factor].max()) + 1, t.columns.shape[1], R))
            y += np.einsum("na,jar->jnr", self.D @ t.columns, u[self.codes[t.factor]])
        return y


PAIR = np.array([[1.0, -0.5], [1.0, 0.5]])
FOUR = np.array([[1, a, b, 4 * a * b] for a in (-0.5, 0.5) for b in (-0.5, 0.5)])
TREND = np.column_stack([np.ones(5), [0.0, 1, 2, 3, 5], np.cos(np.arange(5.0))])
ONE, SLOPE = np.eye(2)[:, :1], np.eye(2)
SUBJECT, ITEM = crossing(12, 6)
SCHOOL, CLASS = np.repeat(np.arange(8), 3), np.arange(24)
CASES = {
    "crossed intercepts": lambda: Case([SUBJECT, ITEM], PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, ONE), (1, ONE)]),
    "crossed maximal": lambda: Case([SUBJECT, ITEM], PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, SLOPE), (1, SLOPE)]),
    "crossed, uncorrelated": lambda: Case(
        [SUBJECT, ITEM], PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, ONE), (0, SLOPE[:, 1:]), (1, ONE)]
    ),
    "crossed, a covariate of subjects": lambda: Case(
        [SUBJECT, ITEM], PAIR, [(SUBJECT, np.sin(np.arange(12.0)))], [([1, 0], 0), ([0, 1], 0), ([1, 0], 1), ([0, 1], 1)],
        [(0, SLOPE), (1, ONE)],
    ),
    "crossed 2 x 2, maximal": lambda: Case(
        crossing(14, 12), FOUR, [], [(row, 0) for row in np.eye(4)], [(0, np.eye(4)), (1, np.eye(4))]
    ),
    "different slopes": lambda: Case(
        [SUBJECT, ITEM], TREND, [], [(row, 0) for row in np.eye(3)], [(0, np.eye(3)[:, [0, 1]]), (1, np.eye(3)[:, [0, 2]])]
    ),
    "three levels, treated schools": lambda: Case(
        [SCHOOL, CLASS], np.ones((4, 1)), [(SCHOOL, np.arange(8) % 2 - 0.5)], [([1], 0), ([1], 1)], [(0, [[1]]), (1, [[1]])]
    ),
    "three levels, slope": lambda: Case(
        [SCHOOL, CLASS], TREND[:, :2], [], [([1, 0], 0), ([0, 1], 0)], [(0, SLOPE), (1, ONE)]
    ),
    "three levels, slopes": lambda: Case(
        [SCHOOL, CLASS], TREND[:, :2], [], [([1, 0], 0), ([0, 1], 0)], [(1, SLOPE), (0, SLOPE)]
    ),
    "three levels, redrawn covariate of classes": lambda: Case(
        [SCHOOL, CLASS], TREND[:, :2], [(CLASS, None)], [([1, 0], 0), ([0, 1], 0), ([1, 0], 1)], [(0, ONE), (1, ONE)]
    ),
    "one factor of two": lambda: Case([SUBJECT, ITEM], PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, SLOPE)]),
    "three crossed factors": lambda: Case(
        crossing(6, 5, 4), PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, ONE), (1, SLOPE), (2, ONE)]
    ),
    "classes x items": lambda: Case(
        [(c := crossing(15, 4))[0] // 3, c[0], c[1]], PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, ONE), (1, ONE), (2, SLOPE)]
    ),
}  # fmt: skip


def compared(case, reml, R, size=1.0, seed=1):
    """Fits of strata and, replicate by replicate, of rows."""
    rng = np.random.default_rng(seed)
    y, drawn = case.responses(rng, R, size), case.drawn_multipliers(rng, R)
    statistics = reduce_cells(case.design, y, drawn)
    plan = case.plan(reml)
    theirs = []
    for r in range(R):
        X, factors = case.rows(r, R, drawn)
        theirs.append((fit_factors(factors, X, y[:, :, r].ravel(), reml=reml), X, y[:, :, r].ravel()))
    return plan, statistics, fit_cells(plan, statistics, 0, R), theirs


def in_order(case, model):
    """The covariances of the terms, as the case orders them."""
    by_factor = [
        k for f in dict.fromkeys(t.factor for t in case.terms) for k, t in enumerate(case.terms) if t.factor == f
    ]
    found = [None] * len(case.terms)
    for k, T in zip(by_factor, model.covariances(), strict=True):
        found[k] = T @ T.T * model.sigma2 * model.scale**2
    return found


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_fits_and_inference_are_those_of_rows(name, reml):
    case = CASES[name]()
    R = 3 if "2 x 2" in name else 6
    plan, statistics, fits, theirs = compared(case, reml, R)
    p = plan.p
    contrasts = [np.eye(p)[[i]] for i in range(p)] + ([np.eye(p)] if p > 1 else [])
    rules = RULES if reml else [r for r in RULES if r != "kenward-roger"]
    ours = infer_cells(plan, statistics, fits, 0, R, Hypotheses.of(p, contrasts), rules)
    refit = infer_cells(plan, statistics, fits, 0, R, Hypotheses.of(p), ["satterthwaite"], singular_df="refit")
    variances = covariance_of_variances(plan, statistics, fits, 0, R)
    for r, (model, X, y) in enumerate(theirs):
        assert fits.status[r] == model.optimum.status
        assert fits.deviance[r] == pytest.approx(model.neg2loglik, abs=1e-8)
        back = model.back * model.scale
        beta = np.linalg.lstsq(X, y, rcond=None)[0] + back @ model.beta
        np.testing.assert_allclose(fits.beta[r], beta, atol=1e-7 * fits.se[r].max())
        np.testing.assert_allclose(symmetric(p, fits.vcov[r]), back @ model.vcov @ back.T, rtol=1e-6, atol=1e-9)
        assert fits.sigma2[r] == pytest.approx(model.sigma2 * model.scale**2, rel=1e-7)
        V, first = symmetric(plan.q, fits.varcomp[r]), 0
        for G in in_order(case, model):
            own = slice(first, first + len(G))
            np.testing.assert_allclose(V[own, own], G, atol=2e-6 * (1 + np.abs(G).max()))
            V[own, own] = 0.0
            first += len(G)
        assert not V.any()
        for rule in rules:
            found = model.infer(rule, "lmertest", contrasts)
            np.testing.assert_allclose(ours[rule].df[r, p:], found.df[0], rtol=2e-5)
            np.testing.assert_allclose(ours[rule].scale[r, p:], found.scale[0], rtol=1e-5)
            vcov = back @ symmetric(p, found.vcov[0]) @ back.T
            np.testing.assert_allclose(symmetric(p, ours[rule].vcov[r]), vcov, rtol=1e-5, atol=1e-8)
        found = model.infer("satterthwaite", "refit", contrasts[:p])
        np.testing.assert_allclose(refit["satterthwaite"].df[r], found.df[0], rtol=2e-5)
        k = fits.varcomp.shape[1]
        ses = np.sqrt(np.diag(symmetric(k + 1, variances[r])))
        if all(t.factor >= s.factor for s, t in zip(case.terms, case.terms[1:], strict=False)):
            expected, residual = model.variances().ses
            diagonal = [i * (i + 3) // 2 for i in range(plan.q)]
            np.testing.assert_allclose(ses[diagonal], np.concatenate(expected), rtol=1e-5)
            assert ses[k] == pytest.approx(residual, rel=1e-5)


def dense_deviance(X, factors, y, V, sigma2, sizes, *, reml):
    """The (restricted) deviance of rows at given covariances of the terms, in the order of the factors' columns, and s2."""
    N, p, first = *X.shape, 0
    omega = sigma2 * np.eye(N)
    for f in factors:
        G = V[first : first + f.q, first : first + f.q]
        omega += (f.Z @ G @ f.Z.T) * (f.codes[:, None] == f.codes)
        first += f.q
    inverse = np.linalg.inv(omega)
    S = X.T @ inverse @ X
    r = y - X @ np.linalg.solve(S, X.T @ inverse @ y)
    value = np.linalg.slogdet(omega)[1] + r @ inverse @ r + (N - p * reml) * np.log(2 * np.pi)
    return value + (np.linalg.slogdet(S)[1] if reml else 0.0)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "name", ["crossed maximal", "three levels, slope", "three levels, redrawn covariate of classes"]
)
def test_deviance_of_a_dense_twin(name, reml):
    case, rng, R = CASES[name](), np.random.default_rng(8), 4
    y, drawn = case.responses(rng, R), case.drawn_multipliers(rng, R)
    plan = case.plan(reml)
    fits = fit_cells(plan, reduce_cells(case.design, y, drawn), 0, R)
    for r in range(R):
        X, factors = case.rows(r, R, drawn)
        V, row = symmetric(plan.q, fits.varcomp[r]), y[:, :, r].ravel()
        at = dense_deviance(X, factors, row, V, fits.sigma2[r], plan.sizes, reml=reml)
        assert fits.deviance[r] == pytest.approx(at, abs=1e-8)
        for factor in (0.98, 1.02):
            assert dense_deviance(X, factors, row, V * factor, fits.sigma2[r], plan.sizes, reml=reml) >= at - 1e-9
            assert dense_deviance(X, factors, row, V, fits.sigma2[r] * factor, plan.sizes, reml=reml) > at


def test_small_singular_data_end_where_rows_do():
    """Half of the fits lie on the boundary; statuses, deviances and degrees of freedom are those of rows all the same."""
    case = Case(crossing(6, 4), PAIR, [], [([1, 0], 0), ([0, 1], 0)], [(0, SLOPE), (1, SLOPE)])
    plan, statistics, fits, theirs = compared(case, True, 24, size=0.25, seed=5)
    df = infer_cells(plan, statistics, fits, 0, 24, Hypotheses.of(2), ["satterthwaite"])["satterthwaite"].df
    assert (fits.status == Status.singular).sum() >= 12
    for r, (model, *_) in enumerate(theirs):
        assert fits.status[r] == model.optimum.status
        assert fits.deviance[r] <= model.neg2loglik + 1e-7
        if abs(fits.deviance[r] - model.neg2loglik) < 1e-7:
            found = model.infer("satterthwaite", "lmertest", list(np.eye(2)[:, None]))
            np.testing.assert_allclose(df[r], found.df[0], rtol=1e-4)


def test_a_replicate_is_fitted_alike_in_any_company():
    case, rng, R = CASES["crossed maximal"](), np.random.default_rng(2), 37
    statistics, plan = reduce_cells(case.design, case.responses(rng, R, 0.4)), case.plan(True)
    whole, prefix, end = (fit_cells(plan, statistics, *ends) for ends in ((0, R), (0, 11), (30, R)))
    single = fit_cells(plan, statistics.subset([5]), 0, 1)
    for field in ("status", "iterations", "deviance", "beta", "vcov", "varcomp", "sigma2"):
        np.testing.assert_array_equal(getattr(prefix, field), getattr(whole, field)[:11])
        np.testing.assert_array_equal(getattr(end, field), getattr(whole, field)[30:])
        np.testing.assert_array_equal(getattr(single, field)[0], getattr(whole, field)[5])


def test_inference_of_a_part_is_that_of_the_whole():
    case, rng, R = CASES["crossed maximal"](), np.random.default_rng(2), 21
    statistics, plan, hypotheses = (
        reduce_cells(case.design, case.responses(rng, R, 0.4)),
        case.plan(True),
        Hypotheses.of(2),
    )
    fits, end = fit_cells(plan, statistics, 0, R), fit_cells(plan, statistics, 10, R)
    for singular_df in ("lmertest", "refit"):
        whole = infer_cells(plan, statistics, fits, 0, R, hypotheses, RULES, singular_df=singular_df)
        part = infer_cells(plan, statistics, end, 10, R, hypotheses, RULES, singular_df=singular_df)
        for rule in RULES:
            np.testing.assert_array_equal(part[rule].df, whole[rule].df[10:])
            np.testing.assert_array_equal(part[rule].vcov, whole[rule].vcov[10:])


def test_units_change_estimates_and_nothing_else():
    rng, R, scale = np.random.default_rng(3), 12, np.array([1.0, 1e4])
    case = CASES["crossed maximal"]()
    other = Case(case.codes, PAIR * scale, [], [([1, 0], 0), ([0, 1], 0)], [(0, SLOPE), (1, SLOPE)])
    y = case.responses(rng, R, 0.5)
    one, two = (fit_cells(c.plan(True), reduce_cells(c.design, v), 0, R) for c, v in ((case, y), (other, y * 1e-3)))
    np.testing.assert_array_equal(one.status, two.status)
    np.testing.assert_allclose(two.beta * scale, one.beta * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(two.sigma2, one.sigma2 * 1e-6, rtol=1e-6)
    np.testing.assert_allclose(two.se * scale, one.se * 1e-3, rtol=1e-5)


def test_true_effects_and_starts_are_taken():
    case, rng, R = CASES["crossed maximal"](), np.random.default_rng(4), 9
    statistics = reduce_cells(case.design, case.responses(rng, R, 0.3))
    plain = fit_cells(case.plan(False), statistics, 0, R)
    started = fit_cells(case.plan(False, start=[np.eye(2), np.eye(2) / 2], true_beta=[2.0, -1.0]), statistics, 0, R)
    np.testing.assert_array_equal(started.status, plain.status)
    np.testing.assert_allclose(started.deviance, plain.deviance, atol=1e-7)
    np.testing.assert_allclose(started.beta, plain.beta + np.array([2.0, -1.0]), atol=1e-6)


DEFICIENT = {
    "collinear random columns": lambda: Case([SUBJECT, ITEM], PAIR, [], [([1, 0], 0)], [(0, np.ones((2, 2))), (1, ONE)]),
    "collinear fixed columns": lambda: Case([SUBJECT, ITEM], PAIR, [], [([1, 0], 0), ([2, 0], 0)], [(0, ONE), (1, ONE)]),
    "as many levels as rows": lambda: Case([SCHOOL, CLASS], np.ones((1, 1)), [], [([1], 0)], [(0, [[1]]), (1, [[1]])]),
    "one level": lambda: Case([np.zeros(24, int), CLASS], np.ones((4, 1)), [], [([1], 0)], [(0, [[1]]), (1, [[1]])]),
    "a factor twice": lambda: Case([SUBJECT, ITEM], PAIR, [], [([1, 0], 0)], [(0, ONE), (0, ONE), (1, ONE)]),
    "a covariate of as many schools as effects": lambda: Case(
        [SCHOOL, CLASS], np.ones((4, 1)), [(SCHOOL, row) for row in np.eye(8)[1:]], [([1], m) for m in range(8)],
        [(0, [[1]]), (1, [[1]])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFICIENT)
def test_designs_that_tell_nothing_apart_are_rank_deficient(name):
    case, rng = DEFICIENT[name](), np.random.default_rng(6)
    fits = fit_cells(case.plan(True), reduce_cells(case.design, case.responses(rng, 5)), 0, 5)
    assert (fits.status == Status.rank_deficient).all()
    assert np.isnan(fits.beta).all()
    rules = infer_cells(
        case.plan(True),
        reduce_cells(case.design, case.responses(rng, 5)),
        fits,
        0,
        5,
        Hypotheses.of(len(case.effects)),
        RULES,
    )
    assert all(np.isnan(rule.df).all() for rule in rules.values())


@pytest.mark.parametrize("kind", ["nan", "constant", "perfect"])
def test_responses_without_noise_are_nonfinite_and_harm_no_neighbour(kind):
    case, rng = CASES["crossed maximal"](), np.random.default_rng(7)
    y = case.responses(rng, 10)
    expected = fit_cells(case.plan(True), reduce_cells(case.design, y), 0, 10)
    y[:, :, 3] = {"nan": np.nan, "constant": 0.0, "perfect": PAIR[None, :, 1] * (np.arange(72)[:, None] // 6)}[kind]
    found = fit_cells(case.plan(True), reduce_cells(case.design, y), 0, 10)
    assert found.status[3] == Status.nonfinite
    others = np.arange(10) != 3
    np.testing.assert_array_equal(found.beta[others], expected.beta[others])
