"""Reading what a run left: conditions, replicates, measures, and the rows behind any replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..measure.performance import UNAVAILABLE
from ..spec.estimand import Column, Estimand
from ..spec.estimands import as_named, contrasts_of, method_estimands, study_estimands
from ..spec.identity import DRAW_VERSION, data_key
from ..spec.interest import Interest
from ..spec.model import Condition, Contrast
from ..spec.paths import path_line
from ..spec.study import StudyFile
from ..spec.truths import TrueValues
from .differences import Names, compare_methods
from .files import RefusedError
from .folder import no_results, read_as_run, resumed_by, stored_solution
from .observed import Said, count_failures, failures_of, observed_counts, what_was_said
from .series import Series, series_of
from .state import MET, stopping_lines
from .store import Store, StoredCondition
from .summarise import Summaries, derive, derive_truths
from .sums import no_replicates

__all__ = ["StoredResults"]


class StoredResults:
    """What a run left in its folder. Raises RefusedError if the folder holds none, or what it holds was altered."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._store = Store(self.folder)
        if not self._store.exists:
            raise no_results(self.folder)
        self._study, self._rows = read_as_run(self._store)
        self._store.forget_missing()
        self._store.adopt_unlisted()

    def __repr__(self) -> str:
        missing = f", {n:,} fits missing" if (n := self.missing()) else ""
        return f"<Results in {self.folder}: {len(self._active()):,} conditions x {self.replications:,} replications{missing}>"

    @property
    def study(self) -> StudyFile:
        """The study file as run."""
        return self._study

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: software, machine, seed, methods, parts with their checksums."""
        return self._store.manifest

    @property
    def solution(self) -> Mapping[str, Any]:
        """What the manifest says of a search for a design; empty without one.

        RefusedError where solve.json says something else.
        """
        if (self.folder / "solve.json").exists():
            stored_solution(self._store)
        found = self._store.manifest.get("solve")
        return found if isinstance(found, Mapping) else {}

    @property
    def replications(self) -> int:
        """Replications per condition that were asked for; where conditions differ, the most."""
        return self.asked[1]

    @property
    def asked(self) -> tuple[int, int]:
        """The least and the most replications of a condition that were asked for."""
        numbers = [row.replications for row in self._active()]
        return min(numbers), max(numbers)

    @property
    def factors(self) -> list[str]:
        """The names of the grid's axes, in their order."""
        return list(dict.fromkeys(name for row in self._active() for name in row.factors))

    @property
    def estimands(self) -> dict[str, Estimand]:
        """What each name in the summary stands for."""
        return study_estimands(self._study.conditions()[0].truth.formula, self._study.methods())

    @property
    def interest(self) -> Interest:
        """Which estimand is shown where nobody names one."""
        return self._study.interest

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The contrasts of all methods."""
        return contrasts_of(self._study.methods())

    @property
    def path_line(self) -> str:
        """How its data were drawn, in a sentence: see `spec.paths`."""
        return path_line(self._study.conditions())

    def observed(self) -> pd.DataFrame:
        """Rows and clusters analysed, a row a condition; empty where all replicates of the study have the same.

        Columns: `condition`, `n` replicates, `rows` and `clusters` (means), each with `_mcse`, `_min` and `_max`.
        """
        uneven = any(condition.uneven for condition in self._study.conditions())
        return observed_counts(self._store, self._active() if uneven else [], self._study.methods())

    def missing(self) -> int:
        """Fits that were asked for and are not stored; 0 when the run is complete."""
        return sum(series.missing for series in series_of(self._store, self._rows, self._study.methods()))

    @property
    def incomplete(self) -> str:
        """Say how many fits are missing and what computes them; "" for a complete run."""
        missing = self.missing()
        return (
            f"incomplete: {missing:,} fits are missing; {resumed_by(self.manifest)} goes on from here"
            if missing
            else ""
        )

    def stopping(self) -> pd.DataFrame:
        """Which condition stopped where and why, a row a condition; empty where `replications` is a number.

        Columns: `condition`, the factors, `replications`, `met` (all targets; missing where it is not decided yet) and `reason`.
        """
        if "stopping" not in self._store.manifest:
            return pd.DataFrame()
        rows = [
            {
                "condition": r.number,
                **r.factors,
                "replications": r.replications,
                "met": r.stopped.startswith(f"{MET}:") if r.stopped else None,
                "reason": r.stopped,
            }
            for r in self._active()
        ]
        return pd.DataFrame(rows).astype({"met": "boolean"})

    def stopping_lines(self) -> list[str]:
        """The same in a few lines for people."""
        return stopping_lines(self._active()) if "stopping" in self._store.manifest else []

    def conditions(self) -> pd.DataFrame:
        """The active conditions: number, factors and true values.

        `true.<estimand>` is what the truth has; `true.<estimand>/<method>` what a method that centres predictors otherwise has in
        its own terms (`truths` says which), missing where it is not known.
        """
        rows = [
            {
                "condition": r.number,
                **r.factors,
                **{Column("true", name).name: value for name, value in r.truths.shared.items()},
                **{Column("true", e, m).name: value for m, own in r.truths.own.items() for e, value in own.items()},
            }
            for r in self._active()
        ]
        return pd.DataFrame(rows)

    def truths(self) -> pd.DataFrame:
        """The true value of each estimand of each method, one row per active condition, method and estimand.

        Columns: `condition`, `method`, `estimand`, `value` (missing where it is undefined or unknown), `meaning` (what the
        estimand is in the truth's parameters, where its name says something else: "z + 3 x:z"), `unknown` (why there is none).
        """
        known, rows = self.estimands, list[tuple[Any, ...]]()
        for method in self._study.methods():
            names = method_estimands(method, known)
            for row in self._active():
                values = row.truths.of(method.name)
                meaning, unknown = (told.get(method.name, {}) for told in (row.truths.meanings, row.truths.unknown))
                told = [(values[name], meaning.get(name, ""), unknown.get(name, "")) for name in names]
                rows += [(row.number, method.name, name, *each) for name, each in zip(names, told, strict=True)]
        rows.sort(key=lambda row: int(row[0]))
        return pd.DataFrame(rows, columns=["condition", "method", "estimand", "value", "meaning", "unknown"])

    def true_values(self, condition: int) -> TrueValues:
        """The true values of a condition by its number. KeyError for one that is not active."""
        return {row.number: row.truths for row in self._active()}[condition]

    def summary(self) -> pd.DataFrame:
        """The tidy table of measures: a row per condition x method x estimand x measure x subset (see results/README.md).

        Computed from what is stored if the run is not complete. RefusedError where a part is of another size than
        the one that was written: the table would stand for replicates that are not there.
        """
        if resized := self._store.resized():
            raise RefusedError(self._store.altered(resized))
        if self.missing() or not self._store.has_summary():
            methods, mcse = self._study.methods(), self._study.mcse
            return Summaries(self._store, self._rows, methods, mcse).table()
        return self._store.read_summary()

    @property
    def keeps(self) -> str:
        """ "replicates", or "summary" where sums of them are kept, out of which no replicate can be taken."""
        return self._store.keeps

    @property
    def alphas(self) -> dict[str, float]:
        """The level of the tests and intervals of each method, by what the summary calls it."""
        return {label: method.alpha for method in self._study.methods() for label in method.labels}

    @property
    def unavailable(self) -> Mapping[str, str]:
        """Measures that can't be told from what is kept, and why."""
        return UNAVAILABLE if self.keeps == "summary" else {}

    def require(self, what: str) -> None:
        """StudyError where replicates are not kept. what: which needs them."""
        if self.keeps == "summary":
            raise no_replicates(self.folder, what)

    def compare(
        self,
        reference: str | None = None,
        measure: Names = None,
        estimand: Names = None,
        *,
        method: Names = None,
    ) -> pd.DataFrame:
        """Each method's measures less those of a reference, on the replicates where both converged; MCSEs use the pairing.

        reference: a method as the summary names it ("reml", "reml/z"), the first if None. measure, estimand, method: one or
        several, all if None; without a measure but with an estimand those of methods as a whole are left out. A row a condition x
        method x estimand x measure: `difference`, `mcse`, 95 % limits `lower` and `upper` (of shares Tango's, which inform where
        the MCSE is 0), `n` replicates, `missing` ones; the other columns stand in results/README.md, the reference's name in
        `attrs`. Raises StudyError for names that do not exist, where there is one method, and where sums are kept.
        """
        self.require("compare")
        known = [str(name) for name in self.summary()["estimand"].unique()] if estimand is not None else []
        return compare_methods(
            self._store, self._active(), self._study.methods(), reference=reference, measure=measure, estimand=estimand,
            method=method, known=known,
        )  # fmt: skip

    def replicates(self, condition: int | None = None, method: str | None = None) -> pd.DataFrame:
        """Replicate rows with the factors' values and derived estimands (sd, cor, icc).

        Where an axis of the grid is called `clusters`, that is the column, and the number observed is `observed.clusters`.

        condition: a condition's number, or all; method: a method's name, or all. KeyError for one that does not exist,
        StudyError where sums are kept.
        """
        self.require("replicates")
        rows = [r for r in self._active() if condition is None or r.number == condition]
        methods = [m for m in self._study.methods() if method is None or m.name == method]
        if not rows:
            raise KeyError(f"condition {condition}: the study has {', '.join(str(r.number) for r in self._active())}")
        if not methods:
            raise KeyError(f"method {method!r}: the study has {', '.join(m.name for m in self._study.methods())}")
        frames = [self._frame(row, series) for row in rows for series in series_of(self._store, [row], methods)]
        return pd.concat([f for f in frames if not f.empty] or frames[:1], ignore_index=True)

    def failures(self) -> pd.DataFrame:
        """The replicates whose fit did not converge or failed: condition, method, replicate, status, message.

        The message is that of a method of one's own or a GEE, None by other methods. `data(condition, replicate)` gives the rows
        of any of them. StudyError where sums are kept: `count_failures` tells the first of each status.
        """
        self.require("failures")
        return failures_of(self._store, self._active(), self._study.methods())

    def count_failures(self) -> pd.DataFrame:
        """How many replicates failed, by condition, method and status, of n, with the first of each (see `nestlab failures`)."""
        return count_failures(self._store, self._active(), self._study.methods())

    def said(self) -> list[Said]:
        """Messages and warnings of each method of one's own and each GEE, over all conditions; none where sums are kept."""
        if self.keeps == "summary":
            return []
        return list(what_was_said(self._store, self._active(), self._study.methods()))

    def priors(self) -> dict[str, list[str]]:
        """What was drawn from priors, with those of all active conditions: {"icc": ["beta(0.1, 0.05)"]}."""
        found: dict[str, dict[str, None]] = {}
        for row in self._active():
            for name, value in row.spec.items():
                if name.startswith("prior.") and isinstance(value, str):
                    found.setdefault(name.removeprefix("prior."), {})[value] = None
        return {name: list(texts) for name, texts in found.items()}

    def stated(self) -> dict[str, list[str]]:
        """Fixed effects given in standard units, and the coefficients that they became in the active conditions.

        By term: {"x": ["0.3162 to 0.3354 (d = 0.3 by total variance)"]}.
        """
        found: dict[str, dict[str, list[float]]] = {}
        for row in self._active():
            for term, text in row.stated.items():
                if isinstance(text, str):
                    found.setdefault(term, {}).setdefault(text, []).append(row.truth[term])
        return {term: [f"{_ends(values)} ({text})" for text, values in texts.items()] for term, texts in found.items()}

    def number(self, condition: Condition) -> int | None:
        """The number under which a condition is stored; None if it is not."""
        key = data_key(condition)
        return next((row.number for row in self._rows if row.data_key == key), None)

    def data(self, condition: int, replicate: int, *, truth: bool = False) -> pd.DataFrame:
        """The rows of one replicate by its condition's number. KeyError for a number that is not active.

        replicate, truth: as in `Study.data`.
        """
        keys = {row.number: row.data_key for row in self._active()}
        if condition not in keys:
            raise KeyError(f"condition {condition}: the study has {', '.join(map(str, keys))}")
        found = next((c for c in self._study.conditions() if data_key(c) == keys[condition]), None)
        if found is None:
            drawn = self._store.manifest.get("draw_version")
            raise RefusedError(
                f"condition {condition} was drawn by draw version {drawn}, this nestlab draws by {DRAW_VERSION}; its rows can't "
                "be made again, what is stored of it stands"
            )
        from .block import compile_condition  # brings the compiler

        return compile_condition(found, self._study.methods()).frame(replicate, truth=truth)

    def _frame(self, row: StoredCondition, series: Series) -> pd.DataFrame:
        frame = series.frame()
        if frame.empty:
            return frame
        method, known = series.method, self.estimands
        columns = as_named({str(name): frame[name] for name in frame.columns}, method, row.estimands([method]), known)
        frame = pd.DataFrame(columns)
        estimates = {name: frame[name].to_numpy() for name in Column.of(columns, "estimate")}
        truths = {name: frame[name].to_numpy() for name in ["replicate", *Column.of(columns, "true")]}
        added = derive(estimates, known.values()) | derive_truths(truths, row.truths.of(method.name), known)
        frame = frame.assign(**added, method=method.name)
        frame = frame.rename(columns={name: f"observed.{name}" for name in row.factors if name in frame.columns})
        for position, (name, value) in enumerate(row.factors.items(), start=1):
            frame.insert(position, name, value)
        return frame

    def _active(self) -> list[StoredCondition]:
        return [row for row in self._rows if row.active]


def _ends(values: Sequence[float]) -> str:
    """The least and the greatest value, "0.3162 to 0.3354"; one number where they print alike."""
    low, high = (f"{value:.4g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
