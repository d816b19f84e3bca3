"""The moments path of data as they are, against rows: a plain simulation in NumPy of the same models, padded to one length.

Means and covariances of all entries of two clusters (D'D, D'e, e'e, D'y, y'y, u, z) agree within 4 and 5 MCSEs of the difference
(there are up to 900 covariances a model), and their distributions by Kolmogorov and Smirnov's test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import stats

import nestlab as nl
from nestlab.run.block import compile_condition
from nestlab.simulate.gram import respond
from nestlab.simulate.layout import Design, compile_design, pair
from nestlab.simulate.long import LongSampler
from nestlab.simulate.moments import MomentSampler
from nestlab.simulate.replicate import ConditionalRows
from nestlab.simulate.streams import block_generator
from nestlab.spec.model import (
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
    source_of,
    term_variables,
)
from nestlab.spec.prior import Prior

Array = NDArray[np.float64]
KEY = "7" * 64
R = 6000


def truth(fixed: dict[str, float], columns: tuple[str, ...] = ("Intercept",), **more: Any) -> Truth:
    """Random effects of variances 0.5 and correlation 0.3."""
    q = len(columns)
    covariance = 0.5 * (0.3 + 0.7 * np.eye(q))
    terms = (RandomTerm("g", columns),) if q else ()
    formula = Formula("", "y", tuple(fixed), terms)
    return Truth(formula, tuple(fixed.values()), tuple(map(tuple, covariance.tolist())), 1.5, **more)


def condition(
    model: Truth, predictors: list[Predictor], sizes: tuple[int, ...] = (3, 5, 2, 4), **more: Any
) -> Condition:
    drawn = more.pop("drawn", ())
    ordered = tuple(sorted(predictors, key=lambda p: p.name))
    return Condition({}, 1, Layout(sizes, drawn), model, ordered, "moments", 512, **more)


X = Predictor("x", 1, "normal", 2.0, 1.5)
W = Predictor("w", 1, "normal", -1.0, 0.5)
TIME = Predictor("time", 1, "time", 1.0, 0.5)
TREAT = Predictor("treat", 1, "schedule", sequences=((0, 0, 1, 1, 1), (0, 1, 1, 1, 1), (0, 0, 0, 1, 1)))
ARM = Predictor("arm", 2, "balanced", redraw=False)
POISSON = Sizes("poisson", 4.0, minimum=0)

CONDITIONS = {
    "within-between": condition(
        truth({"Intercept": 1.0, "within(x)": 0.5, "between(x)": -1.0, "between(x):arm": 0.5}, ("Intercept", "within(x)")),
        [replace(X, icc=0.3), ARM],
    ),
    "correlated, centred at the mean": condition(
        truth({"Intercept": 1.0, "center(x)": 0.5, "w": 1.0}, ("Intercept", "center(x)")),
        [replace(X, icc=0.2), replace(W, icc=0.4)],
        correlations=(("w", "x", 0.5),),
    ),
    "correlated within": condition(truth({"Intercept": 1.0, "x": 0.5, "w": 1.0}), [X, W], correlations=(("w", "x", -0.7),)),
    "sizes": condition(
        truth({"Intercept": 1.0, "x": 0.5, "time": 1.0}, ("Intercept", "time")), [X, TIME], (4,) * 4, drawn=((4, POISSON),)
    ),
    "sizes, no known predictor": condition(
        truth({"Intercept": 1.0, "x": 0.5, "arm": 1.0}, ("Intercept", "x")), [X, ARM], (3,) * 4, drawn=((4, POISSON),)
    ),
    "sizes of the first arm, schedule": condition(
        truth({"Intercept": 1.0, "treat": 0.5, "within(time)": 0.2, "center(treat)": 0.1, "within(x)": 1.0},
              ("Intercept", "treat")),
        [TREAT, TIME, replace(X, icc=0.5)],
        (4, 4, 3, 5),
        drawn=((2, Sizes("negative-binomial", 4.0, 0.8)), (2, None)),
    ),
    "lost clusters": condition(
        truth({"Intercept": 1.0, "center(x)": 2.0, "center(x):arm": 1.0, "within(w)": 1.0, "between(w)": 2.0},
              ("Intercept", "center(x)")),
        [replace(X, icc=0.8), replace(W, icc=0.5), ARM],
        missing=Missing(clusters=0.5),
    ),
    "errors by cluster": condition(
        truth({"Intercept": 1.0, "arm": 1.0, "x": 0.2}, errors=Errors(ratios=(("arm", 3.0),), cluster_cv=0.5)), [ARM, X]
    ),
    "known only, errors by cluster": condition(
        truth({"Intercept": 1.0, "within(time)": 0.2}, ("Intercept", "time"), errors=Errors(cluster_cv=0.5)), [TIME]
    ),
    "gamma effects, allocated": condition(
        truth({"Intercept": 1.0, "arm": 1.0, "time": 0.2}, ("Intercept", "time"),
              random=Distribution("gamma", (("skewness", 1.5),))),
        [replace(ARM, redraw=True), TIME],
    ),
}  # fmt: skip


def sizes_twin(c: Condition, rng: np.random.Generator) -> NDArray[np.int64]:
    n = np.repeat(np.array(c.layout.sizes)[None], R, axis=0)
    if c.layout.drawn:
        (J, sizes), *_ = c.layout.drawn
        assert sizes is not None
        if sizes.kind == "poisson":
            n[:, :J] = rng.poisson(sizes.mean, (R, J))
        else:
            k = sizes.mean**2 / ((sizes.cv * sizes.mean) ** 2 - sizes.mean)
            n[:, :J] = np.maximum(rng.negative_binomial(k, k / (k + sizes.mean), (R, J)), 1)
    return n


def level1_twin(c: Condition, rng: np.random.Generator, n: NDArray[np.int64], most: int) -> dict[str, Array]:
    """(R, J, most) of each level-1 predictor."""
    J = n.shape[1]
    drawn = [p for p in c.predictors if p.level == 1 and p.distribution == "normal"]
    icc = np.array([p.icc for p in drawn])
    C = np.eye(len(drawn))
    for a, b, r in c.correlations:
        i, k = ([p.name for p in drawn].index(v) for v in (a, b))
        C[i, k] = C[k, i] = r / (np.sqrt(icc[i] * icc[k]) + np.sqrt((1 - icc[i]) * (1 - icc[k])))
    L = np.linalg.cholesky(C)
    within = rng.standard_normal((R, J, most, len(drawn))) @ L.T
    between = rng.standard_normal((R, J, 1, len(drawn))) @ L.T
    scores = np.sqrt(icc) * between + np.sqrt(1 - icc) * within
    found = {p.name: p.mean + p.sd * scores[..., i] for i, p in enumerate(drawn)}
    place = np.arange(most)
    for p in c.predictors:
        if p.distribution == "time":
            found[p.name] = np.broadcast_to(p.mean + p.sd * place, (R, J, most))
        elif p.distribution == "schedule":
            rows = np.array([[p.sequences[j % 3][min(i, 4)] for i in place] for j in range(J)], dtype=float)
            found[p.name] = np.broadcast_to(rows, (R, J, most))
    return found


def term_values(term: str, level1: dict[str, Array], level2: dict[str, Array], seen: NDArray[np.bool_]) -> Array:
    """(R, J, most): a term, its centring by the rows that are seen (R, J, most)."""
    value = np.ones(seen.shape)
    rows = np.maximum(seen.sum(axis=2, keepdims=True), 1)
    for variable in term_variables(term):
        name, how = source_of(variable)
        if name in level2:
            value = value * level2[name][:, :, None]
            continue
        x = level1[name]
        mean = (x * seen).sum(axis=2, keepdims=True) / rows
        whole = (x * seen).sum(axis=(1, 2), keepdims=True) / np.maximum(seen.sum(axis=(1, 2), keepdims=True), 1)
        made = {
            "": x,
            "within": x - mean,
            "between": np.where(seen.any(axis=2, keepdims=True), mean, 0.0) + 0 * x,
            "center": x - whole,
        }
        value = value * made[how]
    return value


def statistics_twin(c: Condition, design: Design, seed: int) -> tuple[Array, list[str]]:
    """(R, entries): of clusters 0 and 1, by rows."""
    rng = np.random.default_rng(seed)
    n = sizes_twin(c, rng)
    J, most = n.shape[1], int(n.max())
    level1 = level1_twin(c, rng, n, most)
    full = np.arange(most) < n[:, :, None]
    level2: dict[str, Array] = {}
    for p in c.predictors:
        if p.level == 2:
            arms = np.tile(np.arange(J) % 2, (R, 1)).astype(float)
            level2[p.name] = rng.permuted(arms, axis=1) if p.redraw else arms
    model, q = c.truth, len(design.random)
    v = rng.standard_normal((R, J, q))
    if model.random.kind == "gamma":
        shape = 4 / model.random["skewness"] ** 2
        v = (rng.gamma(shape, size=v.shape) - shape) / np.sqrt(shape)
    u = v @ np.linalg.cholesky(np.array(model.covariance)).T
    variance = np.full((R, J), model.residual_variance)
    for name, ratio in model.errors.ratios:
        variance = variance * ratio ** level2[name]
    if model.errors.cluster_cv:
        s2 = np.log1p(model.errors.cluster_cv**2)
        variance = variance * rng.lognormal(-s2 / 2, np.sqrt(s2), variance.shape)
    e = rng.standard_normal((R, J, most)) * np.sqrt(variance)[:, :, None]
    y = e.copy()
    for term, value in zip(model.formula.fixed, model.fixed, strict=True):
        y += value * term_values(term, level1, level2, full)
    for k, column in enumerate(model.formula.random_columns):
        y += u[:, :, k, None] * term_values(column, level1, level2, full)
    seen = full if c.missing is None else full & (rng.uniform(size=(R, J, 1)) > c.missing.clusters)
    D = [np.ones((R, J, most)) if v == "Intercept" else term_values(v, level1, level2, seen) for v in design.columns]
    z = [term_values(v, level1, level2, seen)[:, :, 0] for v in design.between]
    return collect(
        lambda j: [
            *((D[i] * D[k] * seen)[:, j].sum(axis=1) for k in range(len(D)) for i in range(k + 1)),
            *((x * e * seen)[:, j].sum(axis=1) for x in D),
            (e * e * seen)[:, j].sum(axis=1),
            *((x * y * seen)[:, j].sum(axis=1) for x in D),
            (y * y * seen)[:, j].sum(axis=1),
            *(u[:, j, k] for k in range(q)),
            *(value[:, j] for value in z),
        ],
        design,
    )  # fmt: skip


def statistics(c: Condition, design: Design, sampler: type[MomentSampler | LongSampler]) -> tuple[Array, list[str]]:
    """The same of draws."""
    draws = [sampler(design)(block_generator(1, KEY, b), R // 4) for b in range(4)]
    grams = [respond(d, design, dict(zip(c.truth.formula.fixed, c.truth.fixed, strict=True)), [()]) for d in draws]

    def joined(parts: list[Array]) -> Array:
        return np.concatenate([np.broadcast_to(a, (*a.shape[:-1], R // 4)) for a in parts], axis=-1)

    dd, de, ee, u, z = (joined([getattr(d, name) for d in draws]) for name in ("dd", "de", "ee", "u", "z"))
    dy, yy = joined([g.dy for g in grams]), joined([g.yy for g in grams])
    return collect(lambda j: [*dd[j], *de[j], ee[j], *dy[j], yy[j], *u[j], *z[:, j]], design)


def collect(entries: Any, design: Design) -> tuple[Array, list[str]]:
    d = design.columns
    names = [f"{d[i]}'{d[k]}" for k in range(len(d)) for i in range(k + 1)] + [f"{v}'e" for v in d] + ["e'e"]
    names += [f"{v}'y" for v in d] + ["y'y"] + [f"u{k}" for k in range(len(design.random))] + list(design.between)
    return np.stack([*entries(0), *entries(1)], axis=1), [f"{name}, cluster {j}" for j in (0, 1) for name in names]


@pytest.mark.parametrize("sampler", [MomentSampler, LongSampler])
@pytest.mark.parametrize("name", CONDITIONS)
def test_statistics_are_those_of_rows(name: str, sampler: type[MomentSampler | LongSampler]) -> None:
    c = CONDITIONS[name]
    design = compile_design(c)
    (ours, names), (theirs, _) = statistics(c, design, sampler), statistics_twin(c, design, seed=1)
    if sampler is LongSampler and c.missing:  # what lost clusters do to the truth's centre is part of its errors
        kept = ["'e" not in name for name in names]
        ours, theirs, names = ours[:, kept], theirs[:, kept], [v for v in names if "'e" not in v]
    constant = theirs.std(axis=0) < 1e-9
    assert_allclose(ours[:, constant], theirs[:, constant], atol=1e-9)
    ours, theirs = ours[:, ~constant], theirs[:, ~constant]
    names = [v for v, c in zip(names, constant, strict=True) if not c]
    error = np.sqrt(ours.var(axis=0) / R + theirs.var(axis=0) / R)
    far = np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / error
    assert far.max() < 4, names[int(far.argmax())]
    ours, theirs = ((v - theirs.mean(axis=0)) / theirs.std(axis=0) for v in (ours, theirs))
    for i in range(len(names)):
        mine, other = ours[:, i, None] * ours, theirs[:, i, None] * theirs
        error = np.sqrt(mine.var(axis=0) / R + other.var(axis=0) / R)
        far = np.abs(mine.mean(axis=0) - other.mean(axis=0)) / error
        assert far.max() < 5, (names[i], names[int(far.argmax())])
        assert stats.ks_2samp(ours[:, i].round(9), theirs[:, i].round(9)).pvalue > 1e-4, names[i]


# -- rows given the moments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONDITIONS)
def test_rows_have_the_moments(name: str) -> None:
    check_rows(CONDITIONS[name], rtol=1e-8)


def check_rows(c: Condition, rtol: float, formulas: Sequence[Formula] = ()) -> None:
    design = compile_design(c, formulas)
    draw = MomentSampler(design)(block_generator(1, KEY, 5), 64)
    y = respond(draw, design, dict(zip(c.truth.formula.fixed, c.truth.fixed, strict=True)), [()])
    make = ConditionalRows(design)
    for r in (0, 33):
        rows = make(draw, r, block_generator(1, KEY, 100 + r))
        dd = y.dd[:, :, r if y.dd.shape[2] > 1 else 0]  # of columns as stated, which draw.dd has less constants
        sizes = dd[:, 0].round().astype(int)
        assert len(rows.e) == sizes.sum()
        cluster = np.repeat(np.arange(design.clusters), sizes)
        assert_array_equal(rows.spread(design, np.arange(design.clusters)), cluster)
        response, z = rows.response(design), draw.z[:, :, r if draw.z.shape[2] > 1 else 0]
        assert_array_equal(rows.z, z)
        for j in range(design.clusters):
            D, own = rows.D[cluster == j], response[cluster == j]
            scale = np.sqrt((D**2).sum(axis=0))
            scale[scale < 1e-6] = 1.0
            made = np.array(
                [D[:, i] @ D[:, k] / (scale[i] * scale[k]) for k in range(D.shape[1]) for i in range(k + 1)]
            )
            wanted = [dd[j, pair(i, k)] / (scale[i] * scale[k]) for k in range(D.shape[1]) for i in range(k + 1)]
            assert_allclose(made, wanted, atol=rtol)
            assert_allclose(D.T @ own / scale, y.dy[j, :, r] / scale, atol=rtol * np.sqrt(own @ own + 1))
            assert own @ own == pytest.approx(y.yy[j, r], rel=rtol, abs=rtol)
            if draw.offsets is None:
                assert rows.e[cluster == j] @ rows.e[cluster == j] == pytest.approx(draw.ee[j, r], rel=rtol, abs=rtol)
        for k, source in enumerate(design.means, start=len(design.between) - len(design.means)):
            means = [rows.D[cluster == j, source].mean() if sizes[j] else 0.0 for j in range(design.clusters)]
            assert_allclose(z[k], means, rtol=rtol, atol=rtol)
        for column, (source, how) in enumerate(design.centred, start=design.known + design.drawn):
            x = rows.D[:, source]
            means = np.array([x[cluster == j].mean() if sizes[j] else 0.0 for j in range(design.clusters)])[cluster]
            wanted = x - (means if how == "within" else x.mean() if len(x) else 0.0)
            assert_allclose(rows.D[:, column], wanted, atol=1e-10 * (1 + np.abs(x).max(initial=0)))


FAR = condition(
    truth({"Intercept": 1.0, "within(x)": 0.5, "between(x)": -1.0, "center(w)": 1.0}, ("Intercept", "within(x)")),
    [replace(X, mean=1e5, sd=1.0, icc=0.2), replace(W, mean=-1e6, sd=1.0)],
)


def test_far_from_0_rows_have_the_moments() -> None:
    """Within and around the mean, digits are those of the deviations: 1e5 squared would leave six of sixteen."""
    check_rows(FAR, rtol=1e-8)


def test_centring_keeps_digits() -> None:
    """Neither means of 1e5 and 1e6 nor the units change what is centred, but by rounding of deviations."""
    near = replace(FAR, predictors=tuple(replace(p, mean=0.0) for p in FAR.predictors))
    draws = [MomentSampler(compile_design(c))(block_generator(1, KEY, 0), 256) for c in (FAR, near)]
    design = compile_design(FAR)
    own = [0, *range(design.known + design.drawn, len(design.columns))]
    for i in own:
        assert_allclose(draws[0].de[:, i], draws[1].de[:, i], rtol=1e-12, atol=1e-12)
        for k in own:
            assert_allclose(draws[0].dd[:, pair(i, k)], draws[1].dd[:, pair(i, k)], rtol=1e-12, atol=1e-12)
    assert_allclose(draws[0].z - 1e5, draws[1].z, atol=1e-10)


def test_a_cluster_of_one_row_has_no_deviation() -> None:
    c = condition(truth({"Intercept": 1.0, "within(x)": 0.5, "within(time)": 1.0}), [X, TIME], (1, 2, 1))
    draw = MomentSampler(compile_design(c))(block_generator(1, KEY, 0), 64)
    first = compile_design(c).known + 1
    for j in (0, 2):
        assert not draw.de[j, first:].any()
        assert not any(draw.dd[j, pair(i, k)].any() for k in range(first, first + 2) for i in range(k + 1))


def test_empty_clusters_have_moments_of_0() -> None:
    c = CONDITIONS["sizes"]
    draw = MomentSampler(compile_design(c))(block_generator(1, KEY, 0), 512)
    empty = draw.dd[:, 0] == 0
    assert empty.mean() == pytest.approx(np.exp(-4), abs=0.01)
    for array in (np.moveaxis(draw.dd, 1, 2), np.moveaxis(draw.de, 1, 2), draw.ee[:, :, None]):
        assert not array[empty].any()
    assert np.isfinite(draw.z).all()


def test_a_sampler_that_knows_sizes_draws_as_a_new_one() -> None:
    """Factors of sizes are kept; what was drawn before must not matter."""
    design = compile_design(CONDITIONS["sizes of the first arm, schedule"])
    sampler = MomentSampler(design)
    for block in range(4):
        ours, new = (s(block_generator(1, KEY, block), 64) for s in (sampler, MomentSampler(design)))
        for name in ("dd", "de", "ee", "u", "z"):
            assert_array_equal(getattr(ours, name), getattr(new, name))


def test_methods_columns_do_not_change_the_draw() -> None:
    c = condition(truth({"Intercept": 1.0, "x": 0.5}), [X])
    more = Formula("", "y", ("Intercept", "within(x)", "between(x)"), (RandomTerm("g", ("Intercept",)),))
    plain, design = compile_design(c), compile_design(c, [more])
    assert design.columns == ("Intercept", "x", "within(x)")
    assert design.between == ("between(x)",)
    one, other = (MomentSampler(d)(block_generator(1, KEY, 0), 64) for d in (plain, design))
    assert_array_equal(other.dd[:, :3], one.dd)
    assert_array_equal(other.de[:, :2], one.de)
    assert_array_equal(other.ee, one.ee)
    check_rows(c, 1e-8, [more])


def test_what_lost_clusters_do_to_the_mean_is_part_of_y() -> None:
    """The truth is centred at the mean of all clusters, the analysis at that of those that are left."""
    c = CONDITIONS["lost clusters"]
    design = compile_design(c)
    draw = MomentSampler(design)(block_generator(1, KEY, 0), 64)
    assert draw.offsets is not None
    moved = draw.offsets[design.columns.index("center(x)") - design.known - design.drawn, 0]
    arm = draw.z[design.between.index("arm")]
    added = (2.0 + 1.0 * arm + draw.u[:, 1]) * moved
    with_it, without = (respond(d, design, {}, [()]) for d in (draw, replace(draw, offsets=None)))
    for i in range(len(design.columns)):
        assert_allclose(with_it.dy[:, i] - without.dy[:, i], added * draw.dd[:, pair(0, i)], atol=1e-9)
    whole = (draw.dd[:, 0] > 0).all(axis=0)
    assert_allclose(moved[whole], 0.0, atol=1e-12)
    assert np.abs(moved[~whole]).min() > 1e-6


@pytest.mark.parametrize("random", [("Intercept",), ("Intercept", "within(x)"), ("within(x)",)])
def test_fits_with_centred_columns_are_those_of_the_rows(random: tuple[str, ...]) -> None:
    """The whole way: a block's fits against fits of its frames, whose columns pandas centres."""
    c = condition(
        truth({"Intercept": 1.0, "x": 0.5, "arm": 1.0}, ("Intercept", "x"), errors=Errors(cluster_cv=0.4)),
        [replace(X, mean=500.0, icc=0.3), ARM],
        (5, 8, 3, 12, 5, 5, 9, 7),
    )
    fixed = ("Intercept", "within(x)", "between(x)", "within(x):arm")
    work = compile_condition(c, [Method("m", Formula("", "y", fixed, (RandomTerm("g", random),)))])
    (columns,) = work.replicates(0, 6)
    for replicate in (0, 5):
        frame = work.frame(replicate)
        frame["b"] = frame.groupby("g")["x"].transform("mean")
        frame["w"] = frame["x"] - frame["b"]
        left = " + ".join("1" if v == "Intercept" else "w" for v in random)
        found = nl.fit(f"y ~ w + b + w:arm + ({left if 'Intercept' in random else '0 + ' + left} | g)", frame)
        assert found.neg2loglik == pytest.approx(columns["deviance"][replicate], abs=1e-6)
        for term, name in zip(fixed, ("Intercept", "w", "b", "w:arm"), strict=True):
            assert found.beta[name] == pytest.approx(columns[f"estimate.{term}"][replicate], rel=1e-5, abs=1e-6)
            assert found.se[name] == pytest.approx(columns[f"se.{term}"][replicate], rel=1e-5)


