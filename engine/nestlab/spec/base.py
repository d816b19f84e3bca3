"""The study without its grid: formulas against predictors and true values, and the values as `{dotted path: value}`.

That flat form is what axes act on and what `identity.describe` gives back: standard deviations become variances, a
covariance matrix becomes variances and correlations, terms are named as in the formula.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from .contrasts import read_contrasts
from .covariance import (
    correlation_path,
    covariance_paths,
    covariance_problem,
    decompose,
    find_pair,
    variance_path,
    variance_paths,
)
from .estimand import RESERVED
from .factor_keys import FACTORS, ROWS
from .factors import study_formula
from .family import GAUSSIAN
from .family_keys import as_analysed, check_family, check_outcomes, outcome_values, read_family
from .flat import flat_shape, flat_table, named_elsewhere, predictor_correlations, predictor_values
from .formula import FormulaError, find_term, parse_formula, random_term_text, respelled
from .grid import Given
from .inference import check_method, df_rules
from .methods import estimator_of
from .methods.estimator import Levels
from .model import CENTRINGS, Effect, Formula, Method, source_of, term_variables
from .predictors.reading import base_columns, base_levels, base_places, default_level
from .prior import Prior
from .problems import Problems, close_match, nearest
from .structure import NO_FACTORS, GroupingFactors, check_factors, factors_of
from .tables import MethodTable, RandomTable, TruthTable

if TYPE_CHECKING:
    from .study import StudyFile

__all__ = ["Base", "formula_key", "named_formulas", "read_base"]


T = TypeVar("T")

DEFAULT_METHOD = MethodTable(name="reml")
DEFAULT_OF_FAMILIES = MethodTable(name="laplace", estimator="glmm")
#: Keys of [[method]] that mean the same in a `Method`; others need the formula or the study.
_TAKEN_OVER = [
    field.name
    for field in fields(Method)
    if field.name in {*MethodTable.model_fields} - {"name", "formula", "df", "compare", "alpha", "max_failed"}
]

_NAME = re.compile(r"[^\W\d_]\w*")

#: The columns of predictors with categories.
Columns = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Base:
    """A study without its grid.

    flat: {dotted path: value}, of a prior its mean; priors: those that the file has in place of numbers, by their paths;
    required: the paths that every condition needs; sound: whether conditions can be made.
    """

    flat: dict[str, Any]
    priors: dict[str, Prior]
    required: tuple[str, ...]
    given: Given
    methods: tuple[Method, ...]
    sound: bool

    @property
    def truth(self) -> Formula:
        return self.given.truth


def read_base(study: StudyFile, problems: Problems) -> Base | None:
    """The study without its grid; None if its formula cannot be used. Adds all that is wrong to `problems`."""
    truth, predictors, missing, correlation = study.truth, study.predictors, study.missing, study.correlation
    text, predictors = _mended(truth, predictors, problems)
    before = len(problems)
    groupings = _groupings(study, problems)
    if len(problems) > before:
        return None
    found = {name: base_columns(name, table) for name, table in predictors.items()}
    factors = {name: columns for name, columns in found.items() if columns}
    family = read_family(truth, problems)
    formula = _truth_formula(text, factors, groupings, problems)
    if formula is not None:
        formula = replace(formula, family=family)
    level: Levels = base_places(predictors) if groupings.holders else base_levels(predictors)
    read_methods = _methods(
        study.method or [DEFAULT_METHOD if family.gaussian else DEFAULT_OF_FAMILIES],
        formula,
        factors,
        groupings,
        level,
        truth.random,
        problems,
    )
    if formula is None:
        return None
    read_methods = read_contrasts(study.contrast, formula, read_methods, level, problems)
    beside = named_elsewhere(truth, correlation, missing, predictors)
    known = _check_names(formula, predictors, read_methods, problems, factors, beside)
    priors: dict[str, Prior] = {}
    _check_places(groupings, study, problems)
    random = _random(truth.random, formula, priors, problems)
    # A stand-in for values that cannot be used, so that none of them counts as missing too.
    scale, random_flat = random or ({}, dict.fromkeys(covariance_paths(formula), 0.0))
    residual, residual_flat = _residual(truth, priors, problems)
    if not family.gaussian:
        check_family(study, formula, problems)
        residual_flat = outcome_values(truth, family)
    flat = {
        **flat_table("design", study.design),
        **_fixed(truth.fixed, formula, priors, problems, factors),
        **random_flat,
        **residual_flat,
        **flat_shape(truth.random, formula),
        **(flat_table("truth.errors", truth.errors) if truth.errors else {}),
        **(flat_table("truth.outcome", truth.outcome) if truth.outcome else {}),
        **(flat_table("missing", missing) if missing else {}),
        **predictor_values(predictors),
        **predictor_correlations(correlation, problems),
    }
    given = Given(formula, tuple(sorted(predictors)), scale, residual, tuple(flat), factors)
    sound = known and random is not None
    return Base(flat, priors, _required(given), given, read_methods, sound)


def _certain(value: T | Prior, path: str, priors: dict[str, Prior]) -> T | float:
    """The value, or the mean of a prior, which is kept under its path."""
    if not isinstance(value, Prior):
        return value
    priors[path] = value
    return value.mean


def _meant(word: str, known: Iterable[str], otherwise: str) -> tuple[str | None, str]:
    """The known word that was meant, if one is near, and the repair."""
    guess = close_match(word, known)
    return guess, f'did you mean "{guess}"?' if guess else otherwise


def _required(given: Given) -> tuple[str, ...]:
    formula = given.truth
    counted = any(re.fullmatch(r"predictors\.\w+\.clusters", path) for path in given.paths)
    layout = ((), ("design.clusters",))[not counted] + ("design.cluster_size",)
    if formula.factors:
        known = factors_of(formula)
        listed = any(f"{FACTORS}.{name}.values" in given.paths for name in known.names)
        layout = () if listed else (*map(known.number_path, known.names), ROWS)
    return (
        *layout,
        *(f"truth.fixed.{term}" for term in formula.fixed),
        *variance_paths(formula),
        "truth.residual_variance",
        *(f"predictors.{name}.{key}" for name in given.predictors for key in ("level", "distribution")),
    )


def named_formulas(truth: Formula, methods: Sequence[Method]) -> dict[str, Formula]:
    """Each formula of a study by the key that gives it."""
    found = {"truth.formula": truth}
    for method in methods:
        found.setdefault(formula_key(truth, method), method.formula)
    return found


def formula_key(truth: Formula, method: Method) -> str:
    """The key that gives a method its formula."""
    return "truth.formula" if method.formula.text == truth.text else f"method.{method.name}.formula"


def _groupings(study: StudyFile, problems: Problems) -> GroupingFactors:
    """The factors of [design.factors], which stand in the place of clusters and cluster_size."""
    design = study.design
    if not design.factors:
        if design.rows is not None:
            text = "is of studies with several grouping factors; write cluster_size, or add [design.factors]"
            problems.add_value(ROWS, design.rows if isinstance(design.rows, int | tuple) else "{ ... }", text)
        return NO_FACTORS
    for word, value, instead in (
        ("clusters", design.clusters, "give each factor its number there"),
        ("cluster_size", design.cluster_size, f"write {ROWS}, the rows of each cell"),
    ):
        if value is not None:
            text = f"must be absent beside [{FACTORS}]; {instead}"
            problems.add_value(f"design.{word}", value if isinstance(value, int | list) else "{ ... }", text)
    for name in design.factors:
        if not _NAME.fullmatch(name):
            problems.add(f"{FACTORS}.{name}", "must be named by letters, digits and _, a letter first; rename it")
        elif name in RESERVED:
            problems.add(f"{FACTORS}.{name}", f"must not be named like one of {', '.join(RESERVED)}; rename it")
    if study.truth.outcome:
        problems.add("truth.outcome", f"is for one grouping factor; remove it, or [{FACTORS}]")
    if design.rows is not None and any(getattr(table, "values", None) is not None for table in design.factors.values()):
        text = "must be absent where the rows are those of a file; remove it"
        problems.add_value(ROWS, design.rows if isinstance(design.rows, int | tuple) else "{ ... }", text)
    return check_factors(design.factors, problems)


def _check_places(groupings: GroupingFactors, study: StudyFile, problems: Problems) -> None:
    """Predictors live at rows or, where there are several grouping factors, on one of them, or on a crossing."""
    names = groupings.names
    for name, table in study.predictors.items():
        level = table.level
        if names and level is None and default_level(table.distribution) == 2:
            text = f'is missing: distribution = "{table.distribution}" needs a factor; add level = "{names[0]}", say'
            problems.add(f"predictors.{name}.level", text)
        if names and level == 2:
            text = f"must be 1 (varies by row) or the factor that it varies with; write one of {', '.join(names)}"
            problems.add_value(f"predictors.{name}.level", level, text)
        for part in str(level).split(":") if isinstance(level, str) else ():
            if part not in names:
                repair = nearest(part, names) if names else "write 1 or 2, or add [design.factors]"
                problems.add_value(
                    f"predictors.{name}.level", level, f"must name factors of [design.factors]; {repair}"
                )
        if name in names:
            problems.add(f"predictors.{name}", f"has the name of a factor of [{FACTORS}]; rename one")


def _parse(
    key: str,
    text: str,
    problems: Problems,
    factors: Columns,
    groupings: GroupingFactors,
    group: str = "cluster",
    *,
    random: bool = True,
) -> Formula | None:
    try:
        formula = study_formula(text, factors, groupings)
    except FormulaError as error:
        problems.add_value(key, text, error.reason)
        return None
    if random and not formula.random:
        problems.add_value(key, text, f"must have a random term; add + (1 | {group})")
        return None
    return formula


def _mended(truth: TruthTable, predictors: dict[str, Any], problems: Problems) -> tuple[str, dict[str, Any]]:
    """The text of truth.formula and the predictors, with misspelled names as they were meant: nothing more follows from them."""
    try:
        formula = parse_formula(truth.formula)
    except FormulaError:
        return truth.formula, predictors
    variables = [v for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)]
    sources = dict.fromkeys(name for name in (source_of(v)[0] for v in variables) if _NAME.fullmatch(name))
    tables = [table for random in truth.random.values() for table in (random.variance, random.sd)]
    given = {source_of(v)[0] for table in (truth.fixed, *tables) for term in table or () for v in term_variables(term)}
    new: dict[str, str] = {}
    for name in sources:
        free = [p for p in predictors if p not in sources or name not in given]
        guess = close_match(name, free) if name not in predictors else None
        if guess and name in given:
            problems.add(f"predictors.{guess}", f'is used by no formula; did you mean "{name}"?')
            predictors = {name if p == guess else p: table for p, table in predictors.items()}
        elif guess:
            text = f'uses {name}, which is no predictor of the study; did you mean "{guess}"?'
            problems.add_value("truth.formula", formula.text, text)
            new |= {v: v.replace(name, guess, 1) for v in variables if source_of(v)[0] == name}
    return respelled(truth.formula, new) if new else truth.formula, predictors


def _truth_formula(text: str, factors: Columns, groupings: GroupingFactors, problems: Problems) -> Formula | None:
    formula = _parse("truth.formula", text, problems, factors, groupings)
    if formula and (dotted := next((group for group in formula.groups if "." in group), "")):
        repair = f"write {dotted.replace('.', '_')} for {dotted}"
        problems.add_value("truth.formula", text, f"must have a grouping factor without a dot; {repair}")
        return None
    return formula


def _methods(
    tables: Sequence[MethodTable],
    truth: Formula | None,
    factors: Columns,
    groupings: GroupingFactors,
    level: Levels,
    random: Collection[str],
    problems: Problems,
) -> tuple[Method, ...]:
    methods: list[Method] = []
    group = truth.group if truth else "cluster"
    family = truth.family if truth else GAUSSIAN
    for position, each in enumerate(tables, start=1):
        table, key = as_analysed(each, family), f"method.{each.name}"
        check_outcomes(key, table, family, problems)
        if any(method.name == table.name for method in methods):
            text = f"must be a name of its own (method {position} repeats it); rename or remove one"
            problems.add_value(f"{key}.name", table.name, text)
        formula = truth
        if table.formula is not None:
            mixed = estimator_of(table).random
            formula = _parse(f"{key}.formula", table.formula, problems, factors, groupings, group, random=mixed)
        if formula is None:
            continue
        formula = replace(formula, family=family if estimator_of(table).by_family else GAUSSIAN)
        if truth and formula.response != truth.response:
            text = f"must have the response of truth.formula; write {truth.response} for {formula.response}"
            problems.add_value(f"{key}.formula", formula.text, text)
        same_group = (
            not formula.random or bool(groupings.holders) or (truth is not None and formula.group == truth.group)
        )
        if truth and not same_group and formula.group not in random:
            text = f"must have the grouping factor of truth.formula; write {truth.group} for {formula.group}"
            problems.add_value(f"{key}.formula", formula.text, text)
        chain = [
            _parse(f"{key}.compare", text, problems, factors, groupings, group, random=False)
            for text in table.compare or ()
        ]
        compare = chain[0] if chain else None
        smaller = tuple(found for found in chain[1:] if found is not None)
        own = {word: value for word in _TAKEN_OVER if (value := getattr(table, word)) is not None}
        analysed = estimator_of(table).analysed(formula, level, table.factors or ())
        method = Method(table.name, analysed, df=df_rules(table), compare=compare, smaller=smaller, **own)
        check_method(table, method, formula, problems)
        methods.append(method)
    return tuple(methods)


def _check_names(
    truth: Formula,
    predictors: Mapping[str, Any],
    methods: Sequence[Method],
    problems: Problems,
    factors: Columns,
    beside: Collection[str],
) -> bool:
    """Every predictor is used and well named; and every variable has a predictor, which is returned."""
    used: set[str] = set()
    known = True
    for key, formula in named_formulas(truth, methods).items():
        variables = [v for term in (*formula.fixed, *formula.random_columns) for v in term_variables(term)]
        for variable in dict.fromkeys(variables):
            name = source_of(variable)[0]
            if name not in used and (text := _unknown(variable, predictors, factors)):
                problems.add_value(key, formula.text, text)
                known = False
            used.add(name)
    for name in predictors:
        key = f"predictors.{name}"
        if not _NAME.fullmatch(name):
            problems.add(key, "must be named by letters, digits and _, a letter first; rename it")
        elif name in RESERVED:
            problems.add(key, f"must not be named like one of {', '.join(RESERVED)}; rename it")
        elif name in (truth.response, *truth.groups):
            problems.add(key, f"has the name of the response or the grouping factor of {truth.text}; rename one")
        elif name not in used and name not in beside:
            problems.add(key, f"is used by no formula; remove it, or add {name} to truth.formula with its true value")
    return known


def _unknown(variable: str, predictors: Mapping[str, Any], factors: Columns) -> str | None:
    """What to do about a variable that no predictor gives; None if one does."""
    name, made = source_of(variable)
    if name not in predictors:
        repair = _meant(name, predictors, f"add [predictors.{name}]")[1]
        return f"uses {variable}, which is no predictor of the study; {repair}"
    if made.startswith("[") and variable not in factors.get(name, ()):
        if name not in factors:
            return f'uses {variable}, and {name} has no categories; write {name}, or set distribution = "categorical"'
        return f"uses {variable}, which is no column of {name}; use {' or '.join(factors[name])}"
    if made in CENTRINGS and name in factors:
        return f"uses {variable}, and {name} has categories, which cannot be centred; write {name}"
    return None


def _fixed(
    fixed: Mapping[str, float | Prior | Effect],
    formula: Formula,
    priors: dict[str, Prior],
    problems: Problems,
    factors: Columns,
) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fixed.items():
        key, term = f"truth.fixed.{name}", find_term(formula.fixed, name)
        shown = value.table() if isinstance(value, Effect) else value
        if columns := next((factors[v] for v in term_variables(name) if v in factors), ()):
            each = ", ".join(f'"{column}" = ...' for column in columns)
            text = f"must have a value for each column, {', '.join(columns)}; write {each if name in factors else 'one for each'}"
            problems.add_number(key, shown, text)
            flat |= {f"truth.fixed.{column}": 0.0 for column in columns if name in factors}  # a stand-in
        elif term is None and (column := next((v for v in term_variables(name) if source_of(v)[0] in factors), "")):
            factor = source_of(column)[0]
            text = f"must be of a column of {factor}, and these are {', '.join(factors[factor])}; write one of them"
            problems.add_number(key, shown, text)
        elif term is None and (plain := _without_category(name, formula)):
            factor = name.partition("[")[0].rpartition(":")[2]
            repair = f"write {plain}, or give the predictor categories (categorical) or a coding (arms, period)"
            text = f"must be of a term of {formula.text}, and {factor} has no categories; {repair}"
            problems.add_number(key, shown, text)
            flat.setdefault(f"truth.fixed.{plain}", 0.0)  # a stand-in
        elif term is None:
            left = [term for term in formula.fixed if find_term(fixed, term) is None]
            guess, repair = _meant(name, left, f"add {name} to the formula or remove it here")
            problems.add_number(key, shown, f"must be a fixed term of {formula.text}; {repair}")
            flat |= {f"truth.fixed.{guess}": 0.0} if guess else {}  # a stand-in
        elif f"truth.fixed.{term}" in flat:
            problems.add_number(key, shown, f"must be given once, and the term {term} is given twice; remove one")
        else:
            flat[f"truth.fixed.{term}"] = _certain(value, f"truth.fixed.{term}", priors)
    return flat


def _without_category(name: str, formula: Formula) -> str | None:
    """The formula's term that is meant by one with a category, "k" by "k[b]", of a predictor that has none."""
    made = [source_of(variable) for variable in term_variables(name)]
    if not any(how.startswith("[") for _, how in made):
        return None
    return find_term(
        formula.fixed,
        ":".join(source if how.startswith("[") else f"{how}({source})" if how else source for source, how in made),
    )


