"""Random studies against rows that NumPy draws from the definition, with methods that have other parameters than the truth.

Each true value that nestlab states is held against one fit of 20,000 clusters; the mean and the standard deviation of each
method's estimates against fits of independent rows of the study's own size. Left out are the variances of methods without the
truth's random slope, which are held against the truth's.

    python tests/calibration/test_random_studies.py 30 100      # studies 100 to 129
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import nestlab as nl

pytestmark = pytest.mark.calibration

Array = NDArray[np.float64]
LARGE, BATCHES = 20_000, 40
REPLICATES, SMALL = 2_000, 250
FARTHEST = 4.5
TRUTHS = [
    "y ~ x * z + (1 + x | g)",
    "y ~ x + z + (1 + x | g)",
    "y ~ x * z + (1 | g)",
    "y ~ x + between(x) + z + (1 | g)",
    "y ~ center(x) * z + (1 + center(x) | g)",
    "y ~ within(x) * z + between(x) + (1 + within(x) | g)",
]
METHODS = [
    ("lmm", "y ~ x * z + (1 + x | g)"),
    ("lmm", "y ~ center(x) * z + (1 + center(x) | g)"),
    ("lmm", "y ~ within(x) * z + between(x) + (1 + within(x) | g)"),
    ("lmm", "y ~ within(x) * z + between(x) + (1 | g)"),
    ("lmm", "y ~ center(x) + z + (1 | g)"),
    ("lmm", "y ~ x + between(x) + z + (1 | g)"),
    ("lmm", "y ~ x + z + (1 + x | g)"),
    ("gls", "y ~ center(x) + z + (1 | g)"),
    ("ols", "y ~ x + z + (1 | g)"),
    ("ols", "y ~ center(x) * z + (1 | g)"),
    ("ols", "y ~ within(x) * z + between(x) + (1 | g)"),
    ("fixed-effects", "y ~ center(x) * z + (1 | g)"),
    ("cluster-means", "y ~ between(x) * z + (1 | g)"),
]
NAMES = {"within(x)": "wx", "between(x)": "bx", "center(x)": "cx"}


@dataclass(frozen=True)
class Case:
    """A random study, as a study file's tables."""

    tables: dict[str, Any]

    @staticmethod
    def of(seed: int) -> Case:
        rng = np.random.default_rng(seed)
        truth = TRUTHS[rng.integers(len(TRUTHS))]
        terms = {
            "x": ["Intercept", "x", "z"],
            "between": ["Intercept", "x", "between(x)", "z"],
            "center": ["Intercept", "center(x)", "z", "center(x):z"],
            "within": ["Intercept", "within(x)", "z", "between(x)", "within(x):z"],
        }[next((how for how in ("between(x) + z", "center", "within") if how in truth), "x").split("(")[0]]
        if truth.startswith("y ~ x * z"):
            terms = [*terms, "x:z"]
        slope = next((c for c in ("within(x)", "center(x)", "x") if f"1 + {c} |" in truth), None)
        random: dict[str, Any] = {"variance": {"Intercept": round(float(rng.uniform(0.1, 1)), 2)}}
        if slope:
            random["variance"][slope] = round(float(rng.uniform(0.05, 0.4)), 2)
            random["correlation"] = {f"Intercept:{slope}": round(float(rng.uniform(-0.6, 0.6)), 2)}
        x = {
            "level": 1,
            "distribution": "normal",
            "mean": float(rng.choice([0, 1, 3])),
            "sd": float(rng.choice([1, 2])),
        }
        if rng.random() < 0.5:
            x["icc"] = round(float(rng.uniform(0.05, 0.5)), 2)
        z = [{"level": 2, "distribution": "balanced"}, {"level": 2, "distribution": "normal", "mean": 0.5}]
        chosen = rng.choice(len(METHODS), 4, replace=False)
        methods = []
        for k, m in enumerate(sorted(chosen)):
            estimator, formula = METHODS[m]
            methods.append(
                {"name": f"m{k}", "formula": formula} | ({"estimator": estimator} if estimator != "lmm" else {})
            )
        size = int(rng.integers(4, 12))
        return Case(
            {
                "name": f"random-{seed}",
                "seed": seed,
                "replications": REPLICATES,
                "design": {
                    "clusters": int(rng.integers(10, 25)) * 2,
                    "cluster_size": size
                    if rng.random() < 0.7
                    else {"distribution": "poisson", "mean": size, "minimum": 2},
                },
                "truth": {
                    "formula": truth,
                    "fixed": {term: round(float(rng.normal(0, 0.5)), 2) for term in terms},
                    "residual_variance": round(float(rng.uniform(0.5, 2)), 2),
                    "random": {"g": random},
                },
                "predictors": {"x": x, "z": z[rng.integers(2)]},
                "method": methods,
            }
        )

    def rows(self, clusters: int, rng: np.random.Generator) -> pd.DataFrame:
        """Rows by the definition."""
        size, x, z = self.tables["design"]["cluster_size"], *(self.tables["predictors"][v] for v in "xz")
        n = np.full(clusters, size) if isinstance(size, int) else np.maximum(rng.poisson(size["mean"], clusters), 2)
        g = np.repeat(np.arange(clusters), n)
        share = x.get("icc", 0.0)
        score = np.sqrt(share) * rng.normal(size=clusters)[g] + np.sqrt(1 - share) * rng.normal(size=len(g))
        frame = pd.DataFrame({"g": g, "x": x["mean"] + x["sd"] * score})
        of_clusters = np.arange(clusters) % 2 if z["distribution"] == "balanced" else rng.normal(z["mean"], 1, clusters)
        frame["z"] = of_clusters[g].astype(float)
        frame["bx"] = frame.groupby("g")["x"].transform("mean")
        frame["wx"], frame["cx"] = frame["x"] - frame["bx"], frame["x"] - frame["x"].mean()
        truth = self.tables["truth"]
        if "center" in truth["formula"]:
            frame["cx"] = frame["x"] - (x["mean"] if clusters > 1_000 else frame["x"].mean())
        columns, T = random_part(truth)
        u = rng.normal(size=(clusters, len(columns))) @ np.linalg.cholesky(T).T
        y = rng.normal(0, np.sqrt(truth["residual_variance"]), len(g))
        y += sum(beta * product(frame, term) for term, beta in truth["fixed"].items())
        y += sum(u[g, k] * product(frame, column) for k, column in enumerate(columns))
        frame["y"] = y
        return frame