def test_priors_with_data_as_they_are() -> None:
    """A truth of each replicate's own multiplies what clusters make of errors, and is what lost clusters shift."""
    c = replace(
        CONDITIONS["lost clusters"],
        truth=replace(CONDITIONS["lost clusters"].truth, errors=Errors(cluster_cv=0.4)),
        priors=(("truth.residual_variance", Prior("uniform", (("low", 1.0), ("high", 3.0)), "variance")),),
    )
    work = compile_condition(c, [Method("m", c.truth.formula)])
    draw, plain = work.draw(0), work.source.sampler(block_generator(c.seed, work.key, 0), c.block_size)
    assert draw.truths is not None
    assert draw.offsets is not None
    assert_allclose(draw.ee, plain.ee * draw.truths.residual_variance, rtol=1e-12)
    y = respond(draw, work.source.design, dict(zip(c.truth.formula.fixed, c.truth.fixed, strict=True)), [()])
    rows = work.source.rows(7, draw)
    cluster = rows.spread(work.source.design, np.arange(work.source.design.clusters))
    for j in range(work.source.design.clusters):
        own = rows.response(work.source.design)[cluster == j]
        assert own @ own == pytest.approx(y.yy[j, 7], rel=1e-8, abs=1e-9)


STUDY: dict[str, Any] = {
    "name": "varied",
    "seed": 1,
    "replications": 50,
    "design": {"clusters": 20, "cluster_size": {"distribution": "negative-binomial", "mean": 12, "cv": 0.6}},
    "truth": {
        "formula": "y ~ arm + within(x) + between(x) + center(time) + (1 + within(x) | school)",
        "fixed": {"Intercept": 1, "arm": 0.5, "within(x)": 0.3, "between(x)": 0.6, "center(time)": 0.05},
        "residual_variance": 1,
        "errors": {"variance_ratio": {"arm": 2}, "cluster_cv": 0.3},
        "random": {
            "school": {"variance": {"Intercept": 0.2, "within(x)": 0.1}, "distribution": "gamma", "skewness": 1},
        },
    },
    "predictors": {
        "arm": {"level": 2, "distribution": "balanced", "redraw": True},
        "x": {"level": 1, "distribution": "normal", "icc": 0.2, "mean": 100, "sd": 2},
        "time": {"level": 1, "distribution": "time"},
    },
    "missing": {"clusters": 0.1},
    "method": [{"name": "reml"}, {"name": "naive", "formula": "y ~ arm + x + (1 | school)"}],
}


