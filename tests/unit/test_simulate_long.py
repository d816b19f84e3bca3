"""Rows of any kind: the Gram is that of the rows, the rows are as stated, and what is missing is missing as often as stated.

Statements hold within 4 MCSE with fixed seeds; the replicates are independent, so an MCSE is that of means over replicates.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from nestlab.run.block import compile_condition
from nestlab.simulate import long as long_module
from nestlab.simulate.distributions import latent_ar1, transform
from nestlab.simulate.gram import respond
from nestlab.simulate.layout import compile_design, pair
from nestlab.simulate.long import LongSampler
from nestlab.simulate.missing import rows_left
from nestlab.simulate.moments import MomentSampler
from nestlab.simulate.possible import check_possible
from nestlab.simulate.rows import RowSampler
from nestlab.simulate.segments import accumulate, make_errors
from nestlab.simulate.streams import block_generator
from nestlab.spec.model import (
    NORMAL,
    Condition,
    Distribution,
    Errors,
    Formula,
    Layout,
    Method,
    Missing,
    Predictor,
    RandomTerm,
    Sizes,
    Truth,
)
from nestlab.spec.problems import StudyError

KEY = "5" * 64


def of(kind, **parameters):
    return Distribution(kind, tuple(parameters.items()))


GAMMA = (("skewness", 2.0),)
X = Predictor("x", 1, "gamma", 1.0, 2.0, shape=GAMMA)
V = Predictor("v", 1, "uniform", icc=0.3)
B = Predictor("b", 1, "binary", mean=0.3)
HALF = Predictor("half", 1, "balanced", redraw=False)
WAVE = Predictor("wave", 1, "schedule", redraw=False, sequences=((0.0, 1.0, 1.0), (0.0, 0.0, 1.0)))
ONCE = Predictor("f", 1, "gamma", shape=GAMMA, redraw=False)
ALLOCATED = Predictor("trt", 2, "balanced")
K = Predictor("k", 1, "categorical", categories=("a", "b", "c"), shares=(0.2, 0.3, 0.5))
S = Predictor("s", 1, "resampled", values=(1.0, 2.0, 2.0, 7.0))
TIME = Predictor("time", 1, "time")
W = Predictor("w", 2, "lognormal", 5.0, 2.0, shape=(("skewness", 1.0),))
ARM = Predictor("arm", 2, "balanced", redraw=False)
POISSON = Layout((6,) * 8, ((8, Sizes("poisson", 6.0)),))
UNEQUAL = Layout((3, 9, 1, 6, 5, 12, 2, 8))


def condition(
    fixed, random, predictors, layout=UNEQUAL, *, R=24, errors=None, missing=None, correlations=(), effects=NORMAL
):
    """fixed and random: terms; Intercept comes first."""
    formula = Formula("", "y", ("Intercept", *fixed), (RandomTerm("g", random),) if random else ())
    q = len(random)
    half = np.random.default_rng(q).normal(size=(q, q))
    covariance = tuple(map(tuple, (half @ half.T).tolist()))
    beta = tuple(np.linspace(1.0, 2.0, 1 + len(fixed)).tolist())
    made = Truth(formula, beta, covariance, 2.0, errors or Errors(), effects)
    return Condition({}, 1, layout, made, predictors, "rows", R, missing=missing, correlations=correlations)


T5 = Errors(of("t", df=5.0))
MISSING = Missing(rows=0.2, clusters=0.1, hazard=0.05)
PREVIOUS = Missing(at_random=("previous", -1.5, 0.4), monotone=True)
CENTRED = (("within(x)", "between(x)", "w", "w:within(x)", "between(x):w"), ("Intercept", "within(x)"), (W, X))
#: Everything that a sampler of rows may meet, with everything else.
MANY = {
    "skewed": condition(("x",), ("Intercept", "x"), (X,), errors=T5),
    "fixed": condition(("time",), ("Intercept", "time"), (TIME,), errors=T5),
    "kinds": condition(("x", "v", "b", "k[b]", "k[c]", "s", "b:x"), ("Intercept",), (B, K, S, V, X)),
    "products": condition(("x", "v", "x:v", "b:w:x", "time:x"), ("Intercept", "x"), (B, TIME, V, W, X)),
    "correlated": condition(("x", "v"), ("Intercept",), (V, X), correlations=(("v", "x", 0.4),)),
    "errors": condition(
        ("x", "w", "arm"), ("Intercept",), (ARM, W, X),
        errors=Errors(of("gamma", skewness=1.0), (("x", 1.2), ("arm", 2.0)), 0.4, -0.3), effects=of("gamma", skewness=1.0),
    ),
    "places": condition(
        ("half", "x", "half:x", "wave"), ("Intercept", "x"), (HALF, X, WAVE), POISSON, missing=Missing(rows=0.1), errors=T5
    ),
    "once": condition(("f", "x"), ("Intercept", "f"), (ALLOCATED, ONCE, X), errors=T5),
    "sizes": condition(("x", "time"), ("Intercept", "time"), (TIME, X), POISSON),
    "empty clusters": condition(
        ("time", "within(x)", "between(x)"), ("Intercept",), (TIME, X), Layout((1,) * 8, ((8, Sizes("poisson", 1.0, minimum=0)),))
    ),
    "little is left": condition(("x", "center(x)"), ("Intercept", "x"), (X,), missing=Missing(rows=0.97)),
    "missing": condition(("x", "time"), ("Intercept", "x"), (TIME, X), POISSON, missing=MISSING),
    "weibull": condition(("x",), ("Intercept",), (X,), missing=Missing(weibull=(4.0, 1.2))),
    "on x": condition(("x",), ("Intercept",), (X,), missing=Missing(at_random=("x", -1.0, 0.5))),
    "on w": condition(("x", "w"), ("Intercept",), (W, X), missing=Missing(at_random=("w", -3.0, 0.4))),
    "previous": condition(("x", "w"), ("Intercept", "x"), (W, X), missing=PREVIOUS),
    "centred": condition(*CENTRED),
    "centred, missing": condition(*CENTRED, POISSON, missing=MISSING, errors=T5),
    "centred, previous": condition(*CENTRED, missing=PREVIOUS),
    "centre": condition(("center(x)", "center(x):v"), ("Intercept",), (V, X), missing=MISSING),
}  # fmt: skip
ALL = pytest.mark.parametrize("name", MANY)


def generator(block=0):
    return block_generator(1, KEY, block)


def sampler(c):
    return LongSampler(compile_design(c))


def every_row(c, r):
    return sampler(c).replicate(generator(), c.block_size, r)


# -- the Gram is that of the rows


@ALL
def test_gram_is_that_of_the_rows(name):
    c = MANY[name]
    long = sampler(c)
    design, draw = long.design, long(generator(), c.block_size)
    d = len(design.columns)
    for r in (0, 7, c.block_size - 1):
        rows = every_row(c, r)
        sizes = design.sizes if rows.sizes is None else rows.sizes
        assert len(rows.e) == sizes.sum()
        ends = np.cumsum(sizes)
        at = r if draw.dd.shape[2] > 1 else 0
        for j, (start, stop) in enumerate(zip(ends - sizes, ends, strict=True)):
            D, e = rows.D[start:stop], rows.e[start:stop]
            gram = np.array([[draw.dd[j, pair(a, b), at] for a in range(d)] for b in range(d)])
            assert_allclose(gram, D.T @ D, rtol=1e-10, atol=1e-10)
            assert_allclose(draw.de[j, :, r], D.T @ e, rtol=1e-10, atol=1e-9)
            assert_allclose(draw.ee[j, r], e @ e, rtol=1e-10, atol=1e-10)
        assert_array_equal(rows.u, draw.u[:, :, r])
        assert_array_equal(rows.z, draw.z[:, :, r if draw.z.shape[2] > 1 else 0])


@ALL
@pytest.mark.parametrize("held", [1, 300])
def test_replicates_held_at_once_change_nothing(name, held, monkeypatch):
    expected = sampler(MANY[name])(generator(), 24)
    monkeypatch.setattr(long_module, "HELD", held)
    found = sampler(MANY[name])(generator(), 24)
    for field in ("dd", "de", "ee", "u", "z"):
        assert_array_equal(getattr(found, field), getattr(expected, field))


@ALL
def test_fits_are_those_of_the_frame(name):
    """By ordinary least squares of the frame: y of the frame has the Gram's products with every fixed column."""
    c = MANY[name]
    work = compile_condition(c, [Method("reml", c.truth.formula)])
    draw, analysis = work.draw(0), work.analyses[0]
    gram = respond(draw, work.source.design, dict(zip(c.truth.formula.fixed, c.truth.fixed, strict=True)), [()])
    for r in (0, 5):
        rows = work.source.rows(r)
        y = rows.response(work.source.design)
        assert_allclose(gram.yy[:, r].sum(), y @ y, rtol=1e-9)
        assert_allclose(gram.dy[:, :, r].sum(axis=0), rows.D.T @ y, rtol=1e-8, atol=1e-7)
    assert analysis.plan.formula is c.truth.formula


