"""Which true values each replicate draws from a prior."""

from __future__ import annotations

from collections.abc import Sequence

from ..run.store import StoredCondition
from ..spec.estimand import Estimand
from ..spec.formula import find_term
from ..spec.model import Method

__all__ = ["drawn_by", "priors_of"]


def priors_of(stored: StoredCondition) -> dict[str, str]:
    """The axes of which each replicate of a condition draws a value, with their priors as text."""
    drawn = {key.removeprefix("prior."): value for key, value in stored.spec.items() if key.startswith("prior.")}
    return {axis: value for axis, value in drawn.items() if isinstance(value, str)}


def drawn_by(stored: StoredCondition, estimand: str, methods: Sequence[Method]) -> list[str]:
    """The priors behind an estimand's true value in a condition, as text: "normal(0.5, 0.2)"; none where it is fixed."""
    known = stored.estimands(methods)
    contrast = next((c for method in methods for c in method.contrasts if c.name == estimand), None)
    each = known.get(estimand)
    if each is None:
        return []
    parts = [known.get(part, each) for part in each.columns] if each.kind == "test" else [each]
    texts = []
    for axis, text in priors_of(stored).items():
        term = axis.removeprefix("truth.fixed.") if axis.startswith("truth.fixed.") else None
        if contrast is not None:
            hit = find_term(contrast.terms, term) is not None if term else contrast.standardise is not None
        else:
            hit = any(part.kind == "fixed" and part.means(term) if term else _moves(axis, part) for part in parts)
        if hit:
            texts.append(text)
    return texts


def _moves(axis: str, estimand: Estimand) -> bool:
    """Whether an axis of the covariances can change an estimand; rather too often than too seldom."""
    if estimand.residual:
        return axis.startswith("truth.residual")
    if estimand.kind == "cor":  # held when a variance varies
        return "correlation" in axis
    return not estimand.effect
