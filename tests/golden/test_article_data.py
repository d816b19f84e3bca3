"""The article's data drawn again: every digit of its data sets, and every number that it prints of them.

article/printed.json holds the numbers that the article prints, as strings, by a stable id; article/article.csv and
article.json the data and lme4's answers at tight tolerances; article/summary_m*.txt what lme4 prints of the four models
(article/summaries.R). The article: L. Jamison (2023), Simulating multilevel data, University of Virginia Library
StatLab.
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nestlab.simulate.rcompat import RRandom

ARTICLE = Path(__file__).parent / "article"
PRINTED = json.loads((ARTICLE / "printed.json").read_text(encoding="utf-8"))
BLOCKS = PRINTED["blocks"]
TIGHT = json.loads((ARTICLE / "article.json").read_text())
MODELS = ("m0", "m1", "m2", "m3")
CLUSTERS, SIZE = 20, 50


def r_format(values: Sequence[float], digits: int = 7) -> list[str]:
    """R's `format` of a vector: as many decimals as the element that needs most has at `digits` significant digits."""
    decimals = 0
    for value in values:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        significant = len(mantissa.lstrip("-").replace(".", "").rstrip("0"))
        decimals = max(decimals, significant - int(exponent) - 1)
    return [f"{value:.{decimals}f}" for value in values]


def number_at(identifier: str) -> str:
    """The printed string at "block/key/...", keys of objects or positions in lists."""
    block, *keys = identifier.split("/")
    found = BLOCKS[block]
    for key in keys:
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def half_unit(printed: str) -> float:
    return 0.5 * 10.0 ** -len(printed.partition(".")[2])


@pytest.fixture(scope="module")
def drawn():
    """Every vector of the article by model and by the article's name, with its seeds and in its order of operations."""

    def by_cluster(values):
        return np.repeat(values, SIZE)

    rows = CLUSTERS * SIZE
    g00 = np.full(rows, 2.0)
    u0j = by_cluster(RRandom(707).rnorm(CLUSTERS, 0, np.sqrt(5)))
    base = {"ID": np.arange(1.0, rows + 1), "Cluster": by_cluster(np.arange(1.0, CLUSTERS + 1)), "g00": g00, "u0j": u0j}

    e0 = RRandom(777).rnorm(rows, 0, np.sqrt(3))
    m0 = base | {"eij": e0, "y": g00 + u0j + e0}

    X = RRandom(555).rnorm(rows)
    eij = RRandom(111).rnorm(rows, 0, np.sqrt(3))
    Z = by_cluster(RRandom(111).rnorm(CLUSTERS, 0, 3))
    g01, B1 = np.full(rows, 3.0), np.full(rows, 4.0)
    m1 = base | {"eij": eij, "X": X, "Z": Z, "g01": g01, "B1": B1, "y": g00 + g01 * Z + u0j + B1 * X + eij}

    def random_slope(u0j, u1j):
        g01 = np.full(rows, 5.0)
        b0j, b1j = g00 + u0j, g01 + u1j
        return base | {
            "u0j": u0j,
            "u1j": u1j,
            "g01": g01,
            "b0j": b0j,
            "b1j": b1j,
            "eij": eij,
            "X": X,
            "y": b0j + b1j * X + eij,
        }

    m2 = random_slope(u0j, by_cluster(RRandom(5707).rnorm(CLUSTERS, 0, np.sqrt(3))))
    u = RRandom(609).mvrnorm(CLUSTERS, [0, 0], [[5, 1], [1, 3]])
    m3 = random_slope(by_cluster(u[:, 0]), by_cluster(u[:, 1]))
    return {"m0": m0, "m1": m1, "m2": m2, "m3": m3, "u": u}


def test_data_sets_to_the_last_digit(drawn):
    with (ARTICLE / "article.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ours = {"Cluster": drawn["m0"]["Cluster"], "X": drawn["m1"]["X"], "Z": drawn["m1"]["Z"]} | {
        m: drawn[m]["y"] for m in MODELS
    }
    assert list(ours) == list(rows[0])
    for name, values in ours.items():
        assert values.tolist() == [float(row[name]) for row in rows], name


def test_the_article_reuses_a_seed(drawn):
    """Z and the errors both come from seed 111: the first 20 errors are Z again, scaled."""
    np.testing.assert_allclose(drawn["m1"]["eij"][:CLUSTERS], drawn["m1"]["Z"][::SIZE] * np.sqrt(3) / 3, rtol=1e-15)


