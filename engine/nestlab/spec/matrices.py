"""Model matrices of a data frame: the door for data that exist already.

Categorical predictors are coded as in R (contr.treatment, unless C names others): by contrasts where an earlier term holds the
rest of the product, else by indicators of all categories. In a product the first factor's columns vary fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .columns import Factor, Rows, check_functions, evaluate, plain
from .expression import printed, read_variable, variables_in
from .formula import OF_MEANS, FormulaError, canonical_term, centring_group, parse_formula, random_term_text
from .model import INTERCEPT, MAX_FIXED, MOST_RANDOM, Formula, term_variables
from .problems import DataError, close_match

__all__ = ["Levels", "ModelMatrices", "model_matrices", "variables_of"]

Array = NDArray[np.float64]


class Levels(NamedTuple):
    """A grouping factor on N rows: codes (N) as 0 .. J - 1, and the J levels' labels."""

    codes: NDArray[np.int64]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ModelMatrices:
    """y (N), X (N, p) with its column names, one Z (N, q_t) and its names for each random term, levels of each grouping factor.

    y is less the formula's offsets, unless it holds counts: then offset (N) has them, and trials (N) are cbind's.
    r_names: of the columns of X in R; factors: the variables of the formula on the N rows.
    dropped: rows left out because a value was missing; index: the labels of the rows that stayed. roots (N): what rows of y, X
    and Z were multiplied by, the roots of weights.
    """

    formula: Formula
    y: Array
    X: Array
    fixed_names: tuple[str, ...]
    r_names: tuple[str, ...]
    Z: tuple[Array, ...]
    random_names: tuple[tuple[str, ...], ...]
    factors: Mapping[str, Factor]
    levels: Mapping[str, Levels]
    dropped: int
    index: pd.Index
    roots: Array | None = None
    offset: Array | None = None
    trials: Array | None = None

    @property
    def response(self) -> str:
        return self.formula.response

    @property
    def group(self) -> str:
        """The grouping factor; of several the first."""
        return self.formula.group.strip("`")

    @property
    def groups(self) -> NDArray[np.int64]:
        return self.levels[self.formula.group].codes

    @property
    def group_labels(self) -> tuple[str, ...]:
        return self.levels[self.formula.group].labels

    @property
    def terms(self) -> tuple[str, ...]:
        """The random terms as written."""
        return tuple(map(random_term_text, self.formula.random))

    @property
    def term_order(self) -> tuple[int, ...]:
        """The numbers of the random terms in lme4's order: those whose factor has most levels first."""
        return tuple(sorted(range(len(self.Z)), key=lambda t: -len(self.levels[self.formula.random[t].group].labels)))

    @property
    def term_groups(self) -> tuple[str, ...]:
        """The grouping factor of each random term, in that order."""
        return tuple(self.formula.random[t].group.replace("`", "") for t in self.term_order)

    def nested(self, formula: Formula) -> ModelMatrices:
        """The matrices on these rows of a model that is nested in this one, or has no random terms."""
        N = len(self.y)
        roots = np.ones(N) if self.roots is None else self.roots
        fixed = _columns(formula.fixed, formula.variables, self.factors, N)
        random = [_columns(term.columns, (), self.factors, N) for term in formula.random]
        own = {canonical_term(group): levels for group, levels in self.levels.items()}
        return replace(
            self, formula=formula, X=np.hstack([X for X, _ in fixed]) * roots[:, None], fixed_names=_names(fixed),
            r_names=_names(fixed, in_r=True), Z=tuple(np.hstack([Z for Z, _ in term]) * roots[:, None] for term in random),
            random_names=tuple(map(_names, random)), levels={g: own[canonical_term(g)] for g in formula.groups},
        )  # fmt: skip

    def type3(self, term: str) -> Array:
        """Weights (r, p) of the coefficients that the type III test of a term of the fixed part is of, as in lmerTest's anova.

        Each row is a treatment contrast, averaged over the categories of other factors in the term's products. The hypothesis is
        that the term's coefficients are 0 where all factors have sum contrasts: with X_s such columns, X_t those of treatment
        contrasts and S = X_s^+ X_t, the weights are the term's rows of S[term, term]^-1 X_s^+ X.
        """
        sums, treated = (
            _columns(self.formula.fixed, self.formula.variables, self.factors, len(self.y), contrast=kind)
            for kind in ("sum", "treatment")
        )
        ends = np.cumsum([0] + [columns.shape[1] for columns, _ in sums])
        place = self.formula.fixed.index(term)
        own = slice(ends[place], ends[place + 1])
        X = np.hstack([columns for columns, _ in sums])
        plain = _columns(self.formula.fixed, self.formula.variables, self.factors, len(self.y))
        X_own = np.hstack([columns for columns, _ in plain])  # not times the roots of weights
        size, other = np.linalg.norm(X, axis=0), np.linalg.norm(X_own, axis=0)
        by_columns = np.column_stack([X_own / other, treated[place][0]])
        found = np.linalg.lstsq(X / size, by_columns, rcond=None)[0][own]
        weights = np.linalg.solve(found[:, len(other) :], found[:, : len(other)] * other)
        return np.where(np.abs(weights) < 1e-9 * np.abs(weights).max(), 0.0, weights)


