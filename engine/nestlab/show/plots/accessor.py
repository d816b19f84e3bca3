"""`results.plot.power(...)`: every kind as a method that returns Axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from ...run.results import StoredResults

__all__ = ["Plots"]


class Plots:
    """Pictures of results, a method a kind.

    Each takes x, color, facet (factors, or "method"), estimand, method, measure, subset and condition as `plots.draw` does, and
    title, xlabel, ylabel, caption and size (width, height in inches) to replace what is written; ax where there is one panel.
    Each returns the Axes, or an array of them (rows, columns). `.figure` of one is the picture, with title and
    caption (n, limits, what was left out); axes that are given get neither.
    Raises StudyError for what does not exist, naming what there is. Such as `power(x="clusters", color="icc", method="reml")`.
    """

    def __init__(self, results: StoredResults) -> None:
        self._results = results

    def __call__(self, kind: str, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """A picture of any kind in `plots.KINDS`."""
        from .kinds import draw_on

        return draw_on(self._results, kind, ax, **asked)

    def solve(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """The search that left these results: the designs tried, and the answer with its interval."""
        return self("solve", ax=ax, **asked)

    def power(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """Power by a factor; where the true effect is null, the type I error rate. Options: see `help(results.plot)`."""
        return self("power", ax=ax, **asked)

    def coverage(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """Coverage of the intervals by a factor. Options: see `help(results.plot)`."""
        return self("coverage", ax=ax, **asked)

    def bias(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """Bias of the estimates by a factor. Options: see `help(results.plot)`."""
        return self("bias", ax=ax, **asked)

    def measure(
        self, measure: str | None = None, *, ax: Axes | None = None, **asked: Any
    ) -> Axes | np.ndarray[Any, Any]:
        """Any measure by a factor. Options: see `help(results.plot)`."""
        return self("measure", ax=ax, measure=measure, **asked)

    def nested_loop(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """A measure over all conditions in order, with the factors' levels as steps below (Ruecker & Schwarzer 2014).

        Options: see `help(results.plot)`.
        """
        return self("nested-loop", ax=ax, **asked)

    def lollipop(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """A measure of every condition, with its limits. Options: see `help(results.plot)`."""
        return self("lollipop", ax=ax, **asked)

    def zip(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """The intervals of one condition by the rank of |z| (Morris et al. 2019). Options: see `help(results.plot)`."""
        return self("zip", ax=ax, **asked)

    def heatmap(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """A measure by two factors. Options: see `help(results.plot)`."""
        return self("heatmap", ax=ax, **asked)

    def estimate_se(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """Estimates against their standard errors, in one condition. Options: see `help(results.plot)`."""
        return self("estimate-se", ax=ax, **asked)

    def convergence(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """Shares of converged and of singular fits. Options: see `help(results.plot)`."""
        return self("convergence", ax=ax, **asked)

    def methods(self, *, ax: Axes | None = None, **asked: Any) -> Axes | np.ndarray[Any, Any]:
        """Methods side by side: bias, empirical SE, coverage, power, or one measure. Options: see `help(results.plot)`."""
        return self("methods", ax=ax, **asked)
