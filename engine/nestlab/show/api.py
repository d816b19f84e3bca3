"""The Python interface: `Study.from_toml(path).run()` gives `Results`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..run.cluster import Cluster
from ..run.results import StoredResults
from ..run.runner import RunReport, run_study
from ..run.shard import Shard
from ..run.shards import run_shard
from ..run.telling import Progress
from ..spec.model import Condition, Method
from ..spec.problems import StudyError, nearest, show
from ..spec.reading import read_toml
from ..spec.study import StudyFile
from .ready_made import ready_made_path

if TYPE_CHECKING:
    from ..search.solve import Solved
    from .plots.accessor import Plots

__all__ = ["Results", "Study"]

BACKENDS = ("threads", "dask")


class Study:
    """A study: its conditions and methods, and the way to run it.

    Made by `from_toml` or `from_dict`; file: the study as checked, text: as a study file has it, folder: where that file is, and
    modules that its methods name are looked for first.

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

    def __init__(self, file: StudyFile, text: str, folder: Path | None = None) -> None:
        self.file = file
        self.text = text
        self.folder = folder

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        *,
        seed: int | None = None,
        replications: int | None = None,
        keep: str | None = None,
        alpha: float | None = None,
    ) -> Study:
        """Read the study file at path; `seed`, `replications`, `keep` ("replicates" or "summary") and `alpha` replace the file's.

        Raises StudyError with all that is wrong.
        """
        tables = read_toml(path)
        text = Path(path).read_text(encoding="utf-8-sig")
        folder = Path(path).resolve().parent
        changes: dict[str, Any] = {"seed": seed, "replications": replications, "keep": keep, "alpha": alpha}
        file = StudyFile.from_dict(tables, folder=folder, **changes)
        for key, value in changes.items():
            if value is not None:
                text = _with_value(text, key, json.dumps(value))
        # Where data files were read, the text must stand without them; a rule that was replaced may take several lines.
        ruled = replications is not None and not isinstance(tables.get("replications"), int)
        return cls(file, file.to_toml() if file.reads_files or ruled else text, folder)

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
            f"<Study {self.name}: {len(self.conditions):,} conditions x {self._replications} replications, "
            f"methods {', '.join(m.name for m in self.methods)}>"
        )

    @property
    def _replications(self) -> str:
        return f"{'' if self.file.stopping is None else 'at most '}{self.file.most_replications:,}"

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
        repair: bool = False,
        allow_code: bool = False,
        backend: str = "threads",
        scheduler: str | None = None,
    ) -> Results:
        """Run what is missing and return the results.

        replications: per condition, instead of the study's; out: folder, instead of results/<name>; jobs: threads, -1 for all
        cores; progress: told what goes on (`run.workers.Progress`); repair: check every stored part, and compute those anew that
        are damaged; allow_code: consent to import and call the Python functions that methods name, without which a study that
        has any is refused; backend: "threads" of this machine, or "dask", the workers of the Dask scheduler at the address
        `scheduler`, whose results this process writes. Raises RefusedError where stored results do not fit the study, are
        damaged, or are being written by
        another process, StorageError where they cannot be written, StudyError for code that is not allowed or not there,
        ValueError for fewer than 1 replication.
        """
        asked: dict[str, Any] = {"replications": replications, "out": out, "jobs": jobs, "progress": progress}
        asked |= {"repair": repair, "allow_code": allow_code, "backend": backend, "scheduler": scheduler}
        return self.execute(**asked)[0]

    def execute(
        self,
        *,
        replications: int | None = None,
        out: str | Path | None = None,
        jobs: int = -1,
        progress: Progress | None = None,
        repair: bool = False,
        allow_code: bool = False,
        backend: str = "threads",
        scheduler: str | None = None,
    ) -> tuple[Results, RunReport]:
        """The same as `run`, with the report of what was done: fits made, fits found stored, seconds.

        replications, out, jobs, progress, repair, allow_code, backend, scheduler: see `run`.
        """
        wanted, text, folder = self._asked(replications, out)
        rule = self.file.stopping if replications is None else None
        report = run_study(
            self.file, folder, text=text, replications=rule or wanted, jobs=jobs, progress=progress, repair=repair,
            code=self._code(allow_code), cluster=_cluster(backend, scheduler),
        )  # fmt: skip
        return Results(folder), report

    def run_shard(
        self,
        shard: str,
        *,
        replications: int | None = None,
        out: str | Path | None = None,
        jobs: int = -1,
        progress: Progress | None = None,
        allow_code: bool = False,
        job: str | None = None,
    ) -> RunReport:
        """Run what is missing of one of n disjoint shards; other processes may run the others into the same folder meanwhile.

        shard: "i/n", i from 1; job: that of a batch system, for the manifest; replications, out, jobs, progress, allow_code: see
        `run`. When all shards are done,
        `run` lists their parts and measures them, as `nestlab merge` does. Raises StudyError for another shard, and what `run`
        raises.
        """
        wanted, text, folder = self._asked(replications, out)
        return run_shard(
            self.file, folder, text=text, replications=wanted, shard=Shard.parse(shard), jobs=jobs, progress=progress,
            code=self._code(allow_code), more={"job": job} if job else None, fixed=replications is not None,
        )  # fmt: skip

    def _asked(self, replications: int | None, out: str | Path | None) -> tuple[int, str, Path]:
        """Replications of each condition, the study file that says so, and the folder."""
        wanted = self.file.most_replications if replications is None else replications
        text = self.text if replications is None else self._text_with(wanted)
        if wanted < 1:
            raise ValueError(f"replications = {wanted}: must be 1 or more")
        return wanted, text, Path(out) if out is not None else Path("results") / self.name

    def _text_with(self, replications: int) -> str:
        """The study file's text with a number of replications, which may stand in place of a rule."""
        if self.file.stopping is None:
            return _with_value(self.text, "replications", str(replications))
        return self.file.model_copy(update={"replications": replications}).to_toml()

    def _code(self, allowed: bool) -> list[str] | None:
        """Where modules are looked for first: beside the study file, then in the current folder; None without consent."""
        return self.code_folders() if allowed else None

    def code_folders(self) -> list[str]:
        """Where modules that methods name are looked for first."""
        folders = [Path.cwd()] if self.folder is None else [self.folder, Path.cwd()]
        return list(dict.fromkeys(map(str, folders)))

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
        between: Sequence[float] | Sequence[Sequence[float] | None] = (),
        cost: str | None = None,
        budget: float | None = None,
        precision: float = 0.02,
        max_replications: int = 200_000,
        step: float | None = None,
        out: str | Path | None = None,
        jobs: int = -1,
        allow_code: bool = False,
    ) -> Solved:
        """The smallest design that reaches a target, with a 95 % interval; see `nestlab solve`.

        over: "clusters", "cluster_size", "effect" (the smallest that is detected), "icc" (the largest that does no harm), a
        dotted path, or both of the first two at the least cost; with several grouping factors "school", "rows" or "icc.school",
        or any two numbers. One target: power, joint_power (all estimands rejected) or
        coverage, to be reached, or width of the interval, bias or relbias (percent), in size, not to be exceeded. estimand:
        whose; method: by which, the first if None. between: ends of the axis, or a pair for each. cost: a formula such as
        "300*clusters + 20*clusters*cluster_size", or with several factors "300*school + 60*class + 5*rows", each being how many
        there are in the whole design; budget: the most it may be. precision: the interval's width that is enough,
        relative to the answer; max_replications: of any design; step: only multiples of it. out: folder of the designs tried,
        instead of results/<name>-over-<axis>; jobs: threads, -1 for all cores. The result's `solutions` hold values, intervals,
        reached and tried, one for each point of the other axes. allow_code: see `run`. Raises StudyError for what the study does
        not have.
        """
        from .solve_command import Options, solve_study

        def several(names: str | Sequence[str]) -> list[str]:
            return [names] if isinstance(names, str) else list(names)

        targets = {
            "power": power, "joint_power": joint_power, "width": width, "coverage": coverage, "bias": bias, "relbias": relbias,
        }  # fmt: skip
        one = len(between) == 2 and all(isinstance(end, int | float) for end in between)
        pairs: Any = (tuple(between),) if one else tuple(between)
        options = Options(
            targets,
            several(estimand),
            method,
            several(over),
            pairs,
            cost,
            budget,
            precision,
            max_replications,
            step,
        )
        folder = None if out is None else Path(out)
        return solve_study(self.file, options, out=folder, jobs=jobs, code=self._code(allow_code))

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
        from ..run.block import compile_condition  # brings the compiler

        return compile_condition(self.conditions[condition], self.methods).frame(replicate, truth=truth)


