# Likelihood ratios of nested models with several grouping factors by lme4: differences of deviances (fixed effects: ML; random
# effects: REML, as anova(..., refit = FALSE)). Run `Rscript comparisons.R` in this folder: it writes comparisons.json. (Made by
# R 4.2.2, lme4 1.1-31.)
suppressMessages({library(lme4); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore", optCtrl = list(rhoend = 1e-10, maxfun = 50000))
pairs <- list(
  list("05_crossvc", "y ~ cond + (1 | subject) + (1 | item)", "y ~ 1 + (1 | subject) + (1 | item)", FALSE),
  list("05_crossvc", "y ~ cond + (1 | subject) + (1 | item)", "y ~ cond + (1 | subject)", TRUE),
  list("05_crossvc", "y ~ cond + (1 | subject) + (1 | item)", "y ~ cond + (1 | item)", TRUE),
  list("02_nest", "y ~ x + z + trt + (1 | school/class)", "y ~ x + (1 | school/class)", FALSE),
  list("02_nest", "y ~ x + z + trt + (1 | school/class)", "y ~ x + z + trt + (1 | school:class)", TRUE),
  list("17_nestmix", "y ~ x + (1 + x | school) + (1 | school:class)", "y ~ x + (1 | school) + (1 | school:class)", TRUE),
  list("17_nestmix", "y ~ x + (1 + x | school) + (1 | school:class)", "y ~ x + (1 | school) + (0 + x | school) + (1 | school:class)", TRUE),
  list("12_four", "y ~ x + (1 | district/school/class)", "y ~ x + (1 | district/school)", TRUE),
  list("10_partial", "y ~ x + (1 | primary) + (1 | secondary)", "y ~ x + (1 | secondary)", TRUE))
found <- lapply(pairs, function(each) {
  data <- read.csv(paste0(each[[1]], ".csv"))
  deviance <- function(f) suppressMessages(-2 * as.numeric(logLik(lmer(as.formula(f), data, REML = each[[4]], control = control))))
  list(case = each[[1]], full = each[[2]], null = each[[3]], reml = each[[4]], statistic = deviance(each[[3]]) - deviance(each[[2]]))
})
write_json(found, "comparisons.json", auto_unbox = TRUE, digits = 15, pretty = TRUE)