def model_matrices(text: str, frame: pd.DataFrame, *, also: Sequence[str] = (), counts: bool = False) -> ModelMatrices:
    """Evaluate a mixed-model formula on a frame; rows with a missing value in a variable of it, or in `also`, are dropped.

    counts: the response is of counts: it may be cbind(events, others), and offsets are not taken from it.
    Raises FormulaError, and DataError for a column that is missing, of an unusable type or not finite.
    """
    formula = parse_formula(text)
    try:
        for name in variables_of(formula)[formula.response.startswith("cbind(") :]:
            check_functions(read_variable(name))
    except DataError as error:
        raise FormulaError(formula.text, str(error)) from None
    if not formula.random:
        raise FormulaError(formula.text, "needs a random term; add one, (1 | group)")
    _check_centrings(formula)
    columns = [column for name in variables_of(formula) for column in variables_in(read_variable(name))]
    used = _complete(frame, [*columns, *also])
    clusters = {group: _clusters(frame, group) for group in formula.groups}
    rows = Rows(frame, used, {canonical_term(group): codes for group, (codes, _) in clusters.items()})
    terms = (*formula.fixed, *formula.random_columns)
    factors = {name: evaluate(name, rows) for term in terms for name in term_variables(term)}
    N = int(used.sum())
    fixed = _columns(formula.fixed, formula.variables, factors, N)
    random = [_columns(term.columns, (), factors, N) for term in formula.random]
    offset = np.zeros(N)
    for name in formula.offsets:
        offset = offset + _numbers(f"offset({name})", evaluate(name, rows))
    if counts:
        y, trials = _counts(formula.response, rows)
    else:
        y, trials = _response(formula.response, rows) - offset, None
    matrices = ModelMatrices(
        formula=formula, y=y, X=np.hstack([X for X, _ in fixed]), fixed_names=_names(fixed), r_names=_names(fixed, in_r=True),
        Z=tuple(np.hstack([Z for Z, _ in term]) for term in random), random_names=tuple(_names(term) for term in random),
        factors=factors, levels={group: _present(*found, used) for group, found in clusters.items()},
        dropped=len(frame) - N, index=frame.index[used], offset=offset if counts else None, trials=trials,
    )  # fmt: skip
    _check_width(matrices)
    return matrices


def variables_of(formula: Formula) -> list[str]:
    """The response, the variables of all terms, those of the offsets and of the grouping factors, by name."""
    terms = [*formula.fixed, *formula.random_columns, *formula.groups]
    return [formula.response, *(v for term in terms for v in term_variables(term)), *formula.offsets]


def _check_width(m: ModelMatrices) -> None:
    """Categories can make more columns than the formula has terms."""
    if len(m.fixed_names) > MAX_FIXED:
        raise DataError(
            f"the fixed effects have {len(m.fixed_names)} columns on these data (... {', '.join(m.fixed_names[-2:])}); at most "
            f"{MAX_FIXED} are possible: use fewer categories, or convert text to numbers"
        )
    random = [name for names in m.random_names for name in names]
    if len(random) > MOST_RANDOM:
        raise DataError(
            f"{' + '.join(m.terms)} has {len(random)} random columns on these data ({', '.join(random)}); at most "
            f"{MOST_RANDOM} are possible: use fewer categories"
        )


def _check_centrings(formula: Formula) -> None:
    """within(x, g) and between(x, g) name a grouping factor; of several, one must be named."""
    own = {canonical_term(group) for group in formula.groups}
    for name in variables_of(formula):
        nodes = [read_variable(name)]
        while nodes:
            node = nodes.pop()
            nodes += node.parts
            if node.kind != "call" or node.value not in OF_MEANS or len(node.parts) not in (1, 2):
                continue
            x = printed(node.parts[0])
            each = " or ".join(f"{node.value}({x}, {group})" for group in formula.groups)
            if len(node.parts) == 2 and centring_group(node) not in own:
                reason = f"{printed(node)} must name a grouping factor of the formula; write {each}"
                raise FormulaError(formula.text, reason)
            if len(node.parts) == 1 and len(own) > 1:
                reason = f"{printed(node)} must name the grouping factor whose means are meant; write {each}"
                raise FormulaError(formula.text, reason)


def _present(codes: NDArray[np.int64], labels: list[str], used: NDArray[np.bool_]) -> Levels:
    """The levels that occur on the rows that are used."""
    kept, found = np.unique(codes[used], return_inverse=True)
    return Levels(found.astype(np.int64), tuple(labels[k] for k in kept))


