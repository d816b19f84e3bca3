"""[truth.outcome]: variances and a covariate's coefficient from what the outcome is to look like within arms.

Of the outcome's variance v, its unconditional icc and the shares r2 that covariates explain within and between clusters, those
that are given determine

    within = (1 - icc) v,  between = icc v,    or from what the study gives itself where v or icc is absent,
    the coefficient of the one term without one at a level:  what is explained there = r2 times the level's part,
    s2 = within - explained - random slopes (where v is given),    t2 = between - explained - random slopes (where icc is).

`outcome.outcome` has the parts. What is explained is a quadratic function of one coefficient, and what random effects add one of
the intercept's sd where correlations are held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .axes import OUTCOME, OUTCOME_KEYS, outcome_sets
from .model import INTERCEPT, Condition, Effect, Formula
from .outcome import Outcome, UnknownVarianceError, arms_of, outcome, predictors_of

__all__ = ["NO_INPUTS", "ImpossibleError", "OutcomeInputs", "Solver", "refused_beside", "take_outcome"]

#: The level's index in an outcome's parts, and the model's number of it, by the key of its share.
_LEVELS = {"r2_within": (1, 1), "r2_between": (0, 2)}


class ImpossibleError(Exception):
    """Why [truth.outcome] can't be met: the key at fault, what must hold, and the repair."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key, self.text = key, text


@dataclass(frozen=True, slots=True)
class OutcomeInputs:
    """What a condition's [truth.outcome] asks for. free: terms of the fixed part without a coefficient."""

    variance: float | None = None
    icc: float | None = None
    r2_within: float | None = None
    r2_between: float | None = None
    arm: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        return {key: value for key in _LEVELS if (value := getattr(self, key)) is not None}

    @property
    def words(self) -> dict[str, float | tuple[str, ...]]:
        """What is given, by its key."""
        numbers = {key: getattr(self, key) for key in OUTCOME_KEYS}
        return {key: value for key, value in {**numbers, "arm": self.arm}.items() if value not in (None, ())}

    @property
    def asks(self) -> bool:
        """Whether anything follows from it but names of arms."""
        return any(key in OUTCOME_KEYS for key in self.words)


NO_INPUTS = OutcomeInputs()


def take_outcome(flat: dict[str, Any], truth: Formula) -> OutcomeInputs:
    """What [truth.outcome] asks for among a condition's flat values; what follows from it is given a stand-in there."""
    given = {key: flat.pop(f"{OUTCOME}.{key}", None) for key in (*OUTCOME_KEYS, "arm")}
    for key in ("variance", "icc"):
        if given[key] is not None:
            flat |= dict.fromkeys(outcome_sets(key, truth), 1.0)
    free = tuple(term for term in truth.fixed if f"truth.fixed.{term}" not in flat)
    flat |= {f"truth.fixed.{term}": 0.0 for term in free}
    return OutcomeInputs(**{**given, "arm": given["arm"] or ()}, free=free)


def refused_beside(key: str, formula: Formula) -> str:
    """What to do about a value that a key of [truth.outcome] takes the place of."""
    return f"must not stand beside {OUTCOME}.{key}, from which {outcome_sets(key, formula)[0]} follows; remove one of the two"


