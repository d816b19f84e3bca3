"""Model matrices of a data frame: the door for data that exist already.

The structure of a formula is read by `parse_formula`, with calls and unusual names held as words; `columns` computes each
factor. Categorical predictors are coded as in R (contr.treatment): by contrasts where an earlier term holds the rest of the
product, else by indicators of all categories. In a product the first factor's columns vary fastest.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .columns import TOKEN, Factor, Source, factor, plain, source
from .formula import FormulaError, parse_formula, random_term_text
from .model import INTERCEPT, MAX_FIXED, MAX_RANDOM, Formula, RandomTerm, term_variables
from .problems import DataError

__all__ = [
    "ModelMatrices",
    "complete_rows",
    "model_matrices",
    "read_sources",
    "shield_calls",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ModelMatrices:
    """y (N), X (N, p) with its column names, one Z (N, q_t) and its names for each random term, groups (N) as 0 .. J - 1.

    terms: the random terms as written; dropped: rows left out because a value was missing; index: the labels of the rows that
    stayed.
    """

    response: str
    y: Array
    X: Array
    fixed_names: tuple[str, ...]
    Z: tuple[Array, ...]
    random_names: tuple[tuple[str, ...], ...]
    terms: tuple[str, ...]
    group: str
    groups: NDArray[np.int64]
    group_labels: tuple[str, ...]
    dropped: int
    index: pd.Index


def model_matrices(text: str, frame: pd.DataFrame, *, also: Sequence[str] = ()) -> ModelMatrices:
    """Evaluate a mixed-model formula on a frame; rows with a missing value in a variable of it, or in `also`, are dropped.

    Raises FormulaError, and DataError for a column that is missing, of an unusable type or not finite.
    """
    formula, sources = read_sources(text)
    group = _group(text, sources[formula.group])
    complete = complete_rows(frame, [*(v for s in sources.values() for v in s.variables.values()), *also])
    N = len(complete)
    parts = {v for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)}
    factors = {part: factor(sources[part], complete) for part in parts}
    X, names = _columns(formula.fixed, factors, N)
    random = [_columns(term.columns, factors, N) for term in formula.random]
    codes, labels = pd.factorize(complete[group], sort=True)
    named = {variable: source.name for variable, source in sources.items()}
    columns = [
        [":".join(named[v] for v in term_variables(c)) or INTERCEPT for c in term.columns] for term in formula.random
    ]
    written = [RandomTerm(named[term.group], tuple(own)) for term, own in zip(formula.random, columns, strict=True)]
    matrices = ModelMatrices(
        response=sources[formula.response].name, y=_response(sources[formula.response], complete), X=X, fixed_names=names,
        Z=tuple(Z for Z, _ in random), random_names=tuple(columns for _, columns in random),
        terms=tuple(map(random_term_text, written)), group=group, groups=codes.astype(np.int64),
        group_labels=tuple(str(v) for v in labels), dropped=len(frame) - N, index=complete.index,
    )  # fmt: skip
    _check_width(matrices)
    return matrices


def _check_width(m: ModelMatrices) -> None:
    """Categories can make more columns than the formula has terms."""
    if len(m.fixed_names) > MAX_FIXED:
        raise DataError(
            f"the fixed effects have {len(m.fixed_names)} columns on these data (... {', '.join(m.fixed_names[-2:])}); at most "
            f"{MAX_FIXED} are possible: use fewer categories, or convert text to numbers"
        )
    random = [name for names in m.random_names for name in names]
    if len(random) > MAX_RANDOM:
        raise DataError(
            f"{' + '.join(m.terms)} has {len(random)} random columns on these data ({', '.join(random)}); at most "
            f"{MAX_RANDOM} are possible: use fewer categories"
        )


def read_sources(text: str) -> tuple[Formula, dict[str, Source]]:
    """The formula with a word for each call or unusual name, and the source of each word and each plain name in it."""
    text = " ".join(text.split())
    shielded, words = shield_calls(text)
    try:
        formula = parse_formula(shielded)
    except FormulaError as error:
        reason = error.reason
        for word, written in words.items():
            reason = reason.replace(word, written)
        raise FormulaError(text, reason) from None
    parts = [formula.response, *(v for t in (*formula.fixed, *formula.random_columns) for v in term_variables(t))]
    try:
        sources = {part: source(words.get(part, part)) for part in [*parts, formula.group or formula.response]}
    except DataError as error:
        raise FormulaError(text, str(error)) from None
    if not formula.random:
        raise FormulaError(text, "needs a random term; add one, (1 | group)")
    spellings = [s.name for s in sources.values()]
    twice = next((name for name in spellings if spellings.count(name) > 1), None)
    if twice:
        raise FormulaError(text, f"has {twice} in two spellings; use one")
    return formula, sources


def shield_calls(text: str) -> tuple[str, dict[str, str]]:
    """Replace calls, names in backticks and names with a leading underscore by words that `parse_formula` takes for names."""
    words: dict[str, str] = {}
    spelled: dict[str, str] = {}
    written, call, depth = "", "", 0

    def word(found: str) -> str:
        name = spelled.setdefault("".join(found.split()), f"word{len(spelled)}q")
        words.setdefault(name, found)
        return f" {name} "

    for match in TOKEN.finditer(text):
        found, kind = match.group(), match.lastgroup
        if call:
            call += found
            depth += {"(": 1, ")": -1}.get(found, 0)
            if depth == 0 and found == ")":
                written, call = written + word(call), ""
        elif kind == "call":
            call = found
        elif kind == "quoted" or (kind == "name" and found.startswith("_")):
            written += word(found)
        else:
            written += found
    if call:
        raise FormulaError(text, f'a "(" is never closed in {call}; add the ")"')
    return written, words


def _group(text: str, group: Source) -> str:
    if not isinstance(group.tree, ast.Name):
        raise FormulaError(
            text,
            f"the grouping factor {group.name} must be a column, whose values are taken as they are; write (1 | column)",
        )
    return group.variables[group.tree.id]


def complete_rows(frame: pd.DataFrame, variables: Sequence[str]) -> pd.DataFrame:
    """The rows that have a value in all of the variables."""
    used = list(dict.fromkeys(variables))
    columns = list(frame.columns)
    if missing := [v for v in used if v not in columns]:
        have = ", ".join(map(str, columns[:30])) + (", ..." if len(columns) > 30 else "")
        raise DataError(f"formula names {', '.join(missing)}, which the data do not have; columns: {have}")
    if double := [v for v in used if columns.count(v) > 1]:
        raise DataError(f"the data have {columns.count(double[0])} columns named {double[0]}; rename all but one")
    complete = frame[used].dropna()
    if complete.empty:
        raise DataError(
            f"no row has a value for all of {', '.join(used)} ({len(frame)} rows read); check the missing values"
        )
    return complete


def _response(response: Source, frame: pd.DataFrame) -> Array:
    for column in response.variables.values():
        values = plain(frame, column)
        if isinstance(values, pd.Categorical):
            categories = pd.Series(values.categories.astype(str))
            unreadable = pd.to_numeric(categories, errors="coerce").isna()  # they are why the column is text
            examples = ", ".join(f'"{v}"' for v in (categories[unreadable] if unreadable.any() else categories)[:3])
            raise DataError(f"response {response.name} is not numeric: {column} holds {examples}; give numbers")
    found = factor(response, frame)
    if found.categorical or found.columns.shape[1] != 1:
        raise DataError(f"response {response.name} is not one numeric column; give numbers")
    return found.columns[:, 0]


def _columns(terms: Sequence[str], factors: Mapping[str, Factor], N: int) -> tuple[Array, tuple[str, ...]]:
    """The columns (N, k) of a sum of terms, with their names."""
    columns, names = [np.ones((N, 1))], [INTERCEPT]
    if INTERCEPT not in terms:
        columns, names = [], []
    parts = [term_variables(term) for term in terms if term != INTERCEPT]
    full_once = INTERCEPT not in terms
    for k, part in enumerate(parts):
        values, labels = np.ones((N, 1)), [""]
        for name in part:
            margin = set(part) - {name}
            spanned = not margin or any(margin <= set(earlier) for earlier in parts[:k])
            coded = factors[name].coded(full=not spanned or full_once)
            full_once = full_once and not factors[name].categorical
            values = (values[:, None, :] * coded.columns[:, :, None]).reshape(N, -1)
            labels = [f"{left}:{right}" if left else right for right in coded.labels for left in labels]
        columns.append(values)
        names += labels
    return np.hstack(columns), tuple(names)
