"""Effects in standard units as coefficients, and the variance that the true model explains at each level.

With s2 the residual variance, t2 that of the random intercept, b the coefficient of a term,

    d = b / sqrt(t2 + s2)    by total variance     (Hedges 2007, delta_T: the response's sd given the fixed effects)
    d = b / sqrt(s2)         by residual variance  (Hedges 2007, delta_W)
    d = b / sd(y | arm)      by outcome            (the response's own sd within arms, covariates not taken off: `outcome`)

for a step of one unit of the term (of a 0/1 predictor: the difference of means, Cohen's d), or with per = "sd" of one standard
deviation of it. As for the short name icc, t2 is the variance at 0 of predictors with a random slope. The arms are those of the
term's own predictors; "outcome-control" takes the sd of the arm at 0, or at the first category.

    r2 = b^2 var(term at its level) / V(level)

is the share of the response's variance at a level that the term explains, of all that varies there: Rights and Sterba's
(2019) R2_w^(f1) within and R2_b^(f2) between clusters, split by term. V(1) sums what all fixed effects explain within clusters,
b' S_w b, what random slopes add there, tr(T S_w), and s2; V(2) what fixed effects explain between clusters, b' S_b b, and the
random effects' variance there, E[r' T r] with r the clusters' parts of the random columns: t2 where slopes' predictors have mean
0 and no part between clusters. S_w and S_b are the terms' covariances within and between clusters (`variances`). A term is of
level 1 if it varies within clusters. With random intercepts only, and nothing else explained at the level, one term has

    r2 = b^2 var / (b^2 var + s2)  within,    b^2 var / (b^2 var + t2)  between clusters,

and of several b^2 var = r2 / (1 - sum of r2) times s2 or t2. Terms with r2 must be uncorrelated with the others of their
level, or shares have no meaning.

With [truth.outcome] (`outcome` has the definitions) the outcome's variance v within arms, its unconditional icc and the shares
that covariates explain at each level are stated instead of the model's own parameters,

    s2 = (1 - icc) v - what fixed and random slopes explain within,    t2 = icc v - what they explain between clusters,

and the coefficient of a term that has none is what gives its level's r2. Without a variance the residual variance is the scale.

Coefficients follow at each point of the grid from the values there; where those have priors, from their means.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .family import linear_predictor, mean_of
from .model import INTERCEPT, Condition, Effect, Structure, Truth, source_of, term_variables
from .outcome import UnknownVarianceError, outcome, predictors_of
from .outcome_inputs import NO_INPUTS, ImpossibleError, OutcomeInputs, Solver
from .problems import Problem, Problems
from .several import placed
from .uncertain import prior_names
from .variances import moments_of, predictor_variance

__all__ = ["converted", "explained", "take_stated"]

Level = Literal[1, 2]

#: Rounds until coefficients and variances that depend on one another stand still, to this relative difference;
#: and what grows by this factor has none.
MOST_ROUNDS, STILL, RUNAWAY = 500, 1e-13, 1e30


class _EffectError(Exception):
    """Why an effect can't be converted: what must hold, and the repair."""


def take_stated(flat: dict[str, Any], terms: Iterable[str]) -> dict[str, Effect]:
    """The effects in standard units among a condition's flat values, by term; they are replaced there by 0."""
    found = {term: flat[f"truth.fixed.{term}"] for term in terms if isinstance(flat.get(f"truth.fixed.{term}"), Effect)}
    flat |= {f"truth.fixed.{term}": 0.0 for term in found}
    return found


