"""Least squares on rows with several factors, against regressions with dummies, statsmodels, dense formulas and clubSandwich."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from nestlab.fit.inference import Hypotheses
from nestlab.fit.lmm import pairs
from nestlab.fit.rivals.absorb import Dummies
from nestlab.fit.rivals.multiway import Robust
from nestlab.fit.rivals.regression import Regressed, absorbed_terms, regress
from nestlab.fit.rivals.rows import CrossedRows
from nestlab.fit.status import Status

GOLDEN = Path(__file__).parents[1] / "golden"
N, REPLICATES = 90, 4


def sparse(seed: int = 3, replicates: int = REPLICATES) -> CrossedRows:
    """Unbalanced: 8 schools x 12 neighbourhoods, most of the cells empty; x varies by row, w by neighbourhood, z by school."""
    rng = np.random.default_rng(seed)
    school = rng.integers(8, size=N)
    hood = (school + rng.integers(5, size=N)) % 12
    x, w, z = rng.normal(size=N) + school % 3, rng.normal(size=12)[hood], rng.normal(size=8)[school]
    X = np.stack([np.ones(N), x, w, z])
    effects = rng.normal(size=(8, replicates))[school] + rng.normal(size=(12, replicates))[hood]
    y = 5.0 + 0.3 * x[:, None] + effects + rng.normal(size=(N, replicates))
    return CrossedRows(X[:, :, None], y, {"school": school, "hood": hood})


def unpacked(packed: np.ndarray, p: int) -> np.ndarray:
    V = np.empty((p, p))
    for value, (i, k) in zip(packed, pairs(p), strict=True):
        V[i, k] = V[k, i] = value
    return V


def dense(
    X: np.ndarray, y: np.ndarray, factors: list[np.ndarray], kind: str, kept: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The robust covariance of coefficients `kept`, their Satterthwaite df and, last, the eta of all of them at once, from N x N
    matrices and quadratic forms."""
    M = np.linalg.pinv(X.T @ X)
    residual_maker = np.eye(len(X)) - X @ M @ X.T
    parameters = np.linalg.matrix_rank(X)
    e, forms = residual_maker @ y, np.zeros((len(kept), len(kept), len(X), len(X)))
    for size in range(1, len(factors) + 1):
        for chosen in combinations(factors, size):
            labels = pd.Series(list(zip(*chosen, strict=True))).factorize()[0]
            J = labels.max() + 1
            factor = {"CR1": J / (J - 1), "CR1S": J * (len(X) - 1) / ((J - 1) * (len(X) - parameters))}.get(kind, 1.0)
            for j in range(J):
                rows = np.flatnonzero(labels == j)
                A = np.eye(len(rows))
                if kind == "CR2":
                    values, vectors = np.linalg.eigh(residual_maker[np.ix_(rows, rows)])
                    A = (vectors * np.where(values > 1e-12, np.maximum(values, 1e-12) ** -0.5, 0.0)) @ vectors.T
                t = np.zeros((len(kept), len(X)))
                t[:, rows] = (M @ X.T)[np.ix_(kept, rows)] @ A
                forms += (1 if size % 2 else -1) * factor * np.einsum("am,bn->abmn", t, t)
    V = np.einsum("m,abmn,n->ab", e, forms, e)
    df = []
    for a in range(len(kept)):
        B = residual_maker @ forms[a, a] @ residual_maker
        df.append(np.trace(B) ** 2 / (B * B).sum())
    B = residual_maker @ forms @ residual_maker
    root = np.linalg.inv(np.linalg.cholesky(np.einsum("abnn->ab", B)))
    B = np.einsum("ia,jb,abnm->ijnm", root, root, B, optimize=True)
    B = (B + B.transpose(0, 1, 3, 2)) / 2  # a quadratic form's matrix is symmetric: Var(e'B e) = 2 tr(B B)
    df.append(len(kept) * (len(kept) + 1) / (2 * np.einsum("ijnm,ijnm->", B, B)))
    return V, np.array(df)


def test_joint_tests_by_several_factors_have_hotellings_df():
    rows = sparse(replicates=1)
    hypotheses = Hypotheses.of(4, [np.eye(4)[[1, 2]]])
    for clustered in (("school",), ("school", "hood")):
        found = regress(rows, hypotheses, robust=Robust("CR2", clustered))
        _, df = dense(rows.X[:, :, 0].T, rows.y[:, 0], [rows.codes[name] for name in clustered], "CR2", [1, 2])
        eta = df[-1]
        assert found.robust.df[0, 4] == pytest.approx(eta - 1, rel=1e-8)
        assert found.robust.scale[0, 4] == pytest.approx((eta - 1) / eta, rel=1e-8)
        spared = regress(rows, hypotheses, robust=Robust("CR2", clustered, satterthwaite=False))
        assert (spared.robust.df == np.inf).all()
        np.testing.assert_array_equal(spared.robust.vcov, found.robust.vcov)
        rules = spared.by_rule(hypotheses, ["clusters"])
        assert (rules["clusters"].df[0] == 7).all()


