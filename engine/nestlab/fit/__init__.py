"""Data to estimates: linear and generalised linear mixed models, and their inference.

The room shares its name with the function `nestlab.fit`, so the module can be called, `nl.fit(formula, data)`:

formula: `y ~ x + (1 + x | g)`, any number of grouping factors, nested or crossed, at most 16 random columns and 40 fixed ones.
data: a data frame with a column a name of the formula. reml: restricted maximum likelihood, or maximum likelihood. df:
"satterthwaite", "kenward-roger" (REML only), "between-within", "residual" (rows - fixed effects) or "z". singular_df:
Satterthwaite's rule at the boundary, "lmertest" or "refit". weights: a column of numbers above 0, lmer's prior weights (the
residual variance is s2 / w); offset: a column that is part of the linear predictor with coefficient 1.

family: "gaussian", "binomial", "poisson" or "negative-binomial", with a link; trials: a column, of a binomial response that is
neither 0/1 nor cbind(events, others); nodes: of adaptive quadrature, 1 for Laplace; curvature: "observed" or "expected" weights;
method: "likelihood" or "pql", with a scale that is "estimated" or "fixed". See `nestlab.fit.single.fit`.

Returns a `Fit`, or a `GeneralisedFit` of a family other than gaussian. Raises FormulaError and DataError (both ValueError), with
what was found and the repair.

>>> import numpy as np, pandas as pd, nestlab as nl
>>> g = np.repeat(np.arange(10), 5)
>>> frame = pd.DataFrame({"g": g, "y": np.sin(np.arange(50)) + 0.1 * g})
>>> round(nl.fit("y ~ 1 + (1 | g)", frame).beta["Intercept"], 3)
0.453
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from .glmm.single import GeneralisedFit
    from .single import Fit


class _CallableModule(ModuleType):
    def __call__(
        self,
        formula: str,
        data: pd.DataFrame,
        *,
        reml: bool = True,
        df: str | None = None,
        singular_df: str = "lmertest",
        weights: str | None = None,
        offset: str | None = None,
        family: str = "gaussian",
        link: str | None = None,
        nodes: int = 1,
        trials: str | None = None,
        curvature: str = "observed",
        method: str = "likelihood",
        scale: str = "estimated",
    ) -> Fit | GeneralisedFit:
        """Fit a mixed model to a data frame; see the module, or `nestlab.fit.single.fit`."""
        from .single import fit

        return fit(
            formula, data, reml=reml, df=df, singular_df=singular_df, weights=weights, offset=offset, family=family,
            link=link, nodes=nodes, trials=trials, curvature=curvature, method=method, scale=scale,
        )  # fmt: skip


sys.modules[__name__].__class__ = _CallableModule
