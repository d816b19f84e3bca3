"""Many replicates at once with several grouping factors: each is the fit of its own rows by other code, in any lane."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

import nestlab.fit.cross as cross
from nestlab.fit.cross import (
    CrossDesign,
    CrossMethod,
    CrossRows,
    Hypotheses,
    compile_cross,
    covariance_of_variances,
    fit,
    infer,
    way,
)  # fmt: skip
from nestlab.fit.cross import fits as fits_module
from nestlab.fit.inference import SINGULAR_DF
from nestlab.fit.lanes import LANES
from nestlab.fit.lmm import Fits, congruent, pairs
from nestlab.fit.several.model import fit_factors
from nestlab.fit.several.products import FactorColumns
from nestlab.fit.status import Status
from several_oracle import Dense

R = 11
BY_TERM = ["z", "residual", "between-within", "satterthwaite"]


def effects(rng, codes, levels, sd):
    return sd * rng.normal(size=(levels, R))[codes]


def crossed(rng, *, slopes=False, missing=0.1, sd=0.7, sizes=(12, 7, 2), reml=True):
    J, K, n = sizes
    a, b = np.repeat(np.arange(J), K * n), np.tile(np.repeat(np.arange(K), n), J)
    N = len(a)
    x, c = rng.normal(size=(N, R)), (np.arange(N) % 2) - 0.5
    y = effects(rng, a, J, sd) + effects(rng, b, K, sd) + rng.normal(size=(N, R)) + 0.3 * x
    y += slopes * c[:, None] * effects(rng, a, J, sd)
    kept = rng.random((J, K, R))[a, b] >= missing if missing else None
    columns = (0, 2) if slopes else (0,)
    method = CrossMethod(((0, columns), (1, columns)), (0, 1, 2), reml)
    return compile_cross(CrossDesign(N, (a, b), (J, K)), method), CrossRows((np.ones(N), x, c), y, kept)


def three_levels(rng, *, slope=False, missing=0.0, redrawn=False):
    sizes = rng.integers(2, 9, 40)
    school = np.repeat(np.unique(np.sort(rng.integers(0, 12, 40)), return_inverse=True)[1], sizes)
    class_ = np.repeat(np.arange(40), sizes)
    N, S = len(class_), int(school.max()) + 1
    x, z, w = rng.normal(size=(N, R)), rng.normal(size=(S, R))[school], (class_ % 2).astype(float)
    z = z if redrawn else z[:, 0]
    y = effects(rng, school, S, 0.5) + effects(rng, class_, 40, 0.5) + rng.normal(size=(N, R))
    kept = rng.random((N, R)) >= missing if missing else None
    method = CrossMethod(((0, (0, 1) if slope else (0,)), (1, (0,))), (0, 1, 2, 3))
    return compile_cross(CrossDesign(N, (school, class_), (S, 40)), method), CrossRows((np.ones(N), x, z, w), y, kept)


def sparse(rng):
    """Each level of a meets a few of b; a third factor, and a's slope apart from its intercept, terms in mixed order."""
    a = np.repeat(np.arange(40), 6)
    N = len(a)
    b, g, x = rng.integers(0, 3, N) + np.arange(N) * 9 // N, rng.integers(0, 4, N), rng.normal(size=N)
    y = effects(rng, a, 40, 0.5) + effects(rng, b, 11, 0.5) + effects(rng, g, 4, 0.6) + rng.normal(size=(N, R))
    method = CrossMethod(((0, (0,)), (1, (0,)), (2, (0,)), (0, (1,))), (0, 1))
    return compile_cross(CrossDesign(N, (a, b, g), (40, 11, 4)), method), CrossRows((np.ones(N), x), y)