def test_frames_show_observed_rows_and_labels():
    c = MANY["centred, missing"]
    work = compile_condition(c, [Method("reml", c.truth.formula)])
    draw = work.draw(0)
    n = draw.dd[:, 0]
    lost = np.flatnonzero((n == 0).any(axis=0))
    assert len(lost)
    for r in (*lost[:2], 3):
        frame = work.frame(int(r), truth=True)
        counts = frame.groupby("g").size().reindex(np.arange(1, 9), fill_value=0)
        assert_array_equal(counts, n[:, r])
        assert {"g", "w", "x", "y", "u:Intercept", "u:within(x)", "e"} <= set(frame)
        mean = frame.groupby("g")["x"].transform("mean")
        within, b = frame.x - mean, c.truth.fixed
        fixed = b[0] + b[1] * within + b[2] * mean + b[3] * frame.w + b[4] * frame.w * within + b[5] * mean * frame.w
        assert_allclose(frame.y, fixed + frame["u:Intercept"] + frame["u:within(x)"] * within + frame.e, rtol=1e-9)


def test_frames_show_categories():
    work = compile_condition(MANY["kinds"], [Method("reml", MANY["kinds"].truth.formula)])
    frame, rows = work.frame(2), work.source.rows(2)
    assert set(frame.k) == {"a", "b", "c"}
    assert_array_equal(frame.k == "b", rows.term(work.source.design, "k[b]") == 1)
    assert_array_equal(
        frame.k == "a", (rows.term(work.source.design, "k[b]") == 0) & (rows.term(work.source.design, "k[c]") == 0)
    )
    assert set(frame.s) == {1.0, 2.0, 7.0}


