"""PowerUp!'s closed form of a trial whose schools are allocated (CRA2: two levels, treatment at level 2), and the page's figures.

With J schools of n pupils, a share P of them treated, rho the unconditional icc and R2 the shares that covariates explain at each
level, all of the outcome within arms,

    MDES = M sqrt( rho (1 - R2_2) / (P (1 - P) J) + (1 - rho) (1 - R2_1) / (P (1 - P) J n) ),  M = t(1 - alpha / 2) + t(power)

by J - g - 2 degrees of freedom, g the number of school-level covariates (Dong and Maynard 2013, Journal of Research on
Educational Effectiveness 6, 24-67). It is exact (but for M, which stands for a noncentral t) for equal schools, no covariate and
cluster means.
"""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from numbers_of import Numbers
from scipy.stats import t

import nestlab as nl
from nestlab.show.outcome import outcome_numbers
from nestlab.show.plots import rates_by


def mdes(
    J: float, n: float, *, rho: float, r2_within: float = 0.0, r2_between: float = 0.0, share: float = 0.5, g: int = 0,
    power: float = 0.8, alpha: float = 0.05,
) -> float:  # fmt: skip
    """The smallest effect, in sds of the outcome, that is found with that power."""
    df = J - g - 2
    M = t.ppf(1 - alpha / 2, df) + t.ppf(power, df)
    variance = rho * (1 - r2_between) + (1 - rho) * (1 - r2_within) / n
    return float(M * math.sqrt(variance / (share * (1 - share) * J)))


def schools(d: float, n: float, *, g: int = 0, **given: float) -> int:
    """The smallest even number of schools by which an effect of d is found."""
    J = 4 + 2 * g
    while mdes(J, n, g=g, **given) > d:
        J += 2
    return J


def power(d: float, J: float, n: float, *, g: int = 0, alpha: float = 0.05, **given: float) -> float:
    """The power that the formula gives an effect of d: MDES is d there."""
    unit = mdes(J, n, g=g, alpha=alpha, power=0.5, **given) / t.ppf(1 - alpha / 2, J - g - 2)
    return float(t.cdf(d / unit - t.ppf(1 - alpha / 2, J - g - 2), J - g - 2))


def planned(results: nl.Results) -> dict[str, dict[str, float]]:
    """What PowerUp! is asked, of each analysis: d, n, rho and the R2, all of them read off the study."""
    condition = results.study.conditions()[0]
    look = outcome_numbers(condition, "treatment")
    n = condition.layout.rows / condition.layout.clusters * (1 - condition.missing.rows)
    plain = {"d": look["d_outcome"], "n": n, "rho": look["icc"]}
    return {
        "pretest": {**plain, "r2_within": look["r2_within"], "r2_between": look["r2_between"]},
        "posttest_only": plain,
    }


def school_trial(results: nl.Results) -> str:
    found = Numbers(results, "power", "treatment")
    plan = planned(results)
    needed = {method: schools(**given) for method, given in plan.items()}
    given = plan["pretest"]
    with_pretest = {
        J: f"{found(clusters=J, method='pretest')} with {J} (formula {power(J=J, **given):.3f})" for J in (32, 38, 44)
    }
    return f"""For an effect of {given["d"]:g} sd of the outcome, an unconditional icc of {given["rho"]:g} and a pretest that
        explains {given["r2_within"]:.2g} of the variance within and {given["r2_between"]:.2g} of that between schools, PowerUp!'s
        closed form asks for {needed["pretest"]} schools of {given["n"]:g} pupils, the mean number that is left of 20, and for
        {needed["posttest_only"]} without the pretest. Simulated with unequal schools (cv 0.4) and 15 % of the pupils lost, power
        is {", ".join(with_pretest.values())}; by the posttest alone it is {found(clusters=38, method="posttest_only")} with 38.
        The formula takes schools to be equal, which costs a school or two here; it is exact for equal schools, no covariate and
        cluster means only."""


def figure(results: nl.Results) -> Figure:
    """Power by schools with the pretest and without, and the formula's curves."""
    found = results.summary()
    found = found[(found["estimand"] == "treatment") & (found["subset"] == "all") & (found["measure"] == "power")]
    names = {"pretest": "with the pretest", "posttest_only": "posttest only"}
    made = Figure(figsize=(7.6, 3.8), layout="constrained")
    ax = made.subplots()
    rates_by(found, x="clusters", series=names, reference=0.8, ax=ax)
    ticks = sorted(found["clusters"].unique())
    for given in planned(results).values():
        ax.plot(ticks, [power(J=J, **given) for J in ticks], color="0.5", linestyle=":", zorder=0)
    ax.plot([], [], color="0.5", linestyle=":", label="PowerUp!, equal schools")
    ax.set_ylabel("power")
    ax.set_xlabel("schools")
    ax.set_ylim(0, 1)
    ax.set_xticks(ticks)
    made.legend(loc="outside right center", frameon=False)
    return made
