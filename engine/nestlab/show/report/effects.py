"""What a test meets in a condition, and whether a rate departs from its nominal value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy

from ...run.store import StoredCondition
from ...spec.estimand import find_estimand
from ...spec.formula import find_term
from ...spec.model import INTERCEPT, Contrast
from ..drawn import drawn_by
from .material import Material

__all__ = ["departures", "drawn_from", "effect_kind", "tests_of"]

#: Distance of a true value from the one under test that is rounding.
ROUNDING = 1e-12


def effect_kind(material: Material, condition: int, estimand: str, label: str) -> str:
    """What a method's test of an estimand meets in a condition. label: the method as the summary names it.

    "null": the value under test is true, so that rejections are type I errors at the nominal rate; "beyond": the truth lies on
    the null's side of it, where at most that rate is allowed; "effect": there is something to find; "unknown": no single true
    value.
    """
    stored = next(c for c in material.conditions if c.number == condition)
    truth = stored.truths.of(material.labels[label].name)
    if drawn_from(material, stored, estimand):
        return "unknown"
    contrasts = {c.name: c for method in material.methods for c in method.contrasts}
    if estimand in contrasts:
        return _contrast_kind(contrasts[estimand], truth)
    known = stored.estimands(material.methods)
    if estimand not in known:
        return "unknown"
    parts = known[estimand].columns if known[estimand].kind == "test" else [estimand]
    values = [truth.get(find_estimand(known, part) or part) for part in parts]
    if any(value is None or not np.isfinite(value) for value in values):
        return "unknown"
    return "effect" if any(value != 0 for value in values) else "null"


def drawn_from(material: Material, stored: StoredCondition, estimand: str) -> list[str]:
    """The priors that a condition draws an estimand's true value from, as text: "normal(0.5, 0.2)"; none where it is fixed."""
    return drawn_by(stored, estimand, material.methods)


def _contrast_kind(contrast: Contrast, truth: Mapping[str, float]) -> str:
    if contrast.joint:
        rows = [
            sum(weight * truth.get(find_term(truth, term) or term, np.nan) for term, weight in row)
            for row in contrast.weights
        ]
        if not np.isfinite(rows).all():
            return "unknown"
        return "effect" if any(abs(value) > ROUNDING for value in rows) else "null"
    value = truth.get(contrast.name)
    if value is None or not np.isfinite(value):
        return "unknown"
    if contrast.equivalence is not None:
        inside = min(value - contrast.equivalence[0], contrast.equivalence[1] - value)
        return "effect" if inside > ROUNDING else "null" if inside > -ROUNDING else "beyond"
    distance = value - contrast.null
    if abs(distance) <= ROUNDING:
        return "null"
    wrong_side = {"two-sided": False, "greater": distance < 0, "less": distance > 0}[contrast.alternative]
    return "beyond" if wrong_side else "effect"


def tests_of(material: Material) -> pd.DataFrame:
    """The rows of power, with what each test meets in `kind`; of the intercept only if nothing else is tested."""
    whole = material.whole
    rows = whole[(whole["measure"] == "power") & whole["value"].notna()]
    if (rows["estimand"] != INTERCEPT).any():
        rows = rows[rows["estimand"] != INTERCEPT]
    keys = list(zip(rows["condition"], rows["estimand"], rows["method"], strict=True))
    kinds = {(c, e, m): effect_kind(material, int(c), str(e), str(m)) for c, e, m in dict.fromkeys(keys)}
    return rows.assign(kind=pd.Series([kinds[key] for key in keys], index=rows.index, dtype=object))


def departures(rows: pd.DataFrame, nominal: float) -> Any:
    """-1, 0 or 1 a row: a rate significantly below, not significantly off, significantly above `nominal`, by an exact
    two-sided binomial test at 5 %."""
    n = rows["n"].to_numpy(dtype=np.int64)
    k = np.round(rows["value"].to_numpy(dtype=float) * n)
    below = scipy.special.bdtr(k, n, nominal) <= 0.025
    above = np.where(k > 0, scipy.special.bdtrc(k - 1, n, nominal), 1.0) <= 0.025
    return above.astype(int) - below.astype(int)
