"""The Python interface: `Study.from_toml(path).run()` gives `Results`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..run.block import compile_condition
from ..run.runner import RunReport, run_study
from ..run.store import RefusedError, Store, StoredCondition, missing_ranges
from ..run.summarise import Summaries, derive, derive_truths
from ..run.workers import Progress
from ..spec.identity import data_key, result_key
from ..spec.model import Condition, Method
from ..spec.reading import read_toml
from ..spec.study import StudyFile
from .ready_made import ready_made_path

if TYPE_CHECKING:
    from ..run.solve import Solved
    from .plots.accessor import Plots

__all__ = ["Results", "Study"]


class Study:
    """A study: its conditions and methods, and the way to run it.

    Made by `from_toml` or `from_dict`; file: the study as checked, text: as a study file has it.

    >>> study = Study.from_dict({
    ...     "name": "two-arms", "seed": 1, "replications": 100,
    ...     "design": {"clusters": 10, "cluster_size": 5},
    ...     "truth": {"formula": "y ~ arm + (1 | school)", "fixed": {"Intercept": 0, "arm": 0.5},
    ...               "residual_variance": 1, "random": {"school": {"variance": {"Intercept": 0.2}}}},
    ...     "predictors": {"arm": {"level": 2, "distribution": "balanced"}},
    ... })
    >>> len(study.conditions), study.methods[0].name
    (1, 'reml')
    >>> summary = study.run(out="results/two-arms").summary()
    >>> summary.query("measure == 'power' and subset == 'all'")[["estimand", "n"]].values.tolist()
    [['Intercept', 100], ['arm', 100]]
    """

    def __init__(self, file: StudyFile, text: str) -> None:
        self.file = file
        self.text = text

    @classmethod
    def from_toml(cls, path: str | Path, *, seed: int | None = None, replications: int | None = None) -> Study:
        """Read the study file at path; `seed` and `replications` replace the file's. Raises StudyError with all that is wrong."""
        tables = read_toml(path)
        text = Path(path).read_text(encoding="utf-8-sig")
        changes = {"seed": seed, "replications": replications}
        for key, value in changes.items():
            if value is not None:
                text = _with_value(text, key, value)
        return cls(StudyFile.from_dict(tables, **changes), text)

    @classmethod
    def ready_made(cls, name: str, *, seed: int | None = None, replications: int | None = None) -> Study:
        """Read a study that comes with nestlab, by its name (`nestlab studies` lists them).

        seed and replications replace the file's. StudyError for another name.
        """
        return cls.from_toml(ready_made_path(name), seed=seed, replications=replications)

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Study:
        """Make a study from tables as a study file holds them. Raises StudyError with all that is wrong."""
        file = StudyFile.from_dict(tables)
        return cls(file, file.to_toml())

    def __repr__(self) -> str:
        return (
            f"<Study {self.name}: {len(self.conditions):,} conditions x {self.file.replications:,} replications, "
            f"methods {', '.join(m.name for m in self.methods)}>"
        )

    @property
    def name(self) -> str:
        """The study's name, which is that of its folder in results/ too."""
        return self.file.name

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The points of the grid."""
        return self.file.conditions()

    @property
    def methods(self) -> tuple[Method, ...]:
        """The ways to analyse, in the order of the file."""
        return self.file.methods()

    def run(
        self,
        *,
        replications: int | None = None,
        out: str | Path | None = None,
        jobs: int = -1,
        progress: Progress | None = None,
    ) -> Results:
        """Run what is missing and return the results.

        replications: per condition, instead of the study's; out: folder, instead of results/<name>; jobs: threads, -1 for all
        cores; progress: told what goes on (`run.workers.Progress`). Raises RefusedError where stored results do not fit the
        study, ValueError for fewer than 1 replication.
        """
        return self.execute(replications=replications, out=out, jobs=jobs, progress=progress)[0]

    def execute(
        self,
        *,
        replications: int | None = None,
        out: str | Path | None = None,
        jobs: int = -1,
        progress: Progress | None = None,
    ) -> tuple[Results, RunReport]:
        """The same as `run`, with the report of what was done: fits made, fits found stored, seconds.

        replications, out, jobs, progress: see `run`.
        """
        wanted = self.file.replications if replications is None else replications
        text = self.text if replications is None else _with_value(self.text, "replications", wanted)
        if wanted < 1:
            raise ValueError(f"replications = {wanted}: must be 1 or more")
        folder = Path(out) if out is not None else Path("results") / self.name
        report = run_study(self.file, folder, text=text, replications=wanted, jobs=jobs, progress=progress)
        return Results(folder), report

    def solve(
        self,
        *,
        over: str | Sequence[str],
        estimand: str | Sequence[str] = (),
        power: float | None = None,
        joint_power: float | None = None,
        width: float | None = None,
        coverage: float | None = None,
        bias: float | None = None,
        relbias: float | None = None,
        method: str | None = None,
        between: Sequence[tuple[float, float] | None] = (),
        cost: str | None = None,
        budget: float | None = None,
        precision: float = 0.02,
        max_replications: int = 200_000,
        step: float | None = None,
        out: str | Path | None = None,
        jobs: int = -1,
    ) -> Solved:
        """The smallest design that reaches a target, with a 95 % interval; see `nestlab solve`.

        over: "clusters", "cluster_size", "effect" (the smallest that is detected), "icc" (the largest that does no harm), a
        dotted path, or both of the first two at the least cost. One target: power, joint_power (all estimands rejected) or
        coverage, to be reached, or width of the interval, bias or relbias (percent), in size, not to be exceeded. estimand:
        whose; method: by which, the first if None. between: ends for each axis. cost: a formula such as "300*clusters +
        20*clusters*cluster_size"; budget: the most it may be. precision: the interval's width that is enough, relative to the
        answer; max_replications: of any design; step: only multiples of it. out: folder of the designs tried, instead of
        results/<name>-over-<axis>; jobs: threads, -1 for all cores. The result's `solutions` hold values, intervals, reached
        and tried, one for each point of the other axes. Raises StudyError for what the study does not have.
        """
        from .solve_command import Options, solve_study

        def several(names: str | Sequence[str]) -> list[str]:
            return [names] if isinstance(names, str) else list(names)

        targets = {
            "power": power, "joint_power": joint_power, "width": width, "coverage": coverage, "bias": bias, "relbias": relbias,
        }  # fmt: skip
        options = Options(
            targets,
            several(estimand),
            method,
            several(over),
            tuple(between),
            cost,
            budget,
            precision,
            max_replications,
            step,
        )
        return solve_study(self.file, options, out=None if out is None else Path(out), jobs=jobs)

    def data(self, condition: int, replicate: int, *, truth: bool = False) -> pd.DataFrame:
        """The rows of one replicate, exactly those behind its stored fit.

        condition: position in `conditions`, 0 or more; replicate: 0 or more. Columns: the cluster (1, 2, ...), the predictors and
        the response under the study's names; truth adds the random effects "u:<column>", the errors "e" and, with priors, the
        replicate's own true values "true.<estimand>". IndexError for a condition or replicate that cannot exist.
        """
        if not 0 <= condition < len(self.conditions):
            raise IndexError(f"condition = {condition}: the study has conditions 0 to {len(self.conditions) - 1}")
        if replicate < 0:
            raise IndexError(f"replicate = {replicate}: must be 0 or more")
        return compile_condition(self.conditions[condition], self.methods).frame(replicate, truth=truth)


class Results:
    """What a run left in its folder. Raises RefusedError if the folder holds none, or what it holds was altered.

    >>> study = Study.from_dict({
    ...     "name": "one-mean", "seed": 1, "replications": 50, "design": {"clusters": 10, "cluster_size": 5},
    ...     "truth": {"formula": "y ~ 1 + (1 | school)", "fixed": {"Intercept": 0}, "residual_variance": 1,
    ...               "random": {"school": {"variance": {"Intercept": 0.2}}}},
    ... })
    >>> results = study.run(out="results/one-mean")
    >>> results.missing(), len(results.replicates(condition=0))
    (0, 50)
    >>> results.conditions()[["condition", "true.icc"]].round(3).values.tolist()
    [[0.0, 0.167]]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._store = Store(self.folder)
        if not self._store.exists:
            named = Path("results") / self.folder
            repair = f'did you mean "{named}"?' if Store(named).exists else "run the study first: nestlab run STUDY"
            raise RefusedError(f"{self.folder} holds no results (no manifest.json); {repair}")
        self._study = StudyFile.from_toml(self.folder / "study.toml")
        self._rows = self._store.read_conditions()
        self._store.forget_missing()
        self._store.adopt_unlisted()

    def __repr__(self) -> str:
        missing = f", {n:,} fits missing" if (n := self.missing()) else ""
        return f"<Results in {self.folder}: {len(self._active()):,} conditions x {self.replications:,} replications{missing}>"

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: software, machine, seed, methods, parts with their checksums."""
        return self._store.manifest

    @property
    def replications(self) -> int:
        """Replications per condition that were asked for; where conditions differ, the most."""
        return int(self._store.manifest["replications"])

    @property
    def factors(self) -> list[str]:
        """The names of the grid's axes, in their order."""
        return list(dict.fromkeys(name for row in self._active() for name in row.factors))

    def missing(self) -> int:
        """Fits that were asked for and are not stored; 0 when the run is complete."""
        total = 0
        for row in self._active():
            for method in self._study.methods():
                covered = self._store.covered(row.number, result_key(row.data_key, method))
                total += sum(last - first for first, last in missing_ranges(covered, row.replications))
        return total

    def conditions(self) -> pd.DataFrame:
        """The active conditions: number, factors and true values."""
        rows = [
            {"condition": r.number, **r.factors, **{f"true.{k}": v for k, v in r.truth.items()}} for r in self._active()
        ]
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """The tidy table of measures: a row per condition x method x estimand x measure x subset (see results/README.md).

        Computed from what is stored if the run is not complete.
        """
        if self.missing() or not (self.folder / "summary.parquet").exists():
            methods, mcse = self._study.methods(), self._study.mcse
            return Summaries(self._store, self._rows, methods, mcse).table()
        return self._store.read_summary()

    def replicates(self, condition: int | None = None, method: str | None = None) -> pd.DataFrame:
        """Replicate rows with the factors' values and derived estimands (sd, cor, icc).

        condition: a condition's number, or all; method: a method's name, or all. KeyError for one that does not exist.
        """
        rows = [r for r in self._active() if condition is None or r.number == condition]
        methods = [m for m in self._study.methods() if method is None or m.name == method]
        if not rows:
            raise KeyError(f"condition {condition}: the study has {', '.join(str(r.number) for r in self._active())}")
        if not methods:
            raise KeyError(f"method {method!r}: the study has {', '.join(m.name for m in self._study.methods())}")
        frames = [self._frame(row, m) for row in rows for m in methods]
        return pd.concat([f for f in frames if not f.empty] or frames[:1], ignore_index=True)

    def priors(self) -> dict[str, list[str]]:
        """What was drawn from priors, with those of all active conditions: {"icc": ["beta(0.1, 0.05)"]}."""
        found: dict[str, dict[str, None]] = {}
        for row in self._active():
            for name, value in row.spec.items():
                if name.startswith("prior.") and isinstance(value, str):
                    found.setdefault(name.removeprefix("prior."), {})[value] = None
        return {name: list(texts) for name, texts in found.items()}

    @property
    def plot(self) -> Plots:
        """Pictures: `results.plot.power(x="clusters")`; see `nestlab.show.plots`."""
        from .plots.accessor import Plots

        return Plots(self)

    def table(
        self,
        measure: str | None = None,
        *,
        rows: str | Sequence[str] = (),
        columns: str | Sequence[str] = (),
        estimand: str | None = None,
        method: str | None = None,
        subset: str = "all",
    ) -> pd.DataFrame:
        """One measure (power) as journals print it, "0.812 (0.006)": text by factors, or "method", on rows and columns.

        measure, estimand, method, subset: as in the summary. rows, columns: names of factors; those that vary and are not named
        stand on the rows. The caption is in `attrs`. Raises StudyError for what does not exist. `nestlab table` writes the same
        as Markdown, LaTeX and CSV.
        """
        from .tables import make_table, to_frame

        down, across = ([names] if isinstance(names, str) else list(names) for names in (rows, columns))
        made = make_table(self, measure, rows=down, columns=across, estimand=estimand, method=method, subset=subset)
        return to_frame(made)

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
        found = next(c for c in self._study.conditions() if data_key(c) == keys[condition])
        return compile_condition(found, self._study.methods()).frame(replicate, truth=truth)

    def report(self, path: str | Path | None = None, *, title: str | None = None) -> Path:
        """Write the report as one HTML file and return where it is.

        path: the file, instead of report.html in the folder; title: its heading, instead of the study's.
        """
        from .report import write_report

        return write_report(self, path, title=title)

    def _frame(self, row: StoredCondition, method: Method) -> pd.DataFrame:
        frame = self._store.read(row.number, result_key(row.data_key, method), row.replications)
        if frame.empty:
            return frame
        estimates = {c: frame[c].to_numpy() for c in map(str, frame.columns) if c.startswith("estimate.")}
        truths = {c: frame[c].to_numpy() for c in map(str, frame.columns) if c.startswith(("true.", "replicate"))}
        added = derive(estimates, list(row.truth)) | derive_truths(truths, row.truth)
        frame = frame.assign(**added, method=method.name)
        for position, (name, value) in enumerate(row.factors.items(), start=1):
            frame.insert(position, name, value)
        return frame

    def _active(self) -> list[StoredCondition]:
        return [row for row in self._rows if row.active]


def _with_value(text: str, key: str, value: int) -> str:
    """A study file's text with a top-level number replaced, or added before the first table."""
    head, table, rest = _cut(text)
    pattern = re.compile(rf"^(\s*[\"']?{key}[\"']?\s*=\s*)[^#\n]*?(\s*(?:#.*)?)$", re.MULTILINE)
    changed, count = pattern.subn(rf"\g<1>{value}\g<2>", head, count=1)
    return (changed if count else f"{key} = {value}\n{head}") + table + rest


def _cut(text: str) -> tuple[str, str, str]:
    match = re.search(r"^\s*\[", text, re.MULTILINE)
    return (text, "", "") if match is None else (text[: match.start()], "", text[match.start() :])