def _clusters(frame: pd.DataFrame, group: str) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each row's cluster, -1 where it is missing, and the clusters' labels; of a:b one for each pair."""
    codes, labels = np.zeros(len(frame), dtype=np.int64), [""]
    for name in term_variables(group):
        own, levels = pd.factorize(frame[next(variables_in(read_variable(name)))], sort=True)
        pairs = np.where((codes < 0) | (own < 0), -1, codes * len(levels) + own)
        written = [f"{label}:{level}".lstrip(":") if label else str(level) for label in labels for level in levels]
        present, codes = np.unique(pairs, return_inverse=True)
        codes = codes - (present[:1] < 0).sum()
        labels = [written[k] for k in present if k >= 0]
    return codes.astype(np.int64), labels


def _complete(frame: pd.DataFrame, variables: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a row has a value in all of the variables."""
    used = list(dict.fromkeys(variables))
    columns = list(frame.columns)
    if missing := [v for v in used if v not in columns]:
        have = "columns: " + ", ".join(map(str, columns[:30])) + (", ..." if len(columns) > 30 else "")
        guess = close_match(missing[0], map(str, columns))
        repair = f'did you mean "{guess}"?' if guess and len(missing) == 1 else have
        raise DataError(f"formula names {', '.join(missing)}, which the data do not have; {repair}")
    if double := [v for v in used if columns.count(v) > 1]:
        raise DataError(f"the data have {columns.count(double[0])} columns named {double[0]}; rename all but one")
    complete = frame[used].notna().all(axis=1).to_numpy()
    if not complete.any():
        raise DataError(
            f"no row has a value for all of {', '.join(used)} ({len(frame)} rows read); check the missing values"
        )
    return complete


def _response(name: str, rows: Rows) -> Array:
    node = read_variable(name)
    if node.value == "cbind":
        raise DataError(f'response {name} is of counts: give family = "binomial", or one column')
    for column in variables_in(node):
        values = plain(rows.frame, column)
        if isinstance(values, pd.Categorical) or values.dtype == object:
            found = pd.Series(np.asarray(values, dtype=object)[rows.used]).drop_duplicates().astype(str).sort_values()
            unreadable = pd.to_numeric(found, errors="coerce").isna()  # they are why the column is text
            examples = ", ".join(f'"{v}"' for v in (found[unreadable] if unreadable.any() else found)[:3])
            raise DataError(f"response {name} is not numeric: {column} holds {examples}; give numbers")
    return _numbers(f"response {name}", evaluate(name, rows))


def _counts(name: str, rows: Rows) -> tuple[Array, Array | None]:
    """The events, and the trials if the response is cbind(events, others)."""
    node = read_variable(name)
    if node.value != "cbind":
        return _response(name, rows), None
    if len(node.parts) != 2:
        raise DataError(f"response {name} must have two columns, events and others; write cbind(k, n - k)")
    events, others = (_part(part, rows) for part in map(printed, node.parts))
    return events, events + others


def _part(name: str, rows: Rows) -> Array:
    """One side of cbind: a column, or arithmetic of columns as inside of I()."""
    plain_name = read_variable(name).kind in ("name", "call")
    return _response(name if plain_name else f"I({name})", rows)


def _numbers(what: str, found: Factor) -> Array:
    if (found.contrasts and not found.truth) or found.columns.shape[1] != 1:
        raise DataError(f"{what} is not one numeric column; give numbers")
    return found.columns[:, 0]


#: The columns (N, k) of a term, and of each its names, here and in R.
_Part = tuple[Array, list[tuple[str, str]]]


def _columns(
    terms: Sequence[str], written: Sequence[str], factors: Mapping[str, Factor], N: int, contrast: str = ""
) -> list[_Part]:
    """The columns of each term of a sum. written: the variables in the order in which they first stand in the text, if known."""
    parts = [term_variables(term) for term in terms]
    found: list[_Part] = []
    full_once = INTERCEPT not in terms
    for k, part in enumerate(parts):
        first = next((name for name in (*written, *part) if name in part and factors[name].contrasts), "")
        values, names = np.ones((N, 1)), [("", "")]
        for name in part:
            margin = set(part) - {name}
            spanned = not margin or any(margin <= set(earlier) for earlier in parts[:k])
            full = not spanned or (full_once and name == first)
            columns, labels, in_r = factors[name].coded(full=full, contrast=contrast)
            values = (values[:, None, :] * columns[:, :, None]).reshape(N, -1)
            own = [(f"{name}[{a}]" if a else name, name + b) for a, b in zip(labels, in_r, strict=True)]
            names = [(f"{a}:{c}".lstrip(":"), f"{b}:{d}".lstrip(":")) for c, d in own for a, b in names]
        full_once = full_once and not first
        found.append((values, names if part else [(INTERCEPT, "(Intercept)")]))
    return found


def _names(parts: Sequence[_Part], *, in_r: bool = False) -> tuple[str, ...]:
    return tuple(names[in_r] for _, found in parts for names in found)
