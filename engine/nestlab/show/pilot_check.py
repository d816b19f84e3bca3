"""Whether the study of a pilot is the pilot's design: the standard errors that each coefficient has in both.

At the pilot's estimates a design gives the fixed effects the information sum of X_j' V_j^-1 X_j over clusters j, with
V_j = Z_j G Z_j' + s2 I and G = L L'. By Woodbury's identity

    X'V^-1 X = (X'X - X'Z L (s2 I + L'Z'Z L)^-1 L'Z'X) / s2,

so that the products of the design's columns, which the engine draws, are enough. The standard errors are the means over
replicates of the written study; the pilot's are those of its fit. With several grouping factors rows are drawn, and a model of
them that is held at these estimates gives the standard errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..fit.lmm import coordinates
from ..fit.several.model import fit_factors
from ..fit.several.products import FactorColumns
from ..run.block import compile_condition
from ..simulate.layout import Design, pair
from ..simulate.several import SeveralDesign, SeveralDraw, SeveralSampler
from ..simulate.source import OneFactorSource
from ..simulate.streams import block_generator
from ..spec.model import Condition
from ..spec.problems import StudyError
from ..spec.study import StudyFile
from .from_fit import Pilot
from .pilot_predictors import PilotPlan, one_factor_plans
from .pilot_several import several_plans
from .study_text import check_text

__all__ = ["ALLOWED", "choose_plan", "plans", "ratios", "why_not"]

Array = NDArray[np.float64]

#: A ratio of standard errors that is told, and the one above which the next plan is tried.
ALLOWED, _GOOD = 0.15, 0.10
#: Replicates of a design that differs between them, and most products that are held.
_REPLICATES, _HELD = 64, 2**24


def choose_plan(
    pilot: Pilot, written: Callable[[Pilot, PilotPlan], str], longest: int
) -> tuple[PilotPlan, dict[str, float]]:
    """The first plan whose standard errors are those of the pilot, else the nearest; with their ratios by coefficient.

    written: the text of the study of a plan at the pilot's own numbers; longest: rows of the largest cluster that is wanted, 0
    for the pilot's.

    Raises StudyError if the study of no plan can be read.
    """
    own, wanted = plans(pilot), plans(pilot, longest)
    refused: StudyError | None = None
    best: tuple[PilotPlan, dict[str, float]] | None = None
    why = ""
    for plan, longer in zip(own, wanted, strict=True):
        try:
            found = ratios(pilot, check_text(written(pilot, plan), pilot.folder))
        except StudyError as error:
            refused = refused or error
            why = why or "they have correlations that no such distributions have"
            continue
        plan_found = replace(longer, why="; ".join(filter(None, (longer.why, why)))), found
        if best is None or _worst(found) < _worst(best[1]):
            best = plan_found
        if _worst(found) <= np.log1p(_GOOD):
            break
        term = max(found, key=lambda t: _distance(found[t]))
        why = why or (
            f"drawn from distributions like theirs, {term} has a standard error of {found[term]:.2f} of the pilot's"
            if np.isfinite(found[term])
            else f"drawn from distributions like theirs, some data sets do not tell {term}"
        )
    if best is None:
        assert refused is not None, "a pilot has a plan"
        raise refused
    return best


def plans(pilot: Pilot, longest: int = 0) -> Iterator[PilotPlan]:
    """The plans of a pilot, the most like its predictors' distributions first. longest: as in `choose_plan`."""
    if pilot.several:
        return several_plans(pilot.columns, pilot.factors, pilot.file)
    return one_factor_plans(pilot.columns, pilot.groups, longest or max(pilot.sizes))


def why_not(pilot: Pilot, plan: PilotPlan) -> str:
    """Why a study has not the pilot's standard errors."""
    if 0 < plan.taken < len(pilot.sizes):
        all_of_them = f"{plan.taken:,} of the pilot's {len(pilot.sizes):,} clusters"
        return f"its rows are those of {all_of_them}, as more are too many for a file"
    return "what goes together in the pilot's rows is drawn independently here"


def _distance(ratio: float) -> float:
    return abs(float(np.log(ratio))) if 0 < ratio < np.inf else np.inf


def _worst(found: Mapping[str, float]) -> float:
    return max(map(_distance, found.values()))