def test_a_treatment_with_one_cluster_per_arm_has_no_robust_error():
    """Residuals sum to 0 in each arm: the scores are 0 whatever the data."""
    rows = sparse()
    treated = (rows.codes["school"] % 2) * 1.0
    codes = {"arm": rows.codes["school"] % 2, "hood": rows.codes["hood"]}
    one = CrossedRows(np.stack([np.ones(N), treated])[:, :, None], rows.y, codes)
    for kind in ("CR0", "CR2"):
        for satterthwaite in (True, False):
            found = regress(one, Hypotheses.of(2), robust=Robust(kind, ("arm",), satterthwaite=satterthwaite))
            assert (found.fits.status == Status.ok).all()
            assert np.isnan(found.robust.df[:, 1]).all()
            rules = found.by_rule(Hypotheses.of(2), ["clusters", "z"])
            assert np.isnan(rules["clusters"].df[:, 1]).all()
            assert np.isnan(rules["z"].df[:, 1]).all()


def test_labels_and_the_order_of_rows_change_nothing():
    rows = sparse()
    order = np.random.default_rng(7).permutation(N)
    labels = np.array([50, 3, 77, 12, 8, -4, 9, 31, 500_000_000, 41, 0, 6])
    names = {name: labels[codes][order] for name, codes in rows.codes.items()}
    moved = CrossedRows(rows.X[:, order], rows.y[order] + 10.0, names)
    for absorbed, terms in (((), [0, 1, 2, 3]), (("school", "hood"), [1])):
        robust, hypotheses = Robust("CR2", ("school", "hood")), Hypotheses.of(len(terms))
        one = regress(CrossedRows(rows.X[terms], rows.y, rows.codes), hypotheses, absorbed=absorbed, robust=robust)
        two = regress(CrossedRows(moved.X[terms], moved.y, names), hypotheses, absorbed=absorbed, robust=robust)
        beta = one.fits.beta + (0.0 if absorbed else np.eye(4)[0] * 10.0)
        np.testing.assert_allclose(two.fits.beta, beta, rtol=1e-9)
        np.testing.assert_allclose(two.robust.vcov, one.robust.vcov, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(two.robust.df, one.robust.df, rtol=1e-8)


def dummies_of(rows: CrossedRows, absorbed: tuple[str, ...]) -> np.ndarray:
    return np.hstack([np.eye(rows.codes[name].max() + 1)[rows.codes[name]] for name in absorbed])


def test_least_squares_is_that_of_statsmodels():
    rows = sparse()
    found = regress(rows, Hypotheses.of(4, [np.array([[0.0, 1.0, -1.0, 0.0]])]))
    for r in range(REPLICATES):
        model = sm.OLS(rows.y[:, r], rows.X[:, :, 0].T).fit()
        np.testing.assert_allclose(found.fits.beta[r], model.params, rtol=1e-10)
        np.testing.assert_allclose(unpacked(found.fits.vcov[r], 4), model.cov_params(), rtol=1e-10)
        np.testing.assert_allclose(found.fits.sigma2[r], model.scale, rtol=1e-12)
    rules = found.by_rule(Hypotheses.of(4), ["residual", "z"])
    assert (rules["residual"].df == N - 4).all()
    assert (rules["z"].df == np.inf).all()


@pytest.mark.parametrize(("kind", "corrected"), [("CR0", False), ("CR1S", True)])
def test_two_way_errors_are_those_of_statsmodels(kind, corrected):
    rows = sparse()
    found = regress(rows, Hypotheses.of(4), robust=Robust(kind, ("school", "hood")))
    for r in range(REPLICATES):
        model = sm.OLS(rows.y[:, r], rows.X[:, :, 0].T).fit()
        V, *_ = cov_cluster_2groups(model, rows.codes["school"], rows.codes["hood"], use_correction=corrected)
        np.testing.assert_allclose(unpacked(found.robust.vcov[r], 4), V, rtol=1e-9, atol=1e-12)
    assert (found.sizes.clusters == 8).all()
    rules = found.by_rule(Hypotheses.of(4), ["clusters", "residual"])
    assert (rules["clusters"].df == 7).all()
    assert (rules["residual"].df == N - 4).all()


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR1S", "CR2"])
@pytest.mark.parametrize("clustered", [("school",), ("hood",), ("school", "hood"), ("school", "hood", "third")])
@pytest.mark.parametrize("absorbed", [(), ("school",), ("school", "hood")])
def test_robust_errors_against_dense_matrices(kind, clustered, absorbed):
    rows = sparse(replicates=2)
    third = np.random.default_rng(8).integers(3, size=N)
    terms = {(): [0, 1, 2, 3], ("school",): [1, 2], ("school", "hood"): [1]}[absorbed]
    rows = CrossedRows(rows.X[terms], rows.y, {**rows.codes, "third": third})
    found = regress(rows, Hypotheses.of(len(terms)), absorbed=absorbed, robust=Robust(kind, clustered))
    X = rows.X[:, :, 0].T
    if absorbed:
        X = np.hstack([X, dummies_of(rows, absorbed)])
    for r in range(2):
        V, df = dense(X, rows.y[:, r], [rows.codes[name] for name in clustered], kind, list(range(len(terms))))
        np.testing.assert_allclose(unpacked(found.robust.vcov[r], len(terms)), V, rtol=1e-8, atol=1e-10)
        if kind in ("CR0", "CR2"):
            np.testing.assert_allclose(found.robust.df[r], df[:-1], rtol=1e-7)


@pytest.mark.parametrize("absorbed", [("school",), ("hood", "school"), ("school", "hood", "third")])
def test_absorbed_factors_are_dummies(absorbed):
    rows = sparse()
    third = np.random.default_rng(8).integers(3, size=N)
    rows = CrossedRows(rows.X, rows.y, {**rows.codes, "third": third})
    gone = absorbed_terms(rows.alone(np.array([0])), absorbed)
    assert gone == ((0, 3) if absorbed == ("school",) else (0, 2, 3))
    left = [k for k in range(4) if k not in gone]
    rows = CrossedRows(rows.X[left], rows.y, rows.codes)
    found = regress(rows, Hypotheses.of(len(left)), absorbed=absorbed)
    X = np.hstack([rows.X[:, :, 0].T, dummies_of(rows, absorbed)])
    rank = np.linalg.matrix_rank(X)
    for r in range(REPLICATES):
        beta = np.linalg.lstsq(X, rows.y[:, r], rcond=None)[0]
        rss = ((rows.y[:, r] - X @ beta) ** 2).sum()
        np.testing.assert_allclose(found.fits.beta[r], beta[: len(left)], rtol=1e-9)
        np.testing.assert_allclose(found.fits.sigma2[r], rss / (N - rank), rtol=1e-10)
        V = rss / (N - rank) * np.linalg.pinv(X.T @ X)[: len(left), : len(left)]
        np.testing.assert_allclose(unpacked(found.fits.vcov[r], len(left)), V, rtol=1e-8)
    assert (found.sizes.fixed == rank).all()


def test_disconnected_crossings_lose_one_dummy_per_part():
    school = np.repeat([0, 0, 1, 1, 2, 3], 3)
    hood = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3])
    dummies = Dummies.of([school, hood])
    D = np.hstack([np.eye(4)[school], np.eye(4)[hood]])
    assert dummies.rank == np.linalg.matrix_rank(D) == 6
    y = np.random.default_rng(1).normal(size=(2, 18))
    np.testing.assert_allclose(dummies.off(y), y - y @ D @ np.linalg.pinv(D), atol=1e-12)
    np.testing.assert_allclose(dummies.basis @ dummies.basis.T, np.eye(6), atol=1e-12)


