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

# Inference on the same files; singular ones included
GOLDEN_SATTERTHWAITE = Tolerance(
    1e-3, 2.7e-5
)  # df, relative (16_rs2, ML, where lme4's optimisers ended apart; else 9.1e-6)
GOLDEN_KENWARD_ROGER = Tolerance(1e-6, 4.3e-7)  # df and se, relative (05_cross)

# Several grouping factors, 39 files, singular ones included; beta 1.1e-7, variance components 5.5e-7, Satterthwaite 9.7e-7 there
SEVERAL_SE = Tolerance(1e-6, 2.5e-7)  # relative (33_crossrs, REML)
SEVERAL_KENWARD_ROGER = Tolerance(1e-5, 2.5e-7)  # df and se, relative (33_crossrs)

# The article's models against article.json: absolute; variances in units of sigma^2 (m3, the intercept variance)
ARTICLE = Tolerance(1e-6, 5.3e-7)

# The same model in other words, over 600 data sets: of standard errors, logarithms of scales, theta and variances over sigma^2;
# times the shift where one is added to y or to a predictor, in their standard deviations
SAME_FIT = Tolerance(1e-9, 1.8e-13)
SAME_CERTIFICATE = Tolerance(1e-10, 1.5e-13)  # deviance per relative change of G

# Profile limits: how far the deviance, minimised by SciPy with the parameter held, is from its target at a limit (worst of
# 600 random data sets); against lme4's, of the interval's width; the same interval in other words, of its width
PROFILE_RISE = Tolerance(1e-6, 1.6e-9)
GOLDEN_PROFILE = Tolerance(1e-3, 2.3e-4)  # 13_cross, upper limit of the correlation
SEVERAL_PROFILE = Tolerance(5e-4, 1.7e-4)  # of the width; 07_crossrs, upper limit of an sd, singular
SAME_PROFILE = Tolerance(1e-9, 3.8e-13)

# Cluster-robust standard errors, degrees of freedom and joint tests against clubSandwich, relative; of the mixed model too
GOLDEN_SANDWICH = Tolerance(1e-6, 1.1e-8)  # at our own estimates (13_cross); at the same estimates 1.5e-10

# Columns of model matrices against R's model.matrix, of a column's largest value
GOLDEN_COLUMN = Tolerance(1e-12, 2e-15)

# F of type III tests against lme4's fits with sum contrasts, relative
GOLDEN_TYPE3 = Tolerance(1e-5, 4.6e-7)

# Generalised fits: Laplace against glmmTMB where neither is singular, on logit and log links and with observed weights elsewhere
GLMM_DEVIANCE = Tolerance(
    1e-6, 1.9e-9
)  # ours above the lower of glmer's and glmmTMB's (34_probit); glmer's expected weights 6.4e-7
GLMM_BETA = Tolerance(3e-5, 1.2e-5)  # in standard errors (39_nb, where glmmTMB's deviance is 4.7e-9 above ours)
GLMM_SE = Tolerance(1e-5, 2.0e-6)  # relative (09_poisrs)
GLMM_QUADRATURE = Tolerance(
    5e-6, 1.7e-6
)  # beta in standard errors, se relative, against glmer's 7 and 25 nodes (07_cloglog)
GLMM_EXPECTED = Tolerance(4e-5, 1.8e-5)  # beta and se by expected weights against glmer's Laplace (07_cloglog)
GLMM_PQL = Tolerance(
    1e-5, 3.3e-6
)  # beta in standard errors, se relative, against lme on pseudo-data (07_cloglog, REML)
