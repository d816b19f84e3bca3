"""Random studies over most keys of a study file, by number: the same whatever the version of Python or NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nestlab.spec.problems import StudyError
from nestlab.spec.study import StudyFile

__all__ = ["random_studies"]

#: A linear congruential generator's multiplier and modulus (Park and Miller 1988).
MULTIPLIER, MODULUS = 48271, 2**31 - 1


class Dice:
    """Uniform numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._state = (seed + 1) * 69621 % MODULUS
        for _ in range(5):
            self.uniform()

    def uniform(self) -> float:
        self._state = self._state * MULTIPLIER % MODULUS
        return self._state / MODULUS

    def one(self, *options: Any) -> Any:
        return options[int(self.uniform() * len(options))]

    def some(self, share: float) -> bool:
        return self.uniform() < share

    def number(self, low: float, high: float) -> float:
        return round(low + (high - low) * self.uniform(), 2)


def random_studies(count: int) -> dict[str, tuple[dict[str, Any], StudyFile]]:
    """The first so many valid studies, by name: their tables, and as read."""
    found: dict[str, tuple[dict[str, Any], StudyFile]] = {}
    seed = 0
    while len(found) < count:
        tables = random_tables(seed)
        seed += 1
        try:
            study = StudyFile.from_dict(tables)
            study.conditions()
        except StudyError:
            continue
        found[tables["name"]] = tables, study
    return found


def random_tables(seed: int) -> dict[str, Any]:
    """A study file's tables; not all of them are valid."""
    dice = Dice(seed)
    slope = dice.some(0.5)
    fixed = dice.one(
        "x", "x + z", "x * z", "x + z + k", "x + t", "x * a + z", "center(x) * z", "within(x) + between(x)"
    )
    column = {"center(x) * z": "center(x)", "within(x) + between(x)": "within(x)"}.get(fixed, "x")
    random = f"1 + {column}" if slope else "1"
    apart = slope and dice.some(0.2)
    formula = f"y ~ {fixed} + " + (f"(1 | g) + (0 + {column} | g)" if apart else f"({random} | g)")
    tables: dict[str, Any] = {
        "name": f"random-{seed}",
        "seed": int(dice.uniform() * 10**6),
        "replications": 10,
        "design": {"clusters": dice.one(6, 10, 12, 30), "cluster_size": _size(dice)},
        "truth": {
            "formula": formula,
            "fixed": {term: dice.number(-1, 1) for term in _terms(fixed)},
            "residual_variance": dice.number(0.5, 4),
            "random": {"g": _random_part(dice, column if slope else None, formula.count("|") == 1)},
        },
        "predictors": {
            name: part
            for name, part in _predictors(dice).items()
            if name in fixed.replace("center", "").split() or f"({name})" in fixed
        },
        "method": _methods(dice, formula, fixed, column),
    }
    if dice.some(0.3):
        tables["truth"]["errors"] = dice.one(
            {"distribution": "t", "df": 5},
            {"distribution": "gamma", "skewness": 1.5},
            {"ar1": 0.4},
            {"cluster_cv": 0.3},
        )
    if dice.some(0.25):
        tables["missing"] = dice.one(
            {"rows": 0.1}, {"clusters": 0.1}, {"hazard": 0.05}, {"weibull": {"scale": 8, "shape": 2}}
        )
    if dice.some(0.3):
        tables["contrast"] = [{"name": "sum", "weights": [dict.fromkeys(_terms(fixed)[:2], 1)]}]
    if dice.some(0.6):
        tables["grid"] = dice.one(
            {"clusters": [8, 24]}, {"icc": [0.05, 0.3]}, {"variance_ratio": [0.1, 0.5]},
            {f"truth.fixed.{_terms(fixed)[1]}": [0, 0.5, 1]}, {"truth.residual_variance": [1, 2], "clusters": [10, 20]},
        )  # fmt: skip
    elif dice.some(0.3):
        tables["truth"]["fixed"][_terms(fixed)[1]] = {"distribution": "normal", "mean": 0.5, "sd": 0.1}
    if dice.some(0.2):
        tables["alpha"] = 0.01
    return tables


def _terms(fixed: str) -> list[str]:
    return {
        "x": ["Intercept", "x"],
        "x + z": ["Intercept", "x", "z"],
        "x * z": ["Intercept", "x", "z", "x:z"],
        "x + z + k": ["Intercept", "x", "z", "k[b]", "k[c]"],
        "x + t": ["Intercept", "x", "t"],
        "x * a + z": ["Intercept", "x", "a", "z", "x:a"],
        "center(x) * z": ["Intercept", "center(x)", "z", "center(x):z"],
        "within(x) + between(x)": ["Intercept", "within(x)", "between(x)"],
    }[fixed]