def test_truth_is_of_complete_data():
    """What is missing changes no outcome that is observed: the rows that are left have the y that they have without missing rows.

    Where only clusters are lost, e stays as well; where rows are, their means move, and e has the difference.
    """
    c = condition(*CENTRED, missing=Missing(clusters=0.4))
    design = compile_design(c)
    some, whole = every_row(c, 4), every_row(replace(c, missing=Missing(clusters=1e-300)), 4)
    kept = np.repeat(some.sizes > 0, whole.sizes)
    assert 0 < kept.sum() < len(kept)
    assert_allclose(some.response(design), whole.response(design)[kept], rtol=1e-12)
    assert_allclose(some.e, whole.e[kept], rtol=1e-9)
    fixed = (*CENTRED[0], "center(x)", "v:within(x)")
    c = condition(fixed, CENTRED[1], (V, *CENTRED[2]), missing=Missing(rows=0.4))
    design = compile_design(c)
    some, whole = every_row(c, 4), every_row(replace(c, missing=Missing(rows=1e-300)), 4)
    x = design.columns.index("x")
    kept = np.isin(whole.D[:, x], some.D[:, x])
    assert_array_equal(whole.D[kept, x], some.D[:, x])
    assert_allclose(some.response(design), whole.response(design)[kept], rtol=1e-10)
    assert not np.isclose(some.e, whole.e[kept]).any()


# -- kernels against NumPy