def test_nested_factors_are_clustered_by_the_outer_one():
    """School, class in school: the class's own term and that of the crossing cancel."""
    rows = sparse()
    nested = CrossedRows(
        rows.X, rows.y, {"school": rows.codes["school"], "class": rows.codes["school"] * 12 + rows.codes["hood"]}
    )
    both = regress(nested, Hypotheses.of(4), robust=Robust("CR2", ("class", "school")))
    outer = regress(nested, Hypotheses.of(4), robust=Robust("CR2", ("school",)))
    np.testing.assert_array_equal(both.robust.vcov, outer.robust.vcov)
    np.testing.assert_array_equal(both.robust.df, outer.robust.df)


# -- clubSandwich -------------------------------------------------------------------------------------------------------------


REFERENCE = {each["id"]: each for each in json.loads((GOLDEN / "clubsandwich.json").read_text())}


CASES = [(case, model) for case in ("13_cross", "21_cross", "edge") for model in ("ols", "fixed_effects")] + [
    ("03_trt", "ols")
]


@pytest.mark.parametrize(("case", "model"), CASES)
def test_one_factor_is_clubsandwichs(case, model):
    reference = REFERENCE[case][model]
    data = pd.read_csv(GOLDEN / f"{case}.csv")
    columns = {"(Intercept)": np.ones(len(data))} | {
        name: data[name].to_numpy(float) for name in data.columns if name != "g"
    }
    X = np.array([np.prod([columns[part] for part in name.split(":")], axis=0) for name in reference["names"]])
    p, joint = len(X), len(X) > 2
    hypotheses = Hypotheses.of(p, [np.eye(p)[1:]] if joint and model == "ols" else [])
    rows = CrossedRows(X[:, :, None], data["y"].to_numpy()[:, None], {"g": data["g"].to_numpy()})
    absorbed = ("g",) if model == "fixed_effects" else ()
    for kind in ("CR0", "CR1", "CR1S", "CR2"):
        found = regress(rows, hypotheses, absorbed=absorbed, robust=Robust(kind, ("g",)))
        se = [np.sqrt(found.robust.vcov[0, k]) for k, (i, j) in enumerate(pairs(p)) if i == j]
        np.testing.assert_allclose(se, reference[kind]["se"], rtol=1e-7)
        np.testing.assert_allclose(found.robust.df[0, :p], reference[kind]["df"], rtol=1e-6)
        if len(hypotheses) > p and "htz" in reference[kind]:
            np.testing.assert_allclose(found.robust.df[0, p], reference[kind]["htz"]["df"], rtol=1e-6)
            rules = found.by_rule(hypotheses, ["bell-mccaffrey"])
            p_value = rules["bell-mccaffrey"].joint_p(p, hypotheses[p], found.fits.beta)[0]
            assert p_value == pytest.approx(reference[kind]["htz"]["p"], rel=1e-5)


