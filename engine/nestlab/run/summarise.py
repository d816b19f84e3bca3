"""From stored replicates to the summary table: derived estimands, then the measures, condition by condition."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..fit.status import InferenceStatus, is_converged, is_failed
from ..measure.assurance import Drawn
from ..measure.measured import MeasureRow
from ..measure.performance import Estimates, MethodResults, as_table, measure
from ..spec.estimand import RESIDUAL, Column, Estimand, Quantity
from ..spec.estimands import as_named, method_estimands, study_name
from ..spec.inference import tested_estimand
from ..spec.methods import estimator_of
from ..spec.model import INTERCEPT, Contrast, Method
from ..spec.truths import TrueValues
from .series import series_of
from .sums import measure_stored, no_replicates

if TYPE_CHECKING:
    from .store import Store, StoredCondition

__all__ = ["Known", "Summaries", "beside_conditions", "derive", "derive_truths", "method_results"]

Array = NDArray[Any]
#: The measures of a condition, by its data key and its replications.
Known = dict[tuple[str, int], list[MeasureRow]]
#: Replications of a condition above which conditions are read one at a time.
LARGE = 200_000


def derive(columns: Mapping[str, Array], estimands: Iterable[Estimand]) -> dict[str, Array]:
    """The columns of the derived estimands (sd, cor, icc), from those of the variances and covariances.

    A correlation is undefined (nan) where a variance is 0; so is an icc where both variances are.
    """
    added: dict[str, Array] = {}
    estimands = tuple(estimands)
    with np.errstate(invalid="ignore", divide="ignore"):
        for each in estimands:
            if each.kind == "sd":
                added |= _deviation_intervals(columns, each)
        for each in estimands:
            if each.kind == "sd" and (variance := _estimate(each.of("var"))) in columns:
                added[_estimate(each)] = np.sqrt(columns[variance])
            elif each.kind == "cor":
                added |= _correlation(columns, each)
            elif each.kind == "icc":
                added |= _icc(columns, each, estimands)
    return added


def derive_truths(
    columns: Mapping[str, Array],
    truth: Mapping[str, float],
    estimands: Mapping[str, Estimand],
    *,
    own: Collection[str] | None = None,
) -> dict[str, Array]:
    """The true values of derived estimands that differ between replicates: `true.<estimand>`, from those that are stored.

    truth: the condition's values of all estimands, which hold where none is stored. own: which of them differ, where that is
    known, and not to be told from these replicates.
    """
    true = {column.estimand: columns[name] for name, column in Column.of(columns, "true").items()}
    stored = {name: values for name, values in true.items() if np.isfinite(values).any()}
    if not stored:
        return {}
    full = {
        _estimate(estimands[name]): stored[name] if name in stored else np.full(len(columns["replicate"]), value)
        for name, value in truth.items()
        if name in estimands and estimands[name].kind in ("var", "cov")
    }
    made = derive(full, estimands.values())
    found = {column.estimand: made[name] for name, column in Column.of(made, "estimate").items()}
    if own is None:
        own = [name for name, values in found.items() if len(np.unique(values[np.isfinite(values)])) > 1]
    return {Column("true", name).name: values for name, values in found.items() if name in own}


def _estimate(estimand: Estimand) -> str:
    return Column("estimate", estimand.name).name


def _stored(columns: Mapping[str, Array], quantity: Quantity, estimand: str, rule: str = "") -> Array | None:
    return columns.get(Column(quantity, estimand, rule).name)


def _deviation_intervals(columns: Mapping[str, Array], deviation: Estimand) -> dict[str, Array]:
    """Limits and standard error of an sd from those of its variance; where the variance is 0 the error is undefined."""
    name, variance = deviation.name, deviation.of("var").name
    estimate = _stored(columns, "estimate", variance)
    if estimate is None:
        return {}
    lower, upper = _stored(columns, "lower", variance), _stored(columns, "upper", variance)
    se, sd = _stored(columns, "se", variance), np.sqrt(estimate)
    made = {
        Column("lower", name): None if lower is None else np.sqrt(lower),
        Column("upper", name): None if upper is None else np.sqrt(upper),
        Column("se", name): None if se is None else np.where(sd > 0, se / (2 * sd), np.nan),
    }
    return {column.name: values for column, values in made.items() if values is not None}


def _correlation(columns: Mapping[str, Array], correlation: Estimand) -> dict[str, Array]:
    covariance = _estimate(correlation.of("cov"))
    if covariance not in columns:
        return {}
    a, b = (columns[_estimate(variance)] for variance in correlation.variances())
    product = np.sqrt(a) * np.sqrt(b)
    value = np.where(product > 0, columns[covariance] / product, np.nan)
    return {_estimate(correlation): np.clip(value, -1.0, 1.0)}


def _icc(columns: Mapping[str, Array], icc: Estimand, estimands: Sequence[Estimand]) -> dict[str, Array]:
    """An icc: of the only grouping factor that there is, of one of several, or of those that hold one another."""
    intercepts = [each for each in estimands if each.kind == "var" and each.columns == (INTERCEPT,)]
    there = {each.group: columns[name] for each in intercepts if (name := _estimate(each)) in columns}
    groups = icc.groups or tuple(there)[:1]
    if not groups or any(group not in there for group in groups):
        return {}
    whole = columns[_estimate(RESIDUAL)] + sum(there.values())
    return {_estimate(icc): sum(there[group] for group in groups) / whole}


def method_results(
    columns: Mapping[str, Array],
    method: Method,
    estimands: Mapping[str, Estimand],
    truths: TrueValues,
    *,
    own: Collection[str] = (),
) -> list[MethodResults]:
    """One method's columns of one condition, derived ones included, as the measures take them: one table a rule of inference.

    own: estimands that have truths of each replicate's own, even if none of these replicates shows it.
    """
    values = [value for name in Column.of(columns, "prior") if np.isfinite(value := columns[name]).all()]
    drawn = Drawn(values) if values else None
    converged, failed = is_converged(columns["status"]), is_failed(columns["status"])
    contrasts = {contrast.name: contrast for contrast in method.contrasts}
    results = []
    for label, rule in zip(method.labels, method.rules, strict=True):
        found = {
            name: _estimates(columns, estimands[name], rule, method, contrasts.get(name), own=name in own)
            for name in method_estimands(method, estimands)
        }
        if method.tests_ratio:
            tested = study_name(tested_estimand(method), estimands)
            p = columns[Column("p", tested_estimand(method).name).name]
            found[tested] = replace(found[tested], p=p) if tested in found else Estimates(p=p)
        found |= {n: Estimates(p=columns[Column("p", n, rule).name]) for n, c in contrasts.items() if c.joint}
        if not estimator_of(method).every_term:
            found = _given(found, converged)
        results.append(
            MethodResults(
                name=label, replicate=columns["replicate"], converged=converged, singular=columns["singular"], failed=failed,
                estimands=found, alpha=method.alpha, drawn=drawn,
                inference_failed=columns[Column("inference", rule=rule).name] >= InferenceStatus.no_df,
                selected=columns["selected"] if method.select is not None else None,
                truth=truths.own.get(method.name, {}), meanings=truths.meanings.get(method.name, {}),
            )
        )  # fmt: skip
    return results


def _given(found: Mapping[str, Estimates], converged: Array) -> dict[str, Estimates]:
    """What a function gives: not the terms that it never estimates, nor standard errors where it has none at all."""
    if not converged.any():
        return dict(found)
    given = {
        name: part for name, part in found.items() if part.estimate is not None and np.isfinite(part.estimate).any()
    }
    return {
        name: part if part.se is not None and np.isfinite(part.se).any() else replace(part, se=None, df=None)
        for name, part in given.items()
    }


def _estimates(
    columns: Mapping[str, Array],
    estimand: Estimand,
    rule: str,
    method: Method,
    contrast: Contrast | None,
    *,
    own: bool,
) -> Estimates:
    """Columns of other methods are empty here, so what there is to read is the method's to say."""
    name, fixed = estimand.name, estimand.kind == "fixed"
    estimate = columns[_estimate(estimand)]
    se = df = lower = upper = None
    truth = _stored(columns, "true", name)
    if truth is not None and not own and not np.isfinite(truth).any():  # other conditions draw it
        truth = None
    if fixed or contrast is not None:
        se, df = _stored(columns, "se", name, rule), columns[Column("df", name, rule).name]
        se = _stored(columns, "se", name) if se is None else se
    elif (method.variance_intervals or "").startswith("wald"):
        se = _stored(columns, "se", name)
    if contrast is not None:
        return Estimates(
            estimate=estimate, se=se, df=df, null=contrast.null, alternative=contrast.alternative,
            equivalence=contrast.equivalence, truth=truth,
        )  # fmt: skip
    if _has_limits(method, estimand):
        lower, upper = columns[Column("lower", name).name], columns[Column("upper", name).name]
    return Estimates(estimate=estimate, se=se, df=df, lower=lower, upper=upper, truth=truth)


