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
from ..spec.estimand import ICC, RESIDUAL, Estimand
from ..spec.estimands import method_estimands, study_name
from ..spec.identity import result_key
from ..spec.inference import tested_estimand
from ..spec.methods import estimator_of
from ..spec.model import INTERCEPT, Contrast, Method
from ..spec.truths import TrueValues
from .early import failed_share, read_used
from .names import as_named
from .sums import measure_stored, no_replicates

if TYPE_CHECKING:
    from .store import Store, StoredCondition

__all__ = ["Known", "Summaries", "derive", "derive_truths", "method_results"]

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
            if each.kind == "sd" and (variance := f"estimate.{each.of('var').name}") in columns:
                added[f"estimate.{each.name}"] = np.sqrt(columns[variance])
            elif each.kind == "cor":
                added |= _correlation(columns, each)
            elif each.kind == "icc":
                added |= _icc(columns, estimands)
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
    stored = {name for name in columns if name.startswith("true.") and np.isfinite(columns[name]).any()}
    if not stored:
        return {}
    full = {
        f"estimate.{name}": columns[f"true.{name}"]
        if f"true.{name}" in stored
        else np.full(len(columns["replicate"]), value)
        for name, value in truth.items()
        if name in estimands and estimands[name].kind in ("var", "cov")
    }
    found = {name.replace("estimate.", "true.", 1): values for name, values in derive(full, estimands.values()).items()}
    if own is not None:
        return {name: values for name, values in found.items() if name.removeprefix("true.") in own}
    return {name: values for name, values in found.items() if len(np.unique(values[np.isfinite(values)])) > 1}


def _deviation_intervals(columns: Mapping[str, Array], deviation: Estimand) -> dict[str, Array]:
    """Limits and standard error of an sd from those of its variance; where the variance is 0 the error is undefined."""
    name, variance, added = deviation.name, deviation.of("var").name, dict[str, Array]()
    if f"estimate.{variance}" not in columns:
        return added
    for end in ("lower", "upper"):
        if f"{end}.{variance}" in columns:
            added[f"{end}.{name}"] = np.sqrt(columns[f"{end}.{variance}"])
    if f"se.{variance}" in columns:
        sd = np.sqrt(columns[f"estimate.{variance}"])
        added[f"se.{name}"] = np.where(sd > 0, columns[f"se.{variance}"] / (2 * sd), np.nan)
    return added


def _correlation(columns: Mapping[str, Array], correlation: Estimand) -> dict[str, Array]:
    covariance = f"estimate.{correlation.of('cov').name}"
    if covariance not in columns:
        return {}
    a, b = (columns[f"estimate.{variance.name}"] for variance in correlation.variances())
    product = np.sqrt(a) * np.sqrt(b)
    value = np.where(product > 0, columns[covariance] / product, np.nan)
    return {f"estimate.{correlation.name}": np.clip(value, -1.0, 1.0)}