@pytest.mark.parametrize("model", ["m0", "m1", "m2"])
@pytest.mark.parametrize("end", ["head", "tail"])
def test_printed_heads_and_tails(drawn, model, end):
    block = BLOCKS[f"{model}.{end}"]
    rows = slice(0, 6) if end == "head" else slice(-6, None)
    assert block["row_names"] == r_format(drawn[model]["ID"][rows])
    for k, name in enumerate(block["columns"]):
        assert [row[k] for row in block["rows"]] == r_format(drawn[model][name][rows]), name


def test_seed_609_against_r(drawn):
    u, golden = drawn["u"], TIGHT["mvrnorm_seed_609"]
    np.testing.assert_allclose(np.cov(u.T), golden["var"], rtol=1e-14)
    np.testing.assert_allclose(np.corrcoef(u.T), golden["cor"], rtol=1e-14)


def test_printed_matrices(drawn):
    var_mat = np.array([[5.0, 1.0], [1.0, 3.0]])
    scale = np.sqrt(np.diag(var_mat))
    matrices = {
        "mvrnorm.var_mat": var_mat,
        "mvrnorm.cov2cor": var_mat / np.outer(scale, scale),
        "mvrnorm.var": np.cov(drawn["u"].T),
        "mvrnorm.cor": np.corrcoef(drawn["u"].T),
    }
    for key, matrix in matrices.items():
        columns = [r_format(matrix[:, k].tolist()) for k in range(2)]
        assert BLOCKS[key] == [list(row) for row in zip(*columns, strict=True)], key


def test_printed_inputs_are_those_of_the_recipe(drawn):
    inputs = PRINTED["inputs"]
    assert (inputs["clusters"], inputs["cluster_size"], inputs["rows"]) == (
        f"{CLUSTERS}",
        f"{SIZE}",
        f"{CLUSTERS * SIZE:,}",
    )
    assert inputs["rows_of_u"] == str(len(drawn["u"]))
    for model in MODELS:
        for name in {"g00", "g01", "B1"} & inputs[model].keys():
            assert set(drawn[model][name]) == {float(inputs[model][name])}
    redrawn = {
        ("m0", "u0j"): "tau2",
        ("m0", "eij"): "sigma2",
        ("m1", "u0j"): "tau2",
        ("m1", "eij"): "sigma2",
        ("m2", "u0j"): "tau2_u0",
        ("m2", "u1j"): "tau2_u1",
        ("m2", "eij"): "sigma2",
        ("m3", "eij"): "sigma2",
    }
    for (model, name), variance in redrawn.items():
        seed, sd = int(inputs[model]["seeds"][name]), np.sqrt(float(inputs[model][variance]))
        n = CLUSTERS * SIZE if name == "eij" else CLUSTERS
        assert set(RRandom(seed).rnorm(n, 0, sd)) == set(drawn[model][name]), (model, name)
    for model, ours, theirs in (("m1", "X", "X1ij"), ("m1", "Z", "Zj"), ("m2", "X", "X1ij")):
        mean, sd = float(inputs[model][theirs]["mean"]), float(inputs[model][theirs]["sd"])
        values = RRandom(int(inputs[model]["seeds"][theirs])).rnorm(len(set(drawn[model][ours])), mean, sd)
        assert set(values) == set(drawn[model][ours]), (model, theirs)
    m3 = inputs["m3"]
    assert BLOCKS["mvrnorm.var_mat"] == [[m3["tau2_u0"], m3["Cov_u1j.u0j"]], [m3["Cov_u1j.u0j"], m3["tau2_u1"]]]
    assert (m3["seeds"]["u"], m3["seeds"]["X1ij"]) == ("609", inputs["m2"]["seeds"]["X1ij"])


def summary_words(model: str) -> str:
    """What the article prints of `summary(model)`, a space between words."""

    def block(name):
        return BLOCKS[f"{model}.{name}"]

    random = block("random")
    words = ["Linear mixed model fit by REML ['lmerMod']", f"Formula: {block('formula')}", "Data: df"]
    words += [f"REML criterion at convergence: {block('criterion')}"]
    words += ["Scaled residuals:", *block("scaled_residuals"), *block("scaled_residuals").values()]
    words += ["Random effects: Groups Name Variance Std.Dev."] + ["Corr"] * any("corr" in row for row in random)
    for k, row in enumerate(random):
        group = row["group"] if k == 0 or row["group"] != random[k - 1]["group"] else ""
        words += [group, row["name"], row["variance"], row["sd"], row.get("corr", "")]
    words += [f"Number of obs: {block('observations')['rows']}, groups: Cluster, {block('observations')['Cluster']}"]
    words += ["Fixed effects: Estimate Std. Error t value"]
    for name, row in block("fixed").items():
        words += [name, *row.values()]
    if f"{model}.correlation" in BLOCKS:
        words += ["Correlation of Fixed Effects: (Intr)", *list(block("correlation"))[:-1]]
        for name, row in block("correlation").items():
            words += [name, *row.values()]
    return " ".join(" ".join(words).split())