def _has_limits(method: Method, estimand: Estimand) -> bool:
    """Whether a method stores interval ends of an estimand, or of what it is derived from."""
    if estimand.kind == "fixed":
        return method.intervals != "t"
    kinds = {"cov": ("wald", "bootstrap"), "icc": ("bootstrap",)}
    return method.variance_intervals in kinds.get(
        estimand.kind, ("wald", "wald-log", "profile", "profile-reml", "bootstrap")
    )


class Summaries:
    """Makes summary.parquet condition by condition: `make(number)` as each is complete, in any thread, then `table()`."""

    def __init__(
        self,
        store: Store,
        rows: Sequence[StoredCondition],
        methods: Sequence[Method],
        mcse: str,
        known: Known | None = None,
    ) -> None:
        """known: measures of conditions as they were made before, which are used again and added to."""
        self._store, self._methods, self._mcse = store, methods, mcse
        self._known = {} if known is None else known
        self._rows = {row.number: row for row in rows if row.active}
        self._made: dict[int, list[MeasureRow]] = {}
        self._guard = threading.Lock()

    def make(self, number: int) -> None:
        """Measure one condition from what is stored."""
        self._made[number] = self.measured(self._rows[number])

    def measured(self, row: StoredCondition) -> list[MeasureRow]:
        """The measures of the first `row.replications` replicates of a condition, made once."""
        with self._guard if row.replications > LARGE else contextlib.nullcontext():
            key = (row.data_key, row.replications)
            if key not in self._known and self._store.keeps == "summary":
                self._known[key] = measure_stored(self._store, row, self._methods, self._mcse)
            elif key not in self._known:
                found = self.results(row)
                self._known[key] = measure(found, row.truth, mcse=self._mcse) if found else []  # type: ignore[arg-type]
            return self._known[key]

    def results(self, row: StoredCondition, labels: Collection[str] | None = None) -> list[MethodResults]:
        """What is stored of one condition, as the measures take it; of the methods that have one of these labels, or of all.

        StudyError where sums are stored.
        """
        if self._store.keeps == "summary":
            raise no_replicates(self._store.folder, "replicates")
        estimands = row.estimands(self._methods)
        results = []
        asked = [m for m in self._methods if labels is None or not set(labels).isdisjoint(m.labels)]
        for series in series_of(self._store, [row], asked):
            if columns := series.columns():
                method = series.method
                columns = as_named(columns, method, row.estimands([method]), estimands)
                columns |= derive_truths(columns, row.truths.of(method.name), estimands)
                columns |= derive(columns, estimands.values())
                results.extend(method_results(columns, method, estimands, row.truths))
        return results

    def table(self) -> pd.DataFrame:
        """The measures of every active condition, with one column a factor."""
        for number in self._rows:
            if number not in self._made:
                self.make(number)
        made = as_table([row for number in self._rows for row in self._made[number]])
        counts = [(row, len(self._made[number])) for number, row in self._rows.items()]
        table = beside_conditions(counts, made)
        return table.assign(flag=self._flags(table)) if any(m.max_failed is not None for m in self._methods) else table

    def _flags(self, table: pd.DataFrame) -> list[str]:
        """What warns of each measure: its condition ended early by its method, or too many of the replicates failed."""
        flags = {
            (series.condition, label): flag
            for series in series_of(self._store, self._rows.values(), self._methods)
            for flag in [series.flag]
            for label in series.method.labels
        }
        return [
            flags[int(number), str(label)] for number, label in zip(table["condition"], table["method"], strict=True)
        ]


def beside_conditions(counts: Sequence[tuple[StoredCondition, int]], table: pd.DataFrame) -> pd.DataFrame:
    """A table behind `condition` and one column a factor. counts: each condition with the number of its rows, in order."""
    factors = list(dict.fromkeys(name for row, _ in counts for name in row.factors))
    labels = [{"condition": row.number} | {name: row.factors.get(name) for name in factors} for row, _ in counts]
    places = np.repeat(np.arange(len(counts)), [count for _, count in counts])
    repeated = pd.DataFrame(labels, columns=["condition", *factors]).iloc[places].reset_index(drop=True)
    return pd.concat([repeated, table], axis=1)
