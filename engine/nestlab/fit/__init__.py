"""Data to estimates: linear mixed models from sufficient statistics, and their inference.

The room shares its name with the function `nestlab.fit`, so the module can be called: `nl.fit("y ~ x + (1 | g)", frame)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from .single import Fit


class _CallableModule(ModuleType):
    def __call__(
        self,
        formula: str,
        data: pd.DataFrame,
        *,
        reml: bool = True,
        df: str = "satterthwaite",
        singular_df: str = "lmertest",
    ) -> Fit:
        """See `nestlab.fit.single.fit`."""
        from .single import fit

        return fit(formula, data, reml=reml, df=df, singular_df=singular_df)


sys.modules[__name__].__class__ = _CallableModule