class Solver:
    """The variances and coefficients of one condition, step by step: `step` is repeated until nothing changes."""

    def __init__(self, condition: Condition, inputs: OutcomeInputs, level: Callable[[str], int]) -> None:
        self.inputs = inputs
        self.terms = _covariates(condition, inputs, level)
        covariates = [name for term in self.terms.values() for name in predictors_of(term)]
        self.given = inputs.arm or arms_of(condition, covariates)
        self.columns = condition.truth.formula.random_columns
        self.unit = condition.truth.covariance  # with an intercept variance of 1 where that is asked for
        if inputs.icc is not None and condition.truth.errors.ar1:
            text = (
                "must be absent where errors are autocorrelated, as two rows of a cluster then have no one correlation"
            )
            raise ImpossibleError("icc", f"{text}; remove it, or truth.errors.ar1")

    def stated(self) -> dict[str, Effect]:
        """The shares as effects of the terms whose coefficients they give."""
        shares = self.inputs.shares
        return {
            term: Effect("r2", shares[key], by="outcome", level=1 if key == "r2_within" else 2)
            for key, term in self.terms.items()
        }

    def step(self, condition: Condition, fixed: dict[str, float]) -> Condition:
        """The condition with the variances that are asked for at these coefficients, of which some are replaced."""
        v, icc, shares = self.inputs.variance, self.inputs.icc, self.inputs.shares
        now = self._outcome(condition, fixed)
        alone = {key: 1 - shares[key] for key in shares}  # of a level, what is not explained
        between = now.random[0] / alone["r2_between"] if "r2_between" in alone else now.between
        if v is not None:
            between = icc * v if icc is not None else between
            within = v - between
        else:
            own = now.random[1] + now.residual
            within = own / alone["r2_within"] if "r2_within" in alone else now.within
            between = icc / (1 - icc) * within if icc is not None else between
        levels = {"r2_within": within, "r2_between": between}
        for key, term in self.terms.items():
            self._set(condition, fixed, term, key, levels[key])
        made = self._outcome(condition, fixed)
        if v is not None:
            condition = self._with_residual(condition, made, within)
        if icc is not None:
            condition = self._with_intercept(condition, made, between, within)
        return condition

    def _outcome(self, condition: Condition, fixed: Mapping[str, float]) -> Outcome:
        try:
            return outcome(condition, self.given, fixed)
        except UnknownVarianceError as unknown:
            key = next(
                key for key in ("icc", "r2_within", "r2_between", "variance") if getattr(self.inputs, key) is not None
            )
            text = f"must be of an outcome whose variance is known, and {unknown}"
            raise ImpossibleError(key, f"{text}; give variances and coefficients instead") from None

    def _set(self, condition: Condition, fixed: dict[str, float], term: str, key: str, whole: float) -> None:
        """Give a term the coefficient with which its share of a whole level is explained."""
        level = _LEVELS[key][0]

        def at(b: float) -> float:
            return self._outcome(condition, {**fixed, term: b}).explained[level]

        root = _root(at, self.inputs.shares[key] * whole)
        if root is None and at(1.0) == at(0.0):
            where = key.removeprefix("r2_")
            text = f"needs a term that varies {where} clusters, and {term} does not"
            raise ImpossibleError(key, f"{text}; add one to truth.formula, or remove it")
        if root is None:
            least = at(0.0) / whole if whole > 0 else 1.0
            text = f"must be at least {least:.4g}, what other terms explain there"
            raise ImpossibleError(key, f"{text}; raise it, or lower their coefficients")
        fixed[term] = root

    def _with_residual(self, condition: Condition, made: Outcome, within: float) -> Condition:
        left = within - made.explained[1] - made.random[1]
        if not left > 0:
            known = self.inputs.icc
            least = made.variance - made.residual if known is None else (within - left) / (1 - known)
            text = f"must be more than {least:.4g}, what covariates and random effects have of it"
            raise ImpossibleError("variance", f"{text}; raise it, or lower the coefficients or r2")
        s2 = condition.truth.residual_variance * left / made.residual
        return replace(condition, truth=replace(condition.truth, residual_variance=s2))

    def _with_intercept(self, condition: Condition, made: Outcome, between: float, within: float) -> Condition:
        def at(sd: float) -> float:
            return outcome(self._scaled(condition, sd), self.given, {}).random[0]

        sd = _root(at, between - made.explained[0])
        if sd is None:
            least = made.explained[0] + at(0.0)
            whole = within + between if self.inputs.variance is not None else within + least
            text = f"must be at least {least / whole:.4g}, what other terms than the random intercept make of it"
            raise ImpossibleError("icc", f"{text}; raise it, or lower r2_between and the coefficients of covariates")
        return self._scaled(condition, sd)

    def _scaled(self, condition: Condition, sd: float) -> Condition:
        """With this sd of the intercept, at the correlations that the study gives."""
        place = self.columns.index(INTERCEPT)
        scale = [sd if k == place else 1.0 for k in range(len(self.columns))]
        made = tuple(
            tuple(value * scale[i] * scale[j] for j, value in enumerate(row)) for i, row in enumerate(self.unit)
        )
        return replace(condition, truth=replace(condition.truth, covariance=made))


def _root(function: Callable[[float], float], target: float) -> float | None:
    """The larger root of a quadratic function less its target; None if it has none at 0 or above."""
    start, up, down = function(0.0), function(1.0), function(-1.0)
    A, B, C = (up + down) / 2 - start, (up - down) / 2, start - target
    if abs(C) <= 1e-14 * max(abs(start), abs(target)):
        C = 0.0
    if A <= 0 or B * B - 4 * A * C < 0:
        return None
    root = (-B + math.sqrt(B * B - 4 * A * C)) / (2 * A)
    return root + 0.0 if root >= 0 else None


def _covariates(condition: Condition, inputs: OutcomeInputs, level: Callable[[str], int]) -> dict[str, str]:
    """The term whose coefficient each share gives, by the share's key."""
    shares, free = inputs.shares, inputs.free
    if not shares:
        return {}
    _refuse_one_slope(condition, inputs, level)
    found: dict[str, str] = {}
    for key in shares:
        number = _LEVELS[key][1]
        own = [term for term in free if level(term) == number]
        if (
            not own and key == "r2_between" and len(shares) == 1
        ):  # one slope of a level-1 term, by its part between clusters
            own = list(free)
        if len(own) != 1:
            others = [term for term in condition.truth.formula.fixed if term != INTERCEPT and level(term) == number]
            having = f"{', '.join(own)} have none" if own else "all have one"
            repair = (
                "give all but one" if own else f"leave out that of {' or '.join(others)}" if others else "add a term"
            )
            raise ImpossibleError(
                key, f"gives the coefficient of the one term of level {number} that has none, and {having}; {repair}"
            )
        found[key] = own[0]
    if left := [term for term in free if term not in found.values()]:
        raise ImpossibleError(
            next(iter(shares)),
            f"gives the coefficient of one term, and {', '.join(left)} has none, too; add {left[0]} = 0, say",
        )
    return found


def _refuse_one_slope(condition: Condition, inputs: OutcomeInputs, level: Callable[[str], int]) -> None:
    """Two shares need two coefficients: one of a level-1 covariate would have to meet both."""
    if len(inputs.shares) < 2:
        return
    arms = inputs.arm or arms_of(condition, [name for term in inputs.free for name in predictors_of(term)])
    terms = [t for t in condition.truth.formula.fixed if t != INTERCEPT and not set(predictors_of(t)) & set(arms)]
    if len(terms) == 1 and level(terms[0]) == 1:
        x = terms[0]
        repair = f"write within({x}) + between({x}) for {x}" if x.isidentifier() else "add a term of level 2"
        raise ImpossibleError(
            "r2_between",
            f"needs a coefficient of its own: one slope of {x} can't meet r2_within and r2_between; {repair} in truth.formula, "
            "or remove one of the two",
        )
