# Type III Wald tests of terms, by lme4's fits of categories.csv with sum contrasts. Writes type3.json.
# run: Rscript type3.R [DIRECTORY]   (made by R 4.2.2, lme4 1.1-31, jsonlite 1.8.4)
suppressMessages({library(lme4); library(jsonlite)})
arguments <- commandArgs(trailingOnly = TRUE)
directory <- if (length(arguments)) arguments[1] else "."
d <- read.csv(file.path(directory, "categories.csv"))
for (name in c("arm", "sex", "flag")) d[[name]] <- factor(d[[name]])
options(contrasts = c("contr.sum", "contr.poly"))
tight <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore", optCtrl = list(rhoend = 1e-11, maxfun = 1e5))
forms <- c("y ~ arm * sex + x + (1 | g)", "y ~ arm * x + (1 | g)", "y ~ arm * sex * x + (1 | g)", "y ~ flag * sex + arm + (1 + x | g)", "y ~ arm * poly(x, 2) + (1 | g)", "y ~ sex * x + flag:x + (1 | g)")
tests <- lapply(forms, function(f) {
  m <- lmer(as.formula(f), d, control = tight)
  X <- getME(m, "X"); labels <- attr(terms(m), "term.labels")
  F <- sapply(seq_along(labels), function(k) { i <- which(attr(X, "assign") == k); b <- fixef(m)[i]; drop(b %*% solve(as.matrix(vcov(m))[i, i], b)) / length(i) })
  list(formula = f, terms = I(labels), df = I(as.vector(table(attr(X, "assign"))[-1])), F = I(F))
})
write_json(tests, file.path(directory, "type3.json"), auto_unbox = TRUE, digits = 15)
