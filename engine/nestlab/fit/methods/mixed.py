"""Linear mixed models from sufficient statistics: fits, inference by several rules, intervals and likelihood ratio tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...simulate.gram import Draw, Gram, respond
from ...simulate.streams import null_generator
from ...spec.comparison import Comparison, compare
from ...spec.estimand import RESIDUAL, Column, Estimand, listed
from ...spec.inference import tested_estimand
from ...spec.model import Method
from ..bootstrap import Fitted, bootstrap_intervals, bootstrap_test
from ..clustered import Counts, robust_rules
from ..compare import lr_statistics, p_value
from ..inference import Inference, Model, infer, variance_covariance
from ..lmm import Fits, Plan, compile_plan, congruent, counts, fit_gram, packed_map, pairs
from ..ols import fit_model
from ..profile import profile_parameters, profile_replicates
from ..rlrt import NullDistribution, eigenvalues, exact_p_values, is_fixed_design, null_distribution
from ..robust import sandwich
from ..search import DECREMENT_TOLERANCE, MAX_ITERATIONS, RESIDUAL_TOLERANCE, SINGULAR_TOLERANCE
from ..status import InferenceStatus
from ..wald import wald_intervals
from .analysis import Analysed, Block, Candidate, Columns, Prepared, fixed_rules

__all__ = ["MixedModel", "compile_analysis"]

Array = NDArray[np.float64]

TOLERANCES = (
    f"Tolerances: Newton steps with exact derivatives, at most {MAX_ITERATIONS} from one start, until the "
    f"Newton decrement is below {DECREMENT_TOLERANCE:g} units of deviance or rounding stops it; a fit counts "
    f"as converged where the scale-free gradient of the deviance is at most {RESIDUAL_TOLERANCE:g} and, on "
    "the boundary, points outwards; as singular where an eigenvalue of the whitened covariance of the "
    f"random effects is below {SINGULAR_TOLERANCE:g}. Irregular or unfinished searches are made from several "
    "starts and the lowest deviance is kept."
)
#: Draws of a null distribution that all replicates of a condition share, over those of one replicate.
SHARED_DRAWS = 20


def compile_analysis(on: Prepared) -> MixedModel:
    """Prepare a mixed model."""
    return MixedModel(on)


@dataclass(frozen=True)
class MixedModel:
    """A mixed model on one design."""

    on: Prepared

    @property
    def method(self) -> Method:
        return self.on.method

    @property
    def plan(self) -> Plan:
        return self.on.plan

    @cached_property
    def model(self) -> Model:
        plan = self.plan
        return Model(plan.shape, plan.groups, plan.rows, plan.equation)

    @cached_property
    def estimands(self) -> dict[str, Estimand]:
        """All that the method estimates, by the names of its own formula."""
        return listed([self.plan.formula])

    def gram(self, draw: Draw, plan: Plan | None = None) -> Gram:
        """The sufficient statistics of a block as the method, or another plan, sees them."""
        plan = self.plan if plan is None else plan
        return respond(draw, self.on.design, plan.omitted, plan.multipliers, plan.shift)

    def fit(self, draw: Draw, first: int, last: int) -> Fits:
        """Fits of replicates first .. last - 1 of a block, without inference."""
        return self.plan.back(fit_gram(self.plan, self.gram(draw), first, last))

    def __call__(self, block: Block, first: int, last: int) -> Analysed:
        """Analyse replicates first .. last - 1 of a block."""
        gram = self.gram(block.draw)
        fits = fit_gram(self.plan, gram, first, last)
        columns = self.rules(gram, fits, first, last)
        intervals = self._intervals(gram, fits, block.number, first, last)
        if not intervals and not self.method.tests_ratio:
            return self.on.analysed(self.plan.back(fits), columns)
        unfinished = np.where(
            self._lacks_a_limit(self.plan.back(fits), intervals), InferenceStatus.no_interval, InferenceStatus.ok
        )
        columns |= intervals
        if self.method.tests_ratio:
            p = self.ratio_test(block, gram, fits, first, last)
            unfinished[np.isnan(p)] = InferenceStatus.no_test
            columns[Column("p", tested_estimand(self.method).name).name] = p
        for name in Column.of(columns, "inference"):
            status = columns[name]
            status[:] = np.where(status == InferenceStatus.ok, unfinished, status)
        return self.on.analysed(self.plan.back(fits), columns)

    def rules(self, gram: Gram | None, fits: Fits, first: int, last: int) -> Columns:
        """Standard errors, degrees of freedom and joint tests; a Gram is not needed by rules that the design decides.

        fits: in the plan's coordinates; what is found is in the formula's.
        """
        method, plan = self.method, self.plan
        hypotheses = self.on.hypotheses.moved(plan.shift)
        if method.robust is not None:
            assert gram is not None, "the front door refuses robust standard errors where there are only rows"
            found = self._robust(method.robust, gram, fits, first, last)
        else:
            found = infer(self.model, gram, fits, first, last, hypotheses, method.df, singular_df=method.singular_df)
        variances = None
        if gram is not None and any(c.standardise for c in method.contrasts):
            variances = self._variances(gram, fits, first, last)
        found = {rule: one.back(plan.shift) for rule, one in found.items()}
        return self.on.inferred(plan.back(fits), found, variances)

    def _variances(self, gram: Gram, fits: Fits, first: int, last: int) -> Array:
        """See `variance_covariance`, in the formula's coordinates."""
        found = variance_covariance(self.model, gram, fits, first, last)
        if self.plan.shift is None:
            return found
        M = packed_map(self.plan.shift.random)
        return congruent(found, np.block([[M, np.zeros((len(M), 1))], [np.zeros((1, len(M))), np.eye(1)]]))

    def _robust(self, kind: str, gram: Gram, fits: Fits, first: int, last: int) -> dict[str, Inference]:
        """Cluster-robust standard errors of the mixed model, whose fit is the working model."""
        plan, hypotheses = self.plan, self.on.hypotheses.moved(self.plan.shift)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = fits.varcomp / fits.sigma2[:, None]
        meat = sandwich(
            (plan.xcols, plan.xweights), gram, fits.beta - plan.true_beta, hypotheses, first, last,
            adjusted=kind == "CR2", zcols=plan.zcols, relative=relative,
        )  # fmt: skip
        rows, clusters = counts(self.plan.rows, gram, first, last)
        sizes = Counts(rows, clusters, np.array([float(len(plan.xcols))]))
        return robust_rules(kind, meat, fits, sizes, hypotheses, self.method.df, plan.equation)

    # -- one of several models -------------------------------------------------------------------------------------------

    def candidate(self, block: Block, first: int, last: int) -> Candidate:
        """Fit replicates first .. last - 1 of a block, as one of the models that a method chooses from."""
        gram = self.gram(block.draw)
        fits = fit_model(self.plan, gram, first, last)
        columns = self.rules(gram, fits, first, last) if self.plan.zcols else self._fixed_rules(gram, fits, first, last)
        return Candidate(self.plan.formula, self.plan.back(fits), columns, (gram, fits))

    def test_of_smaller(self, block: Block, candidate: Candidate, first: int, last: int) -> Array:
        """P values (R) of the likelihood ratio test of the model of `compare` within this one."""
        gram, fits = candidate.own
        return self.ratio_test(block, gram, fits, first, last)

    def _fixed_rules(self, gram: Gram, fits: Fits, first: int, last: int) -> Columns:
        """Inference without random terms."""
        rows, _ = counts(self.plan.rows, gram, first, last)
        return fixed_rules(self.on, self.plan.back(fits), rows)

    # -- intervals -------------------------------------------------------------------------------------------------------

    def _intervals(self, gram: Gram, fits: Fits, block: int, first: int, last: int) -> Columns:
        """Limits that can't be derived from standard errors, and the standard errors of Wald intervals of variances."""
        method, columns = self.method, Columns()
        kinds = {method.intervals, method.variance_intervals}
        if kinds & {"wald", "wald-log"}:
            columns |= self._wald(gram, fits, first, last)
        if "profile" in kinds:
            columns |= self._profile(gram, first, last, reml=False)
        if "profile-reml" in kinds:
            columns |= self._profile(gram, first, last, reml=True)
        if "bootstrap" in kinds:
            columns |= self._percentiles(gram, fits, block, first, last)
        return columns

    def _wald(self, gram: Gram, fits: Fits, first: int, last: int) -> Columns:
        method, columns = self.method, Columns()
        covariance, fits = self._variances(gram, fits, first, last), self.plan.back(fits)
        log = method.variance_intervals == "wald-log"
        for key, interval in wald_intervals(
            fits.varcomp, fits.sigma2, covariance, self.plan.blocks, level=1 - method.alpha, log=log
        ).items():
            name = self._named(*key)
            self._put(columns, name, interval.lower, interval.upper)
            if interval.se is not None:
                columns[Column("se", name).name] = interval.se
        return columns

    def _profile(self, gram: Gram, first: int, last: int, *, reml: bool) -> Columns:
        plan, method, columns = replace(self.plan, reml=reml), self.method, Columns()
        fixed = method.intervals == "profile" and not reml
        level = 1 - method.alpha
        found = profile_replicates(plan.shape, plan.groups, gram, first, last, level=level, fixed=fixed)
        parameters = profile_parameters(plan.blocks.tolist(), len(self.on.names) if fixed else 0)
        wanted = method.variance_intervals == ("profile-reml" if reml else "profile")
        for i, (kind, a, b) in enumerate(parameters):
            limits = found.lower[:, i], found.upper[:, i]
            if kind == "fixed":
                self._put(columns, self.on.names[a], *(limit + plan.true_beta[a] for limit in limits))
            elif wanted and kind == "cor":
                self._put(columns, self._named(kind, a, b), *limits)
            elif wanted:
                self._put(columns, self._named("residual" if kind == "sigma" else "var", a, b), *(v**2 for v in limits))
        return columns

    def _percentiles(self, gram: Gram, fits: Fits, block: int, first: int, last: int) -> Columns:
        """Of the bootstrap; of an sd they are those of its variance."""
        method, fitted = self.method, Fitted(self.plan, gram, fits, first)
        found = [
            bootstrap_intervals(
                *self._alone(fitted, r),
                level=1 - method.alpha,
                draws=method.draws,
                generator=self.on.stream(block, r),
            )
            for r in range(first, last)
        ]
        columns = Columns()
        for name in found[0].lower:
            fixed = self.estimands[name].kind == "fixed"
            wanted = method.intervals if fixed else method.variance_intervals
            if self.estimands[name].kind != "sd" and wanted == "bootstrap":
                place = self.on.names[self.plan.formula.fixed.index(name)] if fixed else name
                ends = (np.array([getattr(each, end)[name] for each in found]) for end in ("lower", "upper"))
                self._put(columns, place, *ends)
        return columns

    def _put(self, columns: Columns, name: str, lower: Array, upper: Array) -> None:
        columns[Column("lower", name).name], columns[Column("upper", name).name] = lower, upper

    def _named(self, kind: str, a: int, b: int) -> str:
        """The name of the estimand of random columns a and b."""
        if kind == "residual":
            return RESIDUAL.name
        columns, group = self.plan.formula.random_columns, self.plan.formula.group
        return Estimand(kind, group, tuple(columns[k] for k in sorted({a, b}))).name  # type: ignore[arg-type]

    def _lacks_a_limit(self, fits: Fits, intervals: Columns) -> NDArray[np.bool_]:
        """Whether a limit is missing where the estimate is not: a correlation is undefined where a variance is 0."""
        missing = np.zeros(len(fits.status), dtype=bool)
        q = len(self.plan.blocks)
        correlations = {name for name, each in self.estimands.items() if each.kind == "cor"}
        variances = fits.varcomp[:, [k for k, (i, j) in enumerate(pairs(q)) if i == j]]
        for name, column in Column.of(intervals, "lower", "upper").items():
            lost = np.isnan(intervals[name])
            if column.estimand in correlations:
                lost &= (variances > 0).all(axis=1)
            missing |= lost
        return missing

    # -- likelihood ratio test -------------------------------------------------------------------------------------------

    @cached_property
    def _null(self) -> tuple[Comparison, Plan]:
        assert self.method.compare is not None
        null = replace(self.method, formula=self.method.compare, compare=None, contrasts=())
        return compare(self.method.compare, self.method.formula), compile_plan(self.on.design, null)

    def ratio_test(self, block: Block, gram: Gram, fits: Fits, first: int, last: int) -> Array:
        """P values (R) of the test against `compare`; nan where a fit is no optimum or the bootstrap failed."""
        method = self.method
        comparison, plan = self._null
        null_gram = self.gram(block.draw, plan)
        null = fit_model(plan, null_gram, first, last)
        statistic = lr_statistics(null, fits)
        if method.reference in ("asymptotic", "chisq"):
            return p_value(comparison, statistic, mixture=method.reference == "asymptotic")
        if method.reference == "exact":
            return self._exact(gram, statistic, block.number, first)
        smaller, larger = Fitted(plan, null_gram, null, first), Fitted(self.plan, gram, fits, first)
        found = []
        for r in range(first, last):
            models = self._alone(smaller, r)[0], *self._alone(larger, r)
            found.append(bootstrap_test(*models, draws=method.draws, generator=self.on.stream(block.number, r)).p)
        return np.array(found)

    def _alone(self, fitted: Fitted, r: int) -> tuple[Fitted, int, NDArray[np.int64]]:
        """The fitted model, replicate and sizes as the bootstrap takes them: with the replicate's own rows where they differ."""
        if fitted.plan.rows:
            return fitted, r, self.on.design.sizes
        plan, gram = fitted.plan.alone(fitted.gram, r)
        return replace(fitted, plan=plan, gram=gram), r, np.rint(gram.dd[:, 0, 0]).astype(np.int64)

    def _exact(self, gram: Gram, statistic: Array, block: int, first: int) -> Array:
        plan, draws = self.plan, self.method.draws
        if not is_fixed_design(self.on.design, plan):
            return exact_p_values(plan, gram, statistic, first, draws=draws, stream=lambda r: self.on.stream(block, r))
        if not (statistic > 0.0).any():
            return np.where(statistic == 0.0, 1.0, np.nan)
        if "null" not in self._kept:  # all replicates share it, so it deserves more draws
            mu = eigenvalues(plan, gram, np.array([first]))[0]
            generator = null_generator(self.on.design.condition.seed, self.on.key)
            self._kept["null"] = null_distribution(
                mu, plan.rows - len(plan.xcols), draws=SHARED_DRAWS * draws, generator=generator
            )
        return self._kept["null"].p_value(statistic)

    @cached_property
    def _kept(self) -> dict[str, NullDistribution]:
        return {}