def converted(
    condition: Condition, stated: Mapping[str, Effect], inputs: OutcomeInputs = NO_INPUTS
) -> tuple[Condition, tuple[Problem, ...]]:
    """The condition with coefficients for the effects that are stated (0 in its truth), and what is wrong with them.

    Shares of variance come after all other coefficients, and those within clusters before those between them; inputs: what the
    outcome is to look like, from which variances follow. Where an effect goes by the outcome all are repeated until they agree.
    """
    if inputs.words:
        condition = replace(condition, outcome=inputs.words)
    if not stated and not inputs.asks:
        return condition, ()
    problems = Problems()
    work = _Conversion(condition, dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True)))
    try:
        solver = Solver(condition, inputs, work.level_of) if inputs.asks else None
        again = solver is not None or any(effect.by.startswith("outcome") for effect in stated.values())
        levels = _rounds(work, stated, solver, again, problems)
    except ImpossibleError as impossible:
        key = f"truth.outcome.{impossible.key}"
        problems.add_number(key, getattr(inputs, impossible.key), impossible.text)
        return condition, tuple(problems)
    for term, effect in stated.items():
        if not math.isfinite(work.fixed[term]):
            text = "must become a finite coefficient; lower it, or the variances"
            problems.add_value(f"truth.fixed.{term}.{effect.kind}", effect.value, text)
    if problems:
        return condition, tuple(problems)
    fixed = tuple(work.fixed[term] for term in condition.truth.formula.fixed)
    kept = {
        term: replace(effect, level=levels.get(term, 0), at_means=_at_means(condition, effect))
        for term, effect in stated.items()
    }
    shares = {} if solver is None else solver.stated()
    kept |= {term: replace(effect, at_means=_at_means(condition, effect)) for term, effect in shares.items()}
    return replace(work.condition, truth=replace(work.truth, fixed=fixed), stated=kept), ()


def _rounds(
    work: _Conversion, stated: Mapping[str, Effect], solver: Solver | None, again: bool, problems: Problems
) -> dict[str, Level]:
    """Convert all effects, again and again where they depend on one another; the level of each that is a share of variance."""
    most = RUNAWAY * max(1.0, *map(abs, work.state))
    for _ in range(MOST_ROUNDS):
        before = work.state
        levels = work.convert(stated, problems)
        if solver is not None and not problems:
            work.condition = solver.step(work.condition, work.fixed)
        if problems or not again:
            return levels
        if all(math.isclose(a, b, rel_tol=STILL, abs_tol=1e-300) for a, b in zip(before, work.state, strict=True)):
            return levels
        if not max(map(abs, work.state)) < most:
            break
    term, effect = next(item for item in stated.items() if item[1].by.startswith("outcome") or solver is not None)
    text = (
        "must be an effect that can be met together with the others, and none settles; lower it, or give a coefficient"
    )
    problems.add_number(f"truth.fixed.{term}.{effect.kind}", effect.value, text)
    return levels


def _at_means(condition: Condition, effect: Effect) -> bool:
    """Whether the coefficient follows from values that replicates draw."""
    drawn = prior_names(condition)
    if effect.kind == "r2" or effect.by.startswith("outcome"):
        return bool(drawn)
    only = "truth.residual" if effect.by == "residual" else ""
    return any(name.startswith(only) and not name.startswith("truth.fixed.") for name in drawn)


