"""How far results may lie from their references, each with the worst case that was measured, and thus its margin."""

from typing import NamedTuple


class Tolerance(NamedTuple):
    """`limit` is what a test allows, `worst` the largest difference seen when it was set."""

    limit: float
    worst: float

    @property
    def margin(self) -> float:
        return self.limit / self.worst


# Single fits against lme4 at tight tolerances (golden/README's limits). Differences are lme4's: its optimisers stop short.
GOLDEN_DEVIANCE = Tolerance(1e-6, 1.1e-11)  # ours above lme4's
GOLDEN_BETA = Tolerance(1e-6, 3.5e-7)  # in standard errors (14_indep, REML)
GOLDEN_SE = Tolerance(1e-6, 2.1e-7)  # relative (05_cross, REML)
GOLDEN_VARCOMP = Tolerance(1e-5, 2.3e-7)  # of sigma^2, or relative where that is larger (28_rs, REML)

# The article's models against article.json: absolute; variances in units of sigma^2 (m3, the intercept variance)
ARTICLE = Tolerance(1e-6, 5.3e-7)

# The same model in other words, over 600 data sets: of standard errors, logarithms of scales, theta and variances over sigma^2;
# times the shift where one is added to y or to a predictor, in their standard deviations
SAME_FIT = Tolerance(1e-9, 1.8e-13)
SAME_CERTIFICATE = Tolerance(1e-10, 1.5e-13)  # deviance per relative change of G
