"""How predictors are made, what errors are and what is missing, for people."""

from __future__ import annotations

import re

from ...spec.model import NORMAL, Distribution, Missing, Predictor, Truth
from ...spec.predictors import SHAPES, distribution_of, is_by_chance
from ..countables import counted
from .material import value_text

__all__ = ["missing_text", "noise_text", "predictor_text"]


def predictor_text(predictor: Predictor, *, several: bool = False) -> str:
    """One predictor in a sentence without its full stop. several: the study has several grouping factors."""
    p, row = predictor, distribution_of(predictor)
    place = "varies within clusters" if not p.outer else "varies between clusters only"
    if several:
        place = f"has a value for each level of {p.at}" if p.at else "varies by row"
    again = "" if row.known else ", drawn anew in each replicate" if p.redraw else ", drawn once and kept"
    units = f"levels of {p.at}" if p.at else "clusters"
    chance = f", which allocates {units} at random: their numbers differ between replicates" if is_by_chance(p) else ""
    icc = f", {value_text(p.icc)} of its variance between clusters" if p.icc else ""
    if p.iccs:
        shares = [f"{value_text(share)} between levels of {factor}" for factor, share in p.iccs]
        icc = f", of its variance {', '.join(shares[:-1])}{' and ' if shares[1:] else ''}{shares[-1]}"
    text = row.text(p)
    if several:  # a factor's levels are the clusters of its predictors, and cells those of rows
        one = p.at or "cell"
        text = re.sub(r"\bclusters\b", counted(2, one).removeprefix("2 "), re.sub(r"\bcluster\b", one, text))
    return f"{p.name} {place} and {text}{chance}{icc}{again}"


def noise_text(truth: Truth) -> str:
    """What errors and random effects are beside their variances; "" where they are normal and errors independent of all else."""
    errors, said = truth.errors, []
    if errors.distribution != NORMAL:
        said.append(f"errors are {_shape_text(errors.distribution)}, rescaled to their variance")
    if errors.ratios:
        each = " and ".join(f"{value_text(ratio)} for each unit of {name}" for name, ratio in errors.ratios)
        said.append(f"their variance is multiplied by {each}")
    if errors.cluster_cv:
        cv = value_text(errors.cluster_cv)
        said.append(f"clusters have residual variances of their own, lognormal with a coefficient of variation of {cv}")
    if errors.ar1:
        near = "" if errors.distribution == NORMAL else " (of rows k apart near its k-th power: a Gaussian copula)"
        said.append(f"neighbouring rows of a cluster have errors with a correlation of {value_text(errors.ar1)}{near}")
    for group, shape in truth.shapes:
        said.append(f"random effects of {group} are {_shape_text(shape)}, rescaled to their covariance")
    if truth.random != NORMAL:
        correlated = any(value for i, row in enumerate(truth.covariance) for value in row[:i])
        mixed = "; correlated ones are mixtures of such, which are nearer to normal" if correlated else ""
        said.append(f"random effects are {_shape_text(truth.random)}, rescaled to their covariance{mixed}")
    return "; ".join(said)


def _shape_text(distribution: Distribution) -> str:
    shape = ", ".join(f"{name} {value_text(value)}" for name, value in distribution.parameters)
    return f"{SHAPES[distribution.kind].title or distribution.kind}{f' ({shape})' if shape else ''}"


def missing_text(missing: Missing | None) -> str:
    """What is never observed; "" where nothing is missing."""
    if missing is None:
        return ""
    said = []
    if missing.rows:
        said.append(f"{value_text(missing.rows)} of the rows completely at random")
    if missing.clusters:
        said.append(f"each cluster with probability {value_text(missing.clusters)}")
    if missing.cells:
        said.append(f"each cell with probability {value_text(missing.cells)}")
    said += [f"each level of {name} with probability {value_text(share)}" for name, share in missing.levels]
    if missing.hazard:
        said.append(f"after each row all later ones of its cluster with probability {value_text(missing.hazard)}")
    if missing.weibull:
        scale, shape = map(value_text, missing.weibull)
        said.append(
            f"rows of a cluster beyond a time with a Weibull distribution (scale {scale}, shape {shape}; first row 0)"
        )
    if missing.at_random:
        on, intercept, slope = missing.at_random
        cause = "the outcome of the row before it" if on == "previous" else on
        later = ", and then all later ones of its cluster" if missing.monotone else ""
        said.append(f"a row with log odds {value_text(intercept)} + {value_text(slope)} times {cause}{later}")
    return "; ".join(said)
