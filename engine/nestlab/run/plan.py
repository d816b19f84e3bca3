"""What a run has to do: which conditions are new, which are stored, what is missing, and what must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ..measure.sums import LEAF
from ..simulate.centres import centres_of
from ..spec.axes import axis_paths, outcome_sets, setting
from ..spec.formula import formula_text
from ..spec.identity import DERIVED_PATHS, NUMERICS_VERSION, data_key, describe, flatten, result_key
from ..spec.methods import estimator_of
from ..spec.model import Condition, Method
from ..spec.truths import true_values
from .series import Series
from .store import RefusedError, Store, StoredCondition
from .sums import check_prefix

__all__ = [
    "ChangedError",
    "Job",
    "Pace",
    "Task",
    "cut",
    "match_conditions",
    "match_methods",
    "method_content",
    "plan_tasks",
]

#: Seconds of work that a task is cut to, and its replicates where methods work on rows, tens of milliseconds each.
TASK_SECONDS, ROWS_TASK = 0.5, 64
#: Parts of sums that a range of replicates is cut into, or a few more, however many they are.
SUMS_PARTS = 256
#: Seconds per cluster, replicate and method, until it is measured.
FIRST_PACE = 2e-7


class ChangedError(RefusedError):
    """The study means something else than what is stored. values: each as "key: stored ..., now ..."."""

    def __init__(self, what: str, values: Sequence[str], repair: str) -> None:
        self.values = tuple(values)
        super().__init__(f"the study changed what stored {what} mean: {'; '.join(values)}. {repair}")


@dataclass(frozen=True, slots=True)
class Job:
    """One condition of the study with its number in the store, its methods' result keys and the replications asked for."""

    number: int
    condition: Condition
    result_keys: tuple[str, ...]
    replications: int = 0

    def series(self, store: Store, methods: Sequence[Method]) -> list[Series]:
        """This condition by each method."""
        return [
            Series(store, self.number, key, method, self.replications)
            for key, method in zip(self.result_keys, methods, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Task:
    """Replicates first .. last - 1 of one condition by some of the methods (indices).

    by_rows: the methods are Python code that needs rows and holds the GIL. sums: of which methods sums are to be written, where a
    study keeps these; the methods are all of the study then. skipped: there is nothing to do, because the condition
    ended early by these methods.
    """

    job: Job
    methods: tuple[int, ...]
    first: int
    last: int
    by_rows: bool = False
    skipped: bool = False
    sums: tuple[int, ...] | None = None

    @property
    def fits(self) -> int:
        return len(self.methods) * (self.last - self.first)

    @property
    def work(self) -> int:
        """Clusters to fit, to which the time that a task takes is roughly proportional."""
        return self.fits * self.job.condition.layout.clusters


def method_content(method: Method) -> dict[str, Any]:
    """What a method means: all of it that its stored rows depend on."""
    # Intervals and tests that stored rows hold.
    inference: dict[str, Any] = {"intervals": method.intervals, "variance_intervals": method.variance_intervals}
    if method.intervals != "t" or method.variance_intervals:
        inference["alpha"] = method.alpha
    if method.compare is not None:
        inference |= {"compare": formula_text(method.compare), "reference": method.reference}
    if method.smaller:
        inference["smaller"] = [formula_text(each) for each in method.smaller]
    if method.random:
        inference["draws"] = method.draws
    if method.select is not None:
        inference |= {"select": method.select, "select_alpha": method.select_alpha if method.select == "lrt" else None}
    inference |= estimator_of(method).content(method)
    inference |= {word: getattr(method, word) for word in ("robust", "weights") if getattr(method, word) is not None}
    return {
        "formula": formula_text(method.formula),
        "estimator": method.estimator,
        "reml": method.reml,
        "df": method.df[0] if len(method.df) == 1 else list(method.df),
        "singular_df": method.singular_df,
        **inference,
        "contrasts": {
            c.name: {"weights": [dict(row) for row in c.weights], "standardise": c.standardise}
            for c in method.contrasts
        },
        "numerics_version": NUMERICS_VERSION,
    }


def match_methods(stored: Sequence[Mapping[str, Any]], methods: Sequence[Method]) -> list[dict[str, Any]]:
    """The manifest's list of methods after this run; methods that were removed stay, inactive.

    Raises ChangedError for a name that meant something else when its rows were stored.
    """
    known = {entry["name"]: entry for entry in stored}
    listed = []
    for method in methods:
        content = method_content(method)
        before = known.get(method.name, {}).get("content", content)
        changed = [k for k in {**content, **before} if before.get(k) != content.get(k)]
        if changed:
            values = [f"method.{method.name}.{k}: stored {before.get(k)!r}, now {content.get(k)!r}" for k in changed]
            raise ChangedError("results", values, "Give the method another name, or use --out")
        listed.append({"name": method.name, "active": True, "alpha": method.alpha, "content": content})
    names = {method.name for method in methods}
    listed += [{**entry, "active": False} for name, entry in known.items() if name not in names]
    return listed


def match_conditions(
    stored: Sequence[StoredCondition], conditions: Sequence[Condition], methods: Sequence[Method]
) -> tuple[list[StoredCondition], list[int]]:
    """(all conditions to store, the number of each condition of the study).

    Stored conditions are known by their data key. New ones are given the next numbers; those that the study no longer has
    become inactive. Raises ChangedError if the study changed a value that no axis of the grid sets: the same labels would then
    stand for other conditions.
    """
    by_key = {s.data_key: s for s in stored}
    rows = {s.number: replace(s, active=False) for s in stored}
    numbers: list[int] = []
    free = max(rows, default=-1) + 1
    for condition in conditions:
        key = data_key(condition)
        if key in by_key:
            row = replace(by_key[key], active=True, factors=dict(condition.factors))
        else:
            spec = flatten(describe(condition))
            _refuse_changed(stored, condition, spec)
            row = StoredCondition(free, key, True, dict(condition.factors), spec)
            free += 1
        number = row.number
        rows[number] = replace(
            row, truths=true_values(condition, methods, centres_of(condition)), stated=_stated(condition)
        )
        numbers.append(number)
    return [rows[number] for number in sorted(rows)], numbers


def _stated(condition: Condition) -> dict[str, str | float]:
    """Effects in standard units, as text and as numbers."""
    texts: dict[str, str | float] = {term: effect.text for term, effect in condition.stated.items()}
    return texts | {f"{term}.{effect.kind}": effect.value for term, effect in condition.stated.items()}


def _refuse_changed(stored: Sequence[StoredCondition], condition: Condition, spec: Mapping[str, Any]) -> None:
    """Compare what no axis sets with what is stored; path and block size follow from the rest."""
    if not stored:
        return
    before = stored[-1]
    formula = condition.truth.formula
    free = {path for name in {*before.factors, *condition.factors} for path in axis_paths(name, formula)}
    free |= {
        f"prior.{found.name}" for name in {*before.factors, *condition.factors} if (found := setting(name, formula))
    }
    free |= {
        path for name, _ in condition.priors for path in axis_paths(name, formula)
    }  # at the means of priors, compared above
    if condition.outcome:  # compared itself, and not what follows from it
        free |= {path for key in condition.outcome for path in outcome_sets(key, formula)}
        free |= {f"truth.fixed.{t}" for t, e in condition.stated.items() if e.kind == "r2" and e.by == "outcome"}
    if condition.stated or before.stated:  # what is stated is compared, not the coefficients that follow from it
        now = {f"truth.fixed.{term}": effect.text for term, effect in condition.stated.items()}
        was = {f"truth.fixed.{term}": text for term, text in before.stated.items() if isinstance(text, str)}
        spec, before = {**spec, **now}, replace(before, spec={**before.spec, **was})
    changed = [p for p in sorted({*spec, *before.spec}) if p not in free and spec.get(p) != before.spec.get(p)]
    own = [p for p in changed if p not in DERIVED_PATHS]
    if not free:
        own = own or changed
    elif "draw_version" in changed:
        own.append("draw_version")
    if own:
        values = [f"{p}: stored {before.spec.get(p)!r}, now {spec.get(p)!r}" for p in own]
        raise ChangedError("conditions", values, "Restore it, give the study another name, or use --out")


def plan_tasks(store: Store, jobs: Sequence[Job], methods: Sequence[Method]) -> Iterator[Task]:
    """What is missing, a task a range of replicates; methods that miss the same replicates share their draws."""
    if store.keeps == "summary":
        yield from _plan_sums(store, jobs, methods)
        return
    for job in jobs:
        wanting: dict[tuple[bool, tuple[tuple[int, int], ...]], list[int]] = {}
        for place, series in enumerate(job.series(store, methods)):
            wanting.setdefault((estimator_of(series.method).by_rows, tuple(series.gaps)), []).append(place)
        for (by_rows, ranges), chosen in wanting.items():
            for first, last in ranges:
                yield Task(job, tuple(chosen), first, last, by_rows)


def _plan_sums(store: Store, jobs: Sequence[Job], methods: Sequence[Method]) -> Iterator[Task]:
    """The same of a study that keeps sums: what some method misses is done by all, for what they have in common is summed too."""
    everyone, by_rows = tuple(range(len(methods))), any(estimator_of(method).by_rows for method in methods)
    for job in jobs:
        found = job.series(store, methods)
        for series in found:
            check_prefix(series)
        missing = [series.gaps for series in found]
        ends = sorted({end for ranges in missing for pair in ranges for end in pair})
        for first, last in pairwise(ends):
            lacking = tuple(m for m, ranges in enumerate(missing) if any(a <= first < b for a, b in ranges))
            if lacking:
                yield Task(job, everyone, first, last, by_rows, sums=lacking)


class Pace:
    """Seconds of work per cluster, replicate and method, as measured so far: the mean over tasks, recent ones counting more.

    warm: whether a task was done, so that the kernels are compiled.
    """

    def __init__(self) -> None:
        self._seconds = FIRST_PACE
        self.task_seconds = TASK_SECONDS
        self.warm = False

    def learn(self, task: Task, replicates: int, seconds: float) -> None:
        """Some replicates of a task took some seconds."""
        measured = seconds / (replicates * len(task.methods) * task.job.condition.layout.clusters)
        self._seconds += 0.3 * (measured - self._seconds)

    def replicates(self, task: Task) -> int:
        """How many replicates of a task fill its seconds."""
        clusters = task.job.condition.layout.clusters
        return max(1, int(self.task_seconds / (self._seconds * len(task.methods) * clusters)))


def cut(
    tasks: Iterable[Task], pace: Pace, over: Callable[[Job, int, int], bool] = lambda job, method, first: False
) -> Iterator[Task]:
    """Tasks of TASK_SECONDS each, at the pace known when each is asked for; whole blocks but for the ends of ranges.

    over: whether a condition ended early by a method at or before a replicate; what it leaves out comes as one skipped task.
    """
    for task in tasks:
        first, size = task.first, task.job.condition.block_size
        while first < task.last:
            if lost := tuple(m for m in task.methods if over(task.job, m, first)):
                yield replace(task, methods=lost, first=first, skipped=True)
                task = replace(task, methods=tuple(m for m in task.methods if m not in lost))
                if not task.methods:
                    break
            if task.sums is not None:
                room = ROWS_TASK if task.by_rows else pace.replicates(task)
                last = _whole_subtree(first, max(room, (task.last - task.first) // SUMS_PARTS), task)
            elif task.by_rows:
                last = (first // ROWS_TASK + 1) * ROWS_TASK
            else:
                last = (first // size + max(1, pace.replicates(task) // size)) * size
            last = min(last, task.last)
            yield replace(task, first=first, last=last)
            first = last


def _whole_subtree(first: int, replicates: int, task: Task) -> int:
    """The end of a part of so many replicates at most: it is one subtree of the tree of sums, or its ends are those of blocks."""
    unit = max(LEAF, 1 if task.by_rows else task.job.condition.block_size)
    if task.last <= max(first + replicates, unit):
        return task.last
    if first % unit:
        return (first // unit + 1) * unit
    place, room = first // unit, max(1, replicates // unit)
    size = 1 << (room.bit_length() - 1)
    return first + unit * (min(size, place & -place) if place else size)


def make_jobs(
    conditions: Sequence[Condition], numbers: Sequence[int], methods: Sequence[Method], replications: Mapping[int, int]
) -> list[Job]:
    """replications: by the condition's number."""
    jobs = []
    for condition, number in zip(conditions, numbers, strict=True):
        key = data_key(condition)
        keys = tuple(result_key(key, method) for method in methods)
        jobs.append(Job(number, condition, keys, replications[number]))
    return jobs
