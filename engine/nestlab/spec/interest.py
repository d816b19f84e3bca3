"""Which estimand is shown where nobody names one: by every summary, comparison, plot, table and report alike.

It is the study's own `estimand`. A study without one is about an effect that varies over the grid, else about one of the highest
level (of clusters before rows), else about the last one. Effects of a single number stand before joint hypotheses, and the
intercept, the intraclass correlation and variances after all other effects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .estimand import ICC, find_estimand
from .estimands import contrasts_of, study_estimands
from .formula import find_term
from .model import INTERCEPT, Condition, Method, source_of, term_variables

__all__ = ["Interest", "interest_of"]

#: How the names of axes of fixed effects begin.
FIXED = "truth.fixed."


@dataclass(frozen=True, slots=True)
class Interest:
    """The estimands of a study, the one to show first before all others.

    named: the study's own, "" without one. effects: those among them that are effects, the intercept left out. varied: effects
    that vary over the grid; high: effects of clusters.
    """

    ranked: tuple[str, ...]
    named: str
    effects: tuple[str, ...]
    varied: frozenset[str]
    high: frozenset[str]

    def among(self, *tiers: Iterable[str]) -> str:
        """The one to show: the study's own where any tier has it, else the first of the first tier that is not empty.

        >>> interest = Interest(("b", "a", "icc"), "", ("a", "b"), frozenset(), frozenset())
        >>> interest.among([], ["a", "icc"], ["b"]), interest.among([])
        ('a', '')
        """
        found = [set(tier) for tier in tiers]
        if any(self.named in tier for tier in found if self.named):
            return self.named
        return next((name for tier in found for name in self.ranked if name in tier), "")

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Names as they are ranked."""
        there = set(names)
        return [name for name in self.ranked if name in there]

    def others(self, shown: str, there: Iterable[str]) -> list[str]:
        """The effects besides the one that is shown."""
        names = set(there)
        return [name for name in self.effects if name in names and name != shown]

    def told(self, shown: str, others: Collection[str]) -> str:
        """What is shown, and why it is that one and not one of the others.

        >>> interest = Interest(("b", "a"), "", ("a", "b"), frozenset(), frozenset("b"))
        >>> interest.told("b", ["a"]), interest.told("a", [])
        ('b (an effect between clusters)', 'a (the last effect)')
        """
        reason = "the last effect"
        for text, having in (
            ("an effect between clusters", self.high),
            ("an effect that the grid varies", self.varied),
        ):
            if shown in having and not having.issuperset(others):
                reason = text
        reason = "the study's estimand" if shown == self.named else reason
        return f"{shown} ({reason})"


def interest_of(conditions: Sequence[Condition], methods: Sequence[Method], named: str = "") -> Interest:
    """Rank the estimands of a study. named: its own one, in the user's words, which it has; "" without one."""
    first, contrasts = conditions[0], contrasts_of(methods)
    known = study_estimands(first.truth.formula, methods)
    terms = {name: each.columns for name, each in known.items() if each.effect and name != INTERCEPT}
    terms |= {contrast.name: contrast.terms for contrast in contrasts}
    joint = {contrast.name for contrast in contrasts if contrast.joint}
    joint |= {name for name, each in known.items() if each.kind == "test"}
    varying = _varying(conditions)
    varied = frozenset(name for name, parts in terms.items() if any(find_term(varying, part) for part in parts))
    high = frozenset(name for name, parts in terms.items() if any(_between(first, part) for part in parts))
    last_first = [name for name in reversed(known) if name != INTERCEPT]
    effects = sorted(
        (name for name in last_first if name in terms),
        key=lambda name: (name in joint, name not in varied, name not in high),
    )
    own = find_estimand(known, named) or ""
    ranked = dict.fromkeys([*([own] if own else []), *effects, INTERCEPT, ICC.name, *last_first])
    return Interest(tuple(name for name in ranked if name in known), own, tuple(terms), varied, high)


def _varying(conditions: Sequence[Condition]) -> list[str]:
    """The fixed effects whose true value is an axis of the grid with several levels, in whatever unit."""
    levels: dict[str, set[str]] = {}
    for condition in conditions:
        for axis, level in condition.factors.items():
            if axis.startswith(FIXED):
                levels.setdefault(axis, set()).add(str(level))
    axes = [axis.removeprefix(FIXED) for axis, seen in levels.items() if len(seen) > 1]
    return [axis.rpartition(".")[0] or axis for axis in axes]


def _between(condition: Condition, term: str) -> bool:
    """Whether a term has one value per cluster."""
    outer = {predictor.name: predictor.outer for predictor in condition.predictors}
    sources = [source_of(variable) for variable in term_variables(term)]
    return all(made == "between" or outer.get(name, False) for name, made in sources)
