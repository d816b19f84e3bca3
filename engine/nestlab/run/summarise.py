"""From stored replicates to the summary table: derived estimands, then the measures, condition by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..fit.status import Status
from ..measure.performance import Estimates, MethodResults, summarise
from ..spec.formula import find_term
from ..spec.model import INTERCEPT, Method

if TYPE_CHECKING:
    from .store import Store, StoredCondition

__all__ = ["derive", "method_estimands", "method_results", "summarise_store"]

_KINDS = {"var", "sd", "cov", "cor"}


def derive(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Add the columns of derived estimands (sd, cor, icc) among `names` to a frame of replicate rows.

    A correlation is undefined (nan) where a variance is 0; so is an icc where both variances are.
    """
    added: dict[str, pd.Series[float]] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in names:
            kind, *rest = name.split(":", 1)
            if kind == "sd" and f"estimate.var:{rest[0]}" in frame:
                added[f"estimate.{name}"] = np.sqrt(frame[f"estimate.var:{rest[0]}"])
            elif kind == "cor":
                added |= _correlation(frame, name)
            elif name == "icc":
                added |= _icc(frame)
    return frame.assign(**added)


def _correlation(frame: pd.DataFrame, name: str) -> dict[str, pd.Series[float]]:
    covariance = "estimate.cov:" + name.removeprefix("cor:")
    if covariance not in frame:
        return {}
    a, b = _pair(frame, name.removeprefix("cor:"))
    product = np.sqrt(frame[a]) * np.sqrt(frame[b])
    value = (frame[covariance] / product).where(product > 0)
    return {f"estimate.{name}": value.clip(-1.0, 1.0)}


def _pair(frame: pd.DataFrame, name: str) -> tuple[str, str]:
    """The variances of the two columns of "cluster:Intercept:x"; a column may itself hold a colon."""
    group, _, rest = name.partition(":")
    parts = rest.split(":")
    for cut in range(1, len(parts)):
        a, b = (f"estimate.var:{group}:{':'.join(p)}" for p in (parts[:cut], parts[cut:]))
        if a in frame and b in frame:
            return a, b
    raise KeyError(f"no variances for {name}")


def _icc(frame: pd.DataFrame) -> dict[str, pd.Series[float]]:
    intercepts = [c for c in map(str, frame.columns) if c.startswith("estimate.var:") and c.endswith(":Intercept")]
    if not intercepts:
        return {}
    between, within = frame[intercepts[0]], frame["estimate.var:residual"]
    return {"estimate.icc": between / (between + within)}


def method_estimands(method: Method, names: Sequence[str]) -> list[str]:
    """Those of a study's estimands that a method estimates.

    >>> from ..spec.formula import parse_formula
    >>> m = Method("m", parse_formula("y ~ x + (1 | g)"))
    >>> method_estimands(m, ["Intercept", "x", "z", "var:g:Intercept", "var:g:x", "cov:g:Intercept:x", "var:residual", "icc"])
    ['Intercept', 'x', 'var:g:Intercept', 'var:residual', 'icc']
    """
    formula = method.formula
    known = {"var:residual", "sd:residual"}
    for term in formula.random:
        known |= {f"{kind}:{term.group}:{column}" for kind in ("var", "sd") for column in term.columns}
        known |= {
            f"{kind}:{term.group}:{a}:{b}"
            for kind in ("cov", "cor")
            for a in term.columns
            for b in term.columns
            if a != b
        }
    if INTERCEPT in formula.random_columns:
        known.add("icc")
    return [n for n in names if n in known or (n.split(":")[0] not in _KINDS and find_term(formula.fixed, n))]


def method_results(frame: pd.DataFrame, method: Method, names: Sequence[str]) -> MethodResults:
    """One method's rows of one condition as the measures take them."""
    status = frame["status"].astype(str).to_numpy()
    converged = np.isin(status, [s.name for s in Status if s.converged])
    found = {}
    for name in method_estimands(method, names):
        column = f"estimate.{name}"
        has_se = f"se.{name}" in frame
        found[name] = Estimates(
            estimate=frame[column].to_numpy(dtype=float),
            se=frame[f"se.{name}"].to_numpy(dtype=float) if has_se else None,
            df=frame[f"df.{name}"].to_numpy(dtype=float) if has_se else None,
        )
    failed = ~converged & frame["estimate.var:residual"].isna().to_numpy()
    return MethodResults(
        name=method.name, replicate=frame["replicate"].to_numpy(), converged=converged,
        singular=frame["singular"].to_numpy(dtype=bool), failed=failed, estimands=found, alpha=method.alpha,
    )  # fmt: skip


def summarise_store(
    store: Store, rows: Sequence[StoredCondition], methods: Sequence[Method], replications: int, mcse: str
) -> pd.DataFrame:
    """summary.parquet: the measures of every active condition, with one column a factor."""
    active = [row for row in rows if row.active]
    factors = list(dict.fromkeys(name for row in active for name in row.factors))
    tables = [_summarise_condition(store, row, methods, replications, mcse, factors) for row in active]
    tables = [table for table in tables if not table.empty]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _summarise_condition(
    store: Store, row: StoredCondition, methods: Sequence[Method], replications: int, mcse: str, factors: Sequence[str]
) -> pd.DataFrame:
    from ..spec.identity import result_key

    names = list(row.truth)
    results = []
    for method in methods:
        frame = store.read(row.number, result_key(row.data_key, method), replications)
        if not frame.empty:
            results.append(method_results(derive(frame, names), method, names))
    if not results:
        return pd.DataFrame()
    truth: Mapping[str, float] = {k: v for k, v in row.truth.items() if v is not None}
    table = summarise(results, truth, mcse=mcse)  # type: ignore[arg-type]
    for position, name in enumerate(factors):
        table.insert(position, name, row.factors.get(name))
    table.insert(0, "condition", row.number)
    return table