def drawn(rng):
    """The second school of each pupil is drawn anew."""
    a = np.repeat(np.arange(20), 8)
    N = len(a)
    b = np.clip(a[:, None] // 2 + rng.integers(0, 3, (N, R)), 0, 9)
    x = rng.normal(size=(N, R))
    u = np.take_along_axis(rng.normal(size=(10, R)), b, 0)
    y = effects(rng, a, 20, 0.5) + 0.7 * u + rng.normal(size=(N, R))
    method = CrossMethod(((0, (0,)), (1, (0, 1))), (0, 1))
    block = CrossRows((np.ones(N), x), y, rng.random((N, R)) > 0.1, (None, b))
    return compile_cross(CrossDesign(N, (a, None), (20, 10)), method), block


DESIGNS = {
    "crossed": crossed,
    "crossed, ML, singular": lambda rng: crossed(rng, sd=0.1, reml=False),
    "crossed, no row missing": lambda rng: crossed(rng, missing=0.0),
    "crossed slopes": lambda rng: crossed(rng, slopes=True, sizes=(10, 7, 4)),
    "tiny slopes": lambda rng: crossed(rng, slopes=True, sizes=(5, 4, 2), sd=0.2),
    "three levels": three_levels,
    "three levels, a school's predictor redrawn": lambda rng: three_levels(rng, missing=0.1, redrawn=True),
    "three levels, slope, missing": lambda rng: three_levels(rng, slope=True, missing=0.2),
    "sparse, three factors": sparse,
    "drawn levels": drawn,
}


def rows_of(plan, block, r):
    """(factors, X, y) of one replicate, in the order of slots."""
    kept = np.ones(plan.design.rows, bool) if block.kept is None else block.kept[:, r]
    factors = []
    for f in plan.structure.slots:
        labels, codes = np.unique(block.codes_of(plan.design, f, r)[kept], return_inverse=True)
        terms = [columns for g, columns in plan.method.random if g == f]
        Z = np.column_stack([block.column(c, r)[kept] for columns in terms for c in columns])
        factors.append(FactorColumns(codes.astype(np.int64), len(labels), Z, tuple(map(len, terms))))
    return factors, np.column_stack([block.column(c, r)[kept] for c in plan.method.fixed]), block.y[kept, r]


def slot_order(plan):
    return [k for f in plan.structure.slots for k, g in enumerate(plan.method.factor_of) if g == f]


def covariance(plan, fits, o):
    """(q, q) of one replicate, columns in the order of slots."""
    q = plan.method.q
    found = np.zeros((q, q))
    for value, (i, k) in zip(fits.varcomp[o], pairs(q), strict=True):
        found[i, k] = found[k, i] = value
    order = slot_order(plan)
    return found[np.ix_(order, order)]


@pytest.mark.parametrize("name", DESIGNS)
def test_replicates_are_the_fits_of_their_own_rows(name):
    plan, block = DESIGNS[name](np.random.default_rng(7))
    p, reml = len(plan.method.fixed), plan.method.reml
    hypotheses = Hypotheses.of(p, [np.eye(p)[1:]])
    rules = [*BY_TERM, *(["kenward-roger"] if reml else [])]
    fits = fit(plan, block, 0, R)
    found = {s: infer(plan, block, fits, 0, R, hypotheses, rules, singular_df=s) for s in SINGULAR_DF}
    variances = covariance_of_variances(plan, block, fits, 0, R)
    own = {pair: k for k, pair in enumerate(pairs(plan.method.q * (plan.method.q + 1) // 2 + 1))}
    for r in range(R):
        factors, X, y = rows_of(plan, block, r)
        model = fit_factors(factors, X, y, reml=reml)
        assert fits.status[r] == model.optimum.status
        assert fits.deviance[r] == pytest.approx(model.neg2loglik, abs=1e-8)
        back, s2 = model.back * model.scale, model.sigma2 * model.scale**2
        ols = np.linalg.lstsq(X, y, rcond=None)[0]
        vcov = back @ model.vcov @ back.T
        se = np.sqrt(np.diag(vcov))
        assert (np.abs(fits.beta[r] - ols - back @ model.beta) <= 1e-8 * se).all()
        np.testing.assert_allclose(fits.vcov[r], vcov[np.tril_indices(p)], rtol=1e-8, atol=1e-9 * vcov.max())
        assert fits.sigma2[r] == pytest.approx(s2, rel=1e-8)
        blocks = [T @ T.T * s2 for T in model.covariances()]
        expected, at = np.zeros((plan.method.q,) * 2), 0
        for part in blocks:
            expected[at : at + len(part), at : at + len(part)] = part
            at += len(part)
        np.testing.assert_allclose(covariance(plan, fits, r), expected, rtol=0, atol=1e-7 * s2)
        contrasts = [*np.eye(p)[:, None, :], np.eye(p)[1:]]
        for singular_df, by_rule in found.items():
            for rule in rules:
                theirs = model.infer(rule, singular_df, contrasts)
                ours = by_rule[rule]
                np.testing.assert_allclose(ours.df[r], theirs.df[0], rtol=1e-6, err_msg=f"{rule} {singular_df}")
                np.testing.assert_allclose(ours.scale[r], theirs.scale[0], rtol=1e-7)
                turned = congruent(theirs.vcov, back)[0]
                np.testing.assert_allclose(ours.vcov[r], turned, rtol=1e-7, atol=1e-9 * np.abs(turned).max())
        diagonal = [k for k, (i, j) in enumerate(pairs(plan.method.q)) if i == j]
        theirs = np.sqrt(np.diag(model.variances().covariance))[[*diagonal, -1]]
        ours = np.sqrt(variances[r, [own[k, k] for k in diagonal]])[slot_order(plan)]
        np.testing.assert_allclose([*ours, np.sqrt(variances[r, -1])], theirs, rtol=1e-6)


def small_design(rng):
    """A design of a few levels and rows, nested, crossed or neither, with a block of as many replicates as lanes."""
    N = int(rng.integers(14, 34))
    F = int(rng.integers(1, 4))
    levels = [int(n) for n in rng.integers(2, 7, F)]
    codes = [rng.integers(0, n, N) for n in levels]
    if F > 1 and rng.random() < 0.4:  # the second within the first
        codes[1] = codes[0] * 2 + rng.integers(0, 2, N)
        levels[1] = 2 * levels[0]
    x, w = rng.normal(size=(N, LANES)), rng.normal(size=N)
    random = []
    for f in range(F):
        random += [[(f, (0,))], [(f, (0, 2))], [(f, (0,)), (f, (2,))], [(f, (2,))]][int(rng.integers(0, 4))]
    y = sum(rng.uniform(0, 1.2) * rng.normal(size=(n, LANES))[c] for n, c in zip(levels, codes, strict=True))
    y = y + rng.normal(size=(N, LANES))
    kept = rng.random((N, LANES)) > 0.08 if rng.random() < 0.5 else None
    method = CrossMethod(tuple(random), (0, 1) if rng.random() < 0.5 else (0,), bool(rng.random() < 0.5))
    return compile_cross(CrossDesign(N, tuple(codes), tuple(levels)), method), CrossRows((np.ones(N), x, w), y, kept)


@pytest.mark.parametrize("seed", range(10))
def test_deviance_and_gradient_of_a_dense_twin(seed):
    """Of 100 small designs each: the deviance at the estimates, and the certificate by the gradient of V built in full."""
    rng = np.random.default_rng(seed)
    seen = np.zeros(5, int)
    for _ in range(100):
        plan, block = small_design(rng)
        fits = fit(plan, block, 0, LANES)
        seen += np.bincount(fits.status, minlength=5)
        for r in range(LANES):
            if fits.status[r] > Status.singular:
                continue
            factors, X, y = rows_of(plan, block, r)
            whole, G, at = covariance(plan, fits, r) / fits.sigma2[r], [], 0
            for factor in factors:
                G.append(whole[at : at + factor.q, at : at + factor.q])
                at += factor.q
            twin = Dense(factors, X, y, G, reml=plan.method.reml)
            largest = max(np.abs(own).max() for own in G)  # with it the twin loses digits
            assert fits.deviance[r] == pytest.approx(twin.deviance, abs=1e-7 + 1e-13 * largest)
            assert fits.sigma2[r] == pytest.approx(twin.rss / twin.m, rel=1e-7)
            if r == 0:
                certify(twin, factors, G)
    assert seen[[Status.ok, Status.singular]].min() > 50


def certify(twin, factors, G):
    for f, (factor, own) in enumerate(zip(factors, G, strict=True)):
        first = 0
        for size in factor.sizes:
            part = slice(first, first + size)
            Sg = np.zeros((size, size))
            for i, k in pairs(size):
                E = np.zeros((factor.q, factor.q))
                E[first + i, first + k] = E[first + k, first + i] = 1.0
                Sg[i, k] = Sg[k, i] = twin.slope(twin.along(f, E)) * (1.0 if i == k else 0.5)
            assert np.abs(Sg @ own[part, part]).max() < 1e-5
            scale = np.sqrt((factor.Z[:, part] ** 2).sum(axis=0))
            values, vectors = np.linalg.eigh(own[part, part])
            null = vectors[:, values < 1e-9]
            if null.size:
                assert np.linalg.eigvalsh(null.T @ (Sg / np.outer(scale, scale)) @ null).min() > -1e-5
            first += size


def assert_same_bits(one: Fits, other: Fits, which) -> None:
    for field in fields(Fits):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name)[which], err_msg=field.name)


@pytest.mark.parametrize(
    "name", ["crossed", "crossed, no row missing", "three levels", "three levels, slope, missing", "drawn levels"]
)
def test_bits_do_not_depend_on_lane_neighbours_or_order(name):
    plan, block = DESIGNS[name](np.random.default_rng(3))
    whole = fit(plan, block, 0, R)
    for first, last in ((0, 1), (3, R), (R - 2, R), (4, 4)):
        assert_same_bits(fit(plan, block, first, last), whole, slice(first, last))
    order = list(np.random.default_rng(1).permutation(R))
    assert_same_bits(fit(plan, block.take(order), 0, R), whole, order)
    assert_same_bits(fit(plan, block.take([2]), 0, 1), whole, [2])


@pytest.mark.parametrize("name", ["crossed", "three levels, slope, missing", "sparse, three factors", "drawn levels"])
def test_one_by_one_where_lanes_would_be_too_large(name, monkeypatch):
    plan, block = DESIGNS[name](np.random.default_rng(5))
    p = len(plan.method.fixed)
    hypotheses, rules = Hypotheses.of(p, [np.eye(p)[1:]]), [*BY_TERM, "kenward-roger"]
    effects_of = int(plan.structure.effects.sum())

    def everything():
        fits = fit(plan, block, 1, R)
        return fits, infer(plan, block, fits, 1, R, hypotheses, rules), covariance_of_variances(plan, block, fits, 1, R)

    lanes = everything()
    assert way(plan).startswith(f"cross-products, {LANES} replicates side by side ({effects_of} random effects")
    monkeypatch.setattr(fits_module, "MOST_EFFECTS", 0)
    assert way(plan).startswith(f"cross-products, one replicate after the other ({effects_of} random effects")
    one = everything()
    np.testing.assert_array_equal(one[0].status, lanes[0].status)
    for field in ("deviance", "beta", "vcov", "varcomp", "sigma2"):
        np.testing.assert_allclose(
            getattr(one[0], field), getattr(lanes[0], field), rtol=1e-7, atol=1e-8, err_msg=field
        )
    for rule in rules:
        for field in ("df", "vcov", "scale"):
            ours, theirs = getattr(one[1][rule], field), getattr(lanes[1][rule], field)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(one[2], lanes[2], rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(lanes[2])))


def test_levels_that_are_drawn_but_do_not_differ():
    rng = np.random.default_rng(4)
    plan, block = crossed(rng)
    a, b = plan.design.codes
    other = compile_cross(CrossDesign(plan.design.rows, (a, None), plan.design.levels), plan.method)
    theirs = fit(other, replace(block, codes=(None, np.repeat(b[:, None], R, axis=1))), 0, R)
    ours = fit(plan, block, 0, R)
    for field in ("deviance", "beta", "vcov", "varcomp", "sigma2"):
        np.testing.assert_allclose(getattr(theirs, field), getattr(ours, field), rtol=1e-8, atol=1e-9)


def test_blocks_with_other_values_of_what_replicates_share():
    rng = np.random.default_rng(9)
    plan, block = sparse(rng)
    fit(plan, block, 0, R)
    other = replace(block, columns=(block.columns[0], rng.normal(size=plan.design.rows)), _targets={})
    again = compile_cross(plan.design, plan.method)
    assert_same_bits(fit(plan, other, 0, R), fit(again, other, 0, R), slice(None))


def test_a_start_changes_no_estimate():
    plan, block = crossed(np.random.default_rng(2))
    started = compile_cross(plan.design, replace(plan.method, start=np.diag([0.5, 0.4])))
    one, other = fit(plan, block, 0, R), fit(started, block, 0, R)
    np.testing.assert_allclose(one.deviance, other.deviance, atol=1e-8)
    np.testing.assert_allclose(one.varcomp, other.varcomp, atol=1e-7)
    assert other.iterations.sum() < one.iterations.sum()


@pytest.mark.parametrize("side", ["lanes", "one by one"])
def test_a_failure_is_a_status_and_its_own(side, monkeypatch):
    plan, block = crossed(np.random.default_rng(6), sizes=(6, 5, 2))
    a = plan.design.codes[0]
    whole = fit(plan, block, 0, R)
    y, kept, x = block.y.copy(), block.kept.copy(), block.columns[1].copy()
    y[:, 0] = 0.0
    y[3, 1], kept[3, 1] = np.nan, True
    kept[:, 2] = a == 0  # one level of a factor
    kept[:, 3] = np.arange(len(a)) < 3  # fewer rows than effects
    x[:, 4] = 1.0  # as the intercept
    y[:, 5] = 1 + 2 * x[:, 5]  # fitted perfectly by fixed effects
    y[:, 6] = np.arange(6.0)[a] ** 2 + np.sqrt(np.arange(5.0))[plan.design.codes[1]]  # by random ones too
    y[5, 7] = np.inf
    kept[5, 7] = True
    y[~block.kept[:, 8], 8] = np.nan  # rows that are not there
    if side == "one by one":
        monkeypatch.setattr(fits_module, "MOST_EFFECTS", 0)
    found = fit(plan, CrossRows((block.columns[0], x, block.columns[2]), y, kept), 0, R)
    expected = [Status.nonfinite] * 2 + [Status.rank_deficient] * 3 + [Status.nonfinite] * 3
    certain = [0, 1, 2, 3, 4, 5, 7]
    assert [found.status[r] for r in certain] == [expected[r] for r in certain]
    # LAPACK's rounding decides whether a search begins where random effects fit perfectly; it does not converge
    assert found.status[6] in ([Status.nonfinite] if side == "lanes" else [Status.nonfinite, Status.not_converged])
    assert np.isnan(found.beta[certain]).all()
    assert np.isnan(found.sigma2[certain]).all()
    if side == "lanes":
        for field in fields(Fits):
            ours, theirs = getattr(found, field.name)[8:], getattr(whole, field.name)[8:]
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
    rules = [*BY_TERM, "kenward-roger"]
    inferred = infer(plan, block, found, 0, R, Hypotheses.of(3), rules)
    assert all(np.isnan(inferred[rule].df[certain]).all() for rule in rules)


def test_two_factors_of_the_same_levels_cannot_be_told_apart():
    plan, block = crossed(np.random.default_rng(1))
    a = plan.design.codes[0]
    same = compile_cross(CrossDesign(plan.design.rows, (a, a.copy()), (12, 12)), plan.method)
    assert (fit(same, block, 0, R).status == Status.rank_deficient).all()


def test_a_column_that_other_columns_of_its_term_make():
    plan, block = crossed(np.random.default_rng(1), slopes=True)
    twice = replace(block, columns=(block.columns[0], block.columns[1], 2 * block.columns[0]), _targets={})
    free = compile_cross(plan.design, replace(plan.method, fixed=(0, 1)))
    assert (fit(free, twice, 0, R).status == Status.rank_deficient).all()


def test_levels_without_rows_are_not_there():
    """Of the design, or of a replicate: as if they had no number."""
    plan, block = three_levels(np.random.default_rng(2))
    school, class_ = plan.design.codes
    more = compile_cross(CrossDesign(plan.design.rows, (school + 2, class_ + 3), (17, 44)), plan.method)
    one, other = fit(plan, block, 0, R), fit(more, block, 0, R)
    for field in ("status", "deviance", "beta", "vcov", "varcomp"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-9, atol=1e-10)
    rules = ["between-within", "satterthwaite", "kenward-roger"]
    ours, theirs = (infer(p, block, one, 0, R, Hypotheses.of(4), rules) for p in (plan, more))
    for rule in rules:
        np.testing.assert_allclose(ours[rule].df, theirs[rule].df, rtol=1e-9)


def test_large_variances_lose_no_digits_that_are_there():
    """Standard deviations of 1e4 beside a residual of 1: the fit is certified, and the dense twin agrees as far as it can."""
    plan, block = crossed(np.random.default_rng(8), sd=1e4, missing=0.1)
    fits = fit(plan, block, 0, R)
    assert (fits.status == Status.ok).all()
    for r in range(R):
        factors, X, y = rows_of(plan, block, r)
        G = [part[None, None] for part in np.diag(covariance(plan, fits, r)) / fits.sigma2[r]]
        twin = Dense(factors, X, y, G, reml=True)
        assert fits.deviance[r] == pytest.approx(twin.deviance, abs=1e-4)
        assert fits.sigma2[r] == pytest.approx(twin.rss / twin.m, rel=1e-6)


def test_the_example_runs():
    import doctest

    assert doctest.testmod(cross).failed == 0
