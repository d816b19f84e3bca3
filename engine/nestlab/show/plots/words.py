"""Names of measures for people, what they are compared with, and where their axes end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .choose import study_of

if TYPE_CHECKING:
    from ..api import Results
    from .choose import Rows

__all__ = ["NAMES", "largest_mcse", "of_estimand", "references", "uncertainty"]

NAMES = {
    "mean": "mean estimate", "median": "median estimate", "bias": "bias", "relbias": "relative bias (%)",
    "empse": "empirical SE", "mse": "mean squared error", "rmse": "root mean squared error", "modelse": "model SE",
    "relerror": "relative error of the model SE (%)", "cover": "coverage", "becover": "bias-eliminated coverage",
    "below": "intervals below the truth", "above": "intervals above the truth", "width": "mean interval width", "power": "power",
    "type_s": "type S error", "type_m": "type M error (exaggeration)", "relprec": "gain in precision (%)",
    "converged": "converged", "singular": "singular", "failed": "failed", "inference_failed": "inference failed",
}  # fmt: skip
_ZERO = ("bias", "relbias", "relerror", "relprec")


def of_estimand(measure: str, estimand: str) -> str:
    """ "coverage of x"; measures of a method as a whole by their names."""
    name = NAMES.get(measure, measure)
    return f"{name} of {estimand}" if estimand else name


def references(measure: str, estimand: str, results: Results) -> list[float]:
    """What a measure is compared with: 0.8 and, where an effect is null somewhere, the level; nominal coverage; 0; 1."""
    if measure in _ZERO:
        return [0.0]
    alphas = sorted({m.alpha for m in study_of(results).methods()})
    match measure:
        case "power":
            return [0.8, *(alphas if _somewhere_null(estimand, results) else [])]
        case "cover" | "becover":
            return [round(1 - a, 12) for a in alphas]
        case "below" | "above":
            return [a / 2 for a in alphas]
    return [1.0] if measure == "type_m" else []


def _somewhere_null(estimand: str, results: Results) -> bool:
    """Whether some condition's true value is the one under a test of no effect."""
    contrasts = {c.name: c for m in study_of(results).methods() for c in m.contrasts}
    contrast = contrasts.get(estimand)
    if contrast is not None and contrast.equivalence is not None:
        return False
    truth = results.conditions().get(f"true.{estimand}")
    return truth is not None and bool((truth == (contrast.null if contrast is not None else 0.0)).any())


def uncertainty(rows: Rows) -> str:
    """What the limits are."""
    shares = rows.frame["lower"].notna()
    if shares.any() and not shares.all():
        return "Wilson's 95 % limits of shares, value ± 1.96 MCSE of others"
    return "Wilson's 95 % limits" if shares.any() else "value ± 1.96 MCSE"


def largest_mcse(rows: Rows) -> str:
    """ "MCSE at most 0.012", of each measure."""
    worst = rows.frame.groupby("measure", sort=False)["mcse"].max()
    if len(worst) == 1:
        return f"MCSE at most {worst.iloc[0]:.2g}"
    return "MCSE at most " + ", ".join(f"{v:.2g} ({NAMES.get(str(m), str(m))})" for m, v in worst.items())