def test_sums_against_numpy():
    rng = np.random.default_rng(1)
    sizes = np.array([3, 0, 7, 12, 1, 5])  # 3 clusters, 2 replicates
    starts = np.concatenate([[0], np.cumsum(sizes)])
    D, e = rng.normal(size=(3, sizes.sum())), rng.normal(size=sizes.sum())
    dd, de, ee = np.full((3, 6, 5), -1.0), np.full((3, 3, 5), -1.0), np.full((3, 5), -1.0)
    accumulate(D, e, starts, 3, 2, 1, dd, de, ee)
    for s, (start, stop) in enumerate(pairwise(starts)):
        j, r, own = s % 3, 2 + s // 3, slice(start, stop)
        gram = D[:, own] @ D[:, own].T
        assert_allclose(dd[j, 1:, r], [gram[a, b] for b in (1, 2) for a in range(b + 1)], atol=1e-13)
        assert_allclose(de[j, :, r], D[:, own] @ e[own], atol=1e-13)
        assert_allclose(ee[j, r], e[own] @ e[own], atol=1e-13)
    assert (dd[:, 0] == -1).all()  # known before
    assert (ee[:, :2] == -1).all()


def test_autoregression_against_numpy():
    noise = np.random.default_rng(1).normal(size=(9, 2))
    starts, e = np.array([0, 4, 4, 9]), np.empty(9)
    make_errors(noise, 1, np.empty((0, 4)), 0.6, np.array([2.0, 1.0, 3.0]), starts, e)
    for start, stop, scale in ((0, 4, 2.0), (4, 9, 3.0)):
        expected = [noise[start, 1]]
        for i in range(start + 1, stop):
            expected.append(0.6 * expected[-1] + 0.8 * noise[i, 1])
        assert_allclose(e[start:stop], scale * np.array(expected))


# -- stated means, variances, correlations


def close(values, expected, mcse=4.0):
    """Means over independent replicates."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) < mcse * np.maximum(error, 1e-12)), (
        values.mean(axis=0), expected, error,
    )  # fmt: skip


def columns_of(c, name, R=600):
    """(replicates, clusters, rows): a column, of equal clusters."""
    c = replace(c, block_size=R)
    long = sampler(c)
    clusters = long._clusters(generator(), R, None)
    found = []
    for first, last, noise in long._noise(block_generator(1, KEY, 1), clusters.sizes):
        rows = long._rows(clusters, noise, first, last)
        values = rows.e if name == "e" else rows.D[long.design.columns.index(name)]
        found.append(values.reshape(last - first, long.design.clusters, -1))
    return np.concatenate(found), clusters


EQUAL = Layout((10,) * 8)


@pytest.mark.parametrize(
    ("predictor", "mean", "variance", "icc"),
    [
        (replace(X, icc=0.25), 1.0, 4.0, 0.25),
        (V, 0.0, 1.0, 0.3),
        (replace(B, icc=0.2), 0.3, 0.21, 0.2),
        (Predictor("t", 1, "t", 3.0, 0.5, shape=(("df", 6.0),), icc=0.5), 3.0, 0.25, 0.5),
        (Predictor("n", 1, "normal", icc=0.1), 0.0, 1.0, 0.1),
        (S, 3.0, 5.5, 0.0),
    ],
    ids=lambda value: getattr(value, "distribution", ""),
)
def test_predictors_have_the_stated_mean_variance_and_icc(predictor, mean, variance, icc):
    values, _ = columns_of(condition((predictor.name,), ("Intercept",), (predictor,), EQUAL), predictor.name)
    values = values - mean
    close(values.mean(axis=(1, 2)), 0.0)
    close((values**2).mean(axis=(1, 2)), variance)
    total, n = values.sum(axis=2), values.shape[2]
    close(((total**2 - (values**2).sum(axis=2)) / (n * (n - 1))).mean(axis=1), icc * variance)


def test_predictors_have_the_stated_correlations():
    """A row's, and as much of it between clusters as their shares give."""
    a, b = Predictor("a", 1, "gamma", shape=GAMMA, icc=0.4), Predictor("b", 1, "binary", mean=0.3, icc=0.1)
    c = condition(("a", "b", "n"), ("Intercept",), (a, b, Predictor("n", 1, "normal")), EQUAL,
                  correlations=(("a", "b", 0.3), ("b", "n", -0.2)))  # fmt: skip
    (x, _), (y, _), (n, _) = (columns_of(c, name) for name in "abn")
    y = (y - 0.3) / np.sqrt(0.21)
    close((x * y).mean(axis=(1, 2)), 0.3)
    close((y * n).mean(axis=(1, 2)), -0.2)
    close((x * n).mean(axis=(1, 2)), 0.0)


