"""`replications` as a rule: a condition is simulated until its targets are met, or the most that it may have is reached.

    replications = { target_mcse = 0.005, measure = "power", estimand = "x", min = 1000, max = 100000 }

It is looked after n_1 < n_2 < ... replicates, which min, max and the block size fix in advance: n_1 is min, each next one GROWTH
times the last, in whole blocks; the last is max. What is measured and what decides stands in `run.stopping`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .estimand import Estimand, find_estimand
from .estimands import study_estimands
from .inference import tested_estimand
from .measures import MEASURES, WHOLE
from .model import INTERCEPT, Condition, Method
from .problems import Problems, nearest
from .tables import TargetTable

__all__ = [
    "DEFAULT_LEAST",
    "DEFAULT_MOST",
    "GROWTH",
    "StopTarget",
    "Stopping",
    "most_replications",
    "read_stopping",
]  # fmt: skip

#: Of a condition, where the rule does not say.
DEFAULT_LEAST, DEFAULT_MOST = 1000, 100_000
#: A look comes after so many times the replicates of the one before: 1.5 needs 1.23 times the replicates of looking after each.
GROWTH = 1.5
#: A share has an MCSE below this after the fewest replicates, whatever it is.
TRIVIAL = 0.05


@dataclass(frozen=True, slots=True)
class StopTarget:
    """The MCSE that a measure of an estimand ("" for a method as a whole) is to reach, by each of some methods.

    methods: labels as in the summary, () for all that have the estimand. mcse: of shares half the width of Wilson's 95 % interval
    over 1.96, which is not 0 where none or all are hits.
    """

    measure: str
    mcse: float
    estimand: str = ""
    methods: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The measure and whose it is: "power of x"."""
        return f"{self.measure} of {self.estimand}" if self.estimand else self.measure

    @property
    def text(self) -> str:
        """What is wanted: "power of x 0.005 by reml"."""
        by = f" by {' and '.join(self.methods)}" if self.methods else ""
        return f"{self.name} {self.mcse:g}{by}"


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a condition has enough replicates: all targets are met after `least` or more, or it has `most`."""

    targets: tuple[StopTarget, ...]
    least: int
    most: int

    def looks(self, block_size: int) -> tuple[int, ...]:
        """After how many replicates it is looked: in whole blocks, the last one being `most`.

        >>> Stopping((), 1000, 6000).looks(256)
        (1024, 1536, 2304, 3584, 5376, 6000)
        """
        found, n = [], self.least
        while (n := -(-n // block_size) * block_size) < self.most:
            found.append(n)
            n = max(n + 1, int(n * GROWTH))
        return (*found, self.most)

    @property
    def text(self) -> str:
        """The rule for people."""
        wanted = ", ".join(target.text for target in self.targets)
        return (
            f"batches were added to each condition until the MCSE was at most: {wanted} (of shares the Wilson interval's "
            f"half-width / 1.96), from {self.least:,} to {self.most:,} replications"
        )

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the rule."""
        return asdict(self)


def read_stopping(
    asked: int | TargetTable | Sequence[TargetTable], conditions: Sequence[Condition], methods: Sequence[Method],
    problems: Problems,
) -> Stopping | None:  # fmt: skip
    """The rule that a study's `replications` is; None for a number, and where it is wrong, which is told to `problems`."""
    if isinstance(asked, int):
        return None
    several = not isinstance(asked, TargetTable)
    tables = [asked] if isinstance(asked, TargetTable) else list(asked)
    keys = [f"replications.{k}" if several else "replications" for k in range(1, len(tables) + 1)]
    listed, before = study_estimands(conditions[0].truth.formula, methods), len(problems)
    targets = [_target(table, key, methods, listed, problems) for table, key in zip(tables, keys, strict=True)]
    least = _common("min", DEFAULT_LEAST, tables, keys, problems)
    most = _common("max", DEFAULT_MOST, tables, keys, problems)
    if least > most:
        given = next(((key, "min") for t, key in zip(tables, keys, strict=True) if t.min is not None), None)
        if given is not None:
            problems.add_value(
                f"{given[0]}.min", least, f"must be at most max, {_stated(most, tables, 'max')}; lower it, or raise max"
            )
        else:
            key = next(key for t, key in zip(tables, keys, strict=True) if t.max is not None)
            problems.add_value(
                f"{key}.max", most, f"must be at least min, {_stated(least, tables, 'min')}; raise it, or lower min"
            )
    return Stopping(tuple(targets), least, most) if len(problems) == before else None


