"""Names in a summary and columns of stored rows: frozen nouns that alone write and read "var:g:x" and "se.x/z".

Names of users (terms, groups, contrasts) are never taken apart: `study_estimands` lists every estimand of a study from its
formulas, contrasts and tests, by name, and whoever has a name looks it up there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from .formula import WORDS, canonical_term, find_term, same_term
from .missing import PREVIOUS
from .model import CENTRINGS, DF_RULES, INTERCEPT, Contrast, Formula

__all__ = [
    "ICC",
    "RESERVED",
    "RESIDUAL",
    "Column",
    "Estimand",
    "Quantity",
    "distinct",
    "find_estimand",
    "listed",
    "random_part",
]

Kind = Literal["fixed", "contrast", "var", "cov", "sd", "cor", "icc", "test"]
Quantity = Literal["estimate", "se", "df", "p", "lower", "upper", "true", "stated", "prior", "inference"]

_QUANTITIES = frozenset(get_args(Quantity))

#: Names that no predictor may have: words of formulas, of estimands ("var:x" would be a variance and a product), and what would
#: be read as something else where a predictor is named.
RESERVED = (*WORDS, "icc", "var", "sd", "cov", "cor", *CENTRINGS, PREVIOUS)


@dataclass(frozen=True, slots=True)
class Estimand:
    """One estimand.

    kind: "fixed" (columns: the term), "contrast" (its name), "var" and "sd" of a random column or, without columns, of the
    residual, "cov" and "cor" of two random columns, "icc" (group: of which of several factors, or "a/b/c" for what two rows of
    one c share), or "test", the joint test of several others (their names).
    """

    kind: Kind
    group: str = ""
    columns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the summary, and the columns of replicate rows, call it.

        >>> Estimand("fixed", columns=("x:z",)).name, Estimand("cov", "g", ("Intercept", "x")).name
        ('x:z', 'cov:g:Intercept:x')
        >>> Estimand("sd").name, Estimand("icc").name, Estimand("test", columns=("x", "var:g:x")).name
        ('sd:residual', 'icc', 'x, var:g:x')
        >>> Estimand("icc", "school").name, Estimand("icc", "school/class").name
        ('icc:school', 'icc:school/class')
        """
        if self.kind in ("fixed", "contrast", "test"):
            return ", ".join(self.columns)
        if self.kind == "icc":
            return f"icc:{self.group}" if self.group else "icc"
        return ":".join([self.kind, self.group, *self.columns] if self.columns else [self.kind, "residual"])

    @property
    def groups(self) -> tuple[str, ...]:
        """The grouping factors whose variances an icc adds up; none where there is one factor only."""
        return tuple(self.group.split("/")) if self.group else ()

    @property
    def residual(self) -> bool:
        """Whether it is that of the errors."""
        return self.kind in ("var", "sd") and not self.columns

    @property
    def effect(self) -> bool:
        """Whether it is made of fixed effects, or tests several estimands: no variance, nor what derives from one."""
        return self.kind in ("fixed", "contrast", "test")

    @property
    def derived(self) -> bool:
        """Whether it is computed from others and not stored.

        >>> [kind for kind in ("fixed", "var", "sd", "cov", "cor", "icc") if Estimand(kind).derived]
        ['sd', 'cor', 'icc']
        """
        return self.kind in ("sd", "cor", "icc")

    def of(self, kind: Kind) -> Estimand:
        """The one of another kind for the same columns.

        >>> Estimand("cor", "g", ("Intercept", "x")).of("cov").name
        'cov:g:Intercept:x'
        """
        return Estimand(kind, self.group, self.columns)

    def same(self, other: Estimand) -> bool:
        """Whether both are of the same columns, with factors and columns in any order.

        >>> Estimand("cov", "g", ("x", "z:w")).same(Estimand("cov", "g", ("w:z", "x")))
        True
        """
        mine, its = (sorted(map(canonical_term, each.columns)) for each in (self, other))
        return (self.kind, self.group, mine) == (other.kind, other.group, its)

    def variances(self) -> tuple[Estimand, ...]:
        """The variances of its columns, one each.

        >>> [each.name for each in Estimand("cor", "cov", ("Intercept", "x:z")).variances()]
        ['var:cov:Intercept', 'var:cov:x:z']
        """
        return tuple(Estimand("var", self.group, (column,)) for column in self.columns)

    def means(self, text: str) -> bool:
        """Whether a user's text is its name, with factors and columns in any order.

        >>> Estimand("fixed", columns=("x:z",)).means("z:x"), Estimand("var", "g", ("x:z",)).means("var:g:z:x")
        (True, True)
        >>> Estimand("cov", "g", ("Intercept", "x")).means("cov:g:x:Intercept"), Estimand("icc").means("iccx")
        (True, False)
        """
        if text == self.name:
            return True
        if self.kind == "fixed":
            return same_term(self.name, text)
        head = f"{self.kind}:{self.group}:"
        return bool(self.group) and text.startswith(head) and same_term(text[len(head) :], ":".join(self.columns))


#: The residual variance, and the intraclass correlation.
RESIDUAL = Estimand("var")
ICC = Estimand("icc")