def product(frame: pd.DataFrame, term: str) -> Array:
    """A term's column."""
    found = np.ones(len(frame))
    for variable in [] if term == "Intercept" else term.split(":"):
        found = found * frame[NAMES.get(variable, variable)].to_numpy()
    return found


def plain(name: str) -> str:
    for term, column in NAMES.items():
        name = name.replace(term, column)
    return name


def fitted(frame: pd.DataFrame, method: dict[str, Any], terms: list[str], truth: dict[str, Any]) -> dict[str, float]:
    """Estimates by nestlab's names, and "p:z" of the test of z; least squares by NumPy. terms: the method's fixed effects."""
    estimator = method.get("estimator", "lmm")
    if estimator == "lmm":
        fit = nl.fit(plain(method["formula"]), frame, df="z")
        found = {term: fit.beta[same(fit.beta, plain(term))] for term in terms}
        return found | variances(fit) | {"var:residual": fit.sigma**2}
    X = np.stack([product(frame, term) for term in terms], axis=1)
    y = frame["y"].to_numpy()
    if estimator == "gls":
        return dict(zip(terms, weighed(frame, X, y, truth), strict=True))
    if estimator == "fixed-effects":
        X, y = (
            v - pd.DataFrame(v).groupby(frame["g"].to_numpy()).transform("mean").to_numpy().reshape(v.shape)
            for v in (X, y)
        )
    if estimator == "cluster-means":
        X, y = (pd.DataFrame(v).groupby(frame["g"].to_numpy()).mean().to_numpy() for v in (X, y))
        y = y[:, 0]
    return dict(zip(terms, np.linalg.lstsq(X, y, rcond=None)[0], strict=True))


def weighed(frame: pd.DataFrame, X: Array, y: Array, truth: dict[str, Any]) -> Array:
    """Least squares weighed by the true covariances."""
    columns, T = random_part(truth)
    Z = np.stack([product(frame, column) for column in columns], axis=1)
    G, g = np.zeros((X.shape[1], X.shape[1])), np.zeros(X.shape[1])
    for rows in frame.groupby("g").indices.values():
        W = np.linalg.inv(Z[rows] @ T @ Z[rows].T + truth["residual_variance"] * np.eye(len(rows)))
        G, g = G + X[rows].T @ W @ X[rows], g + X[rows].T @ W @ y[rows]
    return np.linalg.solve(G, g)


