"""A generalised fit in the layout of lme4's `print(summary(glmer(...)))`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ..printed import (
    call_lines,
    coefficient_lines,
    correlation_lines,
    information_lines,
    observation_lines,
    random_lines,
    remark_lines,
    residual_lines,
)
from ..rformat import cat_fill, format_real

if TYPE_CHECKING:
    from .single import GeneralisedFit

__all__ = ["generalised_text"]

_FAMILIES = {"binomial": "binomial", "poisson": "poisson"}


def generalised_text(fit: GeneralisedFit, *, data: str | None = None) -> str:
    """The fit as glmer prints it. data: what the line "Data:" names; without it there is no such line."""
    criterion = information_lines(fit.neg2loglik, fit.parameters, fit.rows) if fit.method == "likelihood" else []
    parts = [
        _title(fit), [f" Family: {_family(fit)}  ( {fit.link} )"], call_lines(fit, data), [""], criterion,
        [""] if criterion else [], residual_lines(fit), [""], random_lines(fit, fit.scale if fit.scale == fit.scale else None),
        observation_lines(fit), [""], coefficient_lines(fit, z=True), correlation_lines(fit), remark_lines(fit),
        _diverging(fit),
    ]  # fmt: skip
    return "\n".join(chain.from_iterable(parts))


def _title(fit: GeneralisedFit) -> list[str]:
    if fit.method == "pql":
        kind = "REML" if fit.reml else "maximum likelihood"
        return [f"Generalized linear mixed model fit by penalised quasi-likelihood ({kind})"]
    words = "Generalized linear mixed model fit by maximum likelihood (Laplace Approximation)"
    if fit.nodes > 1:
        words = (
            "Generalized linear mixed model fit by maximum likelihood (Adaptive Gauss-Hermite Quadrature, "
            f"nAGQ = {fit.nodes})"
        )
    head = "Generalized linear mixed model fit by maximum likelihood (Laplace"
    if fit.nodes > 1:
        head = "Generalized linear mixed model fit by maximum likelihood (Adaptive"
    return [head, f"  {words[len(head) + 1 :]} [glmerMod]"]


def _family(fit: GeneralisedFit) -> str:
    if fit.family in _FAMILIES:
        return _FAMILIES[fit.family]
    return f"Negative Binomial({format_real([fit.dispersion], 5)[0]})"


def _diverging(fit: GeneralisedFit) -> list[str]:
    if not fit.diverging:
        return []
    return cat_fill([f"no finite estimate: {', '.join(fit.diverging)}"])