class Column(NamedTuple):
    """One column of stored rows: a quantity of an estimand, by its name, and the rule of inference where there are several.

    "true" is the true value, in the table of conditions also by method, in the place of a rule; "stated" the term's effect in
    standard units; "prior" the value that was drawn for an axis of the grid, in the place of an estimand; "inference" the status
    of a whole rule.
    """

    quantity: Quantity
    estimand: str = ""
    rule: str = ""

    @property
    def name(self) -> str:
        """The name under which it is stored.

        >>> Column("se", "x:z", "z").name, Column("estimate", RESIDUAL.name).name, Column("inference", rule="z").name
        ('se.x:z/z', 'estimate.var:residual', 'inference/z')
        """
        return self.quantity + (f".{self.estimand}" if self.estimand else "") + (f"/{self.rule}" if self.rule else "")

    @classmethod
    def read(cls, name: str) -> Column | None:
        """The column of this name in rows of replicates; None for one that is about no estimand ("status").

        >>> Column.read("se.k[a/b]/z"), Column.read("se.z"), Column.read("deviance")
        (Column(quantity='se', estimand='k[a/b]', rule='z'), Column(quantity='se', estimand='z', rule=''), None)
        """
        quantity, dot, estimand = name.partition(".")
        if not dot:
            quantity, _, rule = name.partition("/")
            return cls("inference", rule=rule) if quantity == "inference" else None
        if quantity not in _QUANTITIES:
            return None
        known, slash, rule = estimand.rpartition("/")
        named = bool(slash) and rule in DF_RULES
        return cls(quantity, known, rule) if named else cls(quantity, estimand)  # type: ignore[arg-type]

    @classmethod
    def of(cls, names: Iterable[str], *quantities: Quantity) -> dict[str, Column]:
        """The columns among these names that hold one of these quantities, by name.

        >>> list(Column.of(["status", "se.x", "true.x", "inference/z"], "se", "inference"))
        ['se.x', 'inference/z']
        """
        near = (name for name in names if name.startswith(quantities))  # most are others, which need not be read
        read = {name: cls.read(name) for name in near}
        return {name: column for name, column in read.items() if column is not None and column.quantity in quantities}


def listed(formulas: Sequence[Formula], contrasts: Iterable[Contrast] = ()) -> dict[str, Estimand]:
    """All estimands of formulas, the truth's first, by name and in order: fixed effects, contrasts, variances, covariances, the
    residual variance, then the derived ones.

    >>> from .formula import parse_formula
    >>> list(listed([parse_formula("y ~ iccx + (1 + iccx | var)")]))  # doctest: +NORMALIZE_WHITESPACE
    ['Intercept', 'iccx', 'var:var:Intercept', 'var:var:iccx', 'cov:var:Intercept:iccx', 'var:residual',
     'sd:var:Intercept', 'sd:var:iccx', 'sd:residual', 'cor:var:Intercept:iccx', 'icc']
    """
    parts = [random_part(formulas, group) for group in _groups(formulas)]
    variances = [Estimand("var", group, (column,)) for group, columns, _ in parts for column in columns]
    covariances = [Estimand("cov", group, pair) for group, _, pairs in parts for pair in pairs]
    found = [Estimand("fixed", columns=(term,)) for term in distinct(term for f in formulas for term in f.fixed)]
    found += [Estimand("contrast", columns=(contrast.name,)) for contrast in contrasts]
    residual = [RESIDUAL] if any(formula.family.gaussian for formula in formulas) else []
    found += [*variances, *covariances, *residual, *(each.of("sd") for each in (*variances, *residual))]
    found += [each.of("cor") for each in covariances]
    iccs = [group for group, columns, _ in parts if INTERCEPT in columns and residual]
    several = next(
        (formula for formula in formulas if formula.factors), None
    )  # a stored truth does not say its factors
    found += [ICC] * len(iccs) if several is None else [Estimand("icc", group) for group in iccs]
    chains = [] if several is None else [several.shared(group, iccs) for group in iccs if ":" not in group]
    found += [Estimand("icc", "/".join(chain)) for chain in chains if len(chain) > 1]
    return {each.name: each for each in found}


def _groups(formulas: Sequence[Formula]) -> list[str]:
    """The grouping factors of formulas; of a study with one factor it has the truth's name everywhere."""
    groups = list(dict.fromkeys(group for formula in formulas for group in formula.groups))
    return groups if any(formula.factors for formula in formulas) else groups[:1]


def random_part(formulas: Sequence[Formula], group: str) -> tuple[str, list[str], list[tuple[str, str]]]:
    """A grouping factor, its random columns of some formula, and the pairs of them that some formula lets correlate."""
    several = any(formula.factors for formula in formulas)
    formulas = [formula.of(group) for formula in formulas] if several else formulas
    columns = distinct(column for formula in formulas for column in formula.random_columns)
    # Pairs of columns that share a random term of some formula, named and ordered as in `columns`.
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for formula in formulas:
        for term in formula.random:
            places = sorted(columns.index(find_term(columns, column) or "") for column in term.columns)
            for i, j in itertools.combinations(places, 2):
                found.setdefault((i, j), (columns[i], columns[j]))
    return group, columns, list(found.values())


def find_estimand(known: Mapping[str, Estimand], text: str) -> str | None:
    """The name of the estimand that a user's text means ("z:x" is "x:z"), or None."""
    return text if text in known else next((name for name, each in known.items() if each.means(text)), None)


def distinct(terms: Iterable[str]) -> list[str]:
    """Each term once, by the name it has first."""
    found: dict[str, str] = {}
    for term in terms:
        found.setdefault(canonical_term(term), term)
    return list(found.values())
