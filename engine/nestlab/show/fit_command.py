"""`nestlab fit`: one data file, one formula, printed as lmer does or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

__all__ = ["fit_command"]


def fit_command(
    data: Path, formula: str, *, ml: bool, df: str, as_json: bool, singular_df: str = "lmertest", tests: Sequence[str] = (),
    compare: Sequence[str] = (), reference: str = "asymptotic", intervals: str | None = None, level: float = 0.95,
    draws: int = 999, seed: int = 1, weights: str | None = None, offset: str | None = None,
) -> str:  # fmt: skip
    """What `nestlab fit DATA FORMULA` prints.

    ml: maximum likelihood instead of REML. df, singular_df: see `fit.single.fit`. as_json: the names of the golden files. tests:
    hypotheses to be tested (see `Fit.test`), a line each after the fit; compare: smaller models, by reference (see
    `Fit.compare`). intervals: also these, by the method's name, with
    level, draws, seed (see `Fit.confint`). weights, offset: columns, see `fit.single.fit`.

    Raises DataError and FormulaError.
    """
    from ..fit.against import check_reference
    from ..fit.confint import check_intervals, confint_lines
    from ..fit.printed import summary_text
    from ..fit.single import finite, fit
    from ..spec.data import read_frame
    from .progress import compiling_said

    if intervals is not None:
        check_intervals(intervals, level=level, draws=draws, name="intervals")
    check_reference(reference)
    frame = read_frame(data)
    with compiling_said():
        fitted = fit(formula, frame, reml=not ml, df=df, singular_df=singular_df, weights=weights, offset=offset)
        results = [fitted.test(text) for text in tests]
        ratios = [fitted.compare(null, reference=reference, draws=draws, seed=seed) for null in compare]
        table = fitted.confint(level, intervals, draws=draws, seed=seed) if intervals is not None else None
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
    parts = [[summary_text(fitted, data=data.name)]]
    parts += [confint_lines(table, level)] if table is not None else []
    parts += [[str(result) for result in [*results, *ratios]]] if tests or ratios else []
    return "\n\n".join("\n".join(lines) for lines in parts)
