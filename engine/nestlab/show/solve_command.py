"""`nestlab solve`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich import box
from rich.table import Table

from ..run.folder import solved_facts
from ..run.store import Store
from ..search.question import DEFAULT_MOST, DEFAULT_PRECISION, FIRST, Question, SearchTarget
from ..search.solve import Solved, solve
from ..spec.axes import OUTCOME, Setting, is_number, number_axes, setting
from ..spec.cost import example_of, parse_cost
from ..spec.estimand import find_estimand
from ..spec.estimands import study_estimands
from ..spec.inference import tested_estimand
from ..spec.keys import AXES
from ..spec.model import INTERCEPT, Condition, Formula, Method, Structure
from ..spec.problems import StudyError, nearest
from ..spec.study import StudyFile
from ..spec.tables import ArmSizesTable, SizesTable
from .answer import ANSWER, as_json, sentence
from .outcome import outcome_lines
from .progress import compiling_said
from .summary import value_with_mcse
from .terminal import terminal

__all__ = ["Options", "question_of", "solve_command", "solve_study"]

_MEASURES = {
    "power": "power", "joint_power": "joint power", "width": "width", "coverage": "cover", "bias": "bias", "relbias": "relbias",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may say; targets: by the option's name, None where it was not given."""

    targets: Mapping[str, float | None]
    estimand: Sequence[str] = ()
    method: str | None = None
    over: Sequence[str] = ()
    between: Sequence[tuple[float, float] | None] = ()
    cost: str | None = None
    budget: float | None = None
    precision: float = DEFAULT_PRECISION
    most: int = DEFAULT_MOST
    step: float | None = None


def solve_command(
    path: Path,
    options: Options,
    *,
    seed: int | None,
    alpha: float | None = None,
    jobs: int,
    out: Path | None,
    json_wanted: bool,
    allow_code: bool = False,
) -> None:
    """Search, write solve.json beside the designs, and print the answer; nothing is drawn."""
    study = StudyFile.from_toml(path, seed=seed, alpha=alpha)
    code = [str(path.resolve().parent), str(Path.cwd())] if allow_code else None
    console = terminal(stderr=True)
    quiet = json_wanted or not console.is_terminal
    with compiling_said():
        solved = solve_study(
            study,
            options,
            out=out,
            jobs=jobs,
            code=code,
            tell=None if quiet else lambda text: console.print(text, style="dim"),
        )
    if json_wanted:
        print(json.dumps(as_json(solved), indent=1))
    else:
        _print(solved)


def solve_study(
    study: StudyFile,
    options: Options,
    *,
    out: Path | None = None,
    jobs: int = -1,
    tell: Any = None,
    code: Sequence[str] | None = None,
) -> Solved:
    """Search as the options ask, and leave solve.json and the manifest's "solve" in the folder.

    code: consent to run the functions that methods name, see `run_study`.
    """
    study = _following(study, options.over)
    question = question_of(study, options)
    folder = out if out is not None else Path("results") / f"{study.name}-over-{'-'.join(map(_slug, question.over))}"
    solved = solve(study, question, folder, jobs=jobs, tell=tell or (lambda text: None), code=code)
    made = as_json(solved)
    store = Store(folder)
    with store.locked():
        store.write_file(ANSWER, f"{json.dumps(made, indent=1)}\n".encode())
        store.write_manifest(
            solve=solved_facts(made),
            replications_reason="chosen design by design until the interval of the answer was narrow enough",
        )  # fmt: skip
    return solved


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in name)


# -- the question ----------------------------------------------------------------------------------------------------------


def question_of(study: StudyFile, options: Options) -> Question:
    """The question that the options ask of a study. Raises StudyError for what it does not have."""
    conditions = study.conditions()
    target, maximise = _target(study, options)
    over = _over(study, conditions[0], options, target)
    given = [*options.between, None, None]
    if any(given[len(over) :]):
        _refuse("--between-second", given[1], "needs a second --over; remove it")
    between = tuple(None if pair is None else _between(pair) for pair in given[: len(over)])
    numbers = number_axes(conditions[0].truth.formula)
    words = [*(word for word in numbers if word != "rows"), *(word for word in numbers if word == "rows")]
    cost = None if options.cost is None else parse_cost(options.cost, words)
    if len(over) == 2 and cost is None:
        _refuse("--over", ", ".join(over), f'two axes need a cost; add --cost "{example_of(words)}", say')
    if len(over) == 2 and target.measure in ("cover", "bias", "relbias"):
        _refuse("--over", ", ".join(over), f"{target.measure} is solved over one axis; give one --over")
    if options.budget is not None and (cost is None or not options.budget > 0):
        _refuse("--budget", options.budget, "must be a number > 0, with a --cost; add --cost")
    if cost is not None and len(over) == 1 and not is_number(over[0]):
        *others, last = (f"--over {axis}" for axis in numbers.values())
        both = "both" if len(numbers) == 2 else "two of them"
        _refuse("--cost", cost.text, f"needs {', '.join(others)}, {last} or {both}; remove it")
    if not 1e-4 <= options.precision <= 1:
        _refuse("--precision", options.precision, "must be a number from 0.0001 to 1; write 0.02, say")
    whole = any(map(is_number, over))
    if options.step is not None and not (
        0 < options.step < math.inf and (options.step == round(options.step) or not whole)
    ):
        _refuse("--step", options.step, f"must be a number > 0{', a whole one' if whole else ''}; write 2, say")
    if options.most < FIRST:
        _refuse("--max-replications", options.most, f"must be at least {FIRST}; raise it")
    budget = math.inf if options.budget is None else float(options.budget)
    return Question(target, over, between, cost, budget, maximise, options.precision, options.most, options.step)