def test_parts_within_and_between_clusters_are_correlated_alike():
    """Of normal predictors: rows 0.3; two rows of a cluster sqrt(share of a x share of b) times the correlation of the parts."""
    a, b = Predictor("a", 1, "normal", icc=0.4), Predictor("b", 1, "normal", icc=0.1)
    c = condition(("a", "b"), ("Intercept",), (a, b), EQUAL, correlations=(("a", "b", 0.3),))
    (x, _), (y, _) = (columns_of(c, name) for name in "ab")
    n = x.shape[2]
    part = 0.3 / (np.sqrt(0.04) + np.sqrt(0.54))
    close((x * y).mean(axis=(1, 2)), 0.3)
    across = x.sum(axis=2) * y.sum(axis=2) - (x * y).sum(axis=2)
    close((across / (n * (n - 1))).mean(axis=1), np.sqrt(0.04) * part)


def test_level_2_predictors_have_the_stated_moments():
    a, b = Predictor("a", 2, "chi-square", 2.0, 3.0, shape=(("df", 3.0),)), Predictor("b", 2, "binary", mean=0.4)
    c = condition(("a", "b"), ("Intercept",), (a, b), EQUAL, errors=T5, correlations=(("a", "b", 0.5),), R=2000)
    z = sampler(c)(generator(), 2000).z
    close(z[0].mean(axis=0), 2.0)
    close(((z[0] - 2) ** 2).mean(axis=0), 9.0)
    close(z[1].mean(axis=0), 0.4)
    close(((z[0] - 2) / 3 * (z[1] - 0.4) / np.sqrt(0.24)).mean(axis=0), 0.5)


@pytest.mark.parametrize(
    "shape", [of("t", df=6.0), of("gamma", skewness=1.5), of("contaminated", share=0.1, ratio=3.0)]
)
@pytest.mark.parametrize("ar1", [0.0, 0.6, -0.4])
def test_errors_have_the_stated_variance_and_autocorrelation(shape, ar1):
    """The variance in every row, the correlation of neighbours; of rows further apart, that of their scores' copula."""
    e, _ = columns_of(condition((), ("Intercept",), (), EQUAL, errors=Errors(shape, ar1=ar1)), "e", R=1500)
    close((e**2).mean(axis=1), 2.0)
    close((e[:, :, 1:] * e[:, :, :-1]).mean(axis=(1, 2)), 2.0 * ar1)
    table = transform(shape)
    far = copula_correlation(table, latent_ar1(Errors(shape, ar1=ar1)) ** 3)
    assert abs(far - ar1**3) < 0.04
    close((e[:, :, 3:] * e[:, :, :-3]).mean(axis=(1, 2)), 2.0 * far)