class Results(StoredResults):
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

    @property
    def plot(self) -> Plots:
        """Pictures: `results.plot.power(x="clusters")`; see `nestlab.show.plots`."""
        from .plots.accessor import Plots

        return Plots(self)

    def table(
        self,
        measure: str | Sequence[str] | None = None,
        *,
        rows: str | Sequence[str] = (),
        columns: str | Sequence[str] = (),
        estimand: str | None = None,
        method: str | None = None,
        subset: str | None = None,
        caption: str | None = None,
    ) -> pd.DataFrame:
        """Measures (power) as journals print them, "0.812 (0.006)": text by factors, or "method", on rows and columns.

        measure: one, or several that stand side by side. estimand, method, subset: as in the summary. rows, columns: names of
        factors; those that vary and are not named stand on the rows. caption: instead of the one that is written; it is in
        `attrs`. Raises StudyError for what does not exist. `nestlab table` writes Markdown, LaTeX and CSV.
        """
        from .tables import make_table, to_frame

        down, across = ([names] if isinstance(names, str) else list(names) for names in (rows, columns))
        made = make_table(
            self, measure, rows=down, columns=across, estimand=estimand, method=method, subset=subset, caption=caption
        )
        return to_frame(made)

    def report(self, path: str | Path | None = None, *, title: str | None = None) -> Path:
        """Write the report as one HTML file and return where it is.

        path: the file, instead of report.html in the folder; title: its heading, instead of the study's.
        """
        from .report import write_report

        return write_report(self, path, title=title)


