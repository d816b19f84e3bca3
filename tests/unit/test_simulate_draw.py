"""Draws of both paths and the response against ten-line twins in NumPy, which work on rows or dense matrices."""

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nestlab.simulate import rows as rows_module
from nestlab.simulate.deviates import chi_square, standard_normal
from nestlab.simulate.gram import Draw, respond
from nestlab.simulate.layout import compile_design, pair
from nestlab.simulate.moments import MomentSampler, draw_between, draw_random_effects
from nestlab.simulate.rows import RowSampler
from nestlab.simulate.streams import block_generator
from nestlab.spec.formula import parse_formula
from nestlab.spec.model import Condition, Layout, Predictor, Truth

KEY = "5" * 64
R = 7
#: The twins sum in another order.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}

A = Predictor("a", 1, "normal", mean=1.0, sd=2.0)
B = Predictor("b", 1, "balanced", redraw=False)
C = Predictor("c", 1, "balanced", redraw=False)
F = Predictor("f", 1, "normal", mean=-1.0, sd=0.5, redraw=False)
S = Predictor("s", 2, "normal", mean=3.0, sd=2.0)
T = Predictor("t", 2, "balanced", redraw=False)
U = Predictor("u", 2, "normal", redraw=False)
W = Predictor("w", 1, "normal", sd=0.1)
X = Predictor("x", 1, "normal")

#: Formula, predictors, sizes: from one row a cluster, below the number of columns, to many; known columns that depend on others.
DESIGNS = {
    "intercept": ("y ~ 1 + (1 | g)", (), (1, 2, 5)),
    "slope, equal": ("y ~ x + (1 + x | g)", (X,), (4, 4, 4, 4)),
    "slope, one row": ("y ~ a + (1 + a | g)", (A,), (1, 1, 1)),
    "three drawn": ("y ~ a + x + w + (1 + a | g)", (A, X, W), (1, 2, 3, 4, 5, 30)),
    "balanced": ("y ~ a + b*s + (1 + b | g)", (A, B, S), (1, 2, 3, 8, 30)),
    "known": ("y ~ b + f*s + t + (1 + f | g)", (B, F, S, T), (1, 2, 3, 9)),
    "known, dependent": ("y ~ a + b*c + f + (1 + b | g) + (0 + a | g)", (A, B, C, F, W), (1, 2, 3, 4, 5, 6, 17)),
    "between": ("y ~ x*s + x*t + x*u + (0 + x | g)", (X, S, T, U), (2, 3, 40)),
}
PRODUCTS = {
    "product": ("y ~ a*x*t + (1 + x | g)", (A, X, T), (1, 2, 3, 30)),
    "products": ("y ~ a:b + x:f:b + x:a:w:s + (1 + x:w | g)", (A, B, F, S, W, X), (1, 3, 12)),
}
ALL = pytest.mark.parametrize("name", [*DESIGNS, *PRODUCTS])
BOTH = pytest.mark.parametrize("name", DESIGNS)
PATHS = pytest.mark.parametrize("sampler", [MomentSampler, RowSampler])


def design(name):
    formula, predictors, sizes = (DESIGNS | PRODUCTS)[name]
    parsed = parse_formula(formula)
    q = len(parsed.random_columns)
    half = np.random.default_rng(q).normal(size=(q, q))
    covariance = tuple(map(tuple, (half @ half.T).tolist()))
    truth = Truth(parsed, (1.0,) * len(parsed.fixed), covariance, 2.0)
    return compile_design(Condition({}, 1, Layout(sizes), truth, predictors, "rows", R))


def generator(block=0):
    return block_generator(1, KEY, block)


def matrices(d, draw):
    """(j, r, D'D, D'e, e'e) of each cluster and replicate."""
    k = draw.de.shape[1]
    for j, r in product(range(d.clusters), range(draw.replicates)):
        dd = draw.dd[j, :, r if draw.dd.shape[2] > 1 else 0]
        yield j, r, np.array([[dd[pair(i, h)] for h in range(k)] for i in range(k)]), draw.de[j, :, r], draw.ee[j, r]


