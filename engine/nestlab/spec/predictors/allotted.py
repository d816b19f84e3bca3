"""Predictors that the layout allots to clusters or rows: arms, and balanced ones.

Arms are 0 in the first clusters, 1 in the next, ... Balanced predictors are 0/1 in halves that are as equal as the numbers of
units allow, or follow other shares.

Within clusters of an odd number of rows one value has a row more. It is 0 in one such cluster and 1 in the next, in each arm (or
other kind of cluster that the design knows), so that neither value has fewer rows than the other by more than one a kind. By
other shares than halves, every cluster of one size has the same numbers of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Layout, Predictor
from ..problems import Problems
from .allocation import allotted, arm_counts
from .categories import check_coded, check_shares, coding_of, equal_shares, named, normed, share_words, shares_text
from .distribution import Array, Given, Integers, Need, Places, PredictorDistribution

__all__ = ["ARMS", "BALANCED", "HALVES", "alternating", "has_odd_rows", "odd_rows", "takes_turns"]

HALVES = (0.5, 0.5)


def alternating(sizes: Integers, earlier: Sequence[Integers], shares: Sequence[float] = ()) -> Integers:
    """0, 1, ... by their shares (0/1 alternating) within each group of `sizes` units, crossed with the balanced ones before it.

    Units are taken in the order of a Gray code of the earlier ones. So three of them on four units are half of a 2^3 design, with
    separate main effects; in plain order the third would equal the second.
    """
    group = np.repeat(np.arange(len(sizes)), sizes)
    keys = [np.bitwise_xor.reduce(earlier[:k], axis=0) for k in range(1, len(earlier) + 1)]
    order = np.lexsort((*reversed(keys), group))  # sorted by its last key first; ties keep their order
    values = np.empty(len(group), dtype=np.int64)
    turns = allotted(shares or HALVES, int(sizes.max(initial=0)))
    values[order] = turns[np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)]
    return values


def takes_turns(predictor: Predictor) -> bool:
    """Whether it has halves of each cluster's rows, of which the odd one is of each kind in turn."""
    return predictor.level == 1 and predictor.distribution == "balanced" and predictor.shares in ((), HALVES)


def odd_rows(odd: NDArray[np.bool_], kinds: Sequence[Array]) -> Integers:
    """(J): the value that has a row more in each of some clusters, `odd` (J): 0, 1, 0, ... sorted by `kinds` (J) each; else 0."""
    places = np.flatnonzero(odd)
    order = np.lexsort(tuple(kind[places] for kind in reversed(kinds))) if kinds else np.arange(len(places))
    values = np.zeros(len(odd), dtype=np.int64)
    values[places[order]] = np.arange(len(places)) % 2
    return values


def has_odd_rows(predictors: Sequence[Predictor], layout: Layout) -> bool:
    """Whether a predictor in halves varies within clusters of which some have, or may have, an odd number of rows."""
    odd = any(size % 2 for size in layout.sizes) or any(sizes is not None for _, sizes in layout.drawn)
    return odd and any(map(takes_turns, predictors))


def _numbers(p: Predictor, places: Places) -> Integers:
    numbers = alternating(places.sizes, places.balanced, p.shares)
    if p.name in places.odd:
        numbers ^= np.repeat(places.odd[p.name][places.clusters] * (places.sizes % 2), places.sizes)
    places.balanced.append(numbers)
    return numbers