# -- replicates ---------------------------------------------------------------------------------------------------------------


def equal(left: Regressed, right: Regressed, of: slice) -> None:
    for name in ("status", "beta", "vcov", "sigma2"):
        np.testing.assert_array_equal(getattr(left.fits, name), getattr(right.fits, name)[of])
    for name in ("vcov", "df", "scale"):
        np.testing.assert_array_equal(getattr(left.robust, name), getattr(right.robust, name)[of])


@pytest.mark.parametrize("absorbed", [(), ("school", "hood")])
def test_a_replicate_does_not_depend_on_its_neighbours(absorbed):
    """Digit by digit: alone, among others, and where X, levels and rows are given for each replicate."""
    rows = sparse(replicates=5)
    terms = [1] if absorbed else [0, 1, 2, 3]
    rows = CrossedRows(rows.X[terms], rows.y, rows.codes)
    robust, hypotheses = Robust("CR2", ("school", "hood")), Hypotheses.of(len(terms))
    together = regress(rows, hypotheses, absorbed=absorbed, robust=robust)
    alone = regress(CrossedRows(rows.X, rows.y[:, 2:3], rows.codes), hypotheses, absorbed=absorbed, robust=robust)
    equal(alone, together, slice(2, 3))
    given = CrossedRows(
        np.repeat(rows.X, 5, axis=2), rows.y, {name: np.repeat(c[:, None], 5, axis=1) for name, c in rows.codes.items()},
        np.ones((N, 5), dtype=bool),
    )  # fmt: skip
    equal(regress(given, hypotheses, absorbed=absorbed, robust=robust), together, slice(None))
    own = CrossedRows(given.X, rows.y, rows.codes)
    equal(regress(own, hypotheses, absorbed=absorbed, robust=robust), together, slice(None))


def test_replicates_with_their_own_x_do_not_depend_on_their_neighbours():
    """Designs side by side, one of them without full rank, are those of each replicate alone."""
    rows = sparse(replicates=70)
    X = rows.X + np.random.default_rng(9).normal(size=(4, N, 70)) * np.array([0.0, 1.0, 0.0, 0.0])[:, None, None]
    X[1, :, 3] = 2.0
    hypotheses = Hypotheses.of(4, [np.eye(4)[[1, 2]]])
    robust = Robust("CR2", ("school", "hood"))
    together = regress(CrossedRows(X, rows.y, rows.codes), hypotheses, robust=robust)
    assert together.fits.status[3] == Status.rank_deficient
    assert np.isnan(together.fits.beta[3]).all()
    assert np.isnan(together.robust.df[3]).all()
    for r in (0, 2, 3, 4, 65):
        alone = CrossedRows(X[:, :, r : r + 1], rows.y[:, r : r + 1], rows.codes)
        equal(regress(alone, hypotheses, robust=robust), together, slice(r, r + 1))


