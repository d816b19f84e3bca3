"""Linear mixed models: by the engine, from sufficient statistics, and by statsmodels, from rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..model import Formula, Method
from ..problems import Problems
from .estimator import ALL, Estimator

if TYPE_CHECKING:
    from ..tables import MethodTable

__all__ = ["LMM", "STATSMODELS"]


def _model(method: Method) -> str:
    criterion = "REML (restricted maximum likelihood)" if method.reml else "ML (maximum likelihood)"
    return f"linear mixed model by {criterion}"


def _words(method: Method) -> Iterator[tuple[str, str]]:
    yield "estimator", _model(method)


def _words_of_statsmodels(method: Method) -> Iterator[tuple[str, str]]:
    yield "estimator", f"{_model(method)}, statsmodels' MixedLM"


def _check(key: str, table: MethodTable, method: Method, written: Formula, problems: Problems) -> None:
    """Robust standard errors, and the choice between two models."""
    if table.robust is not None:
        if table.singular_df != "lmertest":
            problems.add_value(f"{key}.singular_df", table.singular_df, 'is for df = "satterthwaite" only; remove it')
        if table.compare is not None:
            text = "must not stand beside compare, for it changes no likelihood ratio; remove one of the two"
            problems.add_value(f"{key}.robust", table.robust, text)
        if table.intervals != "t":
            text = 'must be "t" with robust, for the others take the model\'s variances as right; remove one of the two'
            problems.add_value(f"{key}.intervals", table.intervals, text)
    if table.select is None:
        return
    if table.compare is None:
        text = 'needs the smaller model; add compare = "y ~ x + (1 | cluster)", say, or remove it'
        problems.add_value(f"{key}.select", table.select, text)
    if table.select == "aic" and table.reference is not None:
        text = 'judges a test, and select = "aic" makes none; remove it, or write select = "lrt"'
        problems.add_value(f"{key}.reference", table.reference, text)
    for word, none in (("intervals", "t"), ("variance_intervals", None)):
        value = getattr(method, word)
        if value != none:
            text = "must be absent beside select, which reports t intervals; remove it"
            problems.add_value(f"{key}.{word}", value, text)


LMM = Estimator(
    name="lmm",
    module="mixed",
    words=_words,
    keys=frozenset({"reml", "singular_df", "intervals", "variance_intervals", "compare", "robust", "select"}),
    rules=("satterthwaite", "z", "residual", "between-within", "kenward-roger"),
    random=True,
    outcomes=ALL,
    of_variances=True,
    several=True,
    check=_check,
)
STATSMODELS = Estimator(
    name="statsmodels",
    module="statsmodels",
    words=_words_of_statsmodels,
    needs="rows",
    keys=frozenset({"reml", "singular_df"}),
    rules=("z", "residual", "between-within"),
    random=True,
)
