"""The answer of a search for a design: in words, as JSON (`solve.json`), and read back from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..run.question import Question, Target, Trial
from ..run.solve import Solution, Solved
from ..spec.outcome import UnknownVarianceError
from ..spec.problems import StudyError
from .levels import level_text
from .outcome import outcome_numbers
from .summary import value_with_mcse

__all__ = ["ANSWER", "WORDS", "as_json", "read_solved", "searched", "sentence", "title_of"]

#: The file of a search's answer.
ANSWER = "solve.json"
#: What the measures of a target are called.
WORDS = {
    "power": "power", "joint power": "joint power", "width": "width of the interval", "cover": "coverage", "bias": "|bias|",
    "relbias": "|relative bias|, in percent,",
}  # fmt: skip


def sentence(question: Question, solution: Solution) -> str:
    """The answer for people."""
    target = question.target
    of = " and ".join(target.estimands)
    what = f"{WORDS[target.measure]} of {of}"
    where = f"With {_factors(solution)}: " if solution.factors else ""
    goal = f"{'at least' if target.side == 'above' else 'at most'} {target.value:g}"
    if question.maximise:
        text = f"{where}the best design within {question.budget:,.0f} is {_design(solution)}"
    elif not solution.reached:
        text = f"{where}{what} of {goal} is not reached{_range(question)}; the best is {_design(solution)}"
        if solution.cost is not None and solution.cost > question.budget:
            text = f"{where}{what} of {goal} costs more than {question.budget:,.0f}: {_design(solution)}"
    elif solution.smallest:
        text = f"{where}{what} of {goal} needs {_design(solution)}"
    else:
        text = f"{where}{what} stays {goal} up to {_design(solution)}"
    if solution.cost is not None:
        text += f", at a cost of {solution.cost:,.6g}{_interval(solution, 'cost')}"
    if solution.trial is not None:
        value = value_with_mcse(solution.trial.value, solution.trial.mcse)
        text += f"; there it is {value}, n = {solution.trial.n:,}"
        if solution.trial.missing:
            text += f" ({solution.trial.missing:,} replicates did not converge or are without a result)"
    if not solution.sure:
        text += (
            "; the interval is wider than was asked for (--max-replications)"
            if solution.reached
            else "; more replications may change this"
        )
    if levels := _levels(target):
        text += f"; {levels}"
    return text[:1].upper() + text[1:] + "."


def _levels(target: Target) -> str:
    """The level of the tests or intervals that a target is about; "" where it is about neither, or it is not known."""
    return "" if target.alpha is None else level_text([target.measure], {target.method: target.alpha})


def _factors(solution: Solution) -> str:
    return ", ".join(f"{name} = {_level(value)}" for name, value in solution.factors.items())


def _level(value: Any) -> str:
    """A level of an axis as the study file has it; a prior as "normal(mean 0.5, sd 0.1)"."""
    if isinstance(value, Mapping):
        numbers = ", ".join(f"{key} {number:g}" for key, number in value.items() if key != "distribution")
        return f"{value['distribution']}({numbers})"
    return value if isinstance(value, str) else json.dumps(value)


def _range(question: Question) -> str:
    pair = question.between[0] if len(question.over) == 1 else None
    return f" between {pair[0]:g} and {pair[1]:g} {question.over[0].replace('_', ' ')}" if pair else ""


def _design(solution: Solution) -> str:
    words = []
    for name, value in solution.values.items():
        text = {"clusters": f"{value:,} clusters", "cluster_size": f"cluster size {value:,}"}.get(
            name, f"{name} = {value:g}"
        )
        words.append(text + _interval(solution, name))
    return " with ".join(words)


def _interval(solution: Solution, name: str) -> str:
    if name not in solution.intervals:
        return ""
    low, high = solution.intervals[name]
    return f" (95 % interval {low:,.6g} to {high:,.6g})"


def title_of(solved: Solved) -> str:
    target = solved.question.target
    text = f"{WORDS[target.measure].strip(',')} of {' and '.join(target.estimands)}, {target.method}"
    if levels := _levels(target):
        text += f", {levels}"
    return text[:1].upper() + text[1:]


def searched(folder: Path) -> bool:
    """Whether a search for a design left its answer in a folder, and it can be read."""
    try:
        read_solved(folder)
    except StudyError:
        return False
    return True


def read_solved(folder: Path) -> Solved:
    """The answer that a search left in its folder, with what it tried. StudyError where there is none that can be read."""
    path = folder / ANSWER
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        ((measure, value),) = made["target"].items()
        target = Target(measure.replace("_", " "), value, _many(made["estimand"]), made["method"], made.get("alpha"))
        question = Question(target, _many(made["over"]), (None,) * len(_many(made["over"])))
        answers = made.get("solutions", [{"factors": {}, **made}])
        solutions = tuple(_read_answer(question, answer) for answer in answers)
        return Solved(question, solutions, folder, made["scale"], 0.0, made["replications"])
    except FileNotFoundError:
        text = "holds no search for a design; name a folder that nestlab solve wrote, or another --kind"
        raise StudyError([f"{folder}: {text}"]) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = "run nestlab solve again, which finds its designs stored"
        raise StudyError(
            [f"{path}: is no answer that can be drawn ({type(error).__name__}: {error}); {text}"]
        ) from None


def _read_answer(question: Question, answer: Mapping[str, Any]) -> Solution:
    """One answer of solve.json; the words of its sentence are not read."""
    over, ends = question.over, answer["interval"]
    intervals = {} if ends is None else ends if isinstance(ends, dict) else {over[0]: ends}
    tried = tuple(_read_trial(over, trial) for trial in answer["tried"])
    return Solution(
        answer["factors"],
        answer["best"] if isinstance(answer["best"], dict) else {over[0]: answer["best"]},
        {name: (_number(low, -math.inf), _number(high, math.inf)) for name, (low, high) in intervals.items()},
        answer["reached"], answer["sure"], True, None, tried, answer.get("cost"),
    )  # fmt: skip


def _read_trial(over: Sequence[str], trial: Mapping[str, Any]) -> Trial:
    value, mcse = (_number(trial[name], math.nan) for name in ("value", "mcse"))
    return Trial({name: trial[name] for name in over}, value, mcse, trial["n"], trial["missing"], trial["condition"])


def _number(value: float | None, absent: float) -> float:
    return absent if value is None else value


def as_json(solved: Solved) -> dict[str, Any]:
    """What `nestlab solve --json` prints: solution (a number, an object for two axes, null if there is none), interval, target,
    tried; with points of other axes, one such object each under "solutions".
    """
    question = solved.question
    target = question.target
    head = {
        "target": {target.measure.replace(" ", "_"): target.value}, "estimand": _one(target.estimands), "method": target.method,
        "alpha": target.alpha, "over": _one(question.over),
    }  # fmt: skip
    answers = [_answer(solved, solution) for solution in solved.solutions]
    tail = {"scale": solved.scale, "folder": str(solved.folder), "replications": solved.replications}
    if len(answers) == 1 and not solved.solutions[0].factors:
        return head | answers[0] | tail
    found = [{"factors": dict(s.factors), **a} for s, a in zip(solved.solutions, answers, strict=True)]
    return head | {"solutions": found} | tail


def _one(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _many(values: str | Sequence[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


def _answer(solved: Solved, solution: Solution) -> dict[str, Any]:
    single = len(solution.values) == 1
    design: Any = next(iter(solution.values.values())) if single else dict(solution.values)
    intervals = {name: [_end(name, v) for v in ends] for name, ends in solution.intervals.items()}
    found: dict[str, Any] = {
        "solution": design if solution.reached else None,
        "interval": None if not solution.reached else next(iter(intervals.values())) if single else intervals,
        "reached": solution.reached,
        "sure": solution.sure,
        "best": design,
    }
    if solution.cost is not None:
        found["cost"] = solution.cost
    found["at_best"] = None if solution.trial is None else _trial(solution.trial)
    found["outcome"] = {e: _outcome(solution, e, solved) for e in solved.question.target.estimands}
    found["sentence"] = sentence(solved.question, solution)
    found["tried"] = [_trial(trial) for trial in solution.tried]
    return found


def _outcome(solution: Solution, estimand: str, solved: Solved) -> dict[str, float | None] | None:
    """What the outcome looks like at the answer, by the names of `outcome.LABELS`; None where it is not known."""
    if solution.condition is None:
        return None
    try:
        numbers = outcome_numbers(solution.condition, estimand, solved.contrasts)
    except UnknownVarianceError:
        return None
    return {name: _finite(value) for name, value in numbers.items()}


def _trial(trial: Trial) -> dict[str, Any]:
    numbers = {"value": _finite(trial.value), "mcse": _finite(trial.mcse), "n": trial.n, "missing": trial.missing}
    return {**trial.values, **numbers, "condition": trial.condition}


def _end(name: str, value: float) -> float | int | None:
    """An end of an interval, a whole number where the axis has those."""
    finite = _finite(value)
    return int(finite) if finite is not None and name in ("clusters", "cluster_size") else finite


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