def _residual(truth: TruthTable, priors: dict[str, Prior], problems: Problems) -> tuple[str, dict[str, Any]]:
    if truth.residual_variance is not None and truth.residual_sd is not None:
        text = "must not stand beside truth.residual_variance; remove one of the two"
        problems.add_number("truth.residual_sd", truth.residual_sd, text)
    if truth.residual_variance is not None:
        variance = _certain(truth.residual_variance, "truth.residual_variance", priors)
        return "residual_variance", {"truth.residual_variance": variance}
    if truth.residual_sd is not None:
        sd = _certain(truth.residual_sd, "truth.residual_sd", priors)
        return "residual_sd", {"truth.residual_variance": sd * sd}
    return "", {}


def _random(
    tables: Mapping[str, RandomTable], formula: Formula, priors: dict[str, Prior], problems: Problems
) -> tuple[dict[str, str], dict[str, Any]] | None:
    """The scales that the random effects are given on, by grouping factor, and their values; None if they cannot be used."""
    for group in tables:
        if group not in formula.groups:
            written = " or ".join(f"[{part.random_table}]" for part in formula.parts)
            problems.add(f"truth.random.{group}", f"is no grouping factor of {formula.text}; write {written}")
    scales, flat = dict[str, str](), dict[str, Any]()
    parts = formula.parts
    for part in parts:
        stray = next(iter(tables.values()), RandomTable()) if len(parts) == 1 else RandomTable()
        found = _random_of(tables.get(part.group) or stray, part, priors, problems)
        if found is None:
            return None
        scales[part.group] = found[0]
        flat |= found[1]
    return scales, flat


