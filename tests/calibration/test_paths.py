"""The moments path and the rows path draw from one distribution, that of the model.

Three kinds of evidence: exact distributions of statistics of one draw; two samples of sufficient statistics, compared by all
their products of degree 1 and 2; two samples of fits, compared by all estimates. All bounds are Bonferroni's at a level of 1 %
for one test function of a parametrised set, with fixed seeds. The last two are run on broken samplers as well, and must see each.
"""

from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy import stats

from nestlab.run.block import compile_condition
from nestlab.simulate import moments as moments_module
from nestlab.simulate.gram import respond
from nestlab.simulate.layout import compile_design, pair
from nestlab.simulate.moments import MomentSampler
from nestlab.simulate.rows import RowSampler
from nestlab.simulate.streams import block_generator
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Method, Predictor, Truth

pytestmark = pytest.mark.calibration

LEVEL = 0.01
SIZES = (2, 3, 4, 5, 7, 9, 12, 15, 20, 25, 30, 40, 50, 2, 3, 6)

A = Predictor("a", 1, "normal", mean=0.5)
B = Predictor("b", 1, "normal", mean=-2.0, sd=0.7)
F = Predictor("f", 1, "normal", mean=1.0, redraw=False)
M = Predictor("m", 1, "balanced", redraw=False)
S = Predictor("s", 2, "normal", mean=-1.0, sd=1.5)
T = Predictor("t", 2, "balanced", redraw=False)
U = Predictor("u", 2, "normal", redraw=False)
X = Predictor("x", 1, "normal", mean=1.5, sd=2.0)

#: Truth, method (four fixed effects, two random columns: one compiled kernel), predictors, sizes.
DESIGNS = {
    "equal": ("y ~ x*s + (1 + x | g)", None, (S, X), (10,) * 20),
    "unequal": ("y ~ x*t + (1 + x | g)", None, (T, X), SIZES),
    "balanced": ("y ~ m*t + (1 + m | g)", None, (M, T), SIZES),
    "small": ("y ~ a + b + t + (1 + a | g)", None, (A, B, T), (1, 2, 3, 4) * 10),
    "fixed": ("y ~ f + a + f:u + (1 | g) + (0 + f | g)", None, (A, F, U), SIZES),
    "omitted": ("y ~ a + b + m + t + b:t + (1 + a | g)", "y ~ b + m + t + (1 + b | g)", (A, B, M, T), SIZES),
}


def condition(name):
    truth, _, predictors, sizes = DESIGNS[name]
    formula = parse_formula(truth)
    covariance = ((1.0, 0.2), (0.2, 0.4)) if len(formula.random) == 1 else ((1.0, 0.0), (0.0, 0.4))
    fixed = tuple(0.5 - 0.2 * i for i in range(len(formula.fixed)))
    return Condition({}, 3, Layout(sizes), Truth(formula, fixed, covariance, 2.0), predictors, "moments", 512)


# --- one draw against exact distributions


def draws(name, sampler, replicates=4096):
    design = compile_design(condition(name))
    return design, sampler(design)(block_generator(1, "7" * 64, 0), replicates)


def ks(values, distribution, args=()):
    return stats.kstest(values, distribution, args).pvalue


@pytest.mark.parametrize("sampler", [MomentSampler, RowSampler])
def test_predictors_against_theory(sampler):
    """Per cluster: a sum ~ N(n mu, n sd2); the sum of squares about the mean ~ sd2 chi2(n - 1), also given another predictor,
    ~ sd2 chi2(n - 2)."""
    design, draw = draws("small", sampler)
    p = []
    for j, n in enumerate(design.sizes):
        s = {(h, i): draw.dd[j, pair(h, i)] for i in range(3) for h in range(i + 1)}
        p.append(ks((s[0, 1] - n * A.mean) / np.sqrt(n), "norm"))
        p.append(ks((s[0, 2] - n * B.mean) / (B.sd * np.sqrt(n)), "norm"))
        within = {(h, i): s[h, i] - s[0, h] * s[0, i] / n for h, i in [(1, 1), (1, 2), (2, 2)]}
        if n == 1:
            assert max(np.abs(w).max() for w in within.values()) < 1e-12
            continue
        p.append(ks(within[1, 1], "chi2", (n - 1,)))
        p.append(ks(within[2, 2] / B.sd**2, "chi2", (n - 1,)))
        p.append(ks(within[1, 2] / np.sqrt(within[1, 1]) / B.sd, "norm"))
        if n > 2:
            p.append(ks((within[2, 2] - within[1, 2] ** 2 / within[1, 1]) / B.sd**2, "chi2", (n - 2,)))
    assert min(p) > LEVEL / len(p)


