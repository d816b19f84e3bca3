"""`nestlab fit`: one data file, one formula, printed as lmer does or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["fit_command"]

_NOW = ("z", "between-within")
_LATER = ("satterthwaite", "kenward-roger")


def fit_command(data: Path, formula: str, ml: bool, df: str, as_json: bool) -> str:
    """What `nestlab fit DATA FORMULA` prints.

    ml: maximum likelihood instead of REML. df: "z" or "between-within". as_json: the names of the golden files.

    Raises DataError and FormulaError.
    """
    from ..fit.printed import summary_text
    from ..fit.read import read_frame
    from ..fit.single import fit
    from ..spec.matrices import DataError

    if df not in _NOW:
        later = " is not available yet;" if df in _LATER else ":"
        raise DataError(f"--df {df}{later} allowed are {' and '.join(_NOW)}; use one of them")
    fitted = fit(formula, read_frame(data), reml=not ml, df=df)
    if as_json:
        return json.dumps(fitted.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    return summary_text(fitted, data=data.name)