def _refuse(option: str, value: object, text: str) -> NoReturn:
    raise StudyError([f"{f'{option} {value}'.strip()}: {text}"])


def _target(study: StudyFile, options: Options) -> tuple[SearchTarget, bool]:
    """The target, and whether the best within a budget is asked for instead."""
    given = {name: value for name, value in options.targets.items() if value is not None}
    names = ", ".join(f"--{name.replace('_', '-')}" for name in _MEASURES)
    if len(given) > 1:
        _refuse(
            " ".join(f"--{n.replace('_', '-')}" for n in given),
            "",
            f"only one target can be solved for; keep one of {names}",
        )
    maximise = not given
    if maximise and (options.budget is None or len(set(options.over)) != 2):
        raise StudyError([f"target: is missing; add --power 0.8, or another of {names}"])
    name, value = next(iter(given.items()), ("power", 0.8))
    measure = _MEASURES[name]
    proportion = measure in ("power", "joint power", "cover")
    if not (0 < value < 1 if proportion else 0 < value < math.inf):
        allowed = "between 0 and 1, neither included" if proportion else "> 0"
        _refuse(
            f"--{name.replace('_', '-')}",
            value,
            f"must be a number {allowed}; write {'0.8' if proportion else '0.1'}, say",
        )
    methods = study.methods()
    labels = [label for method in methods for label in method.labels]
    label = options.method or labels[0]
    if label not in labels:
        _refuse("--method", label, f"the study has {', '.join(labels)}; {nearest(label, labels)}")
    method = next(m for m in methods if label in m.labels)
    estimands = _estimands(study, method, options, measure)
    return SearchTarget(measure, value, estimands, label, method.alpha), maximise  # type: ignore[arg-type]


def _estimands(study: StudyFile, method: Method, options: Options, measure: str) -> tuple[str, ...]:
    condition, methods = study.conditions()[0], study.methods()
    known = study_estimands(condition.truth.formula, methods)
    tested = [*(t for t in method.formula.fixed if t != INTERCEPT), *(c.name for c in method.contrasts)]
    if method.tests_ratio and measure == "power":
        tested = [tested_estimand(method).name]
    tested = [find_estimand(known, name) or name for name in tested]
    if not options.estimand:
        if (own := study.interest.named) and measure != "joint power":
            return (own,)
        if not tested or (len(tested) > 1 and measure != "joint power"):
            raise StudyError(
                [
                    f"--estimand: is missing; add one of {', '.join(tested or known)}, or write it as estimand in the study file"
                ]
            )
        return tuple(tested)
    found = []
    for name in options.estimand:
        asked = find_estimand(known, name)
        if asked is None:
            _refuse("--estimand", name, f"the study has {', '.join(known)}; {nearest(name, known)}")
        if asked not in found:
            found.append(str(asked))
    if len(found) > 1 and measure != "joint power":
        _refuse("--estimand", ", ".join(found), "only --joint-power takes several; give one, or --joint-power")
    return tuple(found)


def _over(study: StudyFile, condition: Condition, options: Options, target: SearchTarget) -> tuple[str, ...]:
    formula = condition.truth.formula
    if not options.over:
        numbers = ", ".join(number_axes(formula).values())
        raise StudyError([f"--over: is missing; add --over {numbers}, effect, icc or a dotted path"])
    found = []
    for name in options.over:
        own = _effect_axis(condition, target.estimands[0]) if name == "effect" else name
        if name == "effect" and target.estimands[0] not in formula.fixed:
            _refuse(
                "--over", name, f"{target.estimands[0]} is no fixed effect of the truth; name a dotted path instead"
            )
        named = setting(own, formula) or setting(number_axes(formula).get(own, ""), formula)
        number = "" if named is None else _number(named, formula)
        if named is None or not (number or named.key.accepts(0.5) or named.key.accepts(2.5)):
            known = ["effect", *number_axes(formula).values(), *(n for n in AXES if setting(n, formula))]
            _refuse(
                "--over",
                name,
                f"names nothing that can vary; {nearest(name, [*known, 'a path such as truth.fixed.x'])}",
            )
        found.append(number or named.name)
    if len(found) > 2 or len(set(found)) != len(found) or (len(found) == 2 and not all(map(is_number, found))):
        two = f"two of {', '.join(number_axes(formula).values())}" if formula.factors else "clusters and cluster_size"
        _refuse("--over", ", ".join(found), f"must be one axis, or {two}; remove the others")
    if condition.structure is not None:
        _check_lists(condition.structure, found)
        return tuple(found)
    if "cluster_size" in found and (kind := _no_one_size(condition)):
        _refuse("--over", "cluster_size", f"needs one size, or a distribution with a mean, and the study has {kind}")
    sizes = condition.layout.sizes
    listed = not isinstance(study.design.cluster_size, SizesTable | ArmSizesTable)
    if "clusters" in found and len(found) == 1 and len(set(sizes)) > 1 and listed:
        shown = ", ".join(map(str, sizes[:3]))
        _refuse(
            "--over",
            "clusters",
            "needs sizes for any number of clusters, not a list of one per cluster; write cluster_size = "
            f"{{ values = [{shown}, ...], in_turn = true }} in [design]",
        )
    return tuple(found)


