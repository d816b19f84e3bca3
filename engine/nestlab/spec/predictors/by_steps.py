"""Predictors that take some values with some probabilities: binary, categorical, and drawn from a list with replacement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..model import Predictor
from ..problems import Problems
from .categories import check_shares, check_two_values, coding_of, contrast_moments, equal_shares, named, share_words
from .distribution import Array, Given, Need, PredictorDistribution, number_text, value_words

__all__ = ["BINARY", "CATEGORICAL", "RESAMPLED"]


def _check_binary(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    if given["share"] == 0:
        text = "must be between 0 and 1, neither included, for a binary predictor; write a share such as 0.3"
        problems.add_number(f"{key}.share", 0.0, text)


def _make_binary(name: str, given: Given, clusters: int | None) -> Predictor:
    redraw, icc = given.get("redraw", True), given.get("icc") or 0.0
    return Predictor(name, given["level"], "binary", mean=given["share"], redraw=redraw, icc=icc)


def _binary_words(p: Predictor) -> dict[str, Any]:
    return {"share": float(p.mean), "redraw": p.redraw}


def _zero_one(p: Predictor) -> Array:
    return np.array([0.0, 1.0])


BINARY = PredictorDistribution(
    name="binary",
    keys=("share", "redraw", "icc"),
    usual=("share",),
    needs=(Need("share", "share = 0.3, say"),),
    check=_check_binary,
    make=_make_binary,
    words=_binary_words,
    text=lambda p: f"is 0 or 1, 1 with probability {number_text(p.mean)}",
    steps=lambda p: (_zero_one(p), np.array([1 - p.mean, p.mean])),
    moments=lambda p, column: (p.mean, p.mean * (1 - p.mean)),
    levels=_zero_one,
    by_chance=True,
)


def _check_categorical(given: Given, key: str, clusters: int | None, problems: Problems) -> None:
    if "shares" in given and abs((total := math.fsum(given["shares"])) - 1) > 1e-9:
        text = f"must sum to 1, and sum to {total:.6g}; correct them, or remove them for equal shares"
        problems.add_number(f"{key}.shares", given["shares"], text)
    else:
        check_shares(given, key, problems)


def _make_categorical(name: str, given: Given, clusters: int | None) -> Predictor:
    shares = given.get("shares") or equal_shares(len(given["categories"]))
    redraw = given.get("redraw", True)
    return Predictor(name, given["level"], "categorical", redraw=redraw, shares=shares, **coding_of(given))


def _categorical_words(p: Predictor) -> dict[str, Any]:
    return {"categories": list(p.categories), **share_words(p), "redraw": p.redraw}


def _text(p: Predictor) -> str:
    each = ", ".join(f"{name} {number_text(share)}" for name, share in zip(p.categories, p.shares, strict=True))
    return f"is one of {len(p.categories)} categories with probabilities {each}, as {p.coding} contrasts"


CATEGORICAL = PredictorDistribution(
    name="categorical",
    keys=("categories", "shares", "coding", "redraw"),
    needs=(Need("categories", 'categories = ["a", "b", "c"], say'),),
    categories=named,
    check=_check_categorical,
    make=_make_categorical,
    words=_categorical_words,
    text=_text,
    steps=lambda p: (np.arange(len(p.shares), dtype=float), np.array(p.shares)),
    moments=contrast_moments,
    by_chance=True,
)


def _steps(p: Predictor) -> tuple[Array, Array]:
    values, counts = np.unique(np.array(p.values, dtype=float), return_counts=True)
    return values, counts / counts.sum()


def _moments(p: Predictor, column: str) -> tuple[float, float]:
    values = np.array(p.values)
    return float(values.mean()), float(values.var())


RESAMPLED = PredictorDistribution(
    name="resampled",
    keys=("values", "redraw"),
    needs=(Need("file", 'file = "pupils.csv" and column = "ses", say', instead=("values",)),),
    check=check_two_values,
    make=lambda name, given, clusters: Predictor(
        name, given["level"], "resampled", redraw=given.get("redraw", True), values=given["values"]
    ),
    words=lambda p: {**value_words(p), "redraw": p.redraw},
    text=lambda p: f"is drawn from {len(p.values):,} values with replacement",
    steps=_steps,
    moments=_moments,
    levels=lambda p: np.unique(p.values),
)