def _size(dice: Dice) -> Any:
    return dice.one(
        5, 8, 8, 20,
        {"distribution": "poisson", "mean": 9, "minimum": 2},
        {"distribution": "lognormal", "mean": 12, "cv": 0.5, "minimum": 3},
        {"distribution": "lognormal", "mean": 12, "cv": 0.5, "minimum": 3, "redraw": False},
        {"values": [5, 7, 9]}, {"values": [5, 7, 9], "in_turn": True},
    )  # fmt: skip


def _random_part(dice: Dice, column: str | None, together: bool) -> dict[str, Any]:
    part: dict[str, Any] = {"variance": {"Intercept": dice.number(0.1, 2)}}
    if column is not None:
        part["variance"][column] = dice.number(0.05, 1)
        if together:
            part["correlation"] = {f"Intercept:{column}": dice.number(-0.7, 0.7)}
    if dice.some(0.2):
        part |= dice.one({"distribution": "gamma", "skewness": 1}, {"distribution": "t", "df": 6})
    return part


def _predictors(dice: Dice) -> dict[str, dict[str, Any]]:
    x = dice.one(
        {"distribution": "normal"}, {"distribution": "normal", "mean": 2, "sd": 3}, {"distribution": "normal", "redraw": False},
        {"distribution": "normal", "icc": 0.3}, {"distribution": "balanced"}, {"distribution": "binary", "share": 0.3},
        {"distribution": "gamma", "skewness": 1.5}, {"distribution": "time", "start": 0, "step": 0.5},
        {"distribution": "normal", "mean": 5000, "sd": 10},
    )  # fmt: skip
    z = dice.one(
        {"distribution": "normal"}, {"distribution": "balanced"}, {"distribution": "binary", "share": 0.4},
        {"distribution": "balanced", "shares": [2, 1]}, {"distribution": "t", "df": 7},
        {"distribution": "normal", "redraw": False},
    )  # fmt: skip
    k = dice.one(
        {"distribution": "balanced", "categories": ["a", "b", "c"]},
        {"distribution": "categorical", "categories": ["a", "b", "c"], "shares": [0.5, 0.3, 0.2]},
        {"distribution": "balanced", "categories": ["b", "c", "a"], "coding": "treatment"},
    )
    return {
        "x": {"level": 1, **x},
        "z": {"level": 2, **z},
        "k": {"level": dice.one(1, 2), **k},
        "t": {"level": 1, "distribution": "time"},
        "a": {"level": 1, "distribution": "normal", "mean": -1},
    }


def _methods(dice: Dice, formula: str, fixed: str, column: str) -> list[dict[str, Any]]:
    """Two to four, of different kinds."""
    mean_model = f"y ~ {fixed} + (1 | g)"
    kinds: Sequence[dict[str, Any]] = [
        {"name": "reml"},
        {"name": "ml", "reml": False, "df": "z"},
        {"name": "kr", "df": "kenward-roger"},
        {"name": "both", "df": ["satterthwaite", "between-within"]},
        {"name": "refit", "singular_df": "refit"},
        {"name": "intercepts", "formula": mean_model},
        {"name": "profile", "intervals": "profile", "variance_intervals": "profile"},
        {"name": "wald", "variance_intervals": "wald-log", "alpha": 0.1},
        {"name": "boot", "variance_intervals": "bootstrap", "draws": 199},
        {"name": "robust", "robust": "CR2"},
        {"name": "lrt", "reml": False, "compare": "y ~ 1 + (1 | g)"},
        {"name": "rlrt", "formula": mean_model, "compare": f"y ~ {fixed}", "reference": "exact"},
        {"name": "chosen", "compare": mean_model, "select": "aic"},
        {"name": "tested", "compare": mean_model, "select": "lrt", "select_alpha": 0.2},
        {"name": "ols", "estimator": "ols"},
        {"name": "cr1", "estimator": "ols", "robust": "CR1S"},
        {"name": "fixed", "estimator": "fixed-effects", "robust": "CR0"},
        {"name": "means", "estimator": "cluster-means", "formula": "y ~ 1 + (1 | g)"},
        {"name": "sizes", "estimator": "cluster-means", "formula": "y ~ 1 + (1 | g)", "weights": "size"},
        {"name": "known", "estimator": "gls"},
        {"name": "gee", "estimator": "gee", "working": "ar1", "df": "between-within"},
        {"name": "naive", "estimator": "gee", "covariance": "bias_reduced"},
        {"name": "statsmodels", "estimator": "statsmodels"},
        {"name": "own", "estimator": "function", "function": "module:analyse"},
    ]
    rest = list(kinds)
    return [rest.pop(int(dice.uniform() * len(rest))) for _ in range(dice.one(2, 3, 4))]
