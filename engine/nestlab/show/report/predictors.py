"""How predictors are made, for people."""

from __future__ import annotations

from ...spec.model import Predictor
from .material import value_text

__all__ = ["predictor_text"]

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
    place = "varies within clusters" if p.level == 1 else "varies between clusters only"
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
            return f"is 0 or 1, 1 in half of the {share} (the odd one out is a 0){chance}"
        case "binary":
            return f"is 0 or 1, 1 with probability {value_text(p.mean)}"
        case "categorical":
            each = ", ".join(f"{name} {value_text(share)}" for name, share in zip(p.categories, p.shares, strict=True))
            return f"is one of {len(p.categories)} categories with probabilities {each}{coding}"
        case "time":
            return f"is {value_text(p.mean)} in a cluster's first row and {value_text(p.sd)} more in each next one"
        case "list":
            return f"takes {len(p.values)} listed values in turn"
        case "resampled":
            return f"is drawn from {len(p.values):,} values with replacement"
        case "schedule":
            return f"follows {len(p.sequences)} sequences, which clusters take in turn"
        case "period":
            return f"is the number of the row's period, of {int(max(p.values)) + 1}{coding}"
    chance = ", allocated at random in each replicate" if p.redraw else ""
    return f"is the cluster's arm, of {' + '.join(map(str, p.arms))} clusters{coding}{chance}"
