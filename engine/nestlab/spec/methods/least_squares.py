"""Least squares: the clusters ignored, absorbed or averaged, or rows weighed by the true variances.

"ols" ignores the clusters. "fixed-effects" gives each cluster a dummy, which absorbs every term that is constant within clusters.
"cluster-means" regresses the means of the clusters. "gls" weighs rows by the true variances, as nobody with data can: a
yardstick. None of them has a random part to estimate; that of the formula is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..model import CENTRINGS, Formula, Layout, Method, source_of, term_variables
from ..problems import Problems
from .estimator import Estimator, Levels

if TYPE_CHECKING:
    from ..tables import MethodTable

__all__ = ["CLUSTER_MEANS", "FIXED_EFFECTS", "GLS", "OLS", "absorbed", "averaged_out", "check_terms"]


def absorbed(formula: Formula, level: Levels) -> tuple[str, ...]:
    """The fixed terms that are constant within clusters: the Intercept and products of level-2 predictors.

    >>> from nestlab.spec.formula import parse_formula
    >>> absorbed(parse_formula("y ~ x * z"), {"x": 1, "z": 2})
    ('Intercept', 'z')
    """
    return tuple(term for term in formula.fixed if all(_between(v, level) for v in term_variables(term)))


def _between(variable: str, level: Levels) -> bool:
    """Whether a variable is constant within clusters."""
    name, made = source_of(variable)
    return made == "between" or (level.get(name) == 2 and made not in CENTRINGS)


def averaged_out(formula: Formula, level: Levels) -> tuple[str, ...]:
    """The fixed terms whose mean is 0 in every cluster: within(x) and its products with what is constant there.

    >>> from nestlab.spec.formula import parse_formula
    >>> averaged_out(parse_formula("y ~ within(x) * z + between(x)"), {"x": 1, "z": 2})
    ('within(x)', 'within(x):z')
    """
    varying = {term: [v for v in term_variables(term) if not _between(v, level)] for term in formula.fixed}
    return tuple(term for term, inner in varying.items() if len(inner) == 1 and source_of(inner[0])[1] == "within")


def check_terms(
    key: str,
    table: MethodTable,
    method: Method,
    written: Formula,
    problems: Problems,
    *,
    gone: str = "",
    where: str = "",
) -> None:
    """Add to `problems` a formula that leaves nothing to estimate.

    gone: why terms are left out; where: those between or within clusters that are not.
    """
    if not method.formula.fixed:
        text = (
            f"leaves nothing to estimate: {', '.join(written.fixed)} {gone}; add a term that varies {where} clusters, or choose "
            f'another estimator than "{table.estimator}"'
        )
        problems.add_value("truth.formula" if table.formula is None else f"{key}.formula", written.text, text)
    if table.robust is not None and table.weights is not None:
        problems.add_value(f"{key}.robust", table.robust, "must not stand beside weights; remove one of the two")


def _too_few_rows(method: Method, layout: Layout) -> list[str]:
    p, clusters = len(method.formula.fixed), layout.clusters
    if layout.rows > clusters + p:
        return []
    return [
        f"must have fewer fixed terms than rows beyond one a cluster, and {', '.join(method.formula.fixed)} stand beside "
        f"the effects of {clusters} clusters for {layout.rows} rows; raise design.cluster_size or use fewer terms"
    ]


def _too_few_means(method: Method, layout: Layout) -> list[str]:
    p, clusters = len(method.formula.fixed), layout.clusters
    if clusters > p:
        return []
    return [
        f"must have fewer fixed terms than clusters, whose means are the data, and has {p} for {clusters}; raise "
        "design.clusters or use fewer terms"
    ]


def _row(name: str, text: str, *, keys: Sequence[str] = ("robust",), **own: Any) -> Estimator:
    def words(method: Method) -> Iterator[tuple[str, str]]:
        yield "estimator", text + ", weighted by their sizes" * (method.weights == "size")

    given: dict[str, Any] = {"rules": ("residual", "z"), "check": check_terms} | own
    return Estimator(name=name, module="least_squares", words=words, keys=frozenset(keys), **given)


OLS = _row("ols", "least squares that ignores clusters", equal_rows=lambda method: True)
FIXED_EFFECTS = _row(
    "fixed-effects",
    "least squares with fixed effects of clusters, which absorb every term that is constant within clusters",
    absorbs=True,
    by_level=True,
    left_out=absorbed,
    sees=bool,
    check=partial(check_terms, gone="do not vary within clusters, whose effects absorb them", where="within"),
    too_few=_too_few_rows,
)
CLUSTER_MEANS = _row(
    "cluster-means",
    "least squares on the means of the clusters",
    keys=("robust", "weights"),
    residual=False,
    left_out=averaged_out,
    sees=lambda parts: list(parts) != ["w"],
    check=partial(check_terms, gone="average to 0 in every cluster", where="between"),
    too_few=_too_few_means,
)
GLS = _row(
    "gls",
    "generalised least squares that knows the true variances",
    keys=(),
    rules=("z",),
    residual=False,
    variances_known=True,
)