def _random_of(
    table: RandomTable, formula: Formula, priors: dict[str, Prior], problems: Problems
) -> tuple[str, dict[str, Any]] | None:
    """The scale and the values of one grouping factor's random effects."""
    key = formula.random_table
    scales = [name for name in ("covariance", "sd", "variance") if getattr(table, name) is not None]
    if len(scales) > 1:
        problems.add(key, f"must have one of variance, sd and covariance, not {' and '.join(scales)}; keep one")
        return None
    if table.covariance is not None:
        if table.correlation is not None:
            problems.add(f"{key}.correlation", f"must not stand beside {key}.covariance; remove one of the two")
        if problem := covariance_problem(formula, table.covariance):
            problems.add_number(f"{key}.covariance", table.covariance, problem)
            return None
        return "covariance", decompose(formula, table.covariance)
    scale, given = ("sd", table.sd) if table.sd is not None else ("variance", table.variance or {})
    terms = " + ".join(map(random_term_text, formula.random))
    flat: dict[str, Any] = {}
    for name, value in given.items():
        key, column = f"{formula.random_table}.{scale}.{name}", find_term(formula.random_columns, name)
        if column is None:
            left = [column for column in formula.random_columns if find_term(given, column) is None]
            guess, repair = _meant(name, left, f"add {name} to the random term or remove it here")
            problems.add_number(key, value, f"must be a random column of {terms}; {repair}")
            flat |= {variance_path(formula, guess): 0.0} if guess else {}  # a stand-in
        elif variance_path(formula, column) in flat:
            problems.add_number(key, value, f"must be given once, and {column} is given twice; remove one")
        else:
            number = _certain(value, f"{formula.random_table}.{scale}.{column}", priors)
            flat[variance_path(formula, column)] = number * number if scale == "sd" else number
    flat.update(_correlations(table.correlation or {}, formula, priors, problems))
    return (scales[0] if scales else ""), flat


def _correlations(
    given: Mapping[str, float | Prior], formula: Formula, priors: dict[str, Prior], problems: Problems
) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in given.items():
        key, pair = f"{formula.random_table}.correlation.{name}", find_pair(formula, name)
        if isinstance(pair, str):
            problems.add_number(key, value, pair)
            continue
        path = correlation_path(formula, *(formula.random_columns[i] for i in pair))
        if path in flat:
            problems.add_number(key, value, "must be given once, and this pair is given twice; remove one")
        flat[path] = _certain(value, path, priors)
    return flat