def row_twin(d, stream):
    """The rows that a `RowSampler` draws, whole: z, u, then D (R, N, d) and e (R, N)."""
    redrawn = np.flatnonzero(np.isnan(d.between_fixed[:, 0]))
    z = np.repeat(d.between_fixed[:, :, None], R if len(redrawn) else 1, axis=2)
    for m in redrawn:
        z[m] = d.between_predictors[m].mean + d.between_predictors[m].sd * stream.standard_normal((d.clusters, R))
    u = np.einsum("ik,jkr->jir", d.random_factor, stream.standard_normal((d.clusters, len(d.random), R)))
    noise = stream.standard_normal((d.rows, d.drawn + 1, R))
    columns = [np.repeat(known[:, None], R, axis=1) for known in d.known_rows.T]
    columns += [d.drawn_mean[i] + d.drawn_sd[i] * noise[:, i] for i in range(d.drawn)]
    columns += [np.prod([columns[i] for i in factors], axis=0) for factors in d.products]
    return z, u, np.array(columns).transpose(2, 1, 0), d.residual_sd * noise[:, -1].T


def clusters(d):
    return [slice(end - size, end) for end, size in zip(np.cumsum(d.sizes), d.sizes, strict=True)]


@ALL
def test_rows_against_whole_rows(name):
    d = design(name)
    draw = RowSampler(d)(generator(), R)
    z, u, D, e = row_twin(d, generator())
    assert_allclose(draw.z, z, **CLOSE)
    assert_allclose(draw.u, u, **CLOSE)
    for j, r, dd, de, ee in matrices(d, draw):
        own = clusters(d)[j]
        assert_allclose(dd, D[r, own].T @ D[r, own], **CLOSE)
        assert_allclose(de, D[r, own].T @ e[r, own], **CLOSE)
        assert_allclose(ee, e[r, own] @ e[r, own], **CLOSE)


@pytest.mark.parametrize("held", [1, 100, 10**9])
def test_rows_held_at_once_change_nothing(monkeypatch, held):
    d = design("products")
    expected = RowSampler(d)(generator(), R)
    monkeypatch.setattr(rows_module, "HELD", held)
    same(RowSampler(d)(generator(), R), expected)


def assembled_twin(sampler, across, above, v, squares):
    """R of each cluster and replicate as a dense matrix, then R'R, s R'v and e'e."""
    d, active = sampler.design, sampler.plain.active
    k, g = d.known, d.drawn
    for j, r in product(range(d.clusters), range(R)):
        factor = np.zeros((k + g, k + g))
        factor[:k, :k] = sampler.plain.factor[j]
        location = np.outer(sampler.plain.factor[j][:, 0], d.drawn_mean)
        factor[:k, k:] = location + active[j, :k, None] * across[j, :, :, r] * d.drawn_sd
        T = np.diag(np.sqrt(squares[j, :g, r]))
        T[*reversed(np.tril_indices(g, -1))] = above[j, :, r]
        factor[k:, k:] = active[j, k:, None] * T * d.drawn_sd
        rest = squares[j, g, r] + active[j] @ v[j, :, r] ** 2
        yield factor.T @ factor, d.residual_sd * factor.T @ v[j, :, r], d.residual_sd**2 * rest