def _icc(columns: Mapping[str, Array], estimands: Sequence[Estimand]) -> dict[str, Array]:
    intercepts = (f"estimate.{each.name}" for each in estimands if each.kind == "var" and each.columns == (INTERCEPT,))
    found = next((name for name in intercepts if name in columns), None)
    if found is None:
        return {}
    between, within = columns[found], columns[f"estimate.{RESIDUAL.name}"]
    return {f"estimate.{ICC.name}": between / (between + within)}


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
    values = [columns[name] for name in columns if name.startswith("prior.")]
    values = [value for value in values if np.isfinite(value).all()]
    drawn = Drawn(values) if values else None
    converged, failed = is_converged(columns["status"]), is_failed(columns["status"])
    contrasts = {contrast.name: contrast for contrast in method.contrasts}
    results = []
    for label, suffix in zip(method.labels, method.suffixes, strict=True):
        found = {
            name: _estimates(columns, estimands[name], suffix, method, contrasts.get(name), own=name in own)
            for name in method_estimands(method, estimands)
        }
        if method.tests_ratio:
            tested = study_name(tested_estimand(method), estimands)
            p = columns[f"p.{tested_estimand(method).name}"]
            found[tested] = replace(found[tested], p=p) if tested in found else Estimates(p=p)
        found |= {name: Estimates(p=columns[f"p.{name}{suffix}"]) for name, c in contrasts.items() if c.joint}
        if not estimator_of(method).every_term:
            found = _given(found, converged)
        results.append(
            MethodResults(
                name=label, replicate=columns["replicate"], converged=converged, singular=columns["singular"], failed=failed,
                estimands=found, alpha=method.alpha, inference_failed=columns[f"inference{suffix}"] >= InferenceStatus.no_df,
                drawn=drawn, selected=columns["selected"] if method.select is not None else None,
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
    suffix: str,
    method: Method,
    contrast: Contrast | None,
    *,
    own: bool,
) -> Estimates:
    """Columns of other methods are empty here, so what there is to read is the method's to say."""
    name, fixed = estimand.name, estimand.kind == "fixed"
    estimate = columns[f"estimate.{name}"]
    se = df = lower = upper = None
    truth = columns.get(f"true.{name}")
    if truth is not None and not own and not np.isfinite(truth).any():  # other conditions draw it
        truth = None
    if fixed or contrast is not None:
        se, df = columns.get(f"se.{name}{suffix}", columns.get(f"se.{name}")), columns[f"df.{name}{suffix}"]
    elif (method.variance_intervals or "").startswith("wald"):
        se = columns.get(f"se.{name}")
    if contrast is not None:
        return Estimates(
            estimate=estimate, se=se, df=df, null=contrast.null, alternative=contrast.alternative,
            equivalence=contrast.equivalence, truth=truth,
        )  # fmt: skip
    if _has_limits(method, estimand):
        lower, upper = columns[f"lower.{name}"], columns[f"upper.{name}"]
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
        self._factors = list(dict.fromkeys(name for row in self._rows.values() for name in row.factors))
        self._made: dict[int, list[MeasureRow]] = {}
        self._guard = threading.Lock()

    def make(self, number: int) -> None:
        """Measure one condition from what is stored."""
        self._made[number] = self.measured(self._rows[number])

    def measured(self, row: StoredCondition) -> list[MeasureRow]:
        """The measures of the first `row.replications` replicates of a condition, made once."""
        with self._guard if row.replications > LARGE else contextlib.nullcontext():
            key = (row.data_key, row.replications)
            if key not in self._known:
                self._known[key] = self._measure(row)
            return self._known[key]

    def results(self, row: StoredCondition, labels: Collection[str] | None = None) -> list[MethodResults]:
        """What is stored of one condition, as the measures take it; of the methods that have one of these labels, or of all.

        StudyError where sums are stored.
        """
        if self._store.keeps == "summary":
            raise no_replicates(self._store.folder, "replicates")
        estimands = row.estimands(self._methods)
        results = []
        for method in self._methods:
            wanted = labels is None or not set(labels).isdisjoint(method.labels)
            if wanted and (columns := read_used(self._store, row, method)):
                columns = as_named(columns, method, row.estimands([method]), estimands)
                columns |= derive_truths(columns, row.truths.of(method.name), estimands)
                columns |= derive(columns, estimands.values())
                results.extend(method_results(columns, method, estimands, row.truths))
        return results

    def _measure(self, row: StoredCondition) -> list[MeasureRow]:
        if self._store.keeps == "summary":
            return measure_stored(self._store, row, self._methods, self._mcse)
        results = self.results(row)
        return measure(results, row.truth, mcse=self._mcse) if results else []  # type: ignore[arg-type]

    def table(self) -> pd.DataFrame:
        """The measures of every active condition, with one column a factor."""
        for number in self._rows:
            if number not in self._made:
                self.make(number)
        table = as_table([row for number in self._rows for row in self._made[number]])
        counts = [len(self._made[number]) for number in self._rows]
        labels = pd.DataFrame(
            [
                {"condition": number} | {f: row.factors.get(f) for f in self._factors}
                for number, row in self._rows.items()
            ]
        )
        repeated = labels.loc[np.repeat(labels.index, counts)].reset_index(drop=True)
        table = pd.concat([repeated, table], axis=1)
        return table.assign(flag=self._flags(table)) if any(m.max_failed is not None for m in self._methods) else table

    def _flags(self, table: pd.DataFrame) -> list[str]:
        """What warns of each measure: its condition ended early by its method, or too many of the replicates failed."""
        flags = {
            (number, label): failed_share(
                self._store, number, result_key(row.data_key, method), method, row.replications
            )
            for number, row in self._rows.items()
            for method in self._methods
            for label in method.labels
        }
        return [
            flags[int(number), str(label)] for number, label in zip(table["condition"], table["method"], strict=True)
        ]
