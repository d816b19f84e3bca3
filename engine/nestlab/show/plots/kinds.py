"""The kinds of pictures, which of them results allow, and the one call that draws any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ...spec.problems import StudyError, show
from ..answer import searched
from .choose import Asked, dimensions, measures_of, pick
from .compose import Picture, Wording, on_axes, render
from .estimate_se import estimate_se
from .heatmap import heatmap
from .lines import by_factor, compare_methods, convergence
from .lollipop import lollipop
from .nested import nested_loop
from .solution import solution
from .zip import zip_plot

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...run.results import StoredResults

__all__ = ["KINDS", "applicable", "draw", "draw_on"]

#: kind -> what it shows
KINDS: dict[str, str] = {
    "solve": "the search of nestlab solve: the designs tried, and the answer with its interval",
    "power": "power (where the true effect is null: the type I error rate) by a factor, with limits",
    "coverage": "coverage of the intervals by a factor, with limits",
    "bias": "bias of the estimates by a factor, with limits",
    "measure": "any measure by a factor, with limits",
    "nested-loop": "a measure over all conditions in order, the factors' levels as steps below",
    "lollipop": "a measure of every condition, with the numbers",
    "zip": "the intervals of one condition by the rank of |z|, those that miss the truth apart",
    "heatmap": "a measure by two factors",
    "estimate-se": "estimates against their standard errors in one condition",
    "convergence": "shares of converged and of singular fits",
    "methods": "methods side by side: bias, empirical SE, coverage, power",
}
#: Kinds that show replicates.
OF_REPLICATES = ("zip", "estimate-se")
_MEASURE = {"power": "power", "coverage": "cover", "bias": "bias"}
_MAKERS: dict[str, Callable[[StoredResults, Asked], Picture]] = {
    "solve": solution,
    "power": by_factor,
    "coverage": by_factor,
    "bias": by_factor,
    "measure": by_factor,
    "nested-loop": nested_loop,
    "lollipop": lollipop,
    "zip": zip_plot,
    "heatmap": heatmap,
    "estimate-se": estimate_se,
    "convergence": convergence,
    "methods": compare_methods,
}


def draw(
    results: StoredResults,
    kind: str,
    *,
    x: str | None = None,
    color: str | None = None,
    facet: str | None = None,
    estimand: str | None = None,
    method: str | None = None,
    measure: str | None = None,
    subset: str | None = None,
    condition: int | None = None,
    title: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    caption: str | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """A picture of results, of a kind in `KINDS`.

    x, color, facet: factors, or "method"; None: the numeric factor with most levels, then the next. No factor is averaged over:
    the others make lines or panels. estimand, method, measure, subset, condition: as in the summary; None: all methods and
    conditions, and the study's estimand. title, xlabel, ylabel, caption: instead of what is written ("": none); size: width and
    height of the whole, in inches. Raises StudyError for what does not exist, naming what there is.
    """
    words = Wording(title=title, xlabel=xlabel, ylabel=ylabel, caption=caption, size=size)
    asked = Asked(x, color, facet, estimand, method, measure, subset, condition, size)
    return render(words.of(_picture(results, kind, asked)))


def draw_on(results: StoredResults, kind: str, ax: Axes | None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
    """The axes of the same picture: those given (one panel), or new ones, several as an array."""
    words = Wording(**{f.name: asked[f.name] for f in fields(Wording) if f.name in asked})
    rest = {name: value for name, value in asked.items() if name == "size" or not hasattr(words, name)}
    return on_axes(words.of(_picture(results, kind, Asked(**rest))), ax)


def _picture(results: StoredResults, kind: str, asked: Asked) -> Picture:
    pick("kind", kind, KINDS, what="the kinds are")
    if kind in OF_REPLICATES:
        results.require(f"kind = {show(kind)}")
    fixed = _MEASURE.get(kind)
    if fixed is not None:
        if asked.measure not in (None, fixed):
            raise StudyError([f'measure = {show(asked.measure)}: kind {kind} shows {fixed}; use kind "measure"'])
        asked = replace(asked, measure=fixed)
    return _MAKERS[kind](results, asked)


def applicable(results: StoredResults) -> list[str]:
    """The kinds that make sense for these results, in the order of `KINDS`."""
    found = measures_of(results)
    measures = set(found["measure"])
    methods = results.summary()["method"].nunique()
    factors = len(dimensions(results))
    needs = {
        "solve": searched(results.folder),
        "power": "power" in measures,
        "coverage": "cover" in measures,
        "bias": "bias" in measures,
        "methods": methods > 1,
        "nested-loop": factors > 1,
        "heatmap": factors > 1,
        "zip": "cover" in measures,
        "estimate-se": "modelse" in measures,
    }
    without = OF_REPLICATES if results.keeps == "summary" else ()
    return [kind for kind in KINDS if needs.get(kind, True) and kind not in without]
