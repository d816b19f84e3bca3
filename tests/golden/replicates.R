# lme4's fits of data sets that nestlab drew: reads one CSV (columns set, cluster, x, y), prints one row of JSON a data set.
# run: Rscript replicates.R data.csv
suppressMessages({library(lme4); library(jsonlite)})
d <- read.csv(commandArgs(TRUE)[1])
tight <- list(
  lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE, optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-13, ftol_abs = 1e-13, xtol_rel = 0, ftol_rel = 0, maxeval = 20000)),
  lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, optCtrl = list(rhoend = 1e-10, maxfun = 50000)))
for (part in split(d, d$set)) {
  fits <- lapply(tight, function(ct) suppressMessages(suppressWarnings(lmer(y ~ 1 + x + (1 + x | cluster), part, control = ct))))
  devs <- sapply(fits, function(m) -2 * as.numeric(logLik(m)))
  m <- fits[[which.min(devs)]]
  v <- VarCorr(m)$cluster
  cat(toJSON(list(set = part$set[1], spread = diff(range(devs)), neg2loglik = min(devs), beta = unname(fixef(m)), se = unname(sqrt(diag(as.matrix(vcov(m))))),
    sigma = sigma(m), varcomp = c(v[1, 1], v[1, 2], v[2, 2])), auto_unbox = TRUE, digits = 15), "\n")
}
