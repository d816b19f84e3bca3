"""Names of what a condition's methods estimate; `truths` has the true values.

Names: a fixed effect by its term; `var:<group>:<column>`, `cov:<group>:<a>:<b>` for columns of one random term,
`var:residual`; derived from those: `sd:...`, `cor:...` (undefined where a variance is 0: nan), and
icc = intercept variance / (intercept variance + residual variance), the other slopes' predictors at 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from .formula import same_term

__all__ = ["find_estimand", "is_derived"]


def is_derived(name: str) -> bool:
    """Whether an estimand is computed from others and not stored.

    >>> is_derived("icc"), is_derived("sd:residual"), is_derived("var:residual"), is_derived("x:z")
    (True, True, False, False)
    """
    return name == "icc" or name.startswith(("sd:", "cor:"))


def find_estimand(names: Iterable[str], name: str) -> str | None:
    """The one of `names` that `name` means ("z:x" is "x:z"), or None.

    >>> find_estimand(["x:z", "cov:g:Intercept:x"], "cov:g:x:Intercept")
    'cov:g:Intercept:x'
    """
    names = list(names)
    if name in names:
        return name
    head, _, rest = name.partition(":")
    if head not in ("var", "sd", "cov", "cor"):
        return next((n for n in names if not n.startswith(_PREFIXES) and same_term(n, name)), None)
    group, _, columns = rest.partition(":")
    alike = (n for n in names if n.startswith(f"{head}:{group}:"))
    return next((n for n in alike if same_term(n.split(":", 2)[2], columns)), None)


_PREFIXES = ("var:", "sd:", "cov:", "cor:")