@BOTH
def test_moments_against_dense_factors(name):
    d = design(name)
    sampler = MomentSampler(d)
    draw, stream = sampler(generator(), R), generator()
    k, g = d.known, d.drawn
    draw_between(d, stream, R)
    draw_random_effects(d, stream, R)
    across, above, v = (
        standard_normal(stream, (d.clusters, *shape, R)) for shape in [(k, g), (g * (g - 1) // 2,), (k + g,)]
    )
    twin = assembled_twin(sampler, across, above, v, chi_square(stream, sampler.plain.df, R))
    for (_, _, dd, de, ee), expected in zip(matrices(d, draw), twin, strict=True):
        assert_allclose(dd, expected[0], **CLOSE)
        assert_allclose(de, expected[1], **CLOSE)
        assert_allclose(ee, expected[2], **CLOSE)


@BOTH
def test_known_factor_is_that_of_the_rows(name):
    """R'R is K'K, also of dependent columns; equal to the QR factor where there are none."""
    sampler = MomentSampler(design(name))
    for own, factor in zip(clusters(sampler.design), sampler.plain.factor, strict=True):
        K = sampler.design.known_rows[own]
        assert_allclose(factor.T @ factor, K.T @ K, **CLOSE)
        assert_array_equal(factor, np.triu(factor))
        rank = np.linalg.matrix_rank(K)
        assert np.count_nonzero(np.diag(factor)) == rank
        if rank == K.shape[1]:
            qr = np.linalg.qr(K, mode="r")
            assert_allclose(factor, np.sign(np.diag(qr))[:, None] * qr, **CLOSE)


@BOTH
def test_degrees_of_freedom_are_the_rows(name):
    """Rows of R and degrees of freedom of the rest of e'e add up to n; Bartlett's fall by one."""
    sampler = MomentSampler(design(name))
    d = sampler.design
    assert_array_equal(sampler.plain.active.sum(axis=1) + sampler.plain.df[:, -1], d.sizes)
    left = d.sizes - sampler.plain.active[:, : d.known].sum(axis=1)
    for i in range(d.drawn):
        assert_array_equal(sampler.plain.df[:, i], np.maximum(left - i, 0))


@BOTH
@PATHS
def test_the_rank_of_the_gram_is_that_of_n_rows(name, sampler):
    """[D, e] has n rows, so its Gram has rank min(n, columns) less the known columns that depend on others."""
    d = design(name)
    own = clusters(d)
    for j, r, dd, de, ee in matrices(d, sampler(d)(generator(), R)):
        gram = np.block([[dd, de[:, None]], [de, ee]])
        scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
        values = np.linalg.eigvalsh(gram / np.outer(scale, scale))
        known = np.linalg.matrix_rank(d.known_rows[own[j]])
        assert (values > 1e-9).sum() == min(d.sizes[j], known + d.drawn + 1), (j, r)
        assert values[0] > -1e-12
        assert dd[0, 0] == d.sizes[j]


@BOTH
def test_shapes_and_known_parts_are_those_of_both_paths(name):
    d = design(name)
    moments, rows = MomentSampler(d)(generator(), R), RowSampler(d)(generator(), R)
    known = d.known * (d.known + 1) // 2
    assert_array_equal(moments.dd[:, :known], rows.dd[:, :known])
    assert_array_equal(moments.z, rows.z)
    assert_array_equal(moments.u, rows.u)
    m = len(d.between)
    J, k = d.clusters, len(d.columns)
    for draw in (moments, rows):
        assert draw.dd.shape == (J, k * (k + 1) // 2, R if d.drawn else 1)
        assert draw.z.shape == (m, J, R if "s" in d.between else 1)
        assert (draw.de.shape, draw.ee.shape, draw.u.shape) == ((J, k, R), (J, R), (J, len(d.random), R))
        assert draw.replicates == R


def test_moments_of_products_are_no_path():
    with pytest.raises(AssertionError, match="rows path"):
        MomentSampler(design("product"))


def same(draw, other):
    for field in Draw.__dataclass_fields__:
        assert_array_equal(getattr(draw, field), getattr(other, field))


@PATHS
@pytest.mark.parametrize("name", ["between", "known", "known, dependent"])
def test_blocks_drawn_in_threads_at_once(name, sampler):
    """One sampler, 40 blocks in 8 threads: each as if it were drawn alone."""
    draw = sampler(design(name))
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda block: draw(generator(block), 64), range(40)))
    for block, found in enumerate(drawn):
        same(found, sampler(design(name))(generator(block), 64))


#: Terms whose true values stay in y, by design; the last one is in the truth in another order.
OMITTED = {
    "slope, equal": [{}, {"x": 3.0}, {"Intercept": -1.0, "x": 2.0}],
    "balanced": [{}, {"s": 2.0}, {"b:s": 1.5, "a": 1.0, "s": 1.0}],
    "between": [{}, {"x:t": 1.0, "s:x": 2.0}, {"u": 1.0, "u:x": -1.0, "Intercept": 5.0}],
    "known": [{}, {"f": 2.0}, {"t": 1.0, "b": 1.0, "s:f": -2.0}],
    "products": [{}, {"b:a": 2.0}, {"w:s:x:a": 1.0, "b:f:x": 1.0}],
}


@pytest.mark.parametrize(("name", "omitted"), [(name, o) for name, many in OMITTED.items() for o in many])
def test_respond_against_whole_rows(name, omitted):
    """y = Z u + the omitted fixed effects + e, row by row."""
    d = design(name)
    gram = respond(RowSampler(d)(generator(), R), d, omitted, [()])
    z, u, D, e = row_twin(d, generator())
    values = {v: D[:, :, d.columns.index(v)] for v in d.columns if ":" not in v}
    values |= {v: np.repeat(np.broadcast_to(z[m], (d.clusters, R)), d.sizes, axis=0).T for m, v in enumerate(d.between)}
    y = e.copy()
    for term, value in omitted.items():
        y += value * np.prod([values[v] for v in term.split(":")], axis=0)
    for k, column in enumerate(d.random):
        y += D[:, :, column] * np.repeat(u[:, k], d.sizes, axis=0).T
    for (j, own), r in product(enumerate(clusters(d)), range(R)):
        assert_allclose(gram.dy[j, :, r], D[r, own].T @ y[r, own], rtol=1e-12, atol=1e-11)
        assert_allclose(gram.yy[j, r], y[r, own] @ y[r, own], rtol=1e-12, atol=1e-11)


@BOTH
def test_respond_against_dense_matrices(name):
    d = design(name)
    draw = MomentSampler(d)(generator(), R)
    gram = respond(draw, d, {}, [()])
    assert gram.dd is draw.dd
    for j, r, dd, de, ee in matrices(d, draw):
        w = np.zeros(len(d.columns))
        w[list(d.random)] = draw.u[j, :, r]
        assert_allclose(gram.dy[j, :, r], dd @ w + de, **CLOSE)
        assert_allclose(gram.yy[j, r], w @ dd @ w + 2 * w @ de + ee, **CLOSE)


def test_weights_are_products_of_level_2_predictors():
    d = design("between")
    draw = MomentSampler(d)(generator(), R)
    s, t, u = draw.z
    gram = respond(draw, d, {}, [(), ("s",), ("s", "t"), ("s", "t", "u")])
    assert_array_equal(gram.weights, [np.ones_like(s), s, s * t, s * t * u])
    assert respond(draw, d, {}, [()]).weights.shape == (1, d.clusters, 1)


def test_weights_that_are_not_redrawn_have_width_1():
    formula, predictors, sizes = "y ~ x*t + u + (1 | g)", (T, U, X), (2, 3, 4)
    parsed = parse_formula(formula)
    truth = Truth(parsed, (0.0,) * len(parsed.fixed), ((1.0,),), 1.0)
    d = compile_design(Condition({}, 1, Layout(sizes), truth, predictors, "moments", R))
    gram = respond(MomentSampler(d)(generator(), R), d, {}, [(), ("t",), ("u",)])
    assert gram.weights.shape == (3, 3, 1)
    assert gram.weights[1, :, 0].tolist() == [0, 1, 0]


def test_a_draw_does_not_change_when_it_is_used():
    d = design("known")
    draw = MomentSampler(d)(generator(), R)
    before = copy.deepcopy(draw)
    respond(draw, d, {"f:s": 2.0, "Intercept": 1.0}, [(), ("s",)])
    MomentSampler(d)(generator(1), R)
    RowSampler(d)(generator(1), R)
    same(draw, before)


def test_variances_of_zero_leave_rows_alone():
    formula = parse_formula("y ~ x + (1 + x | g)")
    truth = Truth(formula, (0.0, 0.0), ((0.0, 0.0), (0.0, 0.0)), 1.0)
    d = compile_design(Condition({}, 1, Layout((3, 4)), truth, (X,), "moments", R))
    draw = MomentSampler(d)(generator(), R)
    gram = respond(draw, d, {}, [()])
    assert not draw.u.any()
    assert_array_equal(gram.dy, draw.de)
    assert_array_equal(gram.yy, draw.ee)


def test_assembled_known_part_is_left_as_it_was():
    """What the design knows exactly, such as counts, is not rounded by way of the factor."""
    d = design("balanced")
    sampler = MomentSampler(d)
    draw = sampler(generator(), R)
    assert_array_equal(draw.dd[:, :3], np.repeat(d.known_gram[:, :, None], R, axis=2))