def ratios(pilot: Pilot, study: StudyFile) -> dict[str, float]:
    """By coefficient, the standard error in the study's first design over that of the pilot; inf where replicates have none."""
    condition = study.conditions()[0]
    compiled = compile_condition(condition, ())
    source = compiled.source
    generator = block_generator(condition.seed, compiled.key, 0)
    if isinstance(source.design, SeveralDesign):
        errors = _errors_of_several(condition, source.design, generator)
        return {
            term: float(se / pilot.fixed[term].se)
            for term, se in zip(condition.truth.formula.fixed, errors, strict=True)
        }
    assert isinstance(source, OneFactorSource)
    products = sum(1 for _ in source.design.columns) ** 2 * condition.layout.clusters
    replicates = int(np.clip(_HELD // products, 4, _REPLICATES))
    draw = source.sampler(generator, replicates)
    terms, columns = condition.truth.formula.fixed, condition.truth.formula.random_columns
    inner = {name: c for name, c in source.design.moved.items() if condition.predictor(name).level == 1}
    rows = replace(source.design, moved=inner)  # a draw has level-2 predictors as stated
    fixed, random = (coordinates(each, rows) for each in (terms, columns))
    # A formula without the lower-order term of one far from 0 keeps the draw's coordinates.
    there = np.eye(len(columns)) if random is None else random[0]
    back = np.eye(len(terms)) if fixed is None else fixed[1]
    information = _information(source.design, draw.dd, draw.z, there @ source.design.random_factor)
    errors = _standard_errors(information, back)
    return {term: float(se / pilot.fixed[term].se) for term, se in zip(terms, errors, strict=True)}


def _information(design: Design, dd: Array, z: Array, factor: Array) -> Array:
    """(R, p, p): of the fixed effects in each replicate. dd (J, pairs, R or 1), z (m, J, R or 1): as in `Draw`.

    factor (q, q): lower factor of the random effects' covariance in the draw's coordinates.
    """
    truth = design.condition.truth
    fixed = [design.split(term) for term in truth.formula.fixed]
    R = max(dd.shape[2], z.shape[2] if z.size else 1)
    factors = np.ones((len(fixed), design.clusters, R))
    for place, (_, outer) in enumerate(fixed):
        for name in outer:
            factors[place] *= z[design.between.index(name)]
    own, random = [column for column, _ in fixed], list(design.random)

    def products(rows: list[int], columns: list[int]) -> Array:
        found = np.array([[dd[:, pair(a, b), :] for b in columns] for a in rows])
        return np.moveaxis(
            found.reshape(len(rows), len(columns), *dd[:, 0, :].shape), (0, 1), (2, 3)
        )  # (J, R or 1, a, b)

    weight = np.moveaxis(factors, 0, 2)
    XX = products(own, own) * weight[:, :, :, None] * weight[:, :, None, :]
    XZ = products(own, random) @ factor * weight[:, :, :, None]
    inner = factor.T @ products(random, random) @ factor
    s2 = truth.residual_variance
    middle = s2 * np.eye(len(random)) + inner
    solved = np.linalg.solve(np.broadcast_to(middle, (*XZ.shape[:2], *middle.shape[2:])), np.swapaxes(XZ, 2, 3))
    return np.asarray((XX - XZ @ solved).sum(axis=0) / s2)


def _standard_errors(information: Array, back: Array) -> Array:
    """(p): the means over replicates of the standard errors; inf where one has not all of them.

    back (p, p): the coefficients as stated of those in the draw's coordinates.
    """
    scale = np.sqrt(np.maximum(np.diagonal(information, axis1=1, axis2=2), 1e-300))
    scaled = information / (scale[:, :, None] * scale[:, None, :])
    if np.linalg.eigvalsh(scaled)[:, 0].min() < 1e-10:
        return np.full(scale.shape[1], np.inf)
    covariance = np.linalg.inv(scaled) / (scale[:, :, None] * scale[:, None, :])
    return np.asarray(np.sqrt(np.einsum("ij,rjk,ik->ri", back, covariance, back)).mean(axis=0))


# -- several grouping factors ----------------------------------------------------------------------------------------------


def _errors_of_several(condition: Condition, design: SeveralDesign, generator: np.random.Generator) -> Array:
    """(p): the means over replicates of the standard errors; inf where one has not all of them."""
    formula = condition.truth.formula
    columns = len(formula.fixed) + len(formula.places)
    replicates = int(np.clip(_HELD // (design.rows * columns), 4, _REPLICATES))
    draw = SeveralSampler(design)(generator, replicates)
    differ = max((values.shape[-1] for values in draw.columns.values()), default=1)
    each = [_errors_of_one(draw.part(r, r + 1)) for r in range(differ)]
    return np.asarray(np.mean(each, axis=0))


def _errors_of_one(draw: SeveralDraw) -> Array:
    """(p): those of a draw of one replicate, at the truth."""
    truth = draw.design.condition.truth
    formula = truth.formula
    X = np.column_stack([draw.term(term)[:, 0] for term in formula.fixed])
    if np.linalg.matrix_rank(X / np.linalg.norm(X, axis=0)) < X.shape[1]:
        return np.full(X.shape[1], np.inf)
    factors, known, first = [], [], 0
    covariance = np.array(truth.covariance) / truth.residual_variance
    where = {}
    for term in formula.random:
        where[term] = slice(first, first := first + len(term.columns))
    for part in formula.parts:
        levels, codes = np.unique(draw.codes[part.group][:, 0], return_inverse=True)
        Z = np.column_stack([draw.term(column)[:, 0] for column in part.random_columns])
        factors.append(FactorColumns(codes.astype(np.int64), len(levels), Z, part.block_sizes))
        known += [covariance[where[term], where[term]] for term in part.random]
    model = fit_factors(factors, X, draw.e[:, 0], reml=True, known=known)
    variances = np.diag(model.back @ model.vcov @ model.back.T) / model.sigma2 * truth.residual_variance
    return np.asarray(np.sqrt(variances))
