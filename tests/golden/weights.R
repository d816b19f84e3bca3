# Prior weights and offsets by lme4: run `Rscript weights.R` in this folder; it writes weights.csv and weights.json. (Made by R 4.2.2,
# lme4 1.1-31. Its profile limits of fixed effects are wrong with weights, 0.05 either way for a standard error of 0.3, and left out.)
library(lme4)
set.seed(20)
J <- 14
sizes <- rep(c(3, 5, 8, 6, 4, 9, 7), 2)
g <- rep(seq_len(J), sizes)
N <- length(g)
x <- round(rnorm(N), 3)
w <- round(rgamma(N, 2, 1) + 0.05, 3)
v <- round(2 * runif(N), 3)
u <- rnorm(J); s <- 0.6 * rnorm(J)
y <- round(3 + 0.5 * x + v + u[g] + s[g] * x + rnorm(N) / sqrt(w), 4)
data <- data.frame(y, x, w, v, g)
data$w[5] <- NA
data$v[11] <- NA
write.csv(data, "weights.csv", row.names = FALSE, quote = FALSE)
full <- function(x) formatC(x, digits = 15, format = "g")
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e6))
case <- function(name, formula, reml, weights, offset) {
  call <- list(quote(lmer), formula, quote(data), REML = reml, control = quote(control))
  if (weights) call$weights <- quote(w)
  if (offset) call$offset <- quote(v)
  m <- eval(as.call(call))
  numbers <- function(x) paste0("[", paste(full(x), collapse = ", "), "]")
  printed <- capture.output(print(summary(m)))
  kept <- grep("^(Formula| *Data|Weights| Offset)", printed, value = TRUE)
  paste0(
    '"', name, '": {"formula": "', deparse(formula), '", "reml": ', tolower(reml),
    ', "weights": ', if (weights) '"w"' else "null", ', "offset": ', if (offset) '"v"' else "null",
    ', "beta": ', numbers(fixef(m)), ', "se": ', numbers(sqrt(diag(as.matrix(vcov(m))))),
    ', "theta": ', numbers(getME(m, "theta")), ', "sigma": ', full(sigma(m)),
    ', "neg2loglik": ', full(-2 * as.numeric(logLik(m))), ', "rows": ', nobs(m),
    ', "scaled": ', numbers(unname(quantile(resid(m, "pearson", scaled = TRUE)))),
    ', "confint": ', numbers(t(confint(m, parm = "theta_", oldNames = FALSE, quiet = TRUE))),
    ', "printed": [', paste0('"', kept, '"', collapse = ", "), "]}"
  )
}
cases <- c(
  case("intercept_reml", y ~ x + (1 | g), TRUE, TRUE, FALSE),
  case("intercept_ml", y ~ x + (1 | g), FALSE, TRUE, FALSE),
  case("slope_reml", y ~ x + (1 + x | g), TRUE, TRUE, FALSE),
  case("slope_ml_offset", y ~ x + (1 + x | g), FALSE, TRUE, TRUE),
  case("offset_reml", y ~ x + (1 | g), TRUE, FALSE, TRUE)
)
writeLines(paste0("{\n", paste(cases, collapse = ",\n"), "\n}"), "weights.json")
