"""What a fit of one data set refuses, in the words of the data: DataError, with what was found and the repair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..spec.matrices import ModelMatrices
from ..spec.problems import DataError
from .inference import RULES, SINGULAR_DF
from .status import Status

__all__ = [
    "check_data", "check_dependence", "check_levels", "check_rules", "check_sizes", "one_of", "refuse_generalised",
    "refuse_unusable",
]  # fmt: skip

Array = NDArray[np.float64]


def check_rules(df: str, singular_df: str, *, reml: bool) -> None:
    one_of("df", df, RULES)
    one_of("singular_df", singular_df, SINGULAR_DF)
    if df == "kenward-roger" and not reml:
        raise DataError(
            "df = 'kenward-roger' needs REML, and this is a fit by maximum likelihood; leave out ML, or use satterthwaite"
        )


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an option that is not among those that are allowed."""
    if value not in allowed:
        raise DataError(f"{name} = {value!r}: allowed are {', '.join(allowed[:-1])} and {allowed[-1]}; use one of them")


def refuse_generalised(**options: object) -> None:
    """Refuse options of other families than the normal one that are not their defaults."""
    usual = {"nodes": 1, "curvature": "observed", "method": "likelihood", "scale": "estimated"}
    for name, value in options.items():
        if value != usual.get(name):
            raise DataError(f"{name} = {value!r} is for families other than gaussian; give family, or leave it out")


def check_levels(m: ModelMatrices) -> None:
    """Refuse grouping factors of one level."""
    for group, levels in m.levels.items():
        if len(levels.labels) < 2:
            name = group.strip("`")
            raise DataError(f"grouping factor {name} has {len(levels.labels)} level; a random effect needs at least 2")


def check_data(m: ModelMatrices, *, reml: bool) -> None:
    """Refuse what has no answer, in the words of the data."""
    rows, p = m.X.shape
    check_levels(m)
    for names, term, random in zip(m.random_names, m.terms, m.formula.random, strict=True):
        effects = len(m.levels[random.group].labels) * len(names)
        if rows <= effects:
            raise DataError(
                f"{rows} rows are not more than the {effects} random effects of {term}: the residual variance can't be told from "
                "theirs; use fewer random columns or more rows a cluster"
            )
    if rows <= p:
        raise DataError(f"{rows} rows are not more than the {p} fixed effects; use fewer terms or more rows")
    check_sizes(m)
    check_dependence("fixed effect", m.X, m.fixed_names)
    for Z, names in zip(m.Z, m.random_names, strict=True):
        check_dependence("random column", Z, names)
    spread = m.y - m.y.mean()
    if not np.abs(spread).max() > 1e-13 * np.abs(m.y).max():
        raise DataError(f"response {m.response} is constant; there is nothing to fit")
    if reml:
        _check_identified(m)


def check_sizes(m: ModelMatrices) -> None:
    """Refuse numbers whose squares would leave the range of floating point."""
    columns = [(m.response, m.y), *zip(m.fixed_names, m.X.T, strict=True)]
    columns += [
        (name, z) for names, Z in zip(m.random_names, m.Z, strict=True) for name, z in zip(names, Z.T, strict=True)
    ]
    for name, column in columns:
        largest = np.abs(column).max()
        if largest and not 1e-140 < largest < 1e140:
            raise DataError(f"{name} has values up to {largest:.3g}; allowed are 1e-140 to 1e140: rescale it")


def check_dependence(what: str, X: Array, names: tuple[str, ...]) -> None:
    """Refuse columns that are combinations of the columns before them."""
    scaled = X / np.maximum(np.linalg.norm(X, axis=0), 1e-300)
    diagonal = np.abs(np.diag(np.linalg.qr(scaled, mode="r")))
    if dependent := [name for name, d in zip(names, diagonal, strict=True) if d < 1e-9]:
        repair = "remove it" if not any("[" in name for name in dependent) else "remove it or recode its categories"
        raise DataError(f"{what} {', '.join(dependent)}: linearly dependent on the columns before it; {repair}")


def _check_identified(m: ModelMatrices) -> None:
    """Refuse a random column that lies, cluster by cluster, in the span of the fixed effects: REML is flat in its variance."""
    Q, _ = np.linalg.qr(m.X)
    for Z, names, term in zip(m.Z, m.random_names, m.formula.random, strict=True):
        codes, labels = m.levels[term.group]
        for z, name in zip(Z.T, names, strict=True):
            explained = sum(np.sum(np.bincount(codes, weights=z * q) ** 2) for q in Q.T)
            if z @ z - explained < 1e-10 * (z @ z):
                group = term.group.strip("`")
                raise DataError(
                    f"{len(labels)} levels of {group} can't tell the variance of {name} from the fixed effects that "
                    "are constant within them: use fewer of those or more levels"
                )


def refuse_unusable(status: Status, *, usable: bool, formula: str) -> None:
    """usable: whether the variances are positive; they are not where the search ran into a residual variance of 0."""
    if not usable and status != Status.rank_deficient:
        status = Status.nonfinite
    if status in (Status.rank_deficient, Status.nonfinite):
        raise DataError(f"{formula} cannot be fitted to these data. {status.sentence}")
