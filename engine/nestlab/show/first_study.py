"""The study file of the answers to `nestlab new`: one predictor, total variance 1, every value with what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..spec.model import INTERCEPT
from .questions import is_scaled, unit_of
from .study_text import entry, header, number, remark, table

__all__ = ["first_study_text"]

Answers = Mapping[str, Any]


def first_study_text(answers: Answers, *, file: str, seed: int, replications: int) -> str:
    """The text of the study file; answers: one to each question of `questions.QUESTIONS`; file: what it will be called."""
    a = dict(answers)
    a["slope"] = a["level"] == 1 and a["slope_variance"] > 0
    where = "within" if a["level"] == 1 else "between"
    title = f"{a['question'].capitalize()}: {a['predictor']}, which varies {where} clusters ({a['cluster']})"
    most = number(math.sqrt(0.25 / replications), 2)
    accuracy = (
        f"of each design: the MCSE of a power is at most {most}" if a["question"] == "power" else "of each design"
    )
    return "\n".join(
        [
            remark("Any value here may be edited; any may become an axis of [grid], by its dotted path."),
            "#",
            f"#     nestlab run {file}",
            entry("name", a["name"], "of the folder of results"),
            entry("title", title),
            entry("seed", seed, "the same seed, the same numbers"),
            entry("replications", replications, accuracy),
            entry("estimand", a["predictor"], "the effect that is shown where no other is named"),
            *_design(a),
            *_truth(a),
            *_predictor(a),
            *_methods(a),
            "",
        ]
    )


def _design(a: Answers) -> list[str]:
    fixed, axes = [], []
    comments = {"clusters": f"number of clusters ({a['cluster']})", "cluster_size": f"rows in each {a['cluster']}"}
    for key, comment in comments.items():
        if len(a[key]) == 1:
            fixed.append(entry(key, a[key][0], comment))
        else:
            axes.append(entry(key, list(a[key]), comment))
    hints = {
        "icc": (
            "icc",
            [number(a["icc"]), number(min(2 * a["icc"] + 0.05, 0.9), 3)],
            "each sets the variance of the intercept",
        ),
        "effect": (f"truth.fixed.{a['predictor']}", [0, number(a["effect"])], "at 0, power is the type I error rate"),
    }
    wanted = ["icc", "effect"] if a["effect"] else ["icc"]
    more = [f"# {entry(*hints[key])}".replace(" " * 3 + "#", " #", 1) for key in wanted]
    made = [table("design", fixed, "the same in every design")] if fixed else []
    grid = "grid" if axes else "# [grid]"
    comment = (
        "every combination is a design" if axes else "designs to compare: remove the # here and before what is to vary"
    )
    return [*made, table(grid, [*axes, *more], comment)]


def _truth(a: Answers) -> list[str]:
    x, cluster, icc = a["predictor"], a["cluster"], a["icc"]
    random = f"(1 + {x} | {cluster})" if a["slope"] else f"(1 | {cluster})"
    unit = unit_of(a["distribution"])
    parts = [
        table(
            "truth",
            [
                entry("formula", f"{a['outcome']} ~ 1 + {x} + {random}"),
                entry(
                    "residual_variance",
                    number(1 - icc, 12),
                    f"1 - icc: the total variance is 1 where {x} has no part in it",
                ),
            ],
            "the model that makes the data",
        ),
        table("truth.fixed", [entry(INTERCEPT, 0), entry(x, number(a["effect"]), f"{unit}, in sds of {a['outcome']}")]),
    ]
    variances = [entry(INTERCEPT, number(icc, 12), f"icc = {number(icc)}, the share between clusters")]
    if a["slope"]:
        sd = number(math.sqrt(a["slope_variance"]), 3)
        variances.append(entry(x, a["slope_variance"], f"its effect has the sd {sd} between clusters"))
    parts.append(table(header("truth", "random", cluster, "variance"), variances))
    if a["slope"]:
        pair = f"{INTERCEPT}:{x}"
        parts.append(
            table(
                header("truth", "random", cluster, "correlation"),
                [entry(pair, 0, "of intercept and effect")],
            )
        )
    return parts


def _predictor(a: Answers) -> list[str]:
    level = "varies within clusters" if a["level"] == 1 else f"one value for each {a['cluster']}"
    lines = [entry("level", a["level"], level)]
    if is_scaled(a["distribution"]):
        lines += [entry("distribution", a["distribution"]), entry("mean", 0), entry("sd", 1)]
    else:
        half = f"0/1: half of the rows of each {a['cluster']}" if a["level"] == 1 else "0/1: half of the clusters"
        lines.append(entry("distribution", a["distribution"], half))
    return [table(header("predictors", a["predictor"]), lines)]


def _methods(a: Answers) -> list[str]:
    if a["question"] == "power":
        rule = entry("df", "satterthwaite", 'or "kenward-roger"; a list of rules compares them')
        return [table("[[method]]", [entry("name", "reml"), rule], "how each data set is analysed")]
    return [
        table("[[method]]", [entry("name", "reml")], "two analyses of each data set"),
        table("[[method]]", [entry("name", "ml"), entry("reml", False, "maximum likelihood")]),
    ]
