"""Which design reaches a target: rounds of simulation, each where it tells most, until the answer's interval is narrow enough.

A study with one point of its grid left open, clusters say, is searched along that axis (`line`), or over clusters and cluster
size at the least cost (`surface`); points of its other axes are searched side by side. Every design tried is a condition of one
results folder, with as many replications as it was given. What is tried depends on the study and the target alone: a search
that is repeated, or was interrupted, finds its replicates stored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec.estimands import contrasts_of
from ..spec.model import Condition, Contrast
from ..spec.problems import StudyError
from ..spec.study import StudyFile
from .crossing import Scale, Tried
from .designs import Bench, as_number
from .one_axis import Goal, LineSearch
from .question import Question, Trial, Values
from .two_axes import SurfaceSearch

__all__ = ["Solution", "Solved", "solve"]


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer at one point of the other axes (factors).

    values: the design by axis; intervals: 95 %, by axis (and "cost"), absent where the target is not reached. reached: whether
    any allowed design reaches the target; otherwise the design is the best one tried. sure: whether the interval is as narrow
    as asked for. smallest: whether smaller values fail, not larger ones. trial: the simulation of that very design, if there is
    one. condition: the design as a condition, None where the answer was read. cost: what it costs, where a cost was given.
    """

    factors: Mapping[str, Any]
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    reached: bool
    sure: bool
    smallest: bool
    trial: Trial | None
    tried: tuple[Trial, ...]
    cost: float | None = None
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Solved:
    """Answers, one for each point of the other axes, with the folder of all that was tried. contrasts: of all methods."""

    question: Question
    solutions: tuple[Solution, ...]
    folder: Path
    scale: Scale
    seconds: float
    replications: int
    contrasts: tuple[Contrast, ...] = ()


def solve(
    study: StudyFile,
    question: Question,
    folder: Path,
    *,
    jobs: int = -1,
    tell: Callable[[str], None] = lambda text: None,
    code: Sequence[str] | None = None,
) -> Solved:
    """Search for the design that reaches the target; every design tried is kept in `folder`.

    tell: called before each round with a line about it; code: see `run_study`. Raises StudyError for what the study does not
    have, RefusedError where the folder holds other results.
    """
    start = time.perf_counter()
    if study.stopping is not None:
        tell("the study's rule of replications is not used: a search has --precision and --max-replications")
    bench = Bench(study, question, folder, jobs, code)
    searches = [_search(bench, point) for point in bench.points]
    rounds = 0
    while any(proposals := [search.propose() for search in searches]):
        wanted: dict[tuple[int, Values], int] = {
            (k, key if isinstance(key, tuple) else (key,)): n
            for k, proposal in enumerate(proposals)
            for key, n in proposal.items()
        }
        if all(n <= bench.asked.get(key, 0) for key, n in wanted.items()):
            break
        rounds += 1
        tell(_line(rounds, question, wanted))
        found = bench.simulate(wanted)
        _check(question, found)
        for k, search in enumerate(searches):
            search.tell(_told(search, {values: trial for (j, values), trial in found.items() if j == k}))
    solutions = tuple(_solution(bench, k, search) for k, search in enumerate(searches))
    scale = searches[0].axis.scale if isinstance(searches[0], LineSearch) else "sqrt"
    seconds, contrasts = time.perf_counter() - start, contrasts_of(study.methods())
    return Solved(question, solutions, folder, scale, seconds, bench.replications, contrasts)


def _check(question: Question, found: Mapping[tuple[int, Values], Trial]) -> None:
    """StudyError where a design has no value of the measure: without it the search cannot go on."""
    for trial in found.values():
        if not math.isfinite(trial.value):
            target, design = question.target, ", ".join(f"{name} = {value:g}" for name, value in trial.values.items())
            raise StudyError(f"--between: at {design} no replicate of {trial.n + trial.missing:,} tells {target.measure} of "
                 f"{' and '.join(target.estimands)} by {target.method}; search elsewhere, or by another --method")  # fmt: skip


def _line(number: int, question: Question, wanted: Mapping[tuple[int, Values], int]) -> str:
    designs = sorted({values for _, values in wanted})
    shown = ", ".join(" x ".join(f"{v:g}" for v in values) for values in designs[:6]) + ", ..." * (len(designs) > 6)
    return f"round {number}: {' x '.join(question.over)} {shown}; {max(wanted.values()):,} replications"


# -- axes ------------------------------------------------------------------------------------------------------------------


def _search(bench: Bench, point: Mapping[str, Any]) -> LineSearch | SurfaceSearch:
    question = bench.question
    target = question.target
    goal = Goal(
        target.value, target.side, target.kind, absolute=target.kind == "real", precision=question.precision,
        most=question.most,
    )  # fmt: skip
    axes = [bench.axis(name, between, point) for name, between in zip(question.over, question.between, strict=True)]
    if len(axes) == 1:
        return LineSearch(axes[0], goal)
    assert question.cost is not None
    first, second = (axes[question.over.index(name)] for name in bench.over)
    cost, counts = question.cost, bench.counts(point)
    return SurfaceSearch(
        first, second, goal, lambda J, m: cost(**counts(J, m)), (bench.over[0], bench.over[1]), bench.spread(point),
        budget=question.budget, maximise=question.maximise,
    )  # fmt: skip


def _told(search: LineSearch | SurfaceSearch, trials: Mapping[Values, Trial]) -> Iterable[Any]:
    found = {values: Tried(values[0], t.value, t.mcse, t.n) for values, t in trials.items()}
    return list(found.values()) if isinstance(search, LineSearch) else list(found.items())


# -- answers ---------------------------------------------------------------------------------------------------------------


def _solution(bench: Bench, k: int, search: LineSearch | SurfaceSearch) -> Solution:
    tried = {values: trial for (j, values), trial in sorted(bench.found.items()) if j == k}
    found = search.answer()
    if isinstance(search, SurfaceSearch):
        best = search.answer()
        values: Values = (best.first, best.second)
        intervals, smallest = dict(best.intervals), True
    else:
        line = search.answer()
        values, smallest = (line.x,), line.smallest
        intervals = {bench.over[0]: (line.lower, line.upper)} if line.reached else {}
    price = bench.price(bench.points[k], values)
    reached = found.reached and (price is None or price <= bench.question.budget)
    plain = {name: as_number(name, value) for name, value in zip(bench.over, values, strict=True)}
    return Solution(
        bench.points[k], plain, intervals if reached else {}, reached, found.sure, smallest, tried.get(values),
        tuple(tried.values()), price, bench.design(k, values),
    )  # fmt: skip