def random_part(truth: dict[str, Any]) -> tuple[list[str], Array]:
    """Random columns and their covariances."""
    table = truth["random"]["g"]
    columns, sds = list(table["variance"]), np.sqrt(list(table["variance"].values()))
    r = next(iter(table.get("correlation", {}).values()), 0.0)
    return columns, sds[:, None] * np.array([[1, r], [r, 1]])[: len(sds), : len(sds)] * sds


def same(names: Any, term: str) -> str:
    return next(name for name in names if sorted(name.split(":")) == sorted(term.split(":")))


def variances(fit: Any) -> dict[str, float]:
    """Variances and covariances of the random effects, by nestlab's names with plain columns."""
    columns, C = fit.random_names, fit.varcomp["g"]
    found = {f"var:g:{a}": float(C[i, i]) for i, a in enumerate(columns)}
    return found | ({f"cov:g:{columns[0]}:{columns[1]}": float(C[0, 1])} if len(columns) > 1 else {})


def check(seed: int, folder: Path) -> list[str]:
    """What is farther off than 4.5 joint standard errors in study `seed`, and how far the farthest is."""
    case = Case.of(seed)
    results = nl.Study.from_dict(case.tables).run(out=folder, jobs=1)
    truths = results.truths().set_index(["method", "estimand"])
    summary = results.summary()
    summary = summary[summary["subset"] == "all"].set_index(["method", "estimand", "measure"])
    rng = np.random.default_rng([seed, 1])
    large = case.rows(LARGE, rng)
    batches = [frame.reset_index(drop=True) for _, frame in large.groupby(large["g"] // (LARGE // BATCHES))]
    small = [case.rows(case.tables["design"]["clusters"], rng) for _ in range(SMALL)]
    found, truth = [], case.tables["truth"]
    for method in case.tables["method"]:
        names = list(truths.loc[method["name"]].index)
        terms = [name for name in names if not name.startswith(("var:", "cov:", "sd:", "cor:")) and name != "icc"]
        whole = fitted(large, method, terms, truth)
        spread = pd.DataFrame([fitted(frame, method, terms, truth) for frame in batches]).std() / np.sqrt(BATCHES)
        draws = pd.DataFrame([fitted(frame, method, terms, truth) for frame in small])
        for name, value in whole.items():
            said = plain_name(name, names)
            stated = float(truths.loc[(method["name"], said), "value"]) if said else np.nan
            by_name = (truths.loc[method["name"]]["meaning"] == "").all()
            if by_name and name.startswith("var") and "1 + " in truth["formula"] and "1 + " not in method["formula"]:
                continue
            label = f"study {seed}, {method['name']} ({method.get('estimator', 'lmm')}: {method['formula']}), {said}"
            if np.isfinite(stated):
                found.append(
                    (
                        abs(value - stated) / spread[name],
                        f"{label}: true value {stated:.4f}, 20,000 clusters {value:.4f}",
                    )
                )
            if said and (method["name"], said, "mean") in summary.index:
                for measure, mine, error in (
                    ("mean", draws[name].mean(), draws[name].std() / np.sqrt(SMALL)),
                    ("empse", draws[name].std(), _error_of_sd(draws[name].to_numpy())),
                ):
                    row = summary.loc[(method["name"], said, measure)]
                    joint = np.hypot(row["mcse"], error)
                    found.append(
                        (abs(row["value"] - mine) / joint, f"{label}: {measure} {row['value']:.4f}, rows {mine:.4f}")
                    )
    return [f"{z:.1f} SE: {text}" for z, text in found if z > FARTHEST] + [
        f"# {len(found)} compared, {max(found)[0]:.1f} SE at most"
    ]


def plain_name(name: str, names: list[str]) -> str | None:
    """A variance under nestlab's name, whose columns are centred predictors."""
    return next((n for n in names if plain(n) == plain(name)), None)


def _error_of_sd(values: Array) -> float:
    d = (values - values.mean()) ** 2
    return float(np.sqrt(d.var() / len(d)) / (2 * values.std()))


@pytest.mark.parametrize("seed", range(6))
def test_true_values_and_distributions(seed: int, tmp_path: Path) -> None:
    *wrong, told = check(seed, tmp_path)
    assert not wrong, (wrong, told)


if __name__ == "__main__":
    number, first = (int(word) for word in (*sys.argv[1:], "30", "0")[:2])
    for k in range(first, first + number):
        with tempfile.TemporaryDirectory() as place:
            print(f"{k}:", *check(k, Path(place)), sep="\n  ", flush=True)