@pytest.mark.parametrize("sampler", [MomentSampler, RowSampler])
@pytest.mark.parametrize("name", ["small", "balanced", "omitted"])
def test_errors_against_theory(name, sampler):
    """Per cluster: e'e ~ s2 chi2(n); what D leaves of it ~ s2 chi2(n - rank D), what it takes ~ s2 chi2(rank D)."""
    design, draw = draws(name, sampler, 2048)
    s2 = design.condition.truth.residual_variance
    d = len(design.columns)
    p = []
    for j, n in enumerate(design.sizes):
        D = np.array([[draw.dd[j, pair(i, k)] for k in range(d)] for i in range(d)]).transpose(2, 0, 1)
        scale = np.sqrt(np.maximum(np.einsum("rii->ri", D), 1e-300))
        inverse = np.linalg.pinv(D / scale[:, :, None] / scale[:, None, :], rcond=1e-13, hermitian=True)
        de = draw.de[j].T / scale[: len(D)]
        taken = np.einsum("ri,rik,rk->r", de, inverse, de) / s2
        rank = min(n, d) if name != "balanced" or n > 1 else 1
        taken = np.broadcast_to(taken, draw.ee[j].shape)
        p += [ks(draw.ee[j] / s2, "chi2", (n,)), ks(taken, "chi2", (rank,))]
        if n > rank:
            p.append(ks(draw.ee[j] / s2 - taken, "chi2", (n - rank,)))
        else:
            assert np.isclose(draw.ee[j] / s2, taken, rtol=1e-6).mean() > 0.998  # D'D may be singular but for rounding
    assert min(p) > LEVEL / len(p)


@pytest.mark.parametrize("sampler", [MomentSampler, RowSampler])
@pytest.mark.parametrize("name", ["equal", "unequal", "balanced", "fixed"])
def test_responses_against_theory(name, sampler):
    """Least squares within a cluster estimates its random effects: D'D^-1 D'y ~ N(0, G + s2 D'D^-1), so its square is chi2(2)."""
    design, draw = draws(name, sampler)
    gram = respond(draw, design, {}, [()])
    G, s2 = np.array(design.condition.truth.covariance), design.condition.truth.residual_variance
    i, k = design.random
    p = []
    for j, n in enumerate(design.sizes):
        if n > 5:
            A = gram.dd[j, [[pair(i, i), pair(i, k)], [pair(i, k), pair(k, k)]]].transpose(2, 0, 1)
            inverse = np.linalg.inv(A)
            estimate = np.einsum("rik,kr->ri", np.broadcast_to(inverse, (draw.replicates, 2, 2)), gram.dy[j, [i, k]])
            weight = np.linalg.inv(G + s2 * inverse)
            p.append(
                ks(
                    np.einsum("ri,rik,rk->r", estimate, np.broadcast_to(weight, (len(estimate), 2, 2)), estimate),
                    "chi2",
                    (2,),
                )
            )
    assert min(p) > LEVEL / len(p)


@pytest.mark.parametrize("sampler", [MomentSampler, RowSampler])
def test_analysis_of_variance_against_theory(sampler):
    """J clusters of n: SSW ~ s2 chi2(J (n - 1)) and SSB ~ (s2 + n tau2) chi2(J - 1), independent."""
    formula, n, J, tau2, s2 = parse_formula("y ~ 1 + (1 | g)"), 6, 9, 0.8, 2.0
    truth = Truth(formula, (5.0,), ((tau2,),), s2)
    design = compile_design(Condition({}, 1, Layout((n,) * J), truth, (), "moments", 8192))
    gram = respond(sampler(design)(block_generator(2, "7" * 64, 0), 8192), design, {}, [()])
    sums = gram.dy[:, 0]
    within = (gram.yy - sums**2 / n).sum(axis=0)
    between = ((sums - sums.mean(axis=0)) ** 2).sum(axis=0) / n
    assert ks(within / s2, "chi2", (J * (n - 1),)) > LEVEL / 3
    assert ks(between / (s2 + n * tau2), "chi2", (J - 1,)) > LEVEL / 3
    assert stats.spearmanr(within, between).pvalue > LEVEL / 3
    for values, mean, df in [(within, s2, J * (n - 1)), (between, s2 + n * tau2, J - 1)]:
        assert abs(values.mean() / df - mean) < 3.5 * mean * np.sqrt(2 / df / len(values))


# --- two samples of sufficient statistics


def monomials(name, sampler, blocks=16, size=2048):
    """Means and their squared standard errors, per cluster, of all products of degree 1 and 2 of D'D, D'e, e'e."""
    total, square = 0.0, 0.0
    for block in range(blocks):
        draw = sampler(block_generator(4, ("a" if isinstance(sampler, MomentSampler) else "b") * 64, block), size)
        drawn = draw.dd[:, sampler.design.known_gram.shape[1] :]
        statistics = np.concatenate([*([drawn] if sampler.design.drawn else []), draw.de, draw.ee[:, None]], axis=1)
        pairs = np.array(list(combinations_with_replacement(range(statistics.shape[1]), 2)))
        products = np.concatenate([statistics, statistics[:, pairs[:, 0]] * statistics[:, pairs[:, 1]]], axis=1)
        total, square = total + products.sum(axis=2), square + (products**2).sum(axis=2)
    n = blocks * size
    return total / n, (square / n - (total / n) ** 2) / n


