"""Measures and statuses in words: what each measure is, and how its Monte Carlo standard error is computed."""

from __future__ import annotations

__all__ = ["DIFFERENCES", "FORMULAS", "MCSE_NOTES", "PROPORTIONS", "mcse_formula"]

#: Measures that are shares of replicates: they have Wilson's limits.
PROPORTIONS = frozenset(
    (
        "cover",
        "becover",
        "below",
        "above",
        "power",
        "type_s",
        "converged",
        "singular",
        "failed",
        "inference_failed",
        "selected",
    )
)

#: Morris, White and Crowther (2019); est, se: estimate and standard error of a replicate; N: replicates with a result.
FORMULAS = {
    "mean": "mean of est",
    "median": "median of est",
    "bias": "mean of est - truth",
    "relbias": "100 bias / truth, in percent; absent where the truth is 0",
    "empse": "sqrt( sum (est - mean)^2 / (N - 1) )",
    "mse": "mean of (est - truth)^2",
    "rmse": "sqrt( mse )",
    "modelse": "sqrt( mean of se^2 )",
    "relerror": "100 ( modelse / empse - 1 ), in percent",
    "cover": "share of intervals that hold the truth",
    "becover": "share of intervals that hold the mean of est",
    "below": "share of intervals wholly below the truth",
    "above": "share of intervals wholly above the truth",
    "width": "mean width of the intervals",
    "power": "share of tests that reject; where what is tested is true this is the type I error rate",
    "power_sd": "standard deviation, over the prior, of the power given the values drawn",
    "power_q10": "10 % quantile, over the prior, of the power given the values drawn",
    "power_q50": "median, over the prior, of the power given the values drawn",
    "power_q90": "90 % quantile, over the prior, of the power given the values drawn",
    "type_s": "share of rejections whose estimate is on the wrong side of the null; N counts rejections",
    "type_m": "mean of |est - null| / |truth - null| over rejections; N counts rejections",
    "relprec": "100 ( (empse of the first method / empse)^2 - 1 ), in percent, paired by replicate",
    "converged": "share of all replicates whose fit holds the certificate of an optimum, singular ones included",
    "singular": "share of all replicates whose fit is on the boundary of the parameter space",
    "failed": "share of all replicates without any estimates",
    "inference_failed": "share of all replicates with estimates whose inference failed",
    "selected": "share of replicates, of those where a model could be fitted, in which the larger one was reported",
}

_FREE = "influence function psi of the measure: sqrt( sum psi^2 / (N (N - 1)) )"
_DISTRIBUTION_FREE = {
    "mean": "empse / sqrt( N )",
    "bias": "empse / sqrt( N )",
    "relbias": "100 empse / ( sqrt( N ) |truth| )",
    "empse": "empse / 2 sqrt( (N - 1) (kurtosis - 1) ) / (N - 2)",
    "mse": "sqrt( sum ( (est - truth)^2 - mse )^2 / (N (N - 1)) )",
    "rmse": "MCSE(mse) / (2 rmse)",
    "modelse": "sqrt( Var(se^2) / (4 N modelse^2) )",
    "median": "distance of two order statistics over twice a normal quantile (Price and Bonett 2001)",
    "width": "sd of the widths / sqrt( N )",
    "type_m": "sd of the ratios / sqrt( N )",
}
_MORRIS = {
    "empse": "empse / sqrt( 2 (N - 1) )",
    "relerror": "100 (modelse / empse) sqrt( Var(se^2) / (4 N modelse^4) + 1 / (2 (N - 1)) )",
    "relprec": "200 (empse of the first / empse)^2 sqrt( (1 - corr^2) / (N - 1) )",
}

MCSE_NOTES = {
    "distribution-free": "Monte Carlo standard errors (MCSE) assume no distribution of the estimates.",
    "morris": "Monte Carlo standard errors (MCSE) are those of Morris et al. (2019), Table 6, which take estimates as normal.",
}

#: `measure.paired`.
DIFFERENCES = (
    "Differences between methods are taken on the replicates where both have a result, and their MCSEs use that pairing: of "
    "proportions sqrt( b + c - (b - c)^2 / N ) / N, where b replicates are hits of the one method alone and c of the other alone "
    "(McNemar); of other measures by the differences of the two influences. Where b + c = 0 that MCSE is 0, and Tango's (1998) "
    "95 % limits stand beside it. nestlab compare prints those of all measures."
)


def mcse_formula(measure: str, kind: str) -> str:
    """How the MCSE of a measure is computed; kind: "distribution-free" or "morris".

    >>> mcse_formula("empse", "morris"), mcse_formula("power", "morris")
    ('empse / sqrt( 2 (N - 1) )', 'sqrt( p (1 - p) / N )')
    """
    if measure in PROPORTIONS:
        return "sqrt( p (1 - p) / N )"
    if kind == "morris" and measure in _MORRIS:
        return _MORRIS[measure]
    return _DISTRIBUTION_FREE.get(measure, _FREE)