def most_replications(asked: int | TargetTable | Sequence[TargetTable]) -> int:
    """The most replications of a condition, whatever else a rule says."""
    if isinstance(asked, int):
        return asked
    tables = [asked] if isinstance(asked, TargetTable) else asked
    return next((table.max for table in tables if table.max is not None), DEFAULT_MOST)


def _tested(methods: Sequence[Method], known: Mapping[str, Estimand]) -> list[str]:
    """What the methods test: fixed effects, contrasts, and a likelihood ratio test's own."""
    found = [name for m in methods for name in (*m.formula.fixed, *(contrast.name for contrast in m.contrasts))]
    found += [tested_estimand(method).name for method in methods if method.tests_ratio]
    return list(dict.fromkeys(find_estimand(known, name) or name for name in found))


def _target(
    table: TargetTable, key: str, methods: Sequence[Method], known: Mapping[str, Estimand], problems: Problems
) -> StopTarget:
    if MEASURES[table.measure].share and table.target_mcse >= TRIVIAL:
        problems.add_value(
            f"{key}.target_mcse", table.target_mcse,
            f"must be below {TRIVIAL:g} for {table.measure}, a share from 0 to 1; write half a percentage point as 0.005",
        )  # fmt: skip
    estimand = ""
    if table.measure in WHOLE:
        if table.estimand is not None:
            problems.add_value(
                f"{key}.estimand",
                table.estimand,
                f"{table.measure} is a share of all fits of a method; remove the estimand",
            )
    elif table.estimand is None:
        example = next((name for name in known if name != INTERCEPT), "x")
        problems.add(
            f"{key}.estimand", f'is missing: {table.measure} is that of an estimand; add estimand = "{example}"'
        )
    else:
        found = find_estimand(known, table.estimand)
        if found is None:
            problems.add_value(
                f"{key}.estimand", table.estimand, f"the study has {', '.join(known)}; {nearest(table.estimand, known)}"
            )
        elif MEASURES[table.measure].needs == "test" and found not in (tested := _tested(methods, known)):
            problems.add_value(f"{key}.estimand", found, f"no method tests it; use one of {', '.join(tested)}")
        estimand = found or ""
    return StopTarget(table.measure, table.target_mcse, estimand, _labels(table.method, key, methods, problems))


def _labels(name: str | None, key: str, methods: Sequence[Method], problems: Problems) -> tuple[str, ...]:
    """What the summary calls a method: by its name all its rules, by "name/rule" one; () where none is named."""
    if name is None:
        return ()
    for method in methods:
        if name == method.name:
            return method.labels
        if name in method.labels:
            return (name,)
    labels = list(dict.fromkeys(label for method in methods for label in (method.name, *method.labels)))
    problems.add_value(f"{key}.method", name, f"the study has {', '.join(labels)}; {nearest(name, labels)}")
    return ()


def _common(word: str, default: int, tables: Sequence[TargetTable], keys: Sequence[str], problems: Problems) -> int:
    """The min or max of a condition, which any of the tables may name: it has one number of replications."""
    given = [
        (value, key) for table, key in zip(tables, keys, strict=True) if (value := getattr(table, word)) is not None
    ]
    for value, key in given[1:]:
        if value != given[0][0]:
            problems.add_value(
                f"{key}.{word}", value,
                f"must be {given[0][0]}, as in {given[0][1]}: a condition has one number of replications; write {word} once",
            )  # fmt: skip
    return given[0][0] if given else default


def _stated(value: int, tables: Sequence[TargetTable], word: str) -> str:
    return f"{value}" if any(getattr(table, word) is not None for table in tables) else f"{value} unless it is given"
