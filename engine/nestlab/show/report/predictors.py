"""How predictors are made, what errors are and what is missing, for people."""

from __future__ import annotations

from ...spec.balanced import takes_turns
from ...spec.model import NORMAL, Distribution, Missing, Predictor, Truth
from .material import value_text

__all__ = ["missing_text", "noise_text", "predictor_text"]

_KINDS = {
    "normal": "normal",
    "uniform": "uniform",
    "t": "t",
    "skew-normal": "skew-normal",
    "gamma": "gamma",
    "lognormal": "lognormal",
    "chi-square": "chi-square",
    "contaminated": "contaminated normal",
}


def predictor_text(predictor: Predictor) -> str:
    """One predictor in a sentence without its full stop."""
    p = predictor
    place = "varies within clusters" if not p.outer else "varies between clusters only"
    again = (
        "" if p.distribution in _FIXED else ", drawn anew in each replicate" if p.redraw else ", drawn once and kept"
    )
    icc = f", {value_text(p.icc)} of its variance between clusters" if p.icc else ""
    return f"{p.name} {place} and {_made(p)}{icc}{again}"


#: What is said without how often it is drawn.
_FIXED = ("balanced", "time", "list", "schedule", "period", "arms")


def _made(p: Predictor) -> str:
    if p.distribution in _KINDS:
        shape = "".join(f", {name} {value_text(value)}" for name, value in p.shape)
        return f"is {_KINDS[p.distribution]} (mean {value_text(p.mean)}, sd {value_text(p.sd)}{shape})"
    coding = f", as {p.coding} contrasts" if p.categories else ""
    match p.distribution:
        case "balanced":
            share = "rows of each cluster" if p.level == 1 else "clusters"
            chance = ", allocated at random in each replicate" if p.redraw else ""
            within = (
                f" within each {p.blocks} clusters"
                if isinstance(p.blocks, int)
                else f" within each value of {p.blocks}"
            )
            chance = f"{chance}{within if p.blocks else ''}"
            if p.shares:
                turns = " (the odd one out is of each in turn, cluster by cluster)" if takes_turns(p) else ""
                return f"is {_shared(p)} of the {share}{coding}{turns}{chance}"
            odd = (
                "the odd one out is a 0 in one cluster, a 1 in the next" if takes_turns(p) else "the odd one out is a 0"
            )
            return f"is 0 or 1, 1 in half of the {share} ({odd}){chance}"
        case "binary":
            return f"is 0 or 1, 1 with probability {value_text(p.mean)}{_by_chance(p)}"
        case "categorical":
            each = ", ".join(f"{name} {value_text(share)}" for name, share in zip(p.categories, p.shares, strict=True))
            return f"is one of {len(p.categories)} categories with probabilities {each}{coding}{_by_chance(p)}"
        case "time":
            return f"is {value_text(p.mean)} in a cluster's first row and {value_text(p.sd)} more in each next one"
        case "list":
            return f"takes {len(p.values)} listed values in turn{_of_categories(p)}"
        case "resampled":
            return f"is drawn from {len(p.values):,} values with replacement"
        case "schedule":
            return f"follows {len(p.sequences)} sequences, which clusters take in turn{_of_categories(p)}"
        case "period":
            return f"is the number of the row's period, of {int(max(p.values)) + 1}{coding}"
    chance = ", allocated at random in each replicate" if p.redraw else ""
    if p.shares:
        return f"is the cluster's arm, {_shared(p)} of the clusters{coding}{chance}"
    return f"is the cluster's arm, of {' + '.join(map(str, p.arms))} clusters{coding}{chance}"


def _shared(p: Predictor) -> str:
    """The categories, or their numbers, with their shares: "control in 0.6667, treated in 0.3333"."""
    names = p.categories or tuple(map(str, range(len(p.shares))))
    return ", ".join(f"{name} in {value_text(share)}" for name, share in zip(names, p.shares, strict=True))


def _of_categories(p: Predictor) -> str:
    return f", the categories {', '.join(p.categories)}, as {p.coding} contrasts" if p.categories else ""


def _by_chance(p: Predictor) -> str:
    return ", which allocates clusters at random: their numbers differ between replicates" if p.by_chance else ""


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
    if truth.random != NORMAL:
        correlated = any(value for i, row in enumerate(truth.covariance) for value in row[:i])
        mixed = "; correlated ones are mixtures of such, which are nearer to normal" if correlated else ""
        said.append(f"random effects are {_shape_text(truth.random)}, rescaled to their covariance{mixed}")
    return "; ".join(said)


def _shape_text(distribution: Distribution) -> str:
    shape = ", ".join(f"{name} {value_text(value)}" for name, value in distribution.parameters)
    return f"{_KINDS[distribution.kind]}{f' ({shape})' if shape else ''}"


def missing_text(missing: Missing | None) -> str:
    """What is never observed; "" where nothing is missing."""
    if missing is None:
        return ""
    said = []
    if missing.rows:
        said.append(f"{value_text(missing.rows)} of the rows completely at random")
    if missing.clusters:
        said.append(f"each cluster with probability {value_text(missing.clusters)}")
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
