"""Conditions that stop when they are sure enough: after each look that `spec.stopping` fixed in advance.

What decides at a look is the first n replicates of the condition alone, whatever else is stored, so that the same conditions
stop at the same place for any workers, order, interruption and extension. A target is met by a method where the measure's MCSE
is at most the target's; of shares it is half the width of Wilson's 95 % interval over 1.96, which is not 0 where none or all of
the replicates are hits. A measure that the replicates do not determine is not met; one that a condition cannot have (relbias at
a truth of 0) is not asked of it; neither is anything of a method that ended early (`series`).

Stopping at what is seen adds a bias: a share that happens to look extreme looks sure. By Wald's identity E[n (share - p)] = 0, so
that the bias is -cov(n, share) / E(n), about -(1 - 2p) / E(n) where the looks are close. Measured on 100,000 studies of Bernoulli
trials each, by `half_width` at looks from 1,000 in blocks of 256 (tests/calibration/test_stopping_bias.py), with the coverage of
Wilson's 95 % interval there and at a fixed n of the same mean:

    | rate | target | mean n | bias | bias / target | root mean squared error | coverage | at a fixed n |
    | --- | --- | --- | --- | --- | --- | --- | --- |
    | 0.005 | 0.005 | 1,024 | -0.000000 | -0.00 | 0.002203 | 0.959 | 0.958 |
    | 0.005 | 0.002 | 1,692 | -0.000465 | -0.23 | 0.001797 | 0.971 | 0.964 |
    | 0.005 | 0.001 | 6,261 | -0.000207 | -0.21 | 0.001042 | 0.941 | 0.954 |
    | 0.005 | 0.0005 | 25,676 | -0.000049 | -0.10 | 0.000483 | 0.950 | 0.950 |
    | 0.05 | 0.005 | 2,297 | -0.000147 | -0.03 | 0.004664 | 0.939 | 0.950 |
    | 0.05 | 0.002 | 13,386 | -0.000176 | -0.09 | 0.001761 | 0.950 | 0.950 |
    | 0.05 | 0.001 | 62,208 | -0.000000 | -0.00 | 0.000876 | 0.950 | 0.949 |
    | 0.5 | 0.01 | 3,584 | -0.000006 | -0.00 | 0.008370 | 0.949 | 0.950 |
    | 0.5 | 0.005 | 12,288 | -0.000012 | -0.00 | 0.004512 | 0.950 | 0.951 |
    | 0.5 | 0.002 | 93,440 | +0.000003 | +0.00 | 0.001635 | 0.950 | 0.951 |

Whatever the rate it is at most 0.14 of the MCSE asked for where that is a tenth of the rate or less, and 0.25 up to 0.4 of the
rate.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..measure.intervals import Z, wilson
from ..measure.measured import Measured, MeasureRow
from ..measure.subsets import DEFAULT_SUBSET, default_subset
from ..spec.identity import result_key
from ..spec.model import Method
from ..spec.problems import StudyError
from ..spec.stopping import Stopping, StopTarget
from .plan import Job, Task, plan_tasks
from .state import ENDED, MAXIMUM, MET, NONE
from .store import Store, StoredCondition
from .summarise import Known, Summaries

__all__ = ["Deciding", "Verdict", "half_width", "judge", "precision", "stop_key"]

Counts: TypeAlias = NDArray[np.float64]


def half_width(successes: Any, n: Any) -> Any:
    """Half the width of Wilson's 95 % interval over 1.96, of counts of any shape; nan where n = 0."""
    lower, upper = wilson(successes, n)
    return (upper - lower) / (2 * Z)


