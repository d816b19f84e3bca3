"""Distributions but for their mean and variance, of predictors, errors and random effects, from flat values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .model import NORMAL, Distribution
from .problems import Problems

__all__ = ["PARAMETERS", "USUAL", "Read", "check_shape", "read_shape", "reader", "shape_words"]

#: The parameters that each distribution needs.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "normal": (),
    "uniform": (),
    "t": ("df",),
    "skew-normal": ("skewness",),
    "gamma": ("skewness",),
    "lognormal": ("skewness",),
    "chi-square": ("df",),
    "contaminated": ("share", "ratio"),
}
#: The first distribution that comes to mind for a parameter.
USUAL = {"df": "t", "skewness": "gamma", "share": "contaminated", "ratio": "contaminated"}
_EXAMPLES = {"df": "5", "skewness": "0.8", "share": "0.1", "ratio": "3"}
#: A skew-normal distribution cannot be more skewed than this (Azzalini 1985: 0.9953).
_MOST_SKEWED = 0.995

#: A value by its key within one table, or None.
Read = Callable[[str], Any]


def read_shape(kind: str, read: Read) -> Distribution:
    """The distribution; what is normal in all but its name is normal: a skewness, a share of contamination of 0."""
    if read("skewness") == 0 and "skewness" in PARAMETERS[kind]:
        return NORMAL
    if kind == "contaminated" and (read("share") == 0 or read("ratio") == 1):
        return NORMAL
    if kind == "normal":
        return NORMAL
    return Distribution(kind, tuple((key, float(read(key))) for key in PARAMETERS[kind]))


def check_shape(kind: str, table: str, read: Read, problems: Problems) -> bool:
    """Whether the parameters that `kind` needs are there and possible; adds to `problems` what is wrong, under `table`."""
    before = len(problems)
    for key in PARAMETERS[kind]:
        if read(key) is None:
            problems.add(
                f"{table}.{key}", f'is missing: distribution = "{kind}" needs it; add {key} = {_EXAMPLES[key]}, say'
            )
    if len(problems) == before:
        _check_ranges(kind, table, read, problems)
    return len(problems) == before


def _check_ranges(kind: str, table: str, read: Read, problems: Problems) -> None:
    df, skewness = read("df"), read("skewness")
    if kind == "t" and df <= 2:
        text = 'must be > 2 for distribution = "t", which else has no variance; write 3 or more, say'
        problems.add_number(f"{table}.df", df, text)
    if kind == "skew-normal" and abs(skewness) > _MOST_SKEWED:
        text = f'must be within +-{_MOST_SKEWED} for distribution = "skew-normal"; lower it, or write distribution = "gamma"'
        problems.add_number(f"{table}.skewness", skewness, text)


def shape_words(distribution: Distribution) -> dict[str, Any]:
    """The distribution as a study file has it.

    >>> shape_words(Distribution("t", (("df", 5.0),)))
    {'distribution': 't', 'df': 5.0}
    """
    return {"distribution": distribution.kind, **dict(distribution.parameters)}


def reader(flat: Mapping[str, Any], table: str) -> Read:
    """The values below one table of the flat form."""
    return lambda key: flat.get(f"{table}.{key}")
