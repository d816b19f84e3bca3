"""`nestlab new`: a first study from a few questions, or from a pilot's fit."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..spec.model import INTERCEPT
from ..spec.problems import StudyError, show
from .study_text import check_text, refuse_existing, write_new

if TYPE_CHECKING:
    from ..spec.study import StudyFile
    from .from_fit import Pilot
    from .pilot_predictors import PilotPlan
    from .questions import Prompt

__all__ = ["NewOptions", "new_command"]

_INTERRUPTED = 130
#: Questions whose flags also say something of a pilot's study.
_OF_PILOTS = ("name", "clusters", "cluster_size")


@dataclass(frozen=True, slots=True)
class NewOptions:
    """The options of `nestlab new`. flags: answers given by flags, as text, by the key of their question; solve: whether there is
    a command `nestlab solve` to go on with."""

    flags: Mapping[str, str]
    seed: int
    replications: int
    yes: bool = False
    force: bool = False
    uncertain: bool = False
    solve: bool = False


def new_command(file: Path | None, options: NewOptions, from_fit: tuple[Path, str] | None) -> None:
    """Write a study file, which has been validated, and print what to do next.

    file: where; by default NAME.toml, and of a pilot the name of its data. from_fit: data and formula of a pilot, whose estimates
    stand for the answers.

    Raises StudyError, DataError and FormulaError; typer.Exit(130) where a question is interrupted. Nothing is written then.
    """
    if from_fit:
        _from_fit(file, options, *from_fit)
    elif options.uncertain:
        raise StudyError(["--uncertain: is for a pilot's estimates; add --from-fit DATA FORMULA, or leave it out"])
    else:
        _from_answers(file, options)


# -- from answers ----------------------------------------------------------------------------------------------------------


def _from_answers(file: Path | None, options: NewOptions) -> None:
    stem = _as_name(file.stem) if file else "study"

    def made(answers: Mapping[str, Any]) -> tuple[Path, str, StudyFile]:
        """The file, its text and its study, with defaults for what is not answered.

        StudyError if it can't be run, or is there already.
        """
        from .first_study import first_study_text

        whole = _completed(answers, stem)
        path = file or Path(f"{whole['name']}.toml")
        if file or "name" in answers:
            refuse_existing(path, force=options.force)
        text = first_study_text(whole, file=_shown(path), seed=options.seed, replications=options.replications)
        return path, text, check_text(text)

    answers = _from_flags(options.flags)
    made(answers)
    asking = not options.yes and sys.stdin.isatty() and sys.stdout.isatty()
    answers = _asked(answers, stem, made) if asking else _completed(answers, stem)
    path, text, study = made(answers)
    write_new(path, text)
    _say_outcome(study, answers["predictor"])
    typer.echo(f"written to {path}; edit it, or go on:")
    measure = "power" if answers["question"] == "power" else "bias"
    _next(path, answers["name"], answers["predictor"], measure=measure, solve=options.solve and measure == "power")


def _from_flags(flags: Mapping[str, str]) -> dict[str, Any]:
    """The answers that flags give. StudyError for one that cannot be."""
    from .questions import QUESTIONS

    answers: dict[str, Any] = {}
    for question in QUESTIONS:
        if question.key in flags:
            text = flags[question.key]
            try:
                answers[question.key] = question.read(text.strip(), answers)
            except ValueError as error:
                raise StudyError([f"{question.flag} {show(text)}: {error}"]) from None
    return answers


def _completed(answers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Defaults where there is no answer, in the order of the questions."""
    from .questions import QUESTIONS

    found = dict(answers)
    for question in QUESTIONS:
        if question.key not in found:
            default = name if question.key == "name" else question.default(found)
            found[question.key] = question.read(default, found) if question.asked(found) else 0
    return found


