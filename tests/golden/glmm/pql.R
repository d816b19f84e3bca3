# Penalised quasi-likelihood by nlme's lme on pseudo-data until it stands still (MASS's glmmPQL stops at a change of 1e-6).
# usage: Rscript pql.R FOLDER_OF_THE_DATA > pql.json
suppressMessages({library(nlme); library(MASS); library(jsonlite)})
folder <- commandArgs(TRUE)[1]
cases <- c("03_trials", "22_pois", "02_bin", "37_poisrs", "06_probit", "07_cloglog", "10_offset")
pql <- function(id, method, sigma) {
  j <- fromJSON(file.path(folder, paste0(id, ".json"))); d <- read.csv(file.path(folder, paste0(id, ".csv"))); d$g <- factor(d$g)
  f <- if (j$family == "binomial") binomial(j$link) else poisson(j$link)
  fixed <- as.formula(sub(" \\+ \\(.*", "", j$formula)); slope <- grepl("1 \\+ x \\| g", j$formula)
  m0 <- glm(fixed, family = f, data = d); n <- m0$prior.weights; o <- if (is.null(m0$offset)) 0 else m0$offset
  y <- m0$y; eta <- m0$linear.predictors; d$z <- eta + m0$residuals - o
  d$v <- 1 / m0$weights
  inner <- update(as.formula(sub("\\+ offset\\(.*?\\)\\)", "", deparse(fixed))), z ~ .)
  control <- lmeControl(sigma = sigma, opt = "nlminb", tolerance = 1e-13, msTol = 1e-14, msMaxIter = 500, maxIter = 500, niterEM = 50, returnObject = TRUE)
  for (round in 1:60) {
    m <- lme(inner, random = if (slope) ~ 1 + x | g else ~ 1 | g, data = d, method = method, weights = varFixed(~v), control = control)
    now <- fitted(m) + o; change <- sum((now - eta)^2) / sum(now^2); eta <- now
    mu <- f$linkinv(eta); e <- f$mu.eta(eta); d$z <- eta + (y - mu) / e - o; d$v <- f$variance(mu) / (n * e^2)
    if (change < 1e-20) break
  }
  list(beta = as.list(fixef(m)), se = unname(sqrt(diag(vcov(m)))), varcomp = unname(unclass(getVarCov(m))[1:(1 + slope), 1:(1 + slope)]), sigma = m$sigma, change = change)
}
found <- list()
for (id in cases) for (method in c("ML", "REML")) for (sigma in c(0, 1)) if (method == "ML" || sigma == 0) {
  fit <- try(pql(id, method, if (sigma == 0) NULL else 1), silent = TRUE)
  if (!inherits(fit, "try-error")) found[[paste(id, method, if (sigma == 0) "estimated" else "fixed")]] <- fit else message(id, method, sigma, fit)
}
d <- read.csv(file.path(folder, "03_trials.csv"))
m <- glmmPQL(cbind(k, n - k) ~ x, random = ~ 1 | g, family = binomial, data = d, verbose = FALSE)
found[["03_trials glmmPQL"]] <- list(beta = as.list(fixef(m)), se_printed = unname(summary(m)$tTable[, "Std.Error"]))
cat(toJSON(found, auto_unbox = TRUE, digits = 12, pretty = TRUE), "\n")
