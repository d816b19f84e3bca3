"""Least squares: the clusters ignored, absorbed or averaged, or rows weighed by the true variances.

"ols" ignores the clusters. "fixed-effects" gives each cluster a dummy, which absorbs every term that is constant within clusters.
"cluster-means" regresses the means of the clusters. "gls" weighs rows by the true variances, as nobody with data can: a
yardstick. None has a random part to estimate; that of the formula is left out.

With several grouping factors "ols" and "fixed-effects" have robust errors that are clustered by one or several of them, and
dummies of one or several. Dummies absorb a term whose predictors all live on one of their factors, or on one that holds it. A
product of predictors of subjects and of items is no sum of constants of subjects and of items: it stays if both have dummies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..factor_keys import FACTORS
from ..model import CENTRINGS, Formula, Layout, Method, Structure, source_of, term_variables
from ..problems import Problems, nearest
from .estimator import ALL, Estimator, Levels

if TYPE_CHECKING:
    from ..tables import MethodTable

__all__ = [
    "CLUSTER_MEANS", "FIXED_EFFECTS", "GLS", "OLS", "absorbed", "absorbing", "averaged_out", "check_factor_names", "check_terms",
    "clustering", "lives_within",
]  # fmt: skip


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


def clustering(method: Method) -> tuple[str, ...]:
    """The factors by which robust errors are clustered, in the study's order: where absent those that lie within no other.

    >>> from nestlab.spec.formula import parse_formula
    >>> from dataclasses import replace
    >>> nested = replace(parse_formula("y ~ x"), factors=(("school", ""), ("class", "school"), ("rater", "")))
    >>> clustering(Method("m", nested, robust="CR2"))
    ('school', 'rater')
    """
    factors = method.formula.factors
    return tuple(name for name, within in factors if (name in method.cluster if method.cluster else not within))


def absorbing(formula: Formula, factors: Sequence[str]) -> tuple[str, ...]:
    """The factors that have dummies, in the study's order: where absent all."""
    return tuple(name for name, _ in formula.factors if not factors or name in factors)


def lives_within(formula: Formula, term: str, factor: str, level: Levels) -> bool:
    """Whether a term is constant within levels of a factor. level: the factor, or crossing, that each predictor lives on."""
    places = [str(level.get(source_of(v)[0]) or "") for v in term_variables(term)]
    return all(formula.holds(factor, at) for at in places)


def _absorbed_by(formula: Formula, level: Levels, factors: Sequence[str]) -> tuple[str, ...]:
    own = absorbing(formula, factors)
    return tuple(term for term in formula.fixed if any(lives_within(formula, term, name, level) for name in own))


def check_factor_names(key: str, names: Sequence[str], written: Formula, problems: Problems) -> bool:
    """Whether the names of a key are factors of the study; adds to `problems` those that are not."""
    known = [name for name, _ in written.factors]
    for name in (name for name in names if name not in known):
        problems.add_value(key, name, f"must name factors of [{FACTORS}]; {nearest(name, known)}")
    return set(names) <= set(known)


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
        repair = f"add a term that varies {where} clusters"
        if written.factors:
            own = " or ".join(absorbing(written, method.factors))
            gone = f"are constant within levels of {own}, whose effects absorb them"
            repair = "add a term that is not, name fewer factors"
        text = (
            f"leaves nothing to estimate: {', '.join(written.fixed)} {gone}; {repair}, or choose another estimator than "
            f'"{table.estimator}"'
        )
        problems.add_value("truth.formula" if table.formula is None else f"{key}.formula", written.text, text)
    if table.robust is not None and table.weights is not None:
        problems.add_value(f"{key}.robust", table.robust, "must not stand beside weights; remove one of the two")
    _check_factors(key, table, written, problems)


def _check_factors(key: str, table: MethodTable, written: Formula, problems: Problems) -> None:
    """What the keys that name grouping factors do not allow."""
    for word in ("cluster", "factors"):
        names = getattr(table, word)
        if names is None:
            continue
        shown = names[0] if len(names) == 1 else list(names)
        if not written.factors:
            text = f"is for several grouping factors, and the study has one; remove it, or add [{FACTORS}]"
            problems.add_value(f"{key}.{word}", shown, text)
        elif check_factor_names(f"{key}.{word}", names, written, problems) and word == "cluster" and not table.robust:
            text = 'says by what robust errors are clustered, and there are none; add robust = "CR2", or remove it'
            problems.add_value(f"{key}.cluster", shown, text)


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


def _content(method: Method) -> dict[str, Any]:
    """With several grouping factors: by which of them errors are clustered, and which have dummies."""
    if not method.formula.factors:
        return {}
    found = {"factors": list(absorbing(method.formula, method.factors))} if method.estimator == "fixed-effects" else {}
    return found | ({"cluster": list(clustering(method))} if method.robust is not None else {})


def _too_few_cells(method: Method, structure: Structure, rows: int, level: Levels) -> list[str]:
    names = absorbing(method.formula, method.factors)
    held = {within for name, within in method.formula.factors if name in names}
    free = [structure.grouping(name).levels for name in names if name not in held]
    dummies = sum(free) - len(free) + 1
    if rows > dummies + len(method.formula.fixed):
        return []
    return [
        f"must have fewer fixed terms than rows beyond the effects of {' and '.join(names)}, and "
        f"{', '.join(method.formula.fixed)} stand beside {dummies} of them for {rows} rows; raise design.rows or use fewer terms"
    ]


def _row(name: str, text: str, *, keys: Sequence[str] = ("robust",), **own: Any) -> Estimator:
    def words(method: Method) -> Iterator[tuple[str, str]]:
        if not method.formula.factors:
            yield "estimator", text + ", weighted by their sizes" * (method.weights == "size")
            return
        names = " and ".join(absorbing(method.formula, method.factors))
        dummies = f"least squares with fixed effects of {names}, which absorb every term that is constant within levels of one"
        yield "estimator", "least squares" if name == "ols" else dummies
        if method.robust is not None:
            by = clustering(method)
            ways = "clustered by" if len(by) == 1 else "clustered multiway (Cameron, Gelbach and Miller 2011) by"
            yield "clusters", f"{ways} {' and '.join(by)}; their number: that of the factor with the fewest levels"

    given: dict[str, Any] = {"rules": ("residual", "z"), "check": check_terms} | own
    return Estimator(name=name, module="least_squares", words=words, keys=frozenset(keys), **given)


OLS = _row(
    "ols",
    "least squares that ignores clusters",
    keys=("robust", "cluster"),
    outcomes=ALL,
    several=True,
    equal_rows=lambda method: True,
    content=_content,
)
FIXED_EFFECTS = _row(
    "fixed-effects",
    "least squares with fixed effects of clusters, which absorb every term that is constant within clusters",
    keys=("robust", "cluster", "factors"),
    several=True,
    absorbs=True,
    absorbed=_absorbed_by,
    content=_content,
    too_few_levels=_too_few_cells,
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
    outcomes=ALL,
    instead=lambda method: f'estimator = "by-units" with units = "{method.formula.factors[0][0]}"',
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