def _asked(answers: Mapping[str, Any], name: str, check: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
    """Ask what is open, each answer checked alone and with the others; defaults stand for those not asked yet."""
    from .questions import QUESTIONS

    found = dict(answers)
    typer.echo("Enter takes the value in brackets; Ctrl-C stops, and nothing is written.\n")
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (editing of the line that is typed)
    try:
        for question in QUESTIONS:
            if question.key in found:
                continue
            if not question.asked(found):
                found[question.key] = 0
                continue
            default = name if question.key == "name" else question.default(found)
            found[question.key] = _answer(question, found, default, check)
    except KeyboardInterrupt:
        typer.echo("\nerror: interrupted; nothing was written", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except EOFError:
        text = (
            "the answers ended before the last question, and nothing was written; --yes takes the defaults for the rest"
        )
        typer.echo()
        raise StudyError([text]) from None
    return found


def _answer(
    question: Prompt, found: Mapping[str, Any], default: str, check: Callable[[Mapping[str, Any]], object]
) -> Any:
    """Ask one question until its answer can be used."""
    while True:
        try:
            typed = input(f"{question.text(found)} [{default}]: ").strip() or default
        except UnicodeDecodeError:
            typer.echo("  must be UTF-8 text; type it again")
            continue
        try:
            value = question.read(typed, found)
            check({**found, question.key: value})
        except StudyError as error:
            typer.echo("\n".join(f"  {line}" for line in error.problems))
        except ValueError as error:
            typer.echo(f"  {show(typed)}: {error}")
        else:
            return value


# -- from a pilot ----------------------------------------------------------------------------------------------------------


def _from_fit(file: Path | None, options: NewOptions, data: Path, formula: str) -> None:
    from .from_fit import read_pilot
    from .pilot_check import choose_plan
    from .pilot_text import pilot_text
    from .progress import compiling_said

    for key, text in options.flags.items():
        if key not in _OF_PILOTS:
            flag = f"--{key.replace('_', '-')}"
            raise StudyError(
                [f"{flag} {show(text)}: a pilot's study takes that from the data; leave {flag} out and edit the file"]
            )
    answers = _from_flags(options.flags)
    path = file or Path(f"{_as_name(data.stem)}.toml")
    refuse_existing(path, force=options.force)
    name = answers.get("name") or _as_name(path.stem)
    made = partial(pilot_text, name=name, file=_shown(path), seed=options.seed, replications=options.replications)
    sizes = answers.get("cluster_size", ())
    try:
        with compiling_said():
            pilot = read_pilot(data, formula, path.parent)
            _check_numbers(pilot, options.flags)
            plan, found = choose_plan(pilot, made, max(sizes, default=0))
        wanted = {"clusters": answers.get("clusters", ()), "cluster_size": sizes, "uncertain": options.uncertain}
        study = check_text(made(pilot, plan, **wanted), pilot.folder)
    except StudyError as error:
        raise StudyError([f"the study of this fit: {line}" for line in error.problems]) from None
    estimand = study.interest.among(study.interest.effects)
    write_new(path, made(pilot, plan, estimand=estimand, **wanted))
    _say_outcome(study, estimand or INTERCEPT)
    _say_pilot(path, pilot, plan, found)
    over = pilot.factors[0].name if pilot.several else "clusters"
    solve = options.solve and plan.searchable
    _next(path, name, estimand or INTERCEPT, measure="power", solve=solve, over=over)


def _check_numbers(pilot: Pilot, flags: Mapping[str, str]) -> None:
    """StudyError for numbers of clusters where there are several grouping factors."""
    for key in ("clusters", "cluster_size"):
        if pilot.several and key in flags:
            flag = f"--{key.replace('_', '-')}"
            text = f"is for one grouping factor; leave {flag} out, and edit the numbers in the file's [design]"
            raise StudyError([f"{flag} {show(flags[key])}: {text}"])


def _say_pilot(path: Path, pilot: Pilot, plan: PilotPlan, found: Mapping[str, float]) -> None:
    """What was written, and what a reader must know of it. found: ratios of standard errors by coefficient."""
    from .pilot_check import ALLOWED, why_not
    from .pilot_text import levels_text, plan_note

    typer.echo(
        f"written to {path}: {levels_text(pilot)}, {pilot.rows:,} rows"
        + (f", {pilot.dropped:,} rows left out for missing values" if pilot.dropped else "")
    )
    if pilot.singular:
        typer.echo(
            "note: the fit of the pilot is singular: a variance of 0 is not evidence of no variance; see the file"
        )
    for predictor in plan.predictors:
        for note in predictor.notes:
            typer.echo(f"note: {predictor.name}: {note}")
    if plan.why or plan.of_rows:
        typer.echo(f"note: {'the rows of the design are ' * plan.of_rows}{plan_note(pilot, plan)}")
    for term, ratio in found.items():
        if not 1 / (1 + ALLOWED) <= ratio <= 1 + ALLOWED:
            typer.echo(
                f"note: {term}: its standard error in this study is {ratio:.2f} of the pilot's; {why_not(pilot, plan)}"
            )
    ends = dict.fromkeys(f"{ratio:.2f}" for ratio in (min(found.values()), max(found.values())))
    typer.echo(f"standard errors of this design at the pilot's estimates: {' to '.join(ends)} of the pilot's")
    typer.echo("edit it, or go on:")


# -- both ------------------------------------------------------------------------------------------------------------------


def _as_name(stem: str) -> str:
    """A study's name out of that of a file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:100] or "study"


def _shown(path: Path) -> str:
    return " ".join(shlex.quote(str(path)).split())


def _say_outcome(study: StudyFile, estimand: str) -> None:
    """What the numbers that were written mean for the outcome."""
    from .outcome import outcome_lines

    typer.echo("\n".join(outcome_lines(study.conditions(), estimand)))


def _next(path: Path, name: str, estimand: str, *, measure: str, solve: bool, over: str = "clusters") -> None:
    typer.echo(f"    nestlab run {_shown(path)}")
    typer.echo(f"    nestlab summary results/{name} --estimand {shlex.quote(estimand)} --measure {measure}")
    if solve:
        typer.echo(f"    nestlab solve {_shown(path)} --power 0.8 --estimand {shlex.quote(estimand)} --over {over}")
