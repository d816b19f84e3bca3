# Categorical predictors and transformations: how R codes them, by lme4's fits of categories.csv. Writes categories.csv and categories.json.
# run: Rscript categories.R [DIRECTORY]   (made by R 4.2.2, lme4 1.1-31, jsonlite 1.8.4)
suppressMessages({library(lme4); library(jsonlite)})
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
set.seed(77)
J <- 20; n <- 12; N <- J * n; g <- rep(seq_len(J), each = n)
d <- data.frame(g, x = round(rnorm(N), 6), w = round(runif(N, 1, 3), 6), k = sample(c(1, 2, 10), N, TRUE), arm = c("placebo", "drug", "both")[1 + (g %% 3)],
  sex = sample(c("f", "m"), N, TRUE), flag = sample(c(TRUE, FALSE), N, TRUE))
d$y <- round(2 + d$x + .5 * (d$arm == "drug") - .3 * d$x * (d$sex == "m") + .2 * log(d$w) + .4 * (d$k == 2) + rnorm(J)[g] + .5 * rnorm(J)[g] * (d$sex == "m") + rnorm(N), 6)
write.csv(d, file.path(directory, "categories.csv"), row.names = FALSE, quote = FALSE)
forms <- c("y ~ arm + (1 | g)", "y ~ arm * sex + x + (1 | g)", "y ~ 0 + arm + sex + (1 | g)", "y ~ 0 + x + arm + (1 | g)", "y ~ sex + sex:x + (1 | g)", "y ~ arm:x + (1 | g)",
  "y ~ x + x:sex + (1 | g)", "y ~ x * arm * sex + (1 | g)", "y ~ sex + sex:arm + (1 | g)", "y ~ factor(k) + (1 | g)", "y ~ factor(k):sex + sex + (1 | g)", "y ~ flag + x + (1 | g)",
  "y ~ x + (1 + sex | g)", "y ~ x + (0 + sex | g)", "y ~ x + (1 | g) + (0 + sex | g)", "y ~ log(w) + I(x^2) + (1 | g)", "y ~ I((x + 1) * 2 - w / 2) + I(-x^2) + (1 | g)",
  "y ~ scale(x) + (1 + scale(x) | g)", "y ~ poly(x, 3) + (1 | g)", "log(w) ~ sqrt(abs(x)) + exp(x) + (1 | g)", "y ~ log(x + 5, 2) + log10(w) * sex + (1 | g)", "I(y * 2) ~ I(x > 0) + (1 | g)")
tight <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore", optCtrl = list(rhoend = 1e-11, maxfun = 1e5))
fits <- lapply(forms, function(f) {
  m <- lmer(as.formula(f), d, control = tight)
  list(formula = f, names = I(names(fixef(m))), beta = I(unname(fixef(m))), se = I(unname(sqrt(diag(as.matrix(vcov(m)))))), reml_criterion = unname(REMLcrit(m)),
    random = I(unlist(lapply(VarCorr(m), colnames), use.names = FALSE)))
})
write_json(fits, file.path(directory, "categories.json"), auto_unbox = TRUE, digits = 15)
