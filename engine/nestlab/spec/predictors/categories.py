"""Categories of predictors: their columns, and whether shares, counts and numbers of categories go with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model import Predictor
from ..problems import Problems
from .distribution import Array, Given

__all__ = [
    "CONTRASTS",
    "categories_text",
    "check_coded",
    "check_numbers",
    "check_shares",
    "check_two_values",
    "coded",
    "coding_of",
    "contrast_moments",
    "contrast_values",
    "contrasts",
    "equal_shares",
    "named",
    "normed",
    "share_words",
    "shares_text",
]


#: Ways to code a factor by K - 1 columns, as R's contr.treatment and so on.
CONTRASTS = ("treatment", "sum", "helmert", "SAS", "poly")


def contrasts(kind: str, categories: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """Return (K, K - 1), the values of a factor's columns for each of its K categories, and the columns' labels, as R has them.

    treatment: 1 in its own category, the first has none (SAS: the last); sum: 1 in its own, -1 in the last; helmert: column i
    holds -1 in categories 0 .. i and i + 1 in the next; poly: orthonormal polynomials of the category's number.
    """
    K = len(categories)
    numbers = tuple(str(k) for k in range(1, K))
    if kind == "treatment":
        return np.eye(K)[:, 1:], tuple(categories[1:])
    if kind == "SAS":
        return np.eye(K)[:, :-1], tuple(categories[:-1])
    if kind == "sum":
        return np.vstack([np.eye(K - 1), -np.ones((1, K - 1))]), numbers
    if kind == "helmert":
        return np.diag(np.arange(1.0, K), -1)[:, :-1] - np.triu(np.ones((K, K - 1))), numbers
    Q, R = np.linalg.qr(np.vander(np.arange(K) - (K - 1) / 2, K, increasing=True))
    return (Q * np.sign(np.diag(R)))[:, 1:], tuple({"1": ".L", "2": ".Q", "3": ".C"}.get(k, f"^{k}") for k in numbers)


def contrast_values(predictor: Predictor) -> Array:
    """Return (K, K - 1): the values of a predictor's columns for each of its K categories (see `contrasts`)."""
    return contrasts(predictor.coding, predictor.categories)[0]


def coded(predictor: Predictor, values: NDArray[Any]) -> Array:
    """Return (columns, *values.shape): the values, or contrasts where they are numbers of categories."""
    if not predictor.categories:
        return values.astype(np.float64, copy=False)[None]
    return np.moveaxis(contrast_values(predictor)[values.astype(np.int64)], -1, 0)


def contrast_moments(predictor: Predictor, column: str) -> tuple[float, float]:
    """Return the mean and the variance of a category's contrast."""
    values, shares = contrast_values(predictor)[:, predictor.columns.index(column)], np.array(predictor.shares)
    mean = float((shares * values).sum())
    return mean, float((shares * values**2).sum()) - mean**2


def named(given: Given) -> tuple[str, ...]:
    """Return the categories that a study file names."""
    return tuple(given.get("categories") or ())


def coding_of(given: Given, categories: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the categories of a predictor, by default those that are named, and their coding."""
    found = named(given) if categories is None else categories
    return {"categories": found, "coding": given.get("coding", "treatment")}


def equal_shares(n: int) -> tuple[float, ...]:
    return (1 / n,) * n


def normed(shares: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


def share_words(predictor: Predictor) -> dict[str, Any]:
    """Return the shares in a study file's words."""
    return {"shares": [float(v) for v in predictor.shares]} if predictor.shares else {}


def check_shares(given: Given, key: str, problems: Problems) -> None:
    """Check that there is a share, and a number of clusters, for each category."""
    categories = named(given)
    for word, what in (("shares", "a share"), ("clusters", "a number of clusters")):
        if categories and word in given and len(given[word]) != len(categories):
            repair = "correct them, or remove them for equal shares" if word == "shares" else "correct one of the two"
            text = f"must be {what} for each category, {len(categories)} and not {len(given[word])}; {repair}"
            problems.add_number(f"{key}.{word}", given[word], text)


def check_two_values(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    """Check that values differ."""
    if len(set(given["values"])) == 1:
        text = "must hold two different numbers at least, or it cannot be told from the intercept; correct them"
        problems.add_number(f"{key}.values", given["values"], text)


def check_numbers(word: str, values: Iterable[float], given: Given, key: str, problems: Problems) -> None:
    """Check that values under the key `word` are numbers of categories, where there are any, and that only these are coded."""
    categories = named(given)
    check_coded(given, key, problems)
    if odd := [v for v in values if categories and v not in range(len(categories))]:
        text = f"must hold numbers of categories, 0 to {len(categories) - 1}, and hold {odd[0]:g}; correct them"
        problems.add_number(f"{key}.{word}", given.get(word, odd[0]), text)


def check_coded(given: Given, key: str, problems: Problems) -> None:
    """Check that there are categories where there is a coding."""
    if "coding" in given and not named(given):
        text = f'needs categories; add {key}.categories = ["a", "b"], say, or remove it'
        problems.add_value(f"{key}.coding", given["coding"], text)


def shares_text(predictor: Predictor) -> str:
    """Return the categories, or their numbers, with their shares: "control in 0.6667, treated in 0.3333"."""
    names = predictor.categories or tuple(map(str, range(len(predictor.shares))))
    return ", ".join(f"{name} in {share:.6g}" for name, share in zip(names, predictor.shares, strict=True))


def categories_text(predictor: Predictor) -> str:
    """Return ", the categories a, b, as treatment contrasts"; "" without categories."""
    p = predictor
    return f", the categories {', '.join(p.categories)}, as {p.coding} contrasts" if p.categories else ""