def copula_correlation(table, rho):
    """Of two variables with this table whose scores have correlation rho, by Gauss and Hermite's rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    a, b = np.meshgrid(nodes, nodes)
    x, y = table(np.ascontiguousarray(a)), table(np.ascontiguousarray(rho * a + np.sqrt(1 - rho * rho) * b))
    return float((x * y * np.outer(weights, weights).T).sum() / (2 * np.pi))


@pytest.mark.parametrize("ar1", [0.8, -0.3])
def test_autocorrelated_errors_have_the_stated_shape_in_every_row(ar1):
    """Exponential errors: rows by row, the skewness 2 and the share below the median are those of the distribution."""
    e, _ = columns_of(
        condition((), ("Intercept",), (), EQUAL, errors=Errors(of("gamma", skewness=2.0), ar1=ar1)), "e", R=4000
    )
    e = e / np.sqrt(2.0)
    close((e**3).mean(axis=1), 2.0, mcse=4.5)
    close((e < np.log(2) - 1).mean(axis=1), 0.5)
    close((e < np.log(10) - 1).mean(axis=1), 0.9)


def test_an_autocorrelation_that_a_distribution_cannot_have_is_refused():
    """Of two exponential variables it is at least 1 - pi^2 / 6 = -0.6449."""
    for ar1 in (-0.65, -0.9):
        with pytest.raises(StudyError) as refused:
            check_possible(
                [condition((), ("Intercept",), (), EQUAL, errors=Errors(of("gamma", skewness=2.0), ar1=ar1))]
            )
        assert refused.value.problems == [
            f"truth.errors.ar1 = {ar1:g}: must be between -0.644 and 1, all that variables of these distributions can have; "
            "write a weaker correlation or other distributions"
        ]
    check_possible([condition((), ("Intercept",), (), EQUAL, errors=Errors(of("gamma", skewness=2.0), ar1=-0.644))])


@pytest.mark.parametrize("r", [0.5, -0.5])
def test_the_shape_of_the_second_of_two_correlated_random_effects(r):
    """As DATA.md says: the skewness times r^3 + (1 - r^2)^1.5, of the first as stated."""
    c = condition(("x",), ("Intercept", "x"), (X,), EQUAL, R=8000, effects=of("gamma", skewness=1.0))
    c = replace(c, truth=replace(c.truth, covariance=((1.0, r), (r, 1.0))))
    u = sampler(c)(generator(), 8000).u
    close((u[:, 0] ** 3).mean(axis=0), 1.0)
    close((u[:, 1] ** 3).mean(axis=0), r**3 + (1 - r * r) ** 1.5)


def test_errors_have_the_stated_skewness():
    e, _ = columns_of(
        condition((), ("Intercept",), (), EQUAL, errors=Errors(of("lognormal", skewness=1.0))), "e", R=1500
    )
    close((e**3).mean(axis=(1, 2)), 2.0**1.5)


def test_residual_variance_by_predictors_and_clusters():
    errors = Errors(ratios=(("b", 3.0), ("arm", 0.5)), cluster_cv=0.6)
    c = condition(("b", "arm"), ("Intercept",), (ARM, B), EQUAL, errors=errors)
    (e, clusters), (b, _) = columns_of(c, "e", R=2000), columns_of(c, "b", R=2000)
    arm = clusters.z[0, :, 0]
    for value in (0, 1):
        for own in (0, 1):
            chosen = e[:, arm == own][b[:, arm == own] == value] ** 2
            expected = 2.0 * 3.0**value * 0.5**own
            assert abs(chosen.mean() - expected) < 5 * chosen.std() / np.sqrt(len(chosen) / 10)
    close((clusters.scale**2 / 0.5 ** arm[:, None]).T.mean(axis=1), 2.0)
    ratio = (clusters.scale**2 / 2.0 / 0.5 ** arm[:, None]).T
    close(((ratio - 1) ** 2).mean(axis=1), 0.36)


def test_random_effects_have_the_stated_covariance_and_shape():
    c = condition(("x",), ("Intercept", "x"), (X,), EQUAL, R=4000, effects=of("gamma", skewness=2.0))
    u = sampler(c)(generator(), 4000).u
    for a in range(2):
        for b in range(2):
            close((u[:, a] * u[:, b]).mean(axis=0), c.truth.covariance[a][b])
    close((u[:, 0] ** 3).mean(axis=0), 2.0 * c.truth.covariance[0][0] ** 1.5)


# -- what is missing


def shares(c, R=2000):
    """(replicates, clusters, rows): which rows of equal clusters are observed."""
    c = replace(c, block_size=R)
    long = sampler(c)
    clusters = long._clusters(generator(), R, None)
    kept = []
    original = long._kept
    long._kept = lambda *args: kept.append(original(*args)) or kept[-1]
    for first, last, noise in long._noise(block_generator(1, KEY, 1), clusters.sizes):
        long._rows(clusters, noise, first, last)
    return np.concatenate(kept).reshape(R, long.design.clusters, -1).astype(float)


def test_rows_and_clusters_lost_at_random():
    kept = shares(condition(("x",), ("Intercept",), (X,), EQUAL, missing=Missing(rows=0.3)))
    close(kept.mean(axis=1), 0.7)
    close((kept[:, :, 1:] * kept[:, :, :-1]).mean(axis=(1, 2)), 0.49)
    kept = shares(condition(("x",), ("Intercept",), (X,), EQUAL, missing=Missing(clusters=0.3)))
    close(kept.mean(axis=1), 0.7)
    assert (kept == kept[:, :, :1]).all()


def test_dropout_by_a_hazard_and_by_weibull():
    rows = np.arange(10)
    for missing, survival in (
        (Missing(hazard=0.15), 0.85**rows),
        (Missing(weibull=(4.0, 1.5)), np.exp(-((rows / 4.0) ** 1.5))),
    ):
        kept = shares(condition(("x",), ("Intercept",), (X,), EQUAL, missing=missing))
        assert (kept[:, :, 0] == 1).all()
        assert (np.diff(kept, axis=2) <= 0).all()
        close(kept[:, :, 1:].mean(axis=1), survival[1:])


def test_a_hazard_of_1_leaves_first_rows():
    sizes = np.array([[3, 1], [0, 5]])
    assert_array_equal(rows_left(Missing(hazard=1.0), sizes, generator()), [[1, 1], [0, 1]])


@pytest.mark.parametrize("monotone", [False, True])
def test_rows_lost_at_random_given_a_predictor(monotone):
    """The probability averaged over a binary predictor; monotone: the product over the rows so far."""
    missing = Missing(at_random=("b", -2.0, 1.5), monotone=monotone)
    kept = shares(condition(("b",), ("Intercept",), (B,), EQUAL, missing=missing))
    lost = 0.7 * special.expit(-2.0) + 0.3 * special.expit(-0.5)
    close(kept.mean(axis=1), (1 - lost) ** np.arange(1, 11) if monotone else 1 - lost)
    assert not monotone or (np.diff(kept, axis=2) <= 0).all()


def test_rows_lost_at_random_given_the_previous_outcome():
    """y ~ N(1, 2.5) without correlation within rows but the cluster's: the probability by quadrature; the first row stays."""
    c = condition((), ("Intercept",), (), EQUAL, missing=Missing(at_random=("previous", -1.0, 0.8)))
    kept = shares(c, R=3000)
    assert (kept[:, :, 0] == 1).all()
    sd = np.sqrt(2.0 + c.truth.covariance[0][0])
    g = np.linspace(-8, 8, 2001)
    lost = (special.expit(-1.0 + 0.8 * (1.0 + sd * g)) * stats.norm.pdf(g)).sum() * (g[1] - g[0])
    close(kept[:, :, 1:].mean(axis=1), 1 - lost)
    monotone = shares(replace(c, missing=replace(c.missing, monotone=True)), R=3000)
    assert_array_equal(monotone, np.minimum.accumulate(kept, axis=2))