def _check_allotted(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    """Check that there are shares for two categories or more, and a unit of the layout's `clusters` for each."""
    shares = given.get("shares") or equal_shares(len(given.get("categories", (0, 1))))
    if len(shares) < 2:
        problems.add_number(f"{key}.shares", shares, "must be two shares or more; add one")
    if problems or clusters is None or not {"shares", "categories"} & given.keys():
        return
    counts = arm_counts(normed(shares), clusters)
    if 0 in counts:
        text = (
            f"must give each category a cluster, and of {clusters} clusters it gives {' + '.join(map(str, counts))}; "
        )
        problems.add_number(f"{key}.shares", shares, text + "raise design.clusters or the least share")


def _check(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    check_shares(given, key, problems)
    check_coded(given, key, problems)
    if problems:
        return
    shares = given.get("shares", ())
    if len(shares) > 2 and "categories" not in given:
        text = f'needs categories for more than two shares; add {key}.categories = ["a", "b", "c"], say'
        problems.add_number(f"{key}.shares", shares, text)
    _check_allotted(given, key, clusters if given["level"] == 2 else None, problems)


def _make(name: str, given: Given, clusters: int | None) -> Predictor:
    stated = {"shares", "categories"} & given.keys()
    shares = normed(given.get("shares") or equal_shares(len(given["categories"]))) if stated else ()
    redraw, blocks = given.get("redraw", False), given.get("blocks", 0)
    return Predictor(name, given["level"], "balanced", redraw=redraw, blocks=blocks, shares=shares, **coding_of(given))


def _words(p: Predictor) -> dict[str, Any]:
    """Those of a balanced predictor in halves are none, as they always were."""
    return {**({"redraw": True} if p.redraw else {}), **share_words(p), **({"blocks": p.blocks} if p.blocks else {})}


def _text(p: Predictor) -> str:
    units = "rows of each cluster" if p.level == 1 else "clusters"
    chance = ", allocated at random in each replicate" if p.redraw else ""
    if p.blocks:
        chance += (
            f" within each {p.blocks} clusters" if isinstance(p.blocks, int) else f" within each value of {p.blocks}"
        )
    if p.shares:
        coding = f", as {p.coding} contrasts" if p.categories else ""
        turns = " (the odd one out is of each in turn, cluster by cluster)" if takes_turns(p) else ""
        return f"is {shares_text(p)} of the {units}{coding}{turns}{chance}"
    odd = "the odd one out is a 0 in one cluster, a 1 in the next" if takes_turns(p) else "the odd one out is a 0"
    return f"is 0 or 1, 1 in half of the {units} ({odd}){chance}"


def _refuse_sizes(p: Predictor, layout: Layout, longest: float) -> str | None:
    if takes_turns(p) or 0 not in arm_counts(p.shares, max(layout.sizes)):
        return None
    return f"must be so many in some cluster that the balanced predictor {p.name} has rows of each category; raise it"


BALANCED = PredictorDistribution(
    name="balanced",
    keys=("categories", "shares", "coding", "blocks", "redraw"),
    categories=named,
    check=_check,
    make=_make,
    words=_words,
    text=_text,
    known=_numbers,
    levels=lambda p: np.arange(len(p.shares or HALVES), dtype=float),
    refuse_sizes=_refuse_sizes,
    allotted=True,
    first=True,
)

# -- arms -----------------------------------------------------------------------------------------------------------------


def _arms_or_categories(given: Given) -> tuple[str, ...]:
    """Those that are named, or the numbers of the arms, where they are coded."""
    arms = given.get("clusters") or given.get("shares") or ()
    return named(given) or (tuple(map(str, range(len(arms)))) if given.get("coding") else ())


def _check_arms(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    check_shares(given, key, problems)
    if problems:
        return
    if "clusters" not in given:
        _check_allotted(given, key, clusters, problems)
    elif "shares" in given:
        text = f"must not stand beside {key}.clusters, which say it; remove one of the two"
        problems.add_number(f"{key}.shares", given["shares"], text)


def _make_arms(name: str, given: Given, clusters: int | None) -> Predictor:
    counts, shares = given.get("clusters"), tuple[float, ...]()
    if counts is None:
        shares = normed(given.get("shares") or equal_shares(len(given["categories"])))
        counts = arm_counts(shares, clusters or len(shares))
    coding, redraw = coding_of(given, _arms_or_categories(given)), given.get("redraw", False)
    return Predictor(name, given["level"], "arms", redraw=redraw, arms=counts, shares=shares, **coding)


def _arms_words(p: Predictor) -> dict[str, Any]:
    clusters = {} if p.shares else {"clusters": list(p.arms)}
    return {**({"redraw": True} if p.redraw else {}), **share_words(p), **clusters}


def _arms_text(p: Predictor) -> str:
    clusters = f"{shares_text(p)} of the clusters" if p.shares else f"of {' + '.join(map(str, p.arms))} clusters"
    coding = f", as {p.coding} contrasts" if p.categories else ""
    return f"is the cluster's arm, {clusters}{coding}" + (", allocated at random in each replicate" if p.redraw else "")


def _arm(p: Predictor, clusters: Integers) -> Integers:
    ends: Sequence[int] = np.cumsum(p.arms).tolist()
    return np.searchsorted(ends, clusters, side="right").astype(np.int64)


def _arm_numbers(p: Predictor, places: Places) -> Integers:
    return places.of_cluster(_arm(p, places.clusters))


ARMS = PredictorDistribution(
    name="arms",
    keys=("clusters", "categories", "shares", "coding", "redraw"),
    needs=(
        Need("clusters", "clusters = [12, 8], say, or shares = [0.6, 0.4]", ("categories", "shares"), ", or shares"),
    ),
    categories=_arms_or_categories,
    constant=lambda given: True,
    check=_check_arms,
    make=_make_arms,
    words=_arms_words,
    text=_arms_text,
    known=_arm_numbers,
    turn=_arm,
    levels=lambda p: np.arange(len(p.arms), dtype=float),
    level=2,
    outer=True,
    allotted=True,
)