def largest_difference(name, sampler):
    """p of the largest standardised difference from the rows path, after Bonferroni."""
    (mean, variance), (other, other_variance) = monomials(name, sampler), row_monomials(name)
    moving = variance + other_variance > 1e-20 * mean**2
    z = np.abs(mean - other)[moving] / np.sqrt(variance + other_variance)[moving]
    return 2 * stats.norm.sf(z.max()) * len(z)


@cache
def row_monomials(name):
    return monomials(name, RowSampler(compile_design(condition(name))))


@pytest.mark.parametrize("name", DESIGNS)
def test_statistics_of_both_paths_are_alike(name):
    assert largest_difference(name, MomentSampler(compile_design(condition(name)))) > LEVEL / len(DESIGNS)


# --- two samples of fits


def compiled(name, path):
    """The data key holds the path, so the streams of both differ."""
    truth, method, _, _ = DESIGNS[name]
    return compile_condition(replace(condition(name), path=path), [Method("reml", parse_formula(method or truth))])


def fits(condition, replicates=4096):
    """Every estimate, standard error, the deviance and the status."""
    (columns,) = condition.replicates(0, replicates)
    names = [c for c in columns if c in ("deviance", "status") or c.startswith(("estimate.", "se."))]
    assert len(names) >= 13  # four fixed effects twice, at least three variances, deviance, status
    return {c: columns[c] for c in names}


@cache
def row_fits(name):
    return fits(compiled(name, "rows"))


def least_p(name, condition):
    """p of the column that differs most, after Bonferroni; the rates of the statuses are one of them."""
    found, expected = fits(condition), row_fits(name)
    p = []
    for column, values in found.items():
        if column == "status":
            counts = [[(v == status).sum() + 1 for v in (values, expected[column])] for status in set(values)]
            p.append(stats.chi2_contingency(counts).pvalue)
        else:
            p.append(stats.ks_2samp(*(v[np.isfinite(v)] for v in (values, expected[column])), method="asymp").pvalue)
    return min(p) * len(p)


@pytest.mark.parametrize("name", DESIGNS)
def test_estimates_of_both_paths_are_alike(name):
    assert least_p(name, compiled(name, "moments")) > LEVEL / len(DESIGNS)


# --- the same comparisons of broken samplers


def one_df_too_many(sampler, monkeypatch):
    sampler.plain.df = sampler.plain.df + 1


def bartlett_df_do_not_fall(sampler, monkeypatch):
    sampler.plain.df[:, 1] = sampler.plain.df[:, 0]


def errors_keep_the_rows_df(sampler, monkeypatch):
    sampler.plain.df[:, -1] = sampler.design.sizes


def broken_argument(position, value):
    def break_(sampler, monkeypatch):
        intact = moments_module._assemble

        def assemble(*args):
            changed = list(args)
            changed[position] = value(args[position])
            intact(*changed)

        monkeypatch.setattr(moments_module, "_assemble", assemble)

    return break_


BROKEN = {
    "one degree of freedom too many": one_df_too_many,
    "Bartlett's degrees of freedom do not fall": bartlett_df_do_not_fall,
    "e'e has n degrees of freedom left": errors_keep_the_rows_df,
    "Bartlett's normals are missing": broken_argument(6, np.zeros_like),
    "means of predictors do not vary": broken_argument(5, np.zeros_like),
    "all rows of R are active": broken_argument(1, np.ones_like),
    "no mean": broken_argument(2, np.zeros_like),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_statistics_show_a_broken_sampler(broken, monkeypatch):
    sampler = MomentSampler(compile_design(condition("small")))
    broken(sampler, monkeypatch)
    assert largest_difference("small", sampler) < 1e-9


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_estimates_show_a_broken_sampler(broken, monkeypatch):
    work = compiled("small", "moments")
    broken(work.source.sampler, monkeypatch)
    assert least_p("small", work) < 1e-4


# --- a block is drawn whole


def test_a_prefix_or_a_part_of_a_block_has_the_same_bits():
    work = compiled("unequal", "moments")
    whole = fits(work, 1024)
    for first, last in [(0, 1), (0, 37), (511, 513), (100, 700), (1023, 1024)]:
        (part,) = work.replicates(first, last)
        for name, values in whole.items():
            np.testing.assert_array_equal(part[name], values[first:last])