@dataclass
class _Conversion:
    """A condition and its coefficients so far."""

    condition: Condition
    fixed: dict[str, float]

    def __post_init__(self) -> None:
        self.moments = moments_of(self.condition.predictors, self.condition.layout, self.condition.correlations)

    @property
    def truth(self) -> Truth:
        return self.condition.truth

    @property
    def state(self) -> tuple[float, ...]:
        """All that a round may change."""
        return (*self.fixed.values(), self.truth.residual_variance, *(v for row in self.truth.covariance for v in row))

    def convert(self, stated: Mapping[str, Effect], problems: Problems) -> dict[str, Level]:
        """Set the coefficients of the effects; the levels of those that are shares of variance."""
        levels: dict[str, Level] = {}
        stated = self.by_family(stated, problems)
        for term, effect in sorted(stated.items(), key=lambda item: item[1].by.startswith("outcome")):
            try:
                if effect.kind == "d":
                    self.fixed[term] = self.from_d(term, effect)
                else:
                    levels[term] = self.level(term)
            except _EffectError as refused:
                problems.add_number(f"truth.fixed.{term}.{effect.kind}", effect.value, str(refused))
        for level in (1, 2):
            shares = {term: stated[term] for term in levels if levels[term] == level}
            if not shares or problems:
                continue
            self.fixed |= dict.fromkeys(shares, 0.0)  # of the round before
            try:
                self.fixed |= self.from_shares(shares, level)
            except _EffectError as refused:
                term, effect = next(iter(shares.items()))
                problems.add_number(f"truth.fixed.{term}.r2", effect.value, str(refused))
        return levels

    def by_family(self, stated: Mapping[str, Effect], problems: Problems) -> dict[str, Effect]:
        """Set the coefficients of effects that are stated by the outcome's mean, the baseline first; return the others."""
        rest = {}
        for term, effect in sorted(stated.items(), key=lambda item: item[0] != INTERCEPT):
            try:
                if effect.kind in ("d", "r2"):
                    rest[term] = effect
                    self.check_scale(effect)
                else:
                    self.fixed[term] = self.from_mean(term, effect)
            except _EffectError as refused:
                key = "truth.baseline" if effect.kind == "baseline" else f"truth.fixed.{term}.{effect.kind}"
                problems.add_number(key, effect.value, str(refused))
        return rest

    def check_scale(self, effect: Effect) -> None:
        family = self.truth.formula.family
        if family.gaussian or (effect.kind == "d" and not family.counts and not effect.by.startswith("outcome")):
            return
        other = "rate_ratio" if family.counts else "odds_ratio"
        raise _EffectError(f"is for Gaussian outcomes; write a coefficient, {other} or difference")

    def from_mean(self, term: str, effect: Effect) -> float:
        """The coefficient of an odds ratio, a ratio of rates, a difference from the baseline, or the baseline itself."""
        family, value = self.truth.formula.family, effect.value
        if term == INTERCEPT and effect.kind != "baseline":
            raise _EffectError(
                "is the effect of a step, which the Intercept has not; write truth.baseline, or a coefficient"
            )
        if effect.kind in ("odds_ratio", "rate_ratio"):
            link = "logit" if effect.kind == "odds_ratio" else "log"
            if family.link != link:
                text = f"needs the {link} link, and the outcome is {family.name} with link {family.link}"
                raise _EffectError(f"{text}; write a coefficient or difference")
            return math.log(value)
        if family.gaussian:
            raise _EffectError("is for binary outcomes and counts; write a coefficient, or add a family to [truth]")
        if effect.kind == "difference" and INTERCEPT not in self.fixed:
            text = f"needs an intercept, whose mean is the baseline, unlike {self.truth.formula.text}"
            raise _EffectError(f"{text}; add 1 +, or write a coefficient")
        before = self.fixed.get(INTERCEPT, 0.0) if effect.kind == "difference" else 0.0
        mean = value + (float(mean_of(family.link, before)) if effect.kind == "difference" else 0.0)
        if not 1e-12 < mean < (math.inf if family.counts else 1 - 1e-12):
            what = "a rate > 0" if family.counts else "a probability between 0 and 1"
            if effect.kind == "baseline":
                raise _EffectError(f"must be {what}")
            raise _EffectError(
                f"must lead from the baseline, {mean - value:.6g}, to {what}; lower it, or write a coefficient"
            )
        return float(linear_predictor(family.link, mean)) - before

    def from_d(self, term: str, effect: Effect) -> float:
        if self.condition.structure is not None and effect.by.startswith("outcome"):
            raise _EffectError('goes by "total" or "residual" variance with several grouping factors; remove by')
        truth, variance = self.truth, self.truth.residual_variance
        if effect.by.startswith("outcome"):
            variance = self._of_outcome(term, control=effect.by == "outcome-control")
        if effect.by == "total":
            if INTERCEPT not in truth.formula.random_columns:
                text = f"must have a random intercept for its total variance, unlike {truth.formula.text}"
                raise _EffectError(f'{text}; write by = "residual", or add the intercept')
            places = [k for k, (_, column) in enumerate(truth.formula.places) if column == INTERCEPT]
            variance = variance + sum(truth.covariance[k][k] for k in places)
        return effect.value * math.sqrt(variance) / (self._sd(term) if effect.per == "sd" else 1.0)

    def _of_outcome(self, term: str, *, control: bool) -> float:
        """The variance of the outcome in the arms of a term's predictors, and of those that are named as arms."""
        given = tuple(dict.fromkeys([*predictors_of(term), *self.condition.arms]))
        try:
            return outcome(self.condition, given, self.fixed, control=control).variance
        except UnknownVarianceError as unknown:
            text = f"must be of an outcome whose variance is known, and {unknown}"
            raise _EffectError(f'{text}; write by = "total" or by = "residual"') from None

    def _sd(self, term: str) -> float:
        if self.condition.structure is not None:
            return self._sd_there(term, self.condition.structure)
        parts = None if term == INTERCEPT else self.moments.parts(term)
        if parts is None or parts.between + parts.within <= 0:
            raise _EffectError(f'must be per = "unit" for {term}, whose sd {_unknown(term)}; remove per')
        return math.sqrt(parts.between + parts.within)

    def _sd_there(self, term: str, structure: Structure) -> float:
        """The sd of a predictor over what it varies with, of several grouping factors."""
        variables = () if term == INTERCEPT else term_variables(term)
        if len(variables) != 1:
            raise _EffectError(f'must be per = "unit" for {term}, which is no predictor by itself; remove per')
        predictor, layout = placed(self.condition.predictor(source_of(term)[0]), structure)
        variance = predictor_variance(predictor, layout, term)
        if not variance > 0:
            raise _EffectError(f'must be per = "unit" for {term}, whose sd {_unknown(term)}; remove per')
        return math.sqrt(variance)

    def level_of(self, term: str) -> Level | Literal[0]:
        """The level of a term, 0 where that is not known."""
        try:
            return self.level(term)
        except _EffectError:
            return 0

    def level(self, term: str) -> Level:
        """The level at which a term is taken to explain variance."""
        if self.condition.structure is not None:
            raise _EffectError(
                "needs one grouping factor, for levels are those of rows and clusters; write d, or a number"
            )
        if term == INTERCEPT:
            raise _EffectError(
                "must be of a term that varies: the Intercept explains no variance; write a number, or d"
            )
        parts = self.moments.parts(term)
        if parts is None or parts.between + parts.within <= 0:
            raise _EffectError(
                f"must be of a term of known variance, and that of {term} {_unknown(term)}; write d instead"
            )
        return 1 if parts.within > 1e-12 * parts.between else 2

    def from_shares(self, shares: Mapping[str, Effect], level: Level) -> dict[str, float]:
        """Coefficients of the terms of a level whose shares of its variance are given."""
        total = sum(effect.value for effect in shares.values())
        if total >= 1:
            listed = " + ".join(f"{effect.value:.10g}" for effect in shares.values())
            raise _EffectError(
                f"all r2 of level {level} ({', '.join(shares)}) must sum to less than 1, and {listed} = {total:.10g}; lower them"
            )
        self._check_apart(shares, level)
        if any(ratio != 1 for _, ratio in self.truth.errors.ratios):
            text = "must be of a model with one residual variance, and truth.errors.variance_ratio gives several"
            raise _EffectError(f"{text}; write d instead, or remove that")
        random = self.random(level)
        others = None if random is None else self.explained(level)
        if random is None or others is None:
            text = f"must be a share of a variance that is known, and that of level {level} does not follow from the predictors"
            raise _EffectError(f"{text}; write d instead")
        if random <= 0 and total > 0:
            text = "must be 0 where no variance between clusters is unexplained"
            raise _EffectError(f"{text}; raise the random intercept's variance (or icc), or write d instead")
        scale = (random + others) / (1 - total)
        return {term: self._from_share(term, effect, level, scale) for term, effect in shares.items()}

    def _from_share(self, term: str, effect: Effect, level: Level, variance: float) -> float:
        parts = self.moments.parts(term)
        assert parts is not None, "level() has it"
        size = math.sqrt(effect.value * variance / (parts.within if level == 1 else parts.between))
        return -size if effect.negative and size else size

    def _check_apart(self, shares: Mapping[str, Effect], level: Level) -> None:
        """Terms with a share are uncorrelated, at their level, with all others that have an effect."""
        active = {t for t, _ in self._active(level)} | {t for t, effect in shares.items() if effect.value > 0}
        for a, b in itertools.combinations([t for t in self.fixed if t in active], 2):
            if a not in shares and b not in shares:
                continue
            found = self.moments.covariance(a, b)
            term, other = (a, b) if a in shares else (b, a)
            if found is None or abs(found[2 - level]) > 1e-9 * self._scale(a, b, level):
                text = f"must be of a term that is uncorrelated with the others of level {level}"
                how = "may be" if found is None else "is"
                raise _EffectError(f"{text}, and {term} {how} correlated with {other}; write d instead, or center both")

    def _active(self, level: Level) -> list[tuple[str, float]]:
        """The terms that have an effect so far and a part at a level, with their coefficients."""
        terms = [(t, b) for t, b in self.fixed.items() if t != INTERCEPT and b != 0]
        return [(t, b) for t, b in terms if not self.moments.is_constant(t, level)]

    def _scale(self, a: str, b: str, level: Level) -> float:
        """The product of the sds of two terms at a level."""
        parts = [self.moments.parts(term) for term in (a, b)]
        variances = [0.0 if p is None else p.within if level == 1 else p.between for p in parts]
        return math.sqrt(max(0.0, variances[0] * variances[1]))

    def explained(self, level: Level) -> float | None:
        """The variance that the fixed effects so far explain at a level; None if it does not follow from the predictors."""
        active, total = self._active(level), 0.0
        for (s, b), (t, c) in itertools.product(active, active):
            found = self.moments.covariance(s, t)
            if found is None:
                return None
            total += b * c * found[2 - level]
        return total

    def random(self, level: Level) -> float | None:
        """The unexplained variance at a level: random effects, and within clusters the errors."""
        columns, T = self.truth.formula.random_columns, self.truth.covariance
        total = self.truth.residual_variance if level == 1 else 0.0
        for (i, s), (j, t) in itertools.product(enumerate(columns), enumerate(columns)):
            if T[i][j] == 0:
                continue
            found = self.moments.products(s, t)
            if found is None:
                return None
            total += T[i][j] * (found[1] if level == 2 else found[0] - found[1])
        return total


def _unknown(term: str) -> str:
    return "is 0" if term == INTERCEPT else "is 0 or does not follow from the predictors"


def explained(condition: Condition) -> tuple[float, float]:
    """The shares of the response's variance, within and between clusters, that the true fixed effects explain.

    With priors, at their means. Rights and Sterba's (2019) R2_w^(f1) and R2_b^(f2), of a binary outcome those of its latent one;
    nan where they do not follow from the predictors, where residual variances differ by a predictor, and of counts.
    """
    truth = condition.truth
    if condition.structure is not None or truth.formula.family.counts:
        return math.nan, math.nan
    work = _Conversion(condition, dict(zip(truth.formula.fixed, truth.fixed, strict=True)))
    shares = []
    for level in (1, 2):
        fixed, random = work.explained(level), work.random(level)
        uneven = level == 1 and any(ratio != 1 for _, ratio in truth.errors.ratios)
        whole = math.nan if fixed is None or random is None or uneven else fixed + random
        shares.append(fixed / whole if fixed is not None and whole > 0 else math.nan)
    return shares[0], shares[1]
