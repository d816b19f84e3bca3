"""Which models are compared, by which distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, f

from nestlab.fit.compare import lr_statistic, lr_statistics, p_value
from nestlab.fit.lmm import Fits
from nestlab.spec.comparison import Comparison, compare
from nestlab.spec.formula import parse_formula


def of(null: str, full: str) -> Comparison:
    return compare(parse_formula(null), parse_formula(full))


#: null, full, kind, what is tested, the mixture
NESTED = [
    ("y ~ 1 + (1 | g)", "y ~ x + (1 | g)", "fixed", ("x",), ((1.0, 1),)),
    ("y ~ z + (1 | g)", "y ~ x*z + (1 | g)", "fixed", ("x", "x:z"), ((1.0, 2),)),
    ("y ~ x + z", "y ~ z*x", "fixed", ("z:x",), ((1.0, 1),)),
    ("y ~ 0 + x + (1 | g)", "y ~ x + (1 | g)", "fixed", ("Intercept",), ((1.0, 1),)),
    ("y ~ x + (0 + x | g) + (1 | g)", "y ~ x + w + (1 | g) + (0 + x | g)", "fixed", ("w",), ((1.0, 1),)),
    ("y ~ x", "y ~ x + (1 | g)", "variance", ("var:g:Intercept",), ((0.5, 0), (0.5, 1))),
    ("y ~ z:x", "y ~ x:z + (0 + x | g)", "variance", ("var:g:x",), ((0.5, 0), (0.5, 1))),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (0 + x | g)", "variance", ("var:g:x",), ((0.5, 0), (0.5, 1))),
    ("y ~ x + (1 + x | g)", "y ~ x + (x | g) + (0 + w | g)", "variance", ("var:g:w",), ((0.5, 0), (0.5, 1))),
    ("y ~ x + (0 + x | g)", "y ~ x + (1 | g) + (0 + x | g)", "variance", ("var:g:Intercept",), ((0.5, 0), (0.5, 1))),
    ("y ~ x + (1 | g)", "y ~ x + (x | g)", "slope", ("cov:g:Intercept:x", "var:g:x"), ((0.5, 1), (0.5, 2))),
    (
        "y ~ x + w + (x | g)", "y ~ x + w + (x + w | g)", "slope",
        ("cov:g:Intercept:w", "cov:g:x:w", "var:g:w"), ((0.5, 2), (0.5, 3)),
    ),
    ("y ~ x + (x || g)", "y ~ x + (x | g)", "covariance", ("cov:g:Intercept:x",), ((1.0, 1),)),
    (
        "y ~ 1 + (x || g) + (0 + w | g)", "y ~ 1 + (x + w | g)", "covariance",
        ("cov:g:Intercept:x", "cov:g:Intercept:w", "cov:g:x:w"), ((1.0, 3),),
    ),
    ("y ~ x", "y ~ x + (x | g)", "other", ("var:g:Intercept", "cov:g:Intercept:x", "var:g:x"), ()),
    ("y ~ x", "y ~ x + (x || g)", "other", ("var:g:Intercept", "var:g:x"), ()),
    ("y ~ 1", "y ~ x + (1 | g)", "other", ("x", "var:g:Intercept"), ()),
    ("y ~ 1 + (x || g)", "y ~ 1 + (x | g) + (0 + w | g)", "other", ("cov:g:Intercept:x", "var:g:w"), ()),
    (
        "y ~ 1 + (x || g)", "y ~ 1 + (x + w | g)", "other",
        ("cov:g:Intercept:x", "cov:g:Intercept:w", "cov:g:x:w", "var:g:w"), (),
    ),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | h)", "variance", ("var:h:Intercept",), ((0.5, 0), (0.5, 1))),
    ("y ~ x + (1 | h)", "y ~ x + (1 | g) + (1 | h)", "variance", ("var:g:Intercept",), ((0.5, 0), (0.5, 1))),
    ("y ~ 1 + (1 | a)", "y ~ 1 + (1 | a/b)", "variance", ("var:a:b:Intercept",), ((0.5, 0), (0.5, 1))),
    ("y ~ 1 + (1 | g) + (1 | h)", "y ~ x + (1 | g) + (1 | h)", "fixed", ("x",), ((1.0, 1),)),
    (
        "y ~ x + (x | g) + (1 | h)", "y ~ x + (x | g) + (x | h)", "slope", ("cov:h:Intercept:x", "var:h:x"),
        ((0.5, 1), (0.5, 2)),
    ),
    ("y ~ x + (x || g) + (1 | h)", "y ~ x + (x | g) + (1 | h)", "covariance", ("cov:g:Intercept:x",), ((1.0, 1),)),
    ("y ~ x + (1 | g)", "y ~ x + (x || g) + (1 | h)", "other", ("var:g:x", "var:h:Intercept"), ()),
    ("y ~ x", "y ~ x + (1 | g) + (1 | h)", "other", ("var:g:Intercept", "var:h:Intercept"), ()),
    (
        "y ~ 1 + (1 | g) + (0 + x | g)", "y ~ 1 + (1 + w | g) + (0 + x | g)", "slope",
        ("cov:g:Intercept:w", "var:g:w"), ((0.5, 1), (0.5, 2)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("null", "full", "kind", "tested", "mixture"), NESTED)
def test_nested(
    null: str, full: str, kind: str, tested: tuple[str, ...], mixture: tuple[tuple[float, int], ...]
) -> None:
    found = of(null, full)
    names = tuple(each.name for each in found.tested)
    assert (found.kind, names, found.mixture) == (kind, tested, mixture)
    assert found.name == ", ".join(tested)
    assert found.needs_ml == any(not name.startswith(("var:", "cov:")) for name in tested)
    assert found.exact == (kind == "variance" and "|" not in null)
    assert sum(weight for weight, _ in mixture) == (1 if mixture else 0)


REFUSED = [
    ("y ~ x + (1 | g)", "y ~ 1 + x + (1 | g)", "are the same model"),
    ("y ~ x:z + (x || g)", "y ~ z:x + (0 + x | g) + (1 | g)", "are the same model"),
    ("y ~ x + (1 | g)", "y ~ z + (1 | g)", "it has x, which the full model has not"),
    ("y ~ x + (1 | g)", "y ~ x", "it has random terms and the full model has none: exchange the two"),
    ("y ~ x + (x | g)", "y ~ x + (1 | g)", "it has x, which the full model has not"),
    ("y ~ x + (x | g)", "y ~ x + z + (x || g)", "it lets Intercept, x correlate and the full model does not"),
    ("v ~ x + (1 | g)", "y ~ x + z + (1 | g)", "its response is v, not y"),
    (
        "y ~ x + (1 | h)",
        "y ~ x + z + (1 | g)",
        "it has random effects of h, and the full model of g only: leave them out of",
    ),
    (
        "y ~ x + (1 | g) + (1 | i)",
        "y ~ x + (x | g) + (1 | h)",
        "it has random effects of i, and the full model of g, h only",
    ),
    ("y ~ x + (x | h)", "y ~ x + (x | g) + (1 | h)", "it has x of h, which the full model has not"),
    ("y ~ x + (1 | g)", "y ~ x + (0 + x | g) + (1 | h)", "it has Intercept of g, which the full model has not"),
    ("y ~ x + (x | g)", "y ~ x + (x || g) + (1 | h)", "it lets Intercept, x correlate and the full model does not"),
    ("y ~ x + (1 | a/b)", "y ~ x + (1 | b:a) + (1 | a)", "are the same model"),
]


@pytest.mark.parametrize(("null", "full", "message"), REFUSED)
def test_refused(null: str, full: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^null model \"") as error:
        of(null, full)
    assert message in str(error.value)
    assert ": " in str(error.value)
    assert "\n" not in str(error.value)


def test_statistic() -> None:
    """Ties within 1e-8 (1 + |deviance|) are 0; a full fit that is worse than the null by more is no optimum."""
    null = np.array([100.0, 100.0, 100.0, 100.0, 100.0, np.nan, 0.0])
    full = np.array([97.0, 100.0 - 1e-7, 100.0 + 1e-7, 100.0 + 1e-5, np.nan, 1.0, 1e-7])
    np.testing.assert_array_equal(lr_statistic(null, full), [3.0, 0.0, 0.0, np.nan, np.nan, np.nan, np.nan])


def test_statistics_of_fits_that_are_no_optima() -> None:
    """not_converged fits have a deviance, the best found, and no statistic."""

    def fits(status: list[int], deviance: list[float]) -> Fits:
        none = np.empty((len(status), 0))
        return Fits(np.array(status), np.zeros(3, int), np.array(deviance), *[none] * 5)

    found = lr_statistics(fits([0, 2, 1], [3.0, 3.0, 3.0]), fits([1, 0, 4], [1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(found, [2.0, np.nan, np.nan])


def test_p_values_vectorised() -> None:
    T = np.array([0.0, 1e-12, 2.0, 3.841458820694124, np.nan, -1.0])
    fixed = p_value(of("y ~ 1 + (1 | g)", "y ~ x + (1 | g)"), T)
    np.testing.assert_allclose(fixed[:4], chi2.sf(T[:4], 1))
    assert fixed[3] == pytest.approx(0.05)
    variance = p_value(of("y ~ x", "y ~ x + (1 | g)"), T)
    assert variance[0] == 1.0
    np.testing.assert_allclose(variance[1:4], 0.5 * chi2.sf(T[1:4], 1))
    slope = p_value(of("y ~ x + (1 | g)", "y ~ x + (x | g)"), T)
    np.testing.assert_allclose(slope[:4], 0.5 * (chi2.sf(T[:4], 1) + chi2.sf(T[:4], 2)))
    for p in (fixed, variance, slope):
        assert np.isnan(p[4:]).all()
    assert p_value(of("y ~ 1", "y ~ x"), 2.0).shape == ()
    with pytest.raises(ValueError, match="test of var:g:Intercept, var:g:x has no known"):
        p_value(of("y ~ x", "y ~ x + (x || g)"), T)


@pytest.mark.calibration
def test_mixture_against_balanced_layout() -> None:
    """One-way layout, no variance: T = 0 with probability P0 = CDF of F at 1 (REML), and g(F) above. Its rejection rate at 5 % by
    the mixture is exact for many clusters only."""
    rng = np.random.default_rng(6)
    comparison = of("y ~ 1", "y ~ 1 + (1 | g)")
    draws = 200_000
    for clusters, mixture_holds in ((6, False), (500, True)):
        a, b = clusters - 1, clusters * 4
        F = rng.chisquare(a, draws) / a / (rng.chisquare(b, draws) / b)
        T = np.where(F > 1, (a + b) * np.log((a * F + b) / (a + b)) - a * np.log(F), 0.0)
        p = p_value(comparison, T)
        zero = f.cdf(1, a, b)
        assert abs((p == 1).mean() - zero) < 4 * np.sqrt(zero * (1 - zero) / draws)
        error = abs((p <= 0.05).mean() - 0.05) / np.sqrt(0.05 * 0.95 / draws)
        assert (error < 4) == mixture_holds
