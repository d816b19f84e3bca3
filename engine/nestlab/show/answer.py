"""The answer of a search for a design: in words, as JSON (`solve.json`), and read back from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..search.question import Question, SearchTarget, Trial
from ..search.solve import Solution, Solved
from ..spec.axes import is_number
from ..spec.model import Structure
from ..spec.outcome import UnknownVarianceError
from ..spec.problems import StudyError
from .countables import axis_of, number_text, structure_text
from .levels import level_text
from .outcome import outcome_numbers
from .summary import decimals_of, value_with_mcse

__all__ = ["ANSWER", "WORDS", "as_json", "read_solved", "searched", "sentence", "title_of"]

#: The file of a search's answer.
ANSWER = "solve.json"
#: What the measures of a target are called.
WORDS = {
    "power": "power", "joint power": "joint power", "width": "width of the interval", "cover": "coverage", "bias": "|bias|",
    "relbias": "|relative bias|, in percent,",
}  # fmt: skip


def sentence(question: Question, solution: Solution) -> str:
    """The answer for people: what the curve through all designs tried says, then what was simulated at that very design."""
    where = f"With {_factors(solution)}: " if solution.factors else ""
    text = f"{where}{_found(question, solution)}{_price(solution)}."
    text += _simulated(question, solution)
    if not solution.sure:
        text += (
            " The interval is wider than was asked for (--max-replications)."
            if solution.reached
            else " More replications may change this (--max-replications)."
        )
    if levels := _levels(question.target):
        text += f" {levels[:1].upper()}{levels[1:]}."
    return text[:1].upper() + text[1:]


def _found(question: Question, solution: Solution) -> str:
    """The answer by the curve, without what it costs."""
    goal, within = goal_text(question.target), _within(question)
    if question.maximise:
        measure, of = WORDS[question.target.measure], " and ".join(question.target.estimands)
        return f"{within.strip()} the highest {measure} of {of} is that of {_design(solution)}"
    if not solution.reached and solution.cost is not None and solution.cost > question.budget:
        return f"{goal} costs more than {question.budget:,.0f}; the cheapest design is {_design(solution)}"
    if not solution.reached:
        return f"{goal} is not reached{_range(question)}{within}; the best is {_design(solution)}"
    if len(question.over) == 2:
        return f"the cheapest design for {goal} is {_design(solution)}"
    (name, value), smallest = next(iter(solution.values.items())), solution.smallest
    if (unit := _effect(question, name)) and smallest == (value > 0):  # in size
        what = f"smallest effect of {question.target.estimands[0]}{unit} that is detected"
        return f"the {what} with {_percent(question.target.value)} power is {value:g}{_interval(solution, name)}"
    if not smallest:
        return f"{goal} is reached up to {_design(solution)}"
    if name == "clusters":
        return f"{value:,} clusters are needed for {goal}{_interval(solution, name)}"
    if is_number(name) and name != "cluster_size":
        number = number_text(name, int(value), _structure(solution))
        needed = "is" if value == 1 else "are"
        return f"{number} {needed} needed for {goal}{_interval(solution, name)}{_whole(solution)}"
    if name == "cluster_size":
        return f"a cluster size of {value:,} is needed for {goal}{_interval(solution, name)}"
    return f"{goal} needs {name} = {value:g} or more{_interval(solution, name)}"


def _effect(question: Question, axis: str) -> str:
    """ "" where an axis is not the effect whose power is asked for, else the unit in which it is given."""
    _, fixed, path = axis.partition("truth.fixed.")
    term, target = question.target.estimands[0], question.target
    if not fixed or target.measure != "power" or path not in (term, f"{term}.d", f"{term}.r2"):
        return ""
    return {"": " (coefficient)", ".d": " (d)", ".r2": " (r2)"}[path.removeprefix(term)]


def goal_text(target: SearchTarget) -> str:
    """What a target asks for, in words.

    >>> goal_text(SearchTarget("power", 0.8, ("arm",), "reml")), goal_text(SearchTarget("joint power", 0.8, ("a", "b"), "reml"))
    ('80 % power to detect arm', '80 % power to detect a and b together (joint power)')
    >>> goal_text(SearchTarget("width", 0.4, ("arm",), "reml")), goal_text(SearchTarget("relbias", 5, ("arm",), "reml"))
    ('a mean width of the interval of arm of at most 0.4', 'a |relative bias| of arm of at most 5 %')
    """
    of = " and ".join(target.estimands)
    match target.measure:
        case "power":
            return f"{_percent(target.value)} power to detect {of}"
        case "joint power":
            return f"{_percent(target.value)} power to detect {of} together (joint power)"
        case "cover":
            return f"a coverage of {of} of at least {_percent(target.value)}"
        case "width":
            return f"a mean width of the interval of {of} of at most {target.value:g}"
        case "bias":
            return f"a |bias| of {of} of at most {target.value:g}"
    return f"a |relative bias| of {of} of at most {target.value:g} %"


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def _price(solution: Solution) -> str:
    return "" if solution.cost is None else f", at a cost of {solution.cost:,.6g}{_interval(solution, 'cost')}"


def _simulated(question: Question, solution: Solution) -> str:
    """What was simulated at the design of the answer; where chance took that to the other side of the target, both are told."""
    trial, target = solution.trial, question.target
    if trial is None:
        return f" That is by the curve through the {len(solution.tried)} designs tried; this one was not simulated."
    unit = " %" if target.measure == "relbias" else ""
    word = {"relbias": "relative bias", "bias": "bias"}.get(target.measure, WORDS[target.measure])
    there = f"{word} {value_with_mcse(trial.value, trial.mcse)}{unit}, n = {trial.n:,}"
    if trial.missing:
        there += f" ({trial.missing:,} replicates did not converge or are without a result)"
    beyond = _beyond(target, trial)
    if question.maximise or (beyond >= 0) == solution.reached:
        return f" Simulated there: {there}."
    does, by = ("reaches the target", "short of it") if solution.reached else ("does not reach the target", "beyond it")
    apart = f", {abs(beyond) / trial.mcse:.2g} MCSEs {by}" if trial.mcse > 0 else ""
    return (
        f" There the curve through the {len(solution.tried)} designs tried {does}; the simulation of this one alone has "
        f"{there}{apart}."
    )


def _beyond(target: SearchTarget, trial: Trial) -> float:
    """How far a simulated value lies beyond the target, < 0 if short of it; 0 where it is printed as equal."""
    value = abs(trial.value) if target.kind == "real" else trial.value
    beyond = value - target.value if target.side == "above" else target.value - value
    printed = 0.5 * 10.0 ** -decimals_of(trial.mcse) if trial.mcse > 0 else 0.0
    return 0.0 if abs(beyond) <= printed else beyond


def _levels(target: SearchTarget) -> str:
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
    return f" between {pair[0]:g} and {pair[1]:g} {_unit(question.over[0])}" if pair else ""


def _unit(axis: str) -> str:
    """What is counted on an axis.

    >>> _unit("cluster_size"), _unit("clusters.school")
    ('cluster size', 'schools')
    """
    return axis_of(axis).removeprefix("Number of ") if "." in axis and is_number(axis) else axis.replace("_", " ")


def _within(question: Question) -> str:
    return f" within a budget of {question.budget:,.0f}" if math.isfinite(question.budget) else ""


def _design(solution: Solution) -> str:
    words = []
    for name, value in solution.values.items():
        text = {"clusters": f"{value:,} clusters", "cluster_size": f"cluster size {value:,}"}.get(
            name, f"{name} = {value:g}"
        )
        if _structure(solution) is not None and is_number(name):
            text = number_text(name, int(value), _structure(solution))
        words.append(text + _interval(solution, name))
    return " with ".join(words) + (_whole(solution) if any(map(is_number, solution.values)) else "")


def _structure(solution: Solution) -> Structure | None:
    return None if solution.condition is None else solution.condition.structure


def _whole(solution: Solution) -> str:
    """The whole design of several grouping factors, in brackets."""
    structure = _structure(solution)
    return "" if structure is None else f" ({structure_text(structure)})"


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
        target = SearchTarget(
            measure.replace("_", " "), value, _many(made["estimand"]), made["method"], made.get("alpha")
        )
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
    """What the outcome looks like at the answer, by the names of `outcome_numbers`; None where it is not known."""
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
    return int(finite) if finite is not None and is_number(name) else finite


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