def _cluster(backend: str, scheduler: str | None) -> Cluster | None:
    """The workers of other machines that a run is given; None for those of this one."""
    if backend not in BACKENDS:
        raise StudyError([f"backend = {show(backend)}: must be {' or '.join(BACKENDS)}; {nearest(backend, BACKENDS)}"])
    if backend == "threads":
        if scheduler is not None:
            raise StudyError(
                [f'scheduler = {show(scheduler)}: is only for backend = "dask"; add --backend dask, or leave it out']
            )
        return None
    if scheduler is None:
        raise StudyError(['backend = "dask": needs the address of a scheduler; add --scheduler tcp://HOST:8786'])
    from ..run.dask_backend import DaskCluster

    return DaskCluster(scheduler)


def _with_value(text: str, key: str, value: str) -> str:
    """A study file's text with a top-level value (as TOML) replaced, or added before the first table."""
    head, table, rest = _cut(text)
    pattern = re.compile(rf"^(\s*[\"']?{key}[\"']?\s*=\s*)[^#\n]*?(\s*(?:#.*)?)$", re.MULTILINE)
    changed, count = pattern.subn(rf"\g<1>{value}\g<2>", head, count=1)
    return (changed if count else f"{key} = {value}\n{head}") + table + rest


def _cut(text: str) -> tuple[str, str, str]:
    match = re.search(r"^\s*\[", text, re.MULTILINE)
    return (text, "", "") if match is None else (text[: match.start()], "", text[match.start() :])