@pytest.mark.parametrize("model", MODELS)
def test_lme4_prints_the_summaries_of_the_article(model):
    text = (ARTICLE / f"summary_{model}.txt").read_text()
    assert " ".join(text.split()) == summary_words(model)


@pytest.mark.parametrize("model", MODELS)
def test_printed_estimates_against_the_tight_optimum(model):
    """Each printed estimate is the optimum's, rounded; the digits that differ since lme4 stopped early are named."""
    golden = TIGHT[model]
    optimum = {f"{model}.criterion": golden["reml_criterion"]}
    names = BLOCKS[f"{model}.scaled_residuals"]
    optimum |= {
        f"{model}.scaled_residuals/{k}": v for k, v in zip(names, golden["scaled_residual_quantiles"], strict=True)
    }
    random = golden["random"]
    for k, row in enumerate(BLOCKS[f"{model}.random"]):
        variance = random[f"{row['group']} {row['name']} " if row["name"] else "Residual"]
        optimum |= {f"{model}.random/{k}/variance": variance, f"{model}.random/{k}/sd": variance**0.5}
        if "corr" in row:
            product = random["Cluster (Intercept) "] * variance
            optimum[f"{model}.random/{k}/corr"] = random["Cluster (Intercept) X"] / product**0.5
    for (name, beta), se in zip(golden["beta"].items(), np.atleast_1d(golden["se"]), strict=True):
        key = f"{model}.fixed/{name}"
        optimum |= {f"{key}/Estimate": beta, f"{key}/Std. Error": se, f"{key}/t value": beta / se}
    terms = {"(Intr)": 0} | {name: k for k, name in enumerate(golden["beta"]) if k}
    for name, row in BLOCKS.get(f"{model}.correlation", {}).items():
        for other in row:
            correlation = golden["correlation_of_fixed_effects"][terms[name]][terms[other]]
            optimum[f"{model}.correlation/{name}/{other}"] = correlation

    differing = {}
    for key, value in optimum.items():
        printed = number_at(key)
        if abs(value - float(printed)) > half_unit(printed):
            differing[key] = f"{value:.{len(printed.partition('.')[2])}f}"
    stated = PRINTED["differs_at_optimum"]
    assert differing == {entry["id"]: entry["optimum"] for entry in stated if entry["id"].startswith(model)}
    assert all(number_at(entry["id"]) == entry["printed"] for entry in stated)


@pytest.mark.parametrize("key", PRINTED["prose"])
def test_prose_quotes_the_tables(key):
    quote = PRINTED["prose"][key]
    table = number_at(quote["of"])
    if quote.get("rounded"):
        assert f"{float(table):.{len(quote['printed'].partition('.')[2])}f}" == quote["printed"]
    else:
        assert quote["printed"].removeprefix("0") == table.removeprefix("0")


def test_what_cannot_be_reproduced_is_named_with_its_reason():
    entries = {entry["id"]: entry for entry in PRINTED["not_reproducible"]}
    assert all(entry["reason"] for entry in entries.values())
    for entry in entries.values():
        if "instead" in entry:  # prose that its own table contradicts, beyond rounding
            assert number_at(entry["of"]) == entry["instead"]
            assert abs(float(entry["printed"]) - float(entry["instead"])) > half_unit(entry["printed"])
        if "exact" in entry:
            assert number_at(entry["id"]) == entry["printed"]
            assert abs(float(entry["printed"]) - float(entry["exact"])) <= float(entry["within"])
    limits = {f"m2.confint/{row}/{side}" for row, sides in BLOCKS["m2.confint"].items() for side in sides}
    assert limits <= entries.keys()


def test_lme4s_tight_profile_agrees_with_the_stated_limits():
    golden = TIGHT["m2"]["profile_ci_95"]
    sides = {"2.5 %": golden["lower"], "97.5 %": golden["upper"]}
    for entry in PRINTED["not_reproducible"]:
        if "exact" in entry:
            _, row, side = re.fullmatch(r"(m2\.confint)/(.*)/(.*)", entry["id"]).groups()
            assert sides[side][golden["parameter"].index(row)] == pytest.approx(float(entry["exact"]), abs=5e-5)
