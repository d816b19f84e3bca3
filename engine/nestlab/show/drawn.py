"""Which true values each replicate draws from a prior."""

from __future__ import annotations

from ..run.store import StoredCondition
from ..spec.estimands import find_estimand
from ..spec.model import Contrast

__all__ = ["VARIANCE_LIKE", "drawn_by", "priors_of"]

#: How the names of variances, and of what derives from them, begin.
VARIANCE_LIKE = ("var:", "sd:", "cov:", "cor:", "icc")


def priors_of(stored: StoredCondition) -> dict[str, str]:
    """The axes of which each replicate of a condition draws a value, with their priors as text."""
    drawn = {key.removeprefix("prior."): value for key, value in stored.spec.items() if key.startswith("prior.")}
    return {axis: value for axis, value in drawn.items() if isinstance(value, str)}


def drawn_by(stored: StoredCondition, estimand: str, contrast: Contrast | None) -> list[str]:
    """The priors behind an estimand's true value in a condition, as text: "normal(0.5, 0.2)"; none where it is fixed.

    contrast: the one of that name, if it is one.
    """
    texts = []
    for axis, text in priors_of(stored).items():
        term = axis.removeprefix("truth.fixed.") if axis.startswith("truth.fixed.") else None
        if contrast is not None:
            hit = find_estimand(contrast.terms, term) is not None if term else contrast.standardise is not None
        else:
            parts = estimand.split(", ")
            hit = find_estimand(parts, term) is not None if term else any(_moves(axis, part) for part in parts)
        if hit:
            texts.append(text)
    return texts


def _moves(axis: str, estimand: str) -> bool:
    """Whether an axis of the covariances can change an estimand; rather too often than too seldom."""
    if estimand in ("var:residual", "sd:residual"):
        return axis.startswith("truth.residual")
    if estimand.startswith("cor:"):  # held when a variance varies
        return "correlation" in axis
    return estimand.startswith(VARIANCE_LIKE)