def test_the_previous_outcome_is_the_row_before():
    """The log odds of each row's loss are those of the outcome in the frame without missing rows."""
    c = condition(("x",), ("Intercept", "x"), (X,), EQUAL, missing=Missing(at_random=("previous", -50.0, 0.0)))
    y = every_row(c, 3).response(compile_design(c)).reshape(8, 10)
    limit = float(np.quantile(y, 0.6))
    c = replace(c, missing=Missing(at_random=("previous", -1e6 * limit, 1e6)))  # lost where the row before is above
    expected = [1 + (row[:-1] < limit).sum() for row in y]
    assert_array_equal(every_row(c, 3).sizes, expected)


# -- both paths


N = Predictor("x", 1, "normal", 2.0, 1.5, icc=0.2)
NN = Predictor("v", 1, "normal", icc=0.1)
BOTH = {
    "plain": condition(("x", "w"), ("Intercept", "x"), (W, replace(N, icc=0.0))),
    "sizes": condition(("x", "time"), ("Intercept",), (TIME, N), POISSON),
    "correlated": condition(("x", "v"), ("Intercept", "x"), (NN, N), correlations=(("v", "x", 0.5),)),
    "clusters": condition(("within(x)", "between(x)"), ("Intercept",), (N,), missing=Missing(clusters=0.2)),
    "variances": condition(
        ("x", "arm"),
        ("Intercept",),
        (ARM, N),
        errors=Errors(ratios=(("arm", 2.0),), cluster_cv=0.5),
        effects=of("uniform"),
    ),
}


