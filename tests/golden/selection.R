# Two models of each data set, and which one R would keep: reads one CSV (columns set, school, x, y), writes one row of JSON a data set.
# The CSV is made by test_selection_golden.py (`python test_selection_golden.py data.csv`).
# run: Rscript selection.R data.csv > selection.json   (made by R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, jsonlite 1.8.4)
suppressMessages({library(lmerTest); library(jsonlite)})
d <- read.csv(commandArgs(TRUE)[1])
tight <- list(
  lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE, optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-13, ftol_abs = 1e-13, xtol_rel = 0, ftol_rel = 0, maxeval = 20000)),
  lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, optCtrl = list(rhoend = 1e-10, maxfun = 50000)))
best <- function(formula, part) {
  fits <- lapply(tight, function(ct) suppressMessages(suppressWarnings(lmer(formula, part, control = ct))))
  fits[[which.max(sapply(fits, logLik))]]
}
row <- function(m) unname(suppressMessages(suppressWarnings(coef(summary(m))))["x", c("Estimate", "Std. Error", "df", "Pr(>|t|)")])
for (part in split(d, d$set)) {
  large <- best(y ~ 1 + x + (1 + x | school), part)
  small <- best(y ~ 1 + x + (1 | school), part)
  a <- anova(small, large, refit = FALSE)
  cat(toJSON(list(set = part$set[1], singular = isSingular(large), chisq = a$Chisq[2], df = a$Df[2], p = a$`Pr(>Chisq)`[2], aic = a$AIC, large = row(large), small = row(small)),
    auto_unbox = TRUE, digits = 15), "\n")
}