def test_missing_rows_are_left_out():
    rows = sparse()
    kept = np.random.default_rng(2).random((N, REPLICATES)) < 0.8
    found = regress(
        CrossedRows(rows.X, rows.y, rows.codes, kept), Hypotheses.of(4), robust=Robust("CR1", ("school", "hood"))
    )
    for r in range(REPLICATES):
        own = kept[:, r]
        part = CrossedRows(rows.X[:, own], rows.y[own, r : r + 1], {name: c[own] for name, c in rows.codes.items()})
        equal(regress(part, Hypotheses.of(4), robust=Robust("CR1", ("school", "hood"))), found, slice(r, r + 1))
    assert (found.sizes.rows == kept.sum(axis=0)).all()


def test_constants_far_from_zero_cost_no_digits():
    rows = sparse()
    far = CrossedRows(rows.X + np.array([0.0, 1e5, 0.0, 0.0])[:, None, None], rows.y + 1e6, rows.codes)
    robust = Robust("CR2", ("school", "hood"))
    near, found = (regress(each, Hypotheses.of(4), robust=robust) for each in (rows, far))
    np.testing.assert_allclose(found.fits.beta[:, 1:], near.fits.beta[:, 1:], rtol=1e-6)
    np.testing.assert_allclose(found.robust.vcov[:, 2], near.robust.vcov[:, 2], rtol=1e-6)


# -- what has no answer -------------------------------------------------------------------------------------------------------


def test_statuses():
    rows = sparse()
    twice = CrossedRows(np.concatenate([rows.X, rows.X[1:2] * 2]), rows.y, rows.codes)
    assert (regress(twice, Hypotheses.of(5)).fits.status == Status.rank_deficient).all()
    assert (regress(rows, Hypotheses.of(4), absorbed=("school",)).fits.status == Status.rank_deficient).all()
    y = rows.y.copy()
    y[:, 0], y[3, 1], y[4, 1] = rows.X[:, :, 0].T @ np.arange(4), np.nan, np.inf
    y[:, 2] = 1e6
    found = regress(CrossedRows(rows.X, y, rows.codes), Hypotheses.of(4), robust=Robust("CR1", ("school",)))
    assert found.fits.status.tolist() == [Status.nonfinite] * 3 + [Status.ok]
    assert np.isnan(found.fits.beta[:3]).all()
    assert np.isnan(found.robust.vcov[:3]).all()
    assert np.isfinite(found.robust.vcov[3]).all()


def test_a_negative_variance_has_no_standard_error_unless_it_is_repaired():
    """A cross of two factors in which residuals cancel by school and by neighbourhood, but not by cell."""
    school, hood = np.repeat([0, 1], 8), np.tile(np.repeat([0, 1], 4), 2)
    x = np.tile([1.0, -1.0, 1.0, -1.0], 4)
    checker = np.where(school == hood, 1.0, -1.0) * x
    noise = np.random.default_rng(5).normal(size=16) * 0.01
    rows = CrossedRows(
        np.stack([np.ones(16), x])[:, :, None], (checker + noise)[:, None], {"school": school, "hood": hood}
    )
    hypotheses = Hypotheses.of(2)
    found = regress(rows, hypotheses, robust=Robust("CR0", ("school", "hood")))
    assert found.fits.status[0] == Status.ok
    assert found.robust.vcov[0, 2] < 0
    assert not found.repaired[0]
    rules = found.by_rule(hypotheses, ["z"])
    assert np.isnan(rules["z"].se(np.array([0.0, 1.0]))[0])
    mended = regress(rows, hypotheses, robust=Robust("CR0", ("school", "hood"), repair=True))
    assert mended.repaired[0]
    assert np.linalg.eigvalsh(unpacked(mended.robust.vcov[0], 2)).min() > -1e-15


def test_one_cluster_has_no_robust_error():
    rows = sparse()
    one = CrossedRows(rows.X[:3], rows.y, {"school": np.zeros(N, dtype=int), "hood": rows.codes["hood"]})
    found = regress(one, Hypotheses.of(3), robust=Robust("CR1", ("school", "hood")))
    assert np.isnan(found.robust.vcov).all()
    assert (found.fits.status == Status.ok).all()