def _number(named: Setting, formula: Formula) -> str:
    """The axis of `number_axes` that sets the same, by whatever name; "" where none does."""
    for axis in number_axes(formula).values():
        if (own := setting(axis, formula)) and own.paths == named.paths:
            return axis
    return ""


def _check_lists(structure: Structure, over: Sequence[str]) -> None:
    """StudyError where the file lists what depends on a number that is searched: numbers of levels, rows of cells."""
    searched = [name for name in over if is_number(name)]
    if structure.listed and searched:
        _refuse(
            "--over",
            searched[0],
            "needs numbers of a design, and the file's rows are given; search an effect or an icc",
        )
    if len(set(structure.sizes)) > 1 and not structure.drawn and searched and "rows" not in searched:
        mean = round(sum(structure.sizes) / len(structure.sizes))
        _refuse("--over", searched[0], f"needs one number of rows for every cell, not a list; write rows = {mean}, say")
    for grouping, numbers in zip(structure.groupings, structure.numbers, strict=True):
        own, above = f"clusters.{grouping.name}", grouping.within
        if len(set(numbers)) > 1 and own not in over and f"clusters.{above}" in over:
            mean = round(sum(numbers) / len(numbers))
            text = f"needs one number of {grouping.name} for every {above}, not a list; write number = {mean}, say"
            _refuse("--over", f"clusters.{above}", text)


def _following(study: StudyFile, over: Sequence[str]) -> StudyFile:
    """The study with shares in place of counts of clusters by arm, where the number of clusters is searched."""
    counted = {name: t for name, t in study.predictors.items() if t.clusters}
    if not counted or not {"clusters", "design.clusters"} & set(over):
        return study
    tables = study.to_dict()
    for name, table in counted.items():
        counts = tables["predictors"][name].pop("clusters")
        tables["predictors"][name]["shares"] = [count / math.gcd(*counts) for count in counts]
        tables["design"].setdefault("clusters", sum(table.clusters or ()))
    return StudyFile.from_dict(tables)


def _no_one_size(condition: Condition) -> str:
    """Sizes of which no number is the mean, and what to search instead; "" for all others."""
    drawn, arms = condition.layout.drawn, any(p.arms for p in condition.predictors)
    if arms and (len(drawn) > 1 or len(set(condition.layout.sizes)) > 1):
        return "sizes by arm; search the mean of one that is a distribution, such as design.cluster_size.arms.2.mean"
    if any(sizes is not None and sizes.kind == "empirical" for _, sizes in drawn):
        return (
            'sizes from data; write { distribution = "negative-binomial", mean = ..., cv = ... } with their mean and cv'
        )
    return ""


def _effect_axis(condition: Condition, term: str) -> str:
    """The axis of a fixed effect, in the unit in which the file gives it."""
    stated = condition.stated.get(term)
    if stated and stated.kind == "r2" and stated.by == "outcome":
        return f"{OUTCOME}.r2_{'within' if stated.level == 1 else 'between'}"
    return f"truth.fixed.{term}" + (f".{stated.kind}" if stated else "")


def _between(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        _refuse("--between", f"{low:g} {high:g}", "must be two numbers, the lower one first; exchange or correct them")
    return low, high


# -- the answer ------------------------------------------------------------------------------------------------------------


def _print(solved: Solved) -> None:
    console = terminal()
    question = solved.question
    for solution in solved.solutions:
        console.print(sentence(question, solution), highlight=False, soft_wrap=True)
        for estimand in question.target.estimands:
            lines = outcome_lines([solution.condition], estimand, solved.contrasts) if solution.condition else []
            for line in lines:
                console.print(line, highlight=False, soft_wrap=True, markup=False)
    if len(solved.solutions) == 1:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
        for header in (*solved.solutions[0].values, f"{question.target.measure} (MCSE)", "n"):
            table.add_column(header.replace("_", " "), justify="right")
        for trial in sorted(solved.solutions[0].tried, key=lambda t: tuple(t.values.values())):
            cells = [f"{value:g}" for value in trial.values.values()]
            table.add_row(*cells, value_with_mcse(trial.value, trial.mcse), f"{trial.n:,}")
        console.print(table)
    designs = sum(len(solution.tried) for solution in solved.solutions)
    console.print(
        f"{designs} designs, {solved.replications:,} replications in {solved.seconds:.1f} s; written to {solved.folder}: "
        f"{ANSWER}, summary.parquet, replicates/", highlight=False, soft_wrap=True,
    )  # fmt: skip
