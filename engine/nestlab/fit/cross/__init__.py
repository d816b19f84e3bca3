"""Linear mixed models with several grouping factors, fitted to many replicates at once by cross-products.

For designs that strata can't take: cells without rows, predictors that differ by row, sparse crossings, unequal classes. The
model and the formulas are those of `several`; the search, the certificate and the rules of inference those of `search` and
`information`. What is paid once per condition is a design and a plan; what comes with each block is its rows:

>>> import numpy as np
>>> rng, R = np.random.default_rng(1), 100
>>> subject, item = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
>>> x = rng.normal(size=(96, R))                          # redrawn in each replicate; (96,) where all share it
>>> y = rng.normal(size=(12, R))[subject] + rng.normal(size=(8, R))[item] + rng.normal(size=(96, R))
>>> kept = rng.random((96, R)) < 0.9                      # None where no row is missing
>>> design = CrossDesign(96, (subject, item), (12, 8))
>>> method = CrossMethod(random=((0, (0,)), (1, (0,))), fixed=(0, 1))     # y ~ x + (1 | subject) + (1 | item)
>>> plan = compile_cross(design, method)
>>> way(plan)
'cross-products, 8 replicates side by side (20 random effects, all connected)'
>>> block = CrossRows((np.ones(96), x), y, kept)          # columns 0 and 1 of the method
>>> fits = fit(plan, block, 0, R)                         # an `lmm.Fits`: status, beta, vcov, varcomp by pairs, sigma2, ...
>>> fits.beta.shape, fits.varcomp.shape, bool((fits.status <= 1).all())
((100, 2), (100, 3), True)
>>> found = infer(plan, block, fits, 0, R, Hypotheses.of(2), ["satterthwaite", "between-within"])
>>> found["satterthwaite"].df.shape
(100, 2)

Random columns and fixed effects are numbers of `CrossRows.columns`: a product such as x:z is a column of its own. `random`
has the terms in the formula's order, each with its factor's number and its columns, and varcomp their order. Factors that the
method has no random effects of are ignored. A level that is drawn for each replicate (a pupil's second school) has codes None
in the design and (N, R) in `CrossRows.codes`. start: the truth's G, which saves steps. `covariance_of_variances` is what Wald
intervals of variances need (`wald.wald_intervals`).

    structure     units, places of products, how rows add up
    accumulate    from rows to sums, in lanes
    rows          a block's rows and a method's plan
    reduce        whitened pieces of a replicate; statuses that data decide
    passes        deviance, gradient and Hessian
    kernel        the compiled fit and inference of a block
    between       between-within degrees of freedom
    one_by_one    problems too large for lanes
    fits          what methods call
"""

from ..inference import Hypotheses
from .fits import covariance_of_variances, fit, in_lanes, infer, way
from .rows import CrossPlan, CrossRows, compile_cross
from .structure import CrossDesign, CrossMethod

__all__ = [
    "CrossDesign", "CrossMethod", "CrossPlan", "CrossRows", "Hypotheses", "compile_cross", "covariance_of_variances", "fit",
    "in_lanes", "infer", "way",
]  # fmt: skip