def test_fits_of_everything_at_once_are_those_of_the_rows() -> None:
    """A study file with uneven, lost clusters and all that errors, effects and predictors may be on the moments path."""
    study = nl.Study.from_dict(STUDY)
    assert study.conditions[0].path == "moments"
    work = compile_condition(study.conditions[0], study.methods)
    truth_like, naive = work.replicates(0, 50)
    rows = set()
    for r in (0, 7, 49):
        frame = work.frame(r)
        rows.add(len(frame))
        frame["b"] = frame.groupby("school")["x"].transform("mean")
        frame["w"], frame["t"] = frame["x"] - frame["b"], frame["time"] - frame["time"].mean()
        fit = nl.fit("y ~ arm + w + b + t + (1 + w | school)", frame)
        assert fit.neg2loglik == pytest.approx(truth_like["deviance"][r], abs=1e-8)
        assert fit.beta["w"] == pytest.approx(truth_like["estimate.within(x)"][r], abs=1e-9)
        assert fit.se["b"] == pytest.approx(truth_like["se.between(x)"][r], rel=1e-8)
        assert fit.df["w"] == pytest.approx(truth_like["df.within(x)"][r], rel=1e-6)
        fit = nl.fit("y ~ arm + x + (1 | school)", frame)
        assert fit.neg2loglik == pytest.approx(naive["deviance"][r], abs=1e-8)
    assert len(rows) == 3


TERMS = ("Intercept", "arm", "center(time)", "within(x)", "center(x)")


def test_fits_with_centred_columns_do_not_know_the_mean() -> None:
    """x about 0 and about 1e6, sd 2: estimates and standard errors of within(x) and center(x) are the same."""
    formula = "y ~ arm + center(time) + within(x) + center(x) + (1 + within(x) | school)"
    truth_of = STUDY["truth"] | {"formula": formula, "fixed": dict.fromkeys(TERMS, 0.5)}
    found = []
    for mean in (0.0, 1e6):
        predictors = STUDY["predictors"] | {"x": STUDY["predictors"]["x"] | {"mean": mean}}
        study = nl.Study.from_dict(STUDY | {"truth": truth_of, "predictors": predictors, "method": [{"name": "reml"}]})
        work = compile_condition(study.conditions[0], study.methods)
        draw = MomentSampler(work.source.design)(block_generator(1, KEY, 0), work.condition.block_size)
        found.append(work.analyses[0].fit(draw, 0, 40))
    assert np.isfinite(found[0].beta).all()
    assert_allclose(found[1].beta, found[0].beta, rtol=1e-8, atol=1e-8)
    assert_allclose(found[1].se, found[0].se, rtol=1e-7)