def statistics(design, draw):
    """(replicates, entries): sums over clusters of the statistics, and of y's."""
    gram = respond(
        draw, design, dict(zip(design.condition.truth.formula.fixed, design.condition.truth.fixed, strict=True)), [()]
    )
    R = draw.replicates
    parts = [np.broadcast_to(draw.dd, (*draw.dd.shape[:2], R)), gram.dy, gram.yy[:, None]]
    return np.concatenate([part.sum(axis=0) for part in parts]).T


@pytest.mark.parametrize("name", BOTH)
def test_rows_and_moments_are_alike(name):
    """Each sum of products, by two samples of 3,000 replicates; Bonferroni's level of 0.1 % a condition."""
    design = compile_design(BOTH[name])
    rows = statistics(design, LongSampler(design)(generator(0), 3000))
    moments = statistics(design, MomentSampler(design)(generator(1), 3000))
    moving = rows.std(axis=0) > 1e-9 * (1 + np.abs(rows).max(axis=0))
    assert moving.any()
    assert_allclose(rows[:, ~moving], moments[:, ~moving], atol=1e-9)
    p = [stats.ks_2samp(rows[:, k], moments[:, k], method="asymp").pvalue for k in np.flatnonzero(moving)]
    assert min(p) * len(p) > 0.001


def test_both_samplers_of_rows_are_alike():
    """The rows path as it was, of a product of normal predictors."""
    a, b = Predictor("a", 1, "normal"), Predictor("b", 1, "normal", 1.0)
    c = condition(("a", "b", "a:b"), ("Intercept",), (a, b))
    design = compile_design(c)
    assert isinstance(compile_condition(c, [Method("m", c.truth.formula)]).source.sampler, RowSampler)
    found, expected = (
        statistics(design, path(design)(generator(i), 3000)) for i, path in enumerate((LongSampler, RowSampler))
    )
    moving = expected.std(axis=0) > 1e-9
    p = [stats.ks_2samp(found[:, k], expected[:, k], method="asymp").pvalue for k in np.flatnonzero(moving)]
    assert min(p) * len(p) > 0.001


def test_what_analyses_centre_changes_no_draw():
    a, b = Predictor("a", 1, "normal"), Predictor("b", 1, "normal", 1.0)
    c = condition(("a", "b", "a:b"), ("Intercept",), (a, b))
    formula = Formula(
        "", "y", ("Intercept", "within(a)", "between(a)", "center(b)"), (RandomTerm("g", ("Intercept",)),)
    )
    plain = compile_condition(c, [Method("m", c.truth.formula)])
    both = compile_condition(c, [Method("m", c.truth.formula), Method("n", formula)])
    draw, expected = both.draw(0), plain.draw(0)
    assert_array_equal(draw.ee, expected.ee)
    assert_array_equal(draw.dd[:, :6], expected.dd[:, :6])
    rows = both.source.rows(3)
    d = len(both.source.design.columns)
    gram = np.array([[draw.dd[:, pair(i, k), 3].sum() for i in range(d)] for k in range(d)])
    assert_allclose(rows.D.T @ rows.D, gram, rtol=1e-9, atol=1e-9)
    assert_allclose(rows.z, draw.z[:, :, 3], atol=1e-12)
    frame = both.frame(3)
    assert_allclose(
        rows.term(both.source.design, "within(a)"), frame.a - frame.groupby("g").a.transform("mean"), atol=1e-12
    )
