"""Whether data as a study describes them exist: sizes, and correlations of predictors, rows and errors."""

from __future__ import annotations

from collections.abc import Iterable

from ..spec.factor_keys import ROWS, number_path
from ..spec.model import Condition
from ..spec.predictors import is_known
from ..spec.problems import StudyError

__all__ = ["check_possible"]


def check_possible(conditions: Iterable[Condition]) -> None:
    """Raises StudyError with a line for each thing that is impossible, before anything is drawn or written."""
    lines: dict[str, None] = {}
    seen = set()
    for condition in conditions:
        drawn = condition.structure.drawn if condition.structure else condition.layout.drawn
        key = (drawn, condition.predictors, condition.correlations, condition.truth.errors)
        if key not in seen:
            seen.add(key)
            lines |= dict.fromkeys(_problems(condition))
    if lines:
        raise StudyError(lines)


def _problems(condition: Condition) -> list[str]:
    found: list[str] = []
    drawn = [("design.cluster_size", sizes) for _, sizes in condition.layout.drawn if sizes is not None]
    if condition.structure is not None:
        drawn = [(number_path(name, True) if name else ROWS, sizes) for name, sizes in condition.structure.drawn]
    joined = condition.correlations or any(p.icc for p in condition.predictors)
    if not (drawn or joined or condition.truth.errors.ar1):
        return found
    # Imports that only such studies need: they bring the compiler, which a stored answer does without.
    from .distributions import latent_ar1, score_correlations
    from .sizes import size_distribution

    for path, sizes in drawn:
        try:
            size_distribution(sizes, path)
        except StudyError as error:
            found += error.problems
    try:
        latent_ar1(condition.truth.errors)
    except StudyError as error:
        found += error.problems
    for place in dict.fromkeys((p.level, p.at) for p in condition.predictors):
        for redraw in (True, False):
            own = [p for p in condition.predictors if (p.level, p.at) == place and not is_known(p)]
            group = [p for p in own if p.redraw == redraw]
            if not (condition.correlations or any(p.icc for p in group)):
                continue
            try:
                score_correlations(group, condition.correlations)
            except StudyError as error:
                found += error.problems
    return found
