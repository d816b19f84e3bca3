"""The article's four models: lme4's tight answers to 1e-6 and the printed summaries to the digit.

article/summary_m*.txt is what lme4 prints of them, article/printed.json every number that the article prints. Where lme4 stopped
early, printed.json names the digits that differ at the optimum (`differs_at_optimum`).
"""

import json
from pathlib import Path

import numpy as np
import pytest
from test_article_data import summary_words

import tolerances
from nestlab.fit.printed import summary_text
from nestlab.fit.single import fit
from nestlab.spec.data import read_frame

ARTICLE = Path(__file__).parent / "article"
TIGHT = json.loads((ARTICLE / "article.json").read_text())
PRINTED = json.loads((ARTICLE / "printed.json").read_text(encoding="utf-8"))
MODELS = ("m0", "m1", "m2", "m3")
# (model, printed, at the optimum): the line of the summary in which each of `differs_at_optimum` stands
EARLY_STOP = [
    ("m2", " Cluster  (Intercept) 5.631    2.373        ", " Cluster  (Intercept) 5.632    2.373        "),
    ("m2", "(Intercept)   2.3595     0.5334   4.424", "(Intercept)   2.3595     0.5334   4.423"),
]


@pytest.fixture(scope="module")
def fits():
    data = read_frame(ARTICLE / "article.csv")
    return {model: fit(TIGHT[model]["formula"], data, df="z") for model in MODELS}


def at_optimum(model: str, text: str) -> str:
    for which, printed, optimum in EARLY_STOP:
        if which == model:
            assert text.count(printed) == 1
            text = text.replace(printed, optimum)
    return text


def lines_without_call(text: str) -> list[str]:
    lines = text.splitlines()
    assert lines[1].startswith("Formula: ")
    assert lines[2] == "   Data: df"
    return lines[:1] + lines[3:]


@pytest.mark.parametrize("model", MODELS)
def test_summary_equals_lme4s_line_by_line(fits, model):
    theirs = at_optimum(model, (ARTICLE / f"summary_{model}.txt").read_text())
    assert lines_without_call(summary_text(fits[model], data="df")) == lines_without_call(theirs)


@pytest.mark.parametrize("model", MODELS)
def test_summary_prints_every_number_of_the_article(fits, model):
    """The article's page lost R's alignment: word by word, from printed.json."""
    ours = summary_text(fits[model], data="df").replace(
        f"Formula: {fits[model].formula}", f"Formula: {PRINTED['blocks'][f'{model}.formula']}"
    )
    spaced = [(which, " ".join(a.split()), " ".join(b.split())) for which, a, b in EARLY_STOP]
    theirs = summary_words(model)
    for which, printed, optimum in spaced:
        theirs = theirs.replace(printed, optimum) if which == model else theirs
    assert " ".join(ours.split()) == theirs


def test_the_digits_that_differ_are_those_named_in_printed_json():
    named = [(e["id"].split(".")[0], e["printed"], e["optimum"]) for e in PRINTED["differs_at_optimum"]]
    changed = []
    for model, printed, optimum in EARLY_STOP:
        pairs = zip(printed.split(), optimum.split(), strict=True)
        changed += [(model, a, b) for a, b in pairs if a != b]
    assert changed == named


@pytest.mark.parametrize("model", MODELS)
def test_answers_at_tight_tolerances(fits, model):
    ours, theirs = fits[model], TIGHT[model]
    beta, se = list(ours.beta.values()), list(ours.se.values())
    sd = np.sqrt(np.diag(ours.vcov_beta))
    covariance = ours.varcomp["Cluster"]
    random = [covariance[0, 0]] if len(covariance) == 1 else [covariance[0, 0], covariance[1, 1], covariance[0, 1]]
    pairs = {
        "criterion": (ours.neg2loglik, theirs["reml_criterion"]),
        "beta": (beta, list(theirs["beta"].values())),
        "se": (se, theirs["se"]),
        "sigma": (ours.sigma, theirs["sigma"]),
        "theta": (ours.theta, theirs["theta"]),
        "random": ([*random, ours.sigma**2], list(theirs["random"].values())),
        "quantiles": (np.quantile(ours.scaled_residuals, np.arange(5) / 4), theirs["scaled_residual_quantiles"]),
        "correlation": (ours.vcov_beta / np.outer(sd, sd), theirs["correlation_of_fixed_effects"]),
    }
    assert ours.neg2loglik <= theirs["reml_criterion"] + tolerances.GOLDEN_DEVIANCE.limit
    for name, (a, b) in pairs.items():
        unit = theirs["sigma"] ** 2 if name == "random" else 1.0
        np.testing.assert_allclose(a, np.squeeze(b), rtol=0, atol=tolerances.ARTICLE.limit * unit, err_msg=name)
