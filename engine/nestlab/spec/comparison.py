"""Nested models: which parameters a likelihood ratio test of them tests, and so its large-sample null distribution.

A variance tested at 0 lies on the boundary, and the statistic is a mixture of chi-squares, chi2_0 being the constant 0:

    fixed terms, or covariances between columns that both models hold     chi2_k, k their number
    one variance, its column without covariances                          1/2 chi2_0 + 1/2 chi2_1
    one column with its covariances to the r others of its term           1/2 chi2_r + 1/2 chi2_{r+1}

(Self & Liang 1987, JASA 82, 605-610, cases 5 and 6; Stram & Lee 1994, Biometrics 50, 1171-1177, cases 1 and 3). With several
grouping factors models are nested where they are so factor by factor, and the mixtures hold where the variances of the other
factors lie inside: one on the boundary as well makes the test conservative. Other nested models (two variances, of one factor or
of two; fixed and random terms at once) are compared by the bootstrap only. Restricted likelihoods are comparable
where the fixed parts are the same. The mixtures are for many clusters: with few, the statistic is 0 more often than half of the
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .estimand import Estimand
from .formula import canonical_term, find_term, formula_text
from .model import Formula, RandomTerm

__all__ = ["Comparison", "compare"]

Kind = Literal["fixed", "covariance", "variance", "slope", "other"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test of a null model within a full one.

    kind: "fixed" terms, "covariance" between columns of both models, one "variance", one "slope" with its covariances, or
    "other". tested: the full model's parameters that the null sets to 0. mixture: weights and degrees of freedom of the
    chi-squares, () where no mixture is known ("other").
    needs_ml: the fixed parts differ, so restricted likelihoods can't be compared. exact: with REML the finite-sample distribution
    is known (`rlrt`).
    """

    kind: Kind
    tested: tuple[Estimand, ...]
    mixture: tuple[tuple[float, int], ...]
    needs_ml: bool
    exact: bool

    @property
    def name(self) -> str:
        """What is tested, in a word: "x", "var:g:Intercept", "x, x:z".

        >>> from nestlab.spec.formula import parse_formula
        >>> compare(parse_formula("y ~ x + (1 | g)"), parse_formula("y ~ x + (1 + x | g)")).name
        'cov:g:Intercept:x, var:g:x'
        """
        return ", ".join(each.name for each in self.tested)


def compare(null: Formula, full: Formula) -> Comparison:
    """What a test of `null` within `full` tests; ValueError where they are equal or not nested.

    >>> from nestlab.spec.formula import parse_formula
    >>> compare(parse_formula("y ~ x"), parse_formula("y ~ x + (1 | g)")).mixture
    ((0.5, 0), (0.5, 1))
    """
    _check(null, full)
    fixed = tuple(Estimand("fixed", columns=(t,)) for t in full.fixed if find_term(null.fixed, t) is None)
    random = _random_parameters(null, full)
    if not fixed and not random:
        raise ValueError(
            f'null model "{formula_text(null)}" and full model "{formula_text(full)}" are the same model: leave out of the null '
            "what is to be tested"
        )
    kind, mixture = _distribution(null, full, fixed, random)
    return Comparison(
        kind=kind,
        tested=fixed + random,
        mixture=mixture,
        needs_ml=bool(fixed),
        exact=not fixed and len(full.random_columns) == 1,  # which the null lacks, or the models were the same
    )


def _distribution(
    null: Formula, full: Formula, fixed: tuple[Estimand, ...], random: tuple[Estimand, ...]
) -> tuple[Kind, tuple[tuple[float, int], ...]]:
    if not random:
        return "fixed", ((1.0, len(fixed)),)
    variances = sum(each.kind == "var" for each in random)
    if fixed or variances > 1:
        return "other", ()
    if variances == 0:
        return "covariance", ((1.0, len(random)),)
    r, before, after = len(random) - 1, set(_blocks(null)), set(_blocks(full))
    if len(after - before) > 1 or len(before - after) > 1:  # the new column is not all that changed
        return "other", ()
    return ("variance" if r == 0 else "slope"), ((0.5, r), (0.5, r + 1))


def _check(null: Formula, full: Formula) -> None:
    """The null is nested in the full model."""
    problem = ""
    extra = [term for term in null.fixed if find_term(full.fixed, term) is None]
    wholes = _blocks(full)
    held = {pair for whole in wholes for pair in whole}
    for term in null.random:
        own = [column for column in term.columns if not _block(term, [column]) <= held]
        extra += own if len(full.groups) == 1 else [f"{column} of {term.group}" for column in own]
    if null.response != full.response:
        problem = f"its response is {null.response}, not {full.response}: compare models of one response"
    elif null.random and not full.random:
        problem = "it has random terms and the full model has none: exchange the two"
    elif others := [group for group in null.groups if canonical_term(group) not in map(canonical_term, full.groups)]:
        problem = (
            f"it has random effects of {', '.join(others)}, and the full model of {', '.join(full.groups)} only: leave them out "
            "of the null or add them to the other"
        )
    elif extra:
        problem = f"it has {', '.join(extra)}, which the full model has not: leave that out of the null or add it to the other"
    else:
        for term in null.random:
            if not any(_block(term) <= whole for whole in wholes):
                problem = (
                    f"it lets {', '.join(term.columns)} correlate and the full model does not: write them in one random term of "
                    "the full model"
                )
    if problem:
        raise ValueError(f'null model "{formula_text(null)}" is not nested in "{formula_text(full)}": {problem}')


def _random_parameters(null: Formula, full: Formula) -> tuple[Estimand, ...]:
    """Variances and covariances of the full model that the null lacks, factor by factor."""
    joined, found = _blocks(null), list[Estimand]()
    for term in full.random:
        for k, column in enumerate(term.columns):
            for other in term.columns[: k + 1]:
                both = _block(term, [column, other])
                if not any(both <= block for block in joined):
                    pair = (column,) if other == column else (other, column)
                    found.append(Estimand("var" if other == column else "cov", term.group, pair))
    return tuple(found)


#: Random columns that may correlate, each with its grouping factor.
_Block = frozenset[tuple[str, str]]


def _block(term: RandomTerm, columns: Sequence[str] | None = None) -> _Block:
    """Of a term's columns, or of some of them."""
    group = canonical_term(term.group)
    return frozenset((group, canonical_term(column)) for column in (term.columns if columns is None else columns))


def _blocks(formula: Formula) -> Sequence[_Block]:
    return [_block(term) for term in formula.random]