def precision(measured: Measured) -> float:
    """What a target is compared with: of shares `half_width`, of other measures their MCSE; nan where undetermined."""
    share = math.isfinite(measured.successes)
    return float(half_width(measured.successes, measured.n)) if share else measured.mcse


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look says: whether the condition stops, and why. found: of each target the worst precision, and whose it is."""

    stops: bool
    reason: str
    found: tuple[tuple[StopTarget, float, str] | None, ...]


def judge(rule: Stopping, rows: Sequence[MeasureRow], n: int, ended: Sequence[str] = ()) -> Verdict:
    """Decide from the measures of the first n replicates of a condition; ended: labels of methods that are asked nothing more."""
    found = tuple(_worst(target, rows, ended) for target in rule.targets)
    unmet = [item for item in found if item is not None and not item[1] <= item[0].mcse]
    if not unmet:
        told = [f"{target.name} {_short(value)} by {label}" for target, value, label in filter(None, found)]
        reason = MET if told else ENDED if ended else NONE
        told += [f"{label} ended early" for label in ended]
        return Verdict(True, f"{reason}: {'; '.join(told) or 'what is asked for does not exist here'}", found)
    told = [f"{target.name} {_short(value)} by {label}, target {target.mcse:g}" for target, value, label in unmet]
    return Verdict(n >= rule.most, f"{MAXIMUM}: {'; '.join(told)}", found)


def _worst(
    target: StopTarget, rows: Sequence[MeasureRow], ended: Sequence[str]
) -> tuple[StopTarget, float, str] | None:
    """The largest precision of a target over its methods, one that is undetermined before all; None where no method has it."""
    own = [(precision(row.measured), row.method) for row in _own(target, rows) if row.method not in ended]
    if not own:
        return None
    value, label = max(own, key=lambda item: math.inf if math.isnan(item[0]) else item[0])
    return target, value, label


def _own(target: StopTarget, rows: Sequence[MeasureRow]) -> list[MeasureRow]:
    """The rows that a target is about, one a method that has it."""
    wanted = (target.estimand, target.measure, default_subset(target.estimand))
    return [
        row
        for row in rows
        if (row.estimand, row.measured.measure, row.subset) == wanted
        and (not target.methods or row.method in target.methods)
    ]


def _short(value: float) -> str:
    return "undetermined" if math.isnan(value) else f"{value:.3g}"


def stop_key(rule: Stopping, methods: Sequence[Method], mcse: str) -> str:
    """A digest of all that decides where a condition stops, but its data: a decision stored under another is made again."""
    judged = []
    for method in methods:  # its results, what they are called, and how they are judged
        tests = [[c.name, c.null, c.alternative, c.equivalence] for c in method.contrasts]
        judged.append([method.name, result_key("", method), method.alpha, tests, method.max_failed])
    parts = [rule.entry(), judged, mcse, DEFAULT_SUBSET]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Deciding:
    """A run of a study whose conditions stop by a rule: `for tasks in rounds(): do them`, `look` after each condition's last.

    rows: of conditions.parquet, `replications` being the most where nothing is decided yet; they are up to date after each round.
    A round has the next look of every condition that is not decided, so that all workers are busy.
    """

    def __init__(
        self, store: Store, rule: Stopping, rows: Sequence[StoredCondition], jobs: Sequence[Job], methods: Sequence[Method],
        mcse: str,
    ) -> None:  # fmt: skip
        self.known: Known = {}
        self._store, self._rule, self._methods, self._key = store, rule, methods, stop_key(rule, methods, mcse)
        self._summaries = Summaries(store, rows, methods, mcse, self.known)
        self._rows = {row.number: row for row in rows}
        self._jobs = [job for job in jobs if not self._rows[job.number].stopped]
        self._decided = [job for job in jobs if self._rows[job.number].stopped]
        self._looks = {job.number: list(rule.looks(job.condition.block_size)) for job in self._jobs}
        self._by_number = {job.number: job for job in self._jobs}
        self._has: dict[str, set[str]] = {}
        self._exist: set[StopTarget] = set()

    @property
    def rows(self) -> list[StoredCondition]:
        """The conditions as decided so far."""
        return list(self._rows.values())

    def rounds(self) -> Iterator[list[Task]]:
        """What is missing, round by round. StudyError after the first look if a target exists in no condition."""
        rest = list(plan_tasks(self._store, self._decided, self._methods))  # parts that were removed since
        while tasks := [*rest, *(task for job in self._jobs for task in self._next(job))]:
            rest = []
            yield tasks
            self._check_targets()
        self._check_targets()

    def _next(self, job: Job) -> list[Task]:
        """The tasks of a condition's next look; what is stored already is looked at here."""
        while not self._rows[job.number].stopped:
            asked = replace(job, replications=self._looks[job.number][0])
            if tasks := list(plan_tasks(self._store, [asked], self._methods)):
                return tasks
            self.look(job.number)
        return []

    def look(self, number: int) -> bool:
        """Decide about a condition all of whose replicates up to its next look are stored: whether it stops."""
        if self._rows[number].stopped:
            return True
        n = self._looks[number].pop(0)
        row = replace(self._rows[number], replications=n)
        rows = self._summaries.measured(row)
        every = replace(self._by_number[number], replications=n).series(self._store, self._methods)
        ended = [label for series in every if series.end is not None for label in series.method.labels]
        verdict = judge(self._rule, rows, n, ended)
        self._exist.update(target for target in self._rule.targets if _own(target, rows))
        for measured in rows:
            self._has.setdefault(measured.estimand, set()).add(measured.measured.measure)
        if verdict.stops:
            self._rows[number] = replace(row, stopped=verdict.reason, stop_key=self._key)
        else:
            self.known.pop((row.data_key, n), None)
        return verdict.stops

    def _check_targets(self) -> None:
        """StudyError for a target that no method has in any condition; those decided before have been checked."""
        for target in () if self._decided else self._rule.targets:
            if target not in self._exist:
                by = f" by {' or '.join(target.methods)}" if target.methods else ""
                has = sorted(self._has.get(target.estimand, ()))
                raise StudyError(
                    [f"replications.measure = \"{target.measure}\": no condition has a {target.name}{by}; "
                     + (f"of {target.estimand or 'a method'} there are {', '.join(has)}; " if has else "")
                     + "choose another measure, estimand or method"]
                )  # fmt: skip
