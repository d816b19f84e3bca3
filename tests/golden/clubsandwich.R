# Cluster-robust standard errors and degrees of freedom by clubSandwich on the golden data sets, and on edge.csv, where k
# is 1 in one cluster only and one cluster has one row. Reads [0-9][0-9]_*.csv and .json, writes edge.csv and clubsandwich.json.
# run: Rscript clubsandwich.R [DIRECTORY]   (made by R 4.2.2, clubSandwich 0.5.8, lme4 1.1-31, jsonlite 1.8.4)
suppressMessages({library(clubSandwich); library(lme4); library(jsonlite)})
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
types <- c("CR0", "CR1", "CR1S", "CR2")
robust <- function(model, cluster, keep = NULL) {
  found <- list()
  for (type in types) {
    V <- vcovCR(model, cluster = cluster, type = type)
    tested <- as.data.frame(coef_test(model, vcov = V, cluster = cluster, test = "Satterthwaite"))
    rows <- if (is.null(keep)) seq_len(nrow(tested)) else match(keep, rownames(V))
    found[[type]] <- list(se = I(tested$SE[rows]), df = I(tested$df[rows]))
    if (is.null(keep) && ncol(V) > 2) {
      htz <- Wald_test(model, constraints = constrain_zero(2:ncol(V)), vcov = V, test = "HTZ")
      found[[type]]$htz <- list(F = htz$Fstat, df = htz$df_denom, p = htz$p_val)
    }
  }
  found
}
tight <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore", optCtrl = list(rhoend = 1e-11, maxfun = 1e5))
one <- function(id, text = fromJSON(file.path(directory, paste0(id, ".json")))$formula) {
  d <- read.csv(file.path(directory, paste0(id, ".csv"))); d$g <- factor(d$g)
  fixed <- nobars(as.formula(text))
  result <- list(id = id)
  ols <- lm(fixed, d)
  result$ols <- c(list(names = I(names(coef(ols))), beta = I(unname(coef(ols))), se = I(unname(sqrt(diag(vcov(ols))))), sigma = sigma(ols)), robust(ols, d$g))
  within <- intersect(c("x", "w", "z:x"), attr(terms(fixed), "term.labels"))
  if (length(within)) {
    dummies <- lm(reformulate(c(within, "g"), "y"), d)
    keep <- intersect(names(coef(dummies)), c("x", "w", "z:x", "x:z"))
    result$fixed_effects <- c(list(names = I(keep), beta = I(unname(coef(dummies)[keep])), se = I(unname(sqrt(diag(vcov(dummies))[keep]))),
                                   sigma = sigma(dummies), df = df.residual(dummies)), robust(dummies, d$g, keep))
  }
  means <- aggregate(model.matrix(ols), list(g = d$g), mean)
  means$y <- tapply(d$y, d$g, mean)
  terms <- setdiff(colnames(model.matrix(ols)), "(Intercept)")
  between <- lm(reformulate(c("1", sprintf("`%s`", terms)), "y"), means)
  weighted <- lm(reformulate(c("1", sprintf("`%s`", terms)), "y"), means, weights = as.numeric(table(d$g)))
  plain <- function(m) list(beta = I(unname(coef(m))), se = I(unname(sqrt(diag(vcov(m))))), df = df.residual(m))
  result$means <- c(plain(between), list(robust = robust(between, means$g)))
  result$means_by_size <- plain(weighted)
  mixed <- suppressWarnings(suppressMessages(lmer(as.formula(text), d, REML = TRUE, control = tight)))
  result$lmm <- c(list(criterion = REMLcrit(mixed), theta = I(unname(getME(mixed, "theta"))), beta = I(unname(fixef(mixed)))), robust(mixed, d$g))
  result
}
set.seed(12); sizes <- c(1, 2, 3, 4, 6, 9, 12); g <- rep(seq_along(sizes), sizes); N <- length(g)
edge <- data.frame(g, x = round(rnorm(N) + g %% 3, 6), z = round(rnorm(7), 6)[g], k = as.numeric(g == 4))
edge$y <- round(1 + .5 * edge$x + rnorm(7)[g] + .5 * rnorm(7)[g] * edge$x + rnorm(N), 6)
write.csv(edge, file.path(directory, "edge.csv"), row.names = FALSE, quote = FALSE)
ids <- sub("\\.json$", "", sort(list.files(directory, "^[0-9][0-9]_.*\\.json$")))
write_json(c(lapply(ids, one), list(one("edge", "y ~ x + z + k + (1 + x | g)"))), file.path(directory, "clubsandwich.json"), auto_unbox = TRUE, digits = 15)
