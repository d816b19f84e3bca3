"""The study file: read, validated and expanded into conditions and methods.

    study = StudyFile.from_toml("studies/article.toml")
    study.conditions()[0].layout.clusters
    [method.name for method in study.methods()]

All problems of a file come in one StudyError, a line each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from .estimand import find_estimand
from .estimands import study_estimands
from .files import read_columns
from .interest import Interest, interest_of
from .methods import estimator_of
from .model import Condition, Method
from .problems import Problems, StudyError, nearest
from .reading import plain, read_toml, validate
from .resolve import Resolved, resolve
from .stopping import Stopping, most_replications, read_stopping
from .tables import ArmSizesTable, SourcedTable, StudyTable
from .writing import to_toml

__all__ = ["StudyError", "StudyFile"]


class StudyFile(StudyTable):
    """A study as asked for. Make it by `from_toml` or `from_dict`, which check all of it, the grid's points included.

    Its fields are the keys of a study file, which `nestlab keys` explains.
    """

    _resolved: Resolved | None = PrivateAttr(default=None)

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        *,
        seed: int | None = None,
        replications: int | None = None,
        keep: str | None = None,
        alpha: float | None = None,
    ) -> StudyFile:
        """Read a study file; `seed`, `replications`, `keep` and `alpha` replace the file's.

        StudyError tells all that is wrong.
        """
        return cls.from_dict(
            read_toml(path), seed=seed, replications=replications, keep=keep, alpha=alpha, folder=Path(path).parent
        )

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        *,
        seed: int | None = None,
        replications: int | None = None,
        keep: str | None = None,
        alpha: float | None = None,
        folder: Path | None = None,
    ) -> StudyFile:
        """Read a study from tables as a TOML file holds them. StudyError tells all that is wrong.

        folder: of data files that it names; the current one by default. Their numbers become part of the study.
        """
        if not isinstance(data, Mapping):
            raise StudyError(f"study = {type(data).__name__}: must be a dictionary of tables; read a file by from_toml")
        changes = {"seed": seed, "replications": replications, "keep": keep, "alpha": alpha}
        tables = {**plain(data), **{key: value for key, value in changes.items() if value is not None}}
        problems = Problems()
        unread = read_columns(tables, folder or Path(), problems)
        study, suspects = validate(cls, tables, problems)
        made = (re.fullmatch(r"predictors\.(\w+)\.(?:distribution|categories|coding|periods)", s) for s in suspects)
        suspects |= unread | {f"truth.fixed.{match[1]}" for match in made if match}  # their columns are not known
        if study is None:
            raise StudyError(problem.line for problem in problems)
        found = Problems()
        _check_keep(study, found)
        if alpha is not None and study.method and all(table.alpha is not None for table in study.method):
            text = "is for methods without an alpha of their own, and all have one; change it there, or leave it out"
            found.add_value("alpha", alpha, text)
        study._resolved = resolve(study, found, expand=not problems)
        if study._resolved is not None and not suspects:
            study._stopping(found)
            if not found:
                study._check_estimand(found)
        below = tuple(f"{suspect}{sign}" for suspect in suspects for sign in ".[")
        problems.extend(p for p in found if p.key not in suspects and not p.key.startswith(below))
        problems.raise_if_any()
        return study

    def resolve(self) -> Resolved:
        """Conditions and methods. StudyError if the study was not made by `from_toml` or `from_dict` and is wrong."""
        if self._resolved is None:
            problems = Problems()
            self._resolved = resolve(self, problems)
            problems.raise_if_any()
        assert self._resolved is not None
        return self._resolved

    def conditions(self) -> tuple[Condition, ...]:
        """The points of the grid, the last axis fastest."""
        return self.resolve().conditions

    def methods(self) -> tuple[Method, ...]:
        """The methods in the order of the file; none given: REML on truth.formula, called "reml".

        alpha and max_failed are a method's own where it has them, else the study's.
        """
        methods = self.resolve().methods
        for name in ("alpha", "max_failed"):
            own = {table.name: value for table in self.method if (value := getattr(table, name)) is not None}
            values = [own.get(method.name, getattr(self, name)) for method in methods]
            methods = tuple(
                method if value is None else replace(method, **{name: value})
                for method, value in zip(methods, values, strict=True)
            )
        return methods

    @property
    def stopping(self) -> Stopping | None:
        """The rule that ends conditions, where `replications` is one. StudyError if it is wrong."""
        problems = Problems()
        rule = self._stopping(problems)
        problems.raise_if_any()
        return rule

    @property
    def interest(self) -> Interest:
        """Which of its estimands is shown where nobody names one."""
        return interest_of(self.conditions(), self.methods(), self.estimand)

    @property
    def most_replications(self) -> int:
        """How many replications a condition may have at most."""
        return most_replications(self.replications)

    def with_digests(self, digests: Mapping[str, str]) -> StudyFile:
        """A copy whose methods of one's own name their module's source: {"module:function": its SHA-256}."""
        found, copied = self.resolve(), self.model_copy()
        methods = tuple(replace(m, digest=digests.get(m.function or "", m.digest)) for m in found.methods)
        copied._resolved = replace(found, methods=methods)
        return copied

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> StudyFile:
        """A copy with some fields replaced, which is checked when it is resolved."""
        copied = super().model_copy(update=update, deep=deep)
        copied._resolved = None
        return copied

    @property
    def reads_files(self) -> bool:
        """Whether some of its numbers are columns of data files."""
        size = self.design.cluster_size
        sizes = size.arms if isinstance(size, ArmSizesTable) else [size]
        factors = self.design.factors.values()
        numbers = [self.design.rows, *(getattr(table, "number", None) for table in factors)]
        tables = [*sizes, *factors, *numbers, *self.predictors.values()]
        return any(isinstance(table, SourcedTable) and table.source is not None for table in tables)

    def to_dict(self) -> dict[str, Any]:
        """The study as plain tables, without what was left at its default; `from_dict` reads it back."""
        return self.model_dump(mode="json", exclude_unset=True, warnings=False)

    def to_toml(self) -> str:
        """The study as a study file."""
        return to_toml(self.to_dict())

    def _stopping(self, problems: Problems) -> Stopping | None:
        return read_stopping(self.replications, self.conditions(), self.methods(), problems)

    def _check_estimand(self, problems: Problems) -> None:
        if not self.estimand or not self.conditions():  # no point of the grid could be made, which is told
            return
        known = study_estimands(self.conditions()[0].truth.formula, self.methods())
        if find_estimand(known, self.estimand) is None:
            text = f"must be an effect of the study, such as a term or a contrast; {nearest(self.estimand, known)}"
            problems.add_value("estimand", self.estimand, text)


def _check_keep(study: StudyFile, problems: Problems) -> None:
    """What can't be told from sums while a run goes on."""
    if study.keep == "replicates":
        return
    rule = 'needs replicates, and keep = "summary" keeps sums of them; remove one of the two'
    limits = {"max_failed": study.max_failed}
    limits |= {f"method.{table.name}.max_failed": table.max_failed for table in study.method}
    for key, limit in limits.items():
        if limit is not None:
            problems.add_value(key, limit, rule)
    for table in study.method:
        if not estimator_of(table).every_term:
            problems.add_value(f"method.{table.name}.estimator", table.estimator, rule)
