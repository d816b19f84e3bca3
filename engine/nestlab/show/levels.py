"""At which level tests are made and intervals hold the truth, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ..spec.measures import MEASURES

__all__ = ["level_text"]

#: Measures of tests, and those of intervals.
TESTS, INTERVALS = ([name for name, row in MEASURES.items() if row.needs == what] for what in ("test", "interval"))


def level_text(measures: Collection[str], alphas: Mapping[str, float]) -> str:
    """Say the levels of what some measures are about; "" where they are about neither tests nor intervals.

    alphas: the level of each method.

    >>> level_text(["power", "bias"], {"reml": 0.05, "ml": 0.05})
    'tests at level 0.05'
    >>> level_text(["power", "cover"], {"reml": 0.05, "ml": 0.05, "gee": 0.01})
    'tests at level 0.05 (reml, ml), 0.01 (gee); intervals of 95 % (reml, ml), 99 % (gee)'
    """
    said = []
    if not {*TESTS, "joint power"}.isdisjoint(measures):
        said.append(f"tests at level {_by_method(alphas, lambda alpha: f'{alpha:g}')}")
    if not set(INTERVALS).isdisjoint(measures):
        said.append(f"intervals of {_by_method(alphas, lambda alpha: f'{100 * (1 - alpha):.10g} %')}")
    return "; ".join(said)


def _by_method(alphas: Mapping[str, float], text: Callable[[float], str]) -> str:
    methods: dict[str, list[str]] = {}
    for method, alpha in alphas.items():
        methods.setdefault(text(alpha), []).append(method)
    if len(methods) == 1:
        return next(iter(methods))
    return ", ".join(f"{level} ({', '.join(names)})" for level, names in methods.items())
