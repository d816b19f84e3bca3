"""`nestlab fit`: one data file, one formula, printed as lmer does or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..fit.glmm.single import GeneralisedFit
    from ..fit.single import Fit

__all__ = ["fit_command"]


def fit_command(
    data: Path, formula: str, *, ml: bool, df: str | None, as_json: bool, singular_df: str = "lmertest",
    tests: Sequence[str] = (), compare: Sequence[str] = (), reference: str = "asymptotic", intervals: str | None = None,
    level: float = 0.95, draws: int = 999, seed: int = 1, columns: Mapping[str, str | None] | None = None,
    model: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """What `nestlab fit DATA FORMULA` prints.

    ml: maximum likelihood instead of REML. df, singular_df: see `fit.single.fit`. as_json: the names of the golden files. tests:
    hypotheses to be tested (see `Fit.test`), a line each after the fit; compare: smaller models, by reference (see
    `Fit.compare`). intervals: also these, by the method's name, with level, draws, seed (see `Fit.confint`). columns: weights,
    offset, trials; model: family and how to fit it: see `fit.single.fit`.

    Raises DataError and FormulaError.
    """
    from ..fit.against import check_reference
    from ..fit.confint import check_intervals, confint_lines
    from ..fit.glmm.printed import generalised_text
    from ..fit.glmm.single import GeneralisedFit
    from ..fit.printed import summary_text
    from ..fit.single import finite, fit
    from ..spec.data import read_frame
    from .progress import compiling_said

    options = {**(columns or {}), **(model or {"family": "gaussian"})}
    generalised = options["family"] != "gaussian"
    if intervals is not None and not generalised:
        check_intervals(intervals, level=level, draws=draws, name="intervals")
    check_reference(reference)
    frame = read_frame(data)
    with compiling_said():
        fitted: Fit | GeneralisedFit = fit(formula, frame, reml=not ml, df=df, singular_df=singular_df, **options)
        results = [fitted.test(text) for text in tests]
        table = None
        if isinstance(fitted, GeneralisedFit):
            ratios = [fitted.compare(null, reference=reference) for null in compare]
            text = generalised_text(fitted, data=data.name)
            if intervals is not None:
                table = fitted.confint(level, intervals)
        else:
            ratios = [fitted.compare(null, reference=reference, draws=draws, seed=seed) for null in compare]
            text = summary_text(fitted, data=data.name)
            if intervals is not None:
                table = fitted.confint(level, intervals, draws=draws, seed=seed)
    if as_json:
        made = fitted.to_dict()
        if tests:
            made["tests"] = [asdict(result) for result in results]
        if ratios:
            made["compared"] = [asdict(ratio) for ratio in ratios]
        if table is not None:
            made["confint"] = dict(zip(table.index, table.to_numpy().tolist(), strict=True))
            made["confint_method"], made["confint_level"] = intervals, level
        return json.dumps(finite(made), indent=2, ensure_ascii=False, allow_nan=False)
    parts = [[text]]
    parts += [confint_lines(table, level)] if table is not None else []
    parts += [[str(result) for result in [*results, *ratios]]] if tests or ratios else []
    return "\n\n".join("\n".join(lines) for lines in parts)
