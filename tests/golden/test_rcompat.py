"""R's random numbers against R's own (article/r_random.json, made by article/r_random.R), to the last bit."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from nestlab.simulate.rcompat import RRandom, _eigen, qnorm

GOLDEN = json.loads((Path(__file__).parent / "article" / "r_random.json").read_text())
STREAMS = pytest.mark.parametrize("r", GOLDEN["streams"], ids=lambda r: f"seed {r['seed']}")
CASES = pytest.mark.parametrize("r", GOLDEN["mvrnorm"], ids=lambda r: r["case"])


@STREAMS
def test_runif_against_r(r):
    assert RRandom(r["seed"]).runif(6).tolist() == r["runif"]
    assert RRandom(r["seed"]).runif(2000)[-3:].tolist() == r["runif_2000_last"]


@STREAMS
def test_rnorm_against_r(r):
    assert RRandom(r["seed"]).rnorm(8).tolist() == r["rnorm"]
    assert RRandom(r["seed"]).rnorm(2000)[-3:].tolist() == r["rnorm_2000_last"]
    assert RRandom(r["seed"]).rnorm(4, 10, 3).tolist() == r["rnorm_mean_10_sd_3"]


@STREAMS
def test_draws_continue_one_stream_against_r(r):
    """runif(3), rnorm(2), rnorm(2, 1, 0) and runif(2) in turn: R takes nothing from the stream where sd = 0."""
    rng = RRandom(r["seed"])
    draws = [rng.runif(3), rng.rnorm(2), rng.rnorm(2, 1, 0), rng.runif(2)]
    assert np.concatenate(draws).tolist() == r["mixed"]


def test_qnorm_against_r():
    p, value = GOLDEN["qnorm"]["p"], GOLDEN["qnorm"]["value"]
    assert qnorm(p).tolist() == value
    assert qnorm(np.reshape(p, (-1, 1))).shape == (len(p), 1)


@CASES
def test_mvrnorm_against_r(r):
    draws = RRandom(r["seed"]).mvrnorm(3, r["mu"], r["Sigma"])
    single = RRandom(r["seed"]).mvrnorm(1, r["mu"], r["Sigma"])
    assert single.shape == (1, len(r["mu"]))
    if len(r["mu"]) <= 2:
        assert draws.tolist() == r["draws"]
        assert single.tolist() == [r["single"]]
    else:
        # The same bits where this was written; the last may change with the compiler of SciPy's dstemr, a sign may not.
        scale = np.sqrt(np.diag(r["Sigma"]))
        np.testing.assert_allclose((draws - r["draws"]) / scale, 0, atol=1e-13)
        np.testing.assert_allclose((single - r["single"]) / scale, 0, atol=1e-13)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 8, 40])
def test_eigen_rebuilds_the_matrix(p):
    root = RRandom(p).rnorm(p * p).reshape(p, p)
    S = root @ root.T
    ev, V = _eigen(S)
    assert np.all(np.diff(ev) <= 0)
    np.testing.assert_allclose(V.T @ V, np.eye(p), atol=1e-13)
    np.testing.assert_allclose((V * ev) @ V.T, S, atol=1e-13 * ev[0])


def test_split_draws_equal_one_draw():
    whole, split = RRandom(3), RRandom(3)
    parts = [split.rnorm(n) for n in (1, 0, 310, 5, 684)]
    assert np.concatenate(parts).tolist() == whole.rnorm(1000).tolist()


def test_a_zero_word_is_moved_inside_the_open_interval_against_r():
    """R: s <- .Random.seed; s[2] <- 0L; s[3:626] <- c(rep(0L, 623), 1L); .Random.seed <- s; c(runif(2), rnorm(1))."""
    rng = RRandom(1)
    key = np.array([0] * 623 + [1], dtype=np.uint32)
    rng._twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 0}}
    assert rng.runif(2).tolist() == [1.1641532185403984e-10, 1.1641532185403984e-10]
    assert rng.rnorm(1).tolist() == [-8.7733211690013437]


@pytest.mark.parametrize("seed", [2**31, -(2**31), 1.5, True, "1", None])
def test_seed_that_r_refuses(seed):
    with pytest.raises(
        ValueError, match=r"seed must be an integer from -2147483647 to 2147483647, as .*, got .*; give the number"
    ):
        RRandom(seed)


@pytest.mark.parametrize("n", [-1, 2.0, True])
@pytest.mark.parametrize(
    "draw", [RRandom.runif, RRandom.rnorm, lambda rng, n: rng.rnorm(n, sd=0), lambda rng, n: rng.mvrnorm(n, 0, 1)]
)
def test_bad_number_of_draws(draw, n):
    with pytest.raises(ValueError, match=f"n must be an integer >= 0, got {n};"):
        draw(RRandom(1), n)


@pytest.mark.parametrize(("mean", "sd"), [(0, -1), (0, math.inf), (math.nan, 1)])
def test_bad_mean_or_sd(mean, sd):
    with pytest.raises(ValueError, match="mean must be finite, sd finite and >= 0, got mean="):
        RRandom(1).rnorm(1, mean, sd)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_qnorm_outside_the_open_interval(p):
    with pytest.raises(ValueError, match="strictly between 0 and 1, got"):
        qnorm([0.5, p])


@pytest.mark.parametrize(
    ("mu", "Sigma", "message"),
    [
        ([0, 0], [[1]], r"Sigma must be p x p for p = 2 means, got shape \(1, 1\)"),
        ([[0, 0]], [[1, 0], [0, 1]], "Sigma must be p x p"),
        ([0, 0], [[1, 0.5], [0.2, 1]], "Sigma finite and symmetric, got"),
        ([0, 0], [[1, math.nan], [math.nan, 1]], "Sigma finite and symmetric, got"),
        ([0, math.inf], [[1, 0], [0, 1]], "mu must be finite"),
        ([0, 0], [[1, 2], [2, 1]], "positive semi-definite, got smallest eigenvalue -1;"),
    ],
)
def test_bad_covariance(mu, Sigma, message):
    with pytest.raises(ValueError, match=message):
        RRandom(1).mvrnorm(1, mu, Sigma)
