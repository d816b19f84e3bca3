"""nestlab: Monte Carlo power and bias studies of multilevel (mixed-effects) models.

    import nestlab as nl
    results = nl.Study.from_toml("studies/article.toml").run(replications=500)
    results.summary()
    nl.fit("y ~ x + (1 + x | school)", frame).summary()

Names are imported when they are first used, so that `import nestlab` and the command line start at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fit.glmm.single import GeneralisedFit
    from .fit.single import Fit, fit
    from .fit.status import Status
    from .run.store import RefusedError
    from .show.api import Results, Study
    from .spec.formula import FormulaError
    from .spec.problems import DataError, StudyError

__all__ = [
    "DataError", "Fit", "FormulaError", "GeneralisedFit", "RefusedError", "Results", "Status", "Study", "StudyError", "fit",
]  # fmt: skip

__version__ = "0.1.0"

_HOMES = {
    "DataError": "spec.problems",
    "Fit": "fit.single",
    "FormulaError": "spec.formula",
    "GeneralisedFit": "fit.glmm.single",
    "RefusedError": "run.store",
    "Results": "show.api",
    "Status": "fit.status",
    "Study": "show.api",
    "StudyError": "spec.problems",
}


def __getattr__(name: str) -> Any:
    if name == "fit":
        return import_module(".fit", __name__)  # a module that can be called
    if name not in _HOMES:
        raise AttributeError(f"module 'nestlab' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
