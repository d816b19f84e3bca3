"""Power of crossed designs, against Westfall, Kenny and Judd (2014, J Exp Psychol Gen 143:2020).

westfall_2014.csv has power by their formula, which is approximate, and by 400,000 draws of the mean squares of an analysis of
variance with Satterthwaite's degrees of freedom, which decides. Total variance 1; the conditions are coded -1 and 1, so that
their difference d is twice the coefficient. Where a participant sees a stimulus once, their interaction is part of the error.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

import nestlab as nl

pytestmark = pytest.mark.calibration

HERE = Path(__file__).parent
#: Designs of more rows take minutes by cross-products.
MOST_PARTICIPANTS = 64


def rows(design: str) -> list[dict[str, str]]:
    with (HERE / "westfall_2014.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["design"] == design]


def study(design: str, d: float, participants: int, stimuli: int, replications: int) -> nl.Study:
    both = {"Intercept": 0.2, "condition": 0.1}
    crossed = {"participant": participants, "stimulus": stimuli}
    listed: dict[str, Any] = {"distribution": "list", "values": [-1, 1]}
    per_cell, factors, variance = 1, crossed, 0.4
    match design:
        case "CCC":
            formula = "(1 + condition || participant) + (1 + condition || stimulus) + (1 | participant:stimulus)"
            random = {"participant": both, "stimulus": both, "participant:stimulus": {"Intercept": 0.1}}
            place, per_cell, variance = 1, 2, 0.3
        case "CNC":
            formula = "(1 + condition || participant) + (1 | stimulus)"
            random, place = {"participant": both, "stimulus": {"Intercept": 0.3}}, "stimulus"
        case "NCC":
            formula = "(1 | participant) + (1 + condition || stimulus)"
            random, place = {"participant": {"Intercept": 0.3}, "stimulus": both}, "participant"
        case "NNC":
            formula, place = "(1 | participant) + (1 | stimulus)", "condition_of"
            random = {"participant": {"Intercept": 0.3}, "stimulus": {"Intercept": 0.3}}
            factors = {"condition_of": 2} | {
                name: {"within": "condition_of", "number": number // 2} for name, number in crossed.items()
            }  # type: ignore[dict-item]
        case "Counterbalanced":
            formula = "(1 + condition || participant) + (1 + condition || stimulus)"
            random, place = {"participant": both, "stimulus": both}, "participant:stimulus"
            listed = {"distribution": "latin-square", "values": [-1, 1]}
    return nl.Study.from_dict(
        {
            "name": "w", "seed": 2014, "replications": replications, "keep": "summary",
            "design": {"rows": per_cell, "factors": factors},
            "truth": {
                "formula": f"y ~ condition + {formula}", "fixed": {"Intercept": 0, "condition": d / 2},
                "residual_variance": variance, "random": {group: {"variance": own} for group, own in random.items()},
            },
            "predictors": {"condition": {"level": place, **listed}},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("design", "replications"),
    [("CCC", 20_000), ("NNC", 20_000), ("CNC", 2_000), ("NCC", 2_000), ("Counterbalanced", 2_000)],
)
def test_power(design: str, replications: int, tmp_path: Path) -> None:
    scores = []
    for k, row in enumerate(rows(design)):
        participants, stimuli = int(row["participants"]), int(row["stimuli"])
        if participants > MOST_PARTICIPANTS and design != "CCC":
            continue
        results = study(design, float(row["d"]), participants, stimuli, replications).run(out=tmp_path / str(k), jobs=2)
        summary = results.summary()
        found = summary[
            (summary.estimand == "condition") & (summary.measure == "power") & (summary.subset == "all")
        ].iloc[0]
        exact = float(row["power_anova_satterthwaite_mc"])
        se = math.hypot(math.sqrt(exact * (1 - exact) / replications), float(row["mcse"]))
        scores.append((found.value - exact) / se)
    assert max(map(abs, scores)) < 4
    assert sum(z * z for z in scores) / len(scores) < 2
