"""Simulates the designs of a search: each is a condition of one results folder, with replications of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..fit.own_code import with_code
from ..measure.decisions import reject_all
from ..measure.measured import MeasureRow
from ..measure.subsets import default_subset
from ..run.runner import run_study
from ..run.store import Store
from ..run.summarise import Known, Summaries
from ..run.sums import no_replicates
from ..simulate.fittable import check_fittable
from ..spec.axes import OUTCOME, is_number, number_axes, number_word, setting
from ..spec.estimands import contrasts_of
from ..spec.family import mean_of
from ..spec.grid import raw_points
from ..spec.identity import data_key
from ..spec.model import INTERCEPT, Condition, Predictor
from ..spec.predictors import distribution_of
from ..spec.predictors.allocation import MOST_TURNS, whole_at
from ..spec.problems import StudyError
from ..spec.stated import UNITS
from ..spec.study import StudyFile
from .counts import DesignCounts, Spread, counts_of, number_of, spread_of
from .crossing import Scale
from .one_axis import Axis
from .question import Question, Trial, Values

__all__ = ["Bench", "as_number"]

#: Largest numbers that are tried unless `between` says more: rows of a cluster or a cell, and others.
MOST_SIZE, MOST = 1000, 2000
#: Rows of the largest design of several grouping factors that is tried unless `between` says more.
MOST_ROWS = 1_000_000


@dataclass
class Bench:
    """Simulates designs: the study's tables, the points of its other axes, and what was asked for and found so far."""

    study: StudyFile
    question: Question
    folder: Path
    jobs: int
    code: Sequence[str] | None = None
    asked: dict[tuple[int, Values], int] = field(default_factory=dict)
    found: dict[tuple[int, Values], Trial] = field(default_factory=dict)
    known: Known = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.study.keep == "summary" and self.question.target.measure == "joint power":
            raise no_replicates(self.folder, "joint power")
        tables = self.study.to_dict() | {"estimand": self.question.target.estimands[0]}
        points = raw_points(tables.pop("grid", {}))
        kept = [{name: v for name, v in point.items() if not self._is_over(name)} for point in points]
        own = zip(kept, self.study.conditions(), strict=True)
        self.tables = tables
        self.points = [point for k, point in enumerate(kept) if point not in kept[:k]]
        self.conditions = [condition for k, (point, condition) in enumerate(own) if point not in kept[:k]]
        order = list(number_axes(self.conditions[0].truth.formula).values())
        order = [name for name in order if name != "rows"] + ["rows"]  # cells are in all, and come last
        several = len(self.question.over) > 1
        self.over = tuple(sorted(self.question.over, key=order.index)) if several else self.question.over
        self._counts: dict[int, DesignCounts] = {}

    def _is_over(self, name: str) -> bool:
        """Whether an axis of the file sets what is searched over, under whatever name."""
        truth = self.study.conditions()[0].truth.formula
        own = {path for axis in self.question.over if (s := setting(axis, truth)) for path in s.paths}
        found = setting(name, truth)
        return found is not None and bool(own & set(found.paths))

    @property
    def replications(self) -> int:
        """Replications of all designs together."""
        return sum(self.asked.values())

    def _study(self, cases: Sequence[tuple[int, Values]], replications: int) -> StudyFile:
        listed = [
            {**self.points[k], **{n: as_number(n, v) for n, v in zip(self.over, values, strict=True)}}
            for k, values in cases
        ]
        try:
            return StudyFile.from_dict({**self.tables, "replications": replications, "grid": {"cases": listed}})
        except StudyError as error:
            case = re.compile(rf"grid\.cases\.[1-9]\.({'|'.join(map(re.escape, self.over))})")
            raise StudyError(case.sub(r"--over \1", line) for line in error.problems) from None

    def design(self, k: int, values: Values) -> Condition:
        """The condition of a point at values of what is searched, simulated or not."""
        return self._study([(k, values)], 1).conditions()[0]

    def axis(self, name: str, between: tuple[float, float] | None, point: Mapping[str, Any]) -> Axis:
        """The axis with its ends, steps and start."""
        whole = is_number(name)
        if between is None:
            between = self._ends(name, point)
        step = self.question.step or (self._step(name) if whole else 0.0)
        low, high = _multiples(name, between, step)
        if whole:
            low = self._least(name, low, high, step, point)
        if whole and len(self.over) == 1:
            high = self._affordable(name, low, high, step, point)
        scale: Scale = "linear"
        target = self.question.target
        if (
            whole
            and target.kind == "proportion"
            and target.measure != "cover"
            and self.spread(point, name).proportional
        ):
            scale = "sqrt"
        elif whole:
            scale = "log"
        axis = Axis(low, high, step, low, scale)
        return replace(axis, start=axis.snap(self._start(name, low, high)))

    def _start(self, name: str, low: float, high: float) -> float:
        conditions = self.study.conditions()
        middle = conditions[len(conditions) // 2]
        if is_number(name):
            number, step = number_of(middle, name), self._step(name)
            return max(2.0, number) if middle.structure is None else step * max(1, round(number / step))
        return low + 0.25 * (high - low) if low >= 0 or high <= 0 else 0.5 * (low + high)

    def counts(self, point: Mapping[str, Any]) -> DesignCounts:
        """What the designs of a point have in all."""
        k = self.points.index(dict(point))
        if k not in self._counts:
            if self.conditions[k].structure is None:
                self._counts[k] = counts_of(self.over, (), lambda _: self.conditions[k])
            else:
                start = [self._start(name, 0.0, 1.0) for name in self.over]
                self._counts[k] = counts_of(self.over, start, lambda values: self.design(k, tuple(values)))
        return self._counts[k]

    def spread(self, point: Mapping[str, Any], name: str = "") -> Spread:
        """How the variance of the target's estimate falls with what is searched; name: with that alone."""
        condition, counts = self.conditions[self.points.index(dict(point))], self.counts(point)
        if name:
            place = self.over.index(name)
            counts = DesignCounts({word: (powers[place],) for word, powers in counts.powers.items()}, counts.factors)
        return spread_of(condition, self.question.target.estimands[0], counts, contrasts_of(self.study.methods()))

    def _ends(self, name: str, point: Mapping[str, Any]) -> tuple[float, float]:
        """What is searched where nobody says between what."""
        if is_number(name):
            return self._number_ends(name, point)
        condition = self.study.conditions()[0]
        least = 0.01 if self.question.target.measure == "relbias" else 0.0  # at a truth of 0 it does not exist
        if name in ("icc", *(f"{OUTCOME}.{key}" for key in ("icc", "r2_within", "r2_between"))):
            return least, 0.95
        if name.startswith("icc."):
            others = [share for other, share in point.items() if other.startswith("icc.") and other != name]
            return least, 0.95 - sum(share for share in others if isinstance(share, float | int))
        if name.startswith("truth.fixed.") and name.endswith(tuple(f".{unit}" for unit in UNITS)):
            return _stated_ends(condition, name, least)
        if name.startswith("truth.fixed."):
            total = condition.truth.residual_variance + float(np.trace(np.array(condition.truth.covariance or [[0.0]])))
            now = dict(zip(condition.truth.formula.fixed, condition.truth.fixed, strict=True))[
                name.removeprefix("truth.fixed.")
            ]
            most = max(3 * math.sqrt(total), 4 * abs(now))
            return (-most, -least * most) if now < 0 else (least * most, most)
        raise StudyError([f"--between: is missing: nestlab does not know the range of {name}; add --between LOW HIGH"])

    def _number_ends(self, name: str, point: Mapping[str, Any]) -> tuple[float, float]:
        condition = self.conditions[self.points.index(dict(point))]
        size = name in ("cluster_size", "rows")
        most = MOST_SIZE if size else MOST
        if condition.structure is not None:
            counts, start = self.counts(point), [self._start(each, 0.0, 1.0) for each in self.over]
            each = float(counts(*start)["rows"]) / start[self.over.index(name)]
            most = max(min(most, int(MOST_ROWS / each)), 2 * int(start[self.over.index(name)]))
        nested = dict(condition.truth.formula.factors).get(number_word(name))
        return 1 if size or nested else 2, most

    def _step(self, name: str) -> float:
        """Multiples for which shares are exact, sequences have equal numbers of clusters and blocks are full."""
        condition = self.study.conditions()[0]
        if condition.structure is not None:
            return self._step_of_factor(name, condition)
        level = 2 if name == "clusters" else 1
        predictors = condition.predictors
        return multiples_for(
            [p for p in predictors if p.level == level],
            in_turn=predictors if name == "clusters" else (),
        )

    def _step_of_factor(self, name: str, condition: Condition) -> float:
        """The multiples of a factor's number for which the levels of every factor that grows with it are as they must be."""
        structure, found = condition.structure, 1
        assert structure is not None
        holders = {each.name: each.within for each in structure.groupings}
        for p in condition.predictors:  # a Latin square is whole where its conditions divide the levels of both factors
            if distribution_of(p).crossed and number_word(name) in p.at.split(":"):
                found = math.lcm(found, len(p.values))
        for at in dict.fromkeys(p.at for p in condition.predictors if not distribution_of(p).crossed):
            above: set[str | None] = set()
            for part in at.split(":") if at else ():
                step: str | None = part
                while step:
                    above.add(step)
                    step = holders[step]
            if number_word(name) not in (above if at else {"rows"}):
                continue
            whole = int(
                multiples_for(own := [p for p in condition.predictors if p.at == at], in_turn=own if at else ())
            )
            each = structure.grouping(at).levels / number_of(condition, name) if at else 1.0
            found = math.lcm(found, whole // math.gcd(whole, int(each)) if each.is_integer() else whole)
        return float(found)

    def _least(self, name: str, low: float, high: float, step: float, point: Mapping[str, Any]) -> float:
        """The smallest value that the study allows; StudyError if that is none of the first 100."""
        refused: StudyError | None = None
        for k in range(100):
            value = low + k * step
            if value > high:
                break
            try:
                values = tuple(value if n == name else self._start(n, *self._ends(n, point)) for n in self.over)
                study = self._study([(self.points.index(dict(point)), values)], 1)
                check_fittable(study.conditions(), study.methods())
            except StudyError as error:
                refused = refused or error
                continue
            return value
        raise refused or StudyError(f"--between: no value of {name} between {low:g} and {high:g} is possible; widen it")

    def price(self, point: Mapping[str, Any], values: Values) -> float | None:
        """What a design costs, the point's own numbers standing for what is not searched; None where no cost is given."""
        cost = self.question.cost
        return None if cost is None else float(cost(**self.counts(point)(*values)))

    def _affordable(self, name: str, low: float, high: float, step: float, point: Mapping[str, Any]) -> float:
        """The largest value within the budget. StudyError if there is none."""
        if not math.isfinite(self.question.budget):
            return high
        values = np.arange(low, high + 0.5 * step, step)
        within = [v for v in values if (self.price(point, (float(v),)) or 0.0) <= self.question.budget]
        if not within:
            raise StudyError(
                [f"--budget {self.question.budget:g}: even {low:g} {number_word(name)} cost more; raise it"]
            )
        return float(max(within))

    def simulate(self, wanted: Mapping[tuple[int, Values], int]) -> dict[tuple[int, Values], Trial]:
        """Run designs, each up to its replications, and read the target's measure off them."""
        for key, n in wanted.items():
            self.asked[key] = max(n, self.asked.get(key, 0))
        cases = sorted(self.asked)
        study = with_code(self._study(cases, max(self.asked.values())), self.code)
        conditions = study.conditions()
        keys = {key: data_key(condition) for key, condition in zip(cases, conditions, strict=True)}
        replications = {keys[key]: self.asked[key] for key in cases}
        run_study(
            study, self.folder, text=study.to_toml(), replications=replications, jobs=self.jobs, known=self.known,
            entries={"solve": {"target": asdict(self.question.target), "over": list(self.over), "solution": None}},
            code=self.code,
        )  # fmt: skip
        store = Store(self.folder)
        rows = {row.data_key: row for row in store.read_conditions() if row.active}
        summaries = Summaries(store, list(rows.values()), study.methods(), study.mcse, self.known)
        trials = {}
        for key in wanted:
            row = rows[keys[key]]
            measured = self.known[(row.data_key, row.replications)]
            joint = self.question.target.measure == "joint power"
            value, mcse, n, missing = self._joint(summaries, row) if joint else self._measured(measured)
            values = dict(zip(self.over, key[1], strict=True))
            trials[key] = Trial(values, value, mcse, n, missing, row.number)
        self.found |= trials
        return trials

    def _measured(self, rows: Sequence[MeasureRow]) -> tuple[float, float, int, int]:
        target = self.question.target
        wanted = (target.method, target.estimands[0], default_subset(target.estimands[0]))
        made = max((row.measured.n for row in rows if (row.method, row.estimand) == (target.method, "")), default=0)
        for row in rows:
            if (row.method, row.estimand, row.subset) == wanted and row.measured.measure == target.measure:
                return row.measured.value, row.measured.mcse, row.measured.n, made - row.measured.n
        measures = {r.measured.measure for r in rows if (r.method, r.estimand) == (target.method, target.estimands[0])}
        has = ", ".join(sorted(measures)) or "no measure"
        raise StudyError(
            f"--estimand {target.estimands[0]}: method {target.method} has no {target.measure} of it; it has {has}"
        )

    def _joint(self, summaries: Summaries, row: Any) -> tuple[float, float, int, int]:
        target = self.question.target
        method = next(m for m in summaries.results(row) if m.name == target.method)
        try:
            decided = reject_all(method, target.estimands)
        except KeyError as missing:
            raise StudyError(
                f"--estimand {missing.args[0]}: method {target.method} has no test of it; remove it, or use another --method"
            ) from None
        n = int(decided.known.sum())
        p = float(decided.rejects.sum()) / n if n else math.nan
        return p, math.sqrt(p * (1 - p) / n) if n else math.nan, n, len(decided.known) - n


def _stated_ends(condition: Condition, name: str, least: float) -> tuple[float, float]:
    """The search's ends of an effect in its unit: d up to 3, a share of variance up to what other terms leave, a ratio up to 20
    or down to 1/20, a difference to nearly where probabilities end, or up to three times the baseline rate."""
    term, _, unit = name.removeprefix("truth.fixed.").rpartition(".")
    now = condition.stated.get(term)
    if unit == "d":
        value = now.value if now is not None and now.kind == "d" else 0.0
        most = max(3.0, 4 * abs(value))
        return (-most, -least * most) if value < 0 else (least * most, most)
    value = now.value if now is not None and now.kind == unit else 1.0
    if unit in ("odds_ratio", "rate_ratio"):
        most = max(20.0, value**4, value**-4)
        return (1 / most, 1 - least) if value < 1 else (1 + least, most)
    if unit == "difference":
        truth = condition.truth
        baseline = float(
            mean_of(truth.formula.family.link, dict(zip(truth.formula.fixed, truth.fixed, strict=True))[INTERCEPT])
        )
        most = 0.99 * baseline if value < 0 else 3 * baseline if truth.formula.family.counts else 0.99 * (1 - baseline)
        return (-most, -least * most) if value < 0 else (least * most, max(most, value))
    others = sum(e.value for t, e in condition.stated.items() if e.kind == "r2" and t != term)
    return least, 0.9 * max(0.1, 1 - others)


def _multiples(name: str, between: tuple[float, float], step: float) -> tuple[float, float]:
    """The ends of an axis as multiples of its step, of counts at least 1. StudyError if there is none between them."""
    low, high = between
    if not step:
        return low, high
    first, last = math.ceil(round(low / step, 9)), math.floor(round(high / step, 9))
    first = max(first, 1) if is_number(name) else first
    if first > last:
        raise StudyError(
            f"--between {low:g} {high:g}: no value of {name} between is a multiple of {step:g}; widen it, or change --step"
        )
    return first * step, last * step


def as_number(name: str, value: float) -> float | int:
    return int(value) if is_number(name) else float(value)


def multiples_for(predictors: Sequence[Predictor], *, in_turn: Sequence[Predictor]) -> float:
    """Multiples of a number of clusters, or of the rows of one, that predictors need; in_turn: those whose sequences and blocks
    take turns."""
    allotted = [p for p in predictors if distribution_of(p).allotted]
    halved = sum(not p.shares and not p.arms for p in allotted)
    rounds = [n for p in in_turn for n in (len(p.sequences), p.blocks) if isinstance(n, int) and 0 < n <= MOST_TURNS]
    return float(math.lcm(2 ** min(halved, 3), *rounds, *(whole_at(p.shares) for p in allotted)))
